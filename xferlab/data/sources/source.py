"""The contract of a data source: which cases there are, and the pixels of one of them."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data import preprocessing
from xferlab.data.memo import FileMemo
from xferlab.data.pixels import Levels
from xferlab.data.sources.config import FileConfig, SourceConfig
from xferlab.errors import DataError, Problem

STRUCTURE, IGNORED = 255, 127
"""Values of a target; 0 is background. Ignored pixels count in neither loss nor metrics."""

NO_FOLDER = "there is no such folder. If `root` names an environment variable, see that it is set right."


@dataclass(frozen=True)
class Decoded:
    """The pixels of one case at the size of its source, before or after the section's own steps.

    Attributes:
        image: uint8, `(H, W)` or `(H, W, C)`.
        targets: uint8, `(S, H, W)`, a plane for each structure that the section reads, in its order: 0
            background, 255 structure, 127 ignored, everywhere where the case has no mask of it.
        spacing_mm: Distance between rows and between columns, if the file tells it.
        remarks: What somebody should look at, though the case can be used; `check` lists them.
        values: Structures and values that the section's labels name and the masks hold.
        levels: As in a `Picture`, before the section's steps.
    """

    image: NDArray[np.uint8]
    targets: NDArray[np.uint8]
    spacing_mm: tuple[float, float] | None = None
    remarks: tuple[str, ...] = ()
    values: frozenset[tuple[str, int]] = frozenset()
    levels: Levels | None = None


@dataclass(frozen=True)
class Survey:
    """What a source holds, found without decoding images.

    Attributes:
        cases: Usable cases, after `where` and `same_patient`, by patient and name; no digest stands twice.
        problems: All findings, errors and warnings.
        doubled: Cases left out because image and mask stand in `cases` already, maybe under another patient.
    """

    cases: tuple[Case, ...]
    problems: tuple[Problem, ...] = ()
    doubled: tuple[Case, ...] = ()


class Source(ABC):
    """One data section. `decode` may be called from several threads at once.

    Attributes:
        name: The section's name, for messages.
        config: Its configuration; a subclass narrows the type.
        memo_dir: Where digests of known files are kept between runs.
        package: Name and version of the package that the source comes from; None for one of xferlab.
    """

    config: SourceConfig
    package: str | None = None

    def __init__(self, name: str, config: SourceConfig, *, memo_dir: Path):
        self.name, self.config, self.memo_dir = name, config, memo_dir
        self._entries: dict[str, Any] = {}

    @abstractmethod
    def look(self) -> Survey:
        """Returns the cases and all findings; reads tables and file bytes, decodes no image.

        Fills `_entries`: case digest -> what `read` needs.
        """

    @abstractmethod
    def read(self, entry: Any) -> Decoded:
        """Returns the pixels of an entry as they are in its source."""

    def device_key(self, entry: Any) -> tuple[int, str]:
        """Returns seed and key of the device that is simulated for an entry, where one can be."""
        raise NotImplementedError

    def decode(self, case: Case) -> Decoded:
        """Returns the pixels of a case of this source, with the section's own steps.

        Raises:
            DataError: If a file cannot be read, or image and mask do not fit; with all problems of the case.
        """
        if case.digest not in self._by_digest:
            raise DataError.at(
                f"data.{self.name}",
                f"the section has no case {case.digest[:16]} ({case.name}); plan the study again.",
            )
        entry = self._by_digest[case.digest]
        device = partial(self._simulated, entry) if self.config.simulate else None
        return with_steps(self.read(entry), self.config, device)

    def _simulated(self, entry: Any, decoded: Decoded) -> Decoded:
        from xferlab.phantoms.device import simulate_portable  # it takes a while to import

        seed, key = self.device_key(entry)
        image, targets = simulate_portable(decoded.image, decoded.targets, seed=seed, key=key)
        # Where the device sees nothing there is background; of an absent mask nothing is known there.
        targets[(decoded.targets == IGNORED).all(axis=(1, 2))] = IGNORED
        return replace(decoded, image=image, targets=targets)

    @cached_property
    def survey(self) -> Survey:
        """What `look` found the first time; digests of a package's source are of its version, too."""
        survey = self.look()
        if self.package is None:
            return survey
        cases, doubled = (
            tuple(replace(case, digest=self._of_package(case.digest)) for case in group)
            for group in (survey.cases, survey.doubled)
        )
        return replace(survey, cases=cases, doubled=doubled)

    @cached_property
    def _by_digest(self) -> Mapping[str, Any]:
        """The entries by the digests of the survey, which fills them."""
        _ = self.survey
        if self.package is None:
            return self._entries
        return {self._of_package(digest): entry for digest, entry in self._entries.items()}

    def _of_package(self, digest: str) -> str:
        return digest_of({"package": self.package, "digest": digest})

    def cases(self) -> tuple[Case, ...]:
        """Returns the cases, by patient and name.

        Raises:
            DataError: With all problems, if one of them is an error.
        """
        errors = [problem for problem in self.survey.problems if problem.severity == "error"]
        if errors:
            raise DataError(errors)
        return self.survey.cases


class FileSource(Source):
    """A data section whose images are files."""

    config: FileConfig

    @cached_property
    def root(self) -> Path:
        """The folder that names of files start at."""
        return Path(self.config.root)

    @cached_property
    def memo(self) -> FileMemo:
        """Digests of the files, and what follows from them."""
        return FileMemo(self.memo_dir, self.root)


def with_steps(
    decoded: Decoded, config: SourceConfig, device: Callable[[Decoded], Decoded] | None = None
) -> Decoded:
    """Returns a case after the section's own steps: crop, device, degrade, equalise, gamma.

    Args:
        decoded: As it is in its source.
        config: Of the section.
        device: What simulates a device; None for no simulation.
    """
    if config.crop_black_band:
        decoded = without_band(decoded, config.targets)
    if device is not None:
        decoded = device(decoded)
    image = preprocessing.altered(decoded.image, config, decoded.levels)
    return replace(decoded, image=image, levels=None)


def without_band(decoded: Decoded, structures: Sequence[str]) -> Decoded:
    """Returns a grey case without the black band at its bottom; a structure that it cuts is a remark.

    Args:
        decoded: The case.
        structures: Names of the planes of its targets.
    """
    height = preprocessing.height_without_band(decoded.image)
    planes = zip(structures, decoded.targets == STRUCTURE, strict=True)
    cut = [preprocessing.cut_by_band(name, inside, height) for name, inside in planes]
    return replace(
        decoded,
        image=decoded.image[:height],
        targets=decoded.targets[:, :height],
        remarks=(*decoded.remarks, *filter(None, cut)),
        levels=decoded.levels and decoded.levels.above(height),
    )


def digest_of(recipe: Mapping[str, object]) -> str:
    """Returns the SHA-256 of the canonical JSON of what determines a case's pixels, hex."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
