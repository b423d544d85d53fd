"""The LGG brain MRI set in its published layout, prepared as its donor network saw it.

Of each volume the first and last slices are dropped, the rest is cropped to the brain, padded to a square and
normalised by volume and channel. Lesions are the structure.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data.decode import DECODE_VERSION, read_colour, read_labels
from xferlab.data.filters import join_patients, select_cases
from xferlab.data.memo import FileMemo, PlannedFiles
from xferlab.data.sources.phantom import no_simulation
from xferlab.data.sources.source import STRUCTURE, Decoded, Source, Survey
from xferlab.data.volume import Scale, crop_and_pad, normalised, scale_of
from xferlab.errors import DataError, Problem, joined
from xferlab.parallel import for_each
from xferlab.study.sections import LggData

LESION, NO_LESION = "tumour", "no_tumour"

_SLICE = re.compile(r"^(?P<volume>.+)_(?P<number>\d+)\.tif$")
_TCGA = re.compile(r"^(?P<patient>TCGA_[^_]+_[^_]+)_\d{8}$")


@dataclass
class _Volume:
    """The used slices of a folder, in order, and once it is known its scale, or why it has none."""

    slices: tuple[str, ...]
    lock: Lock = field(default_factory=Lock)
    scale: Scale | DataError | None = None


class LggSource(Source):
    """Slices of three channels (pre-contrast, FLAIR, post-contrast) with the FLAIR abnormality."""

    channels = 3
    empty_targets = True

    def __init__(self, section: str, config: LggData, *, memo_dir: Path):
        self._section, self._config, self._memo_dir = section, config, memo_dir
        root = Path(config.root)
        self._root = root / "kaggle_3m" if os.path.isdir(root / "kaggle_3m") else root
        self._slices: dict[str, tuple[str, _Volume]] = {}
        self._digests: Mapping[str, str] = {}

    def look(self) -> Survey:
        """Returns the cases and all findings; decodes the masks that are new, to know who has a lesion."""
        if self._config.simulate:
            return Survey((), (no_simulation(self._section, "lgg"),))
        volumes, problems = find_volumes(self._root, self._config.drop_ends)
        memo = FileMemo(self._memo_dir, self._root)
        names = [name for volume in volumes.values() for name in volume]
        digests, failures = memo.digests([*names, *map(mask_of, names)])
        self._digests = digests
        problems += [Problem(str(self._root / name), f"{why}.") for name, why in failures.items()]
        lesions = self._lesions([name for name in names if mask_of(name) in digests], digests, memo, problems)
        memo.save()
        cases = []
        joined = join_patients(self._config.same_patient)
        for folder, slices in volumes.items():
            volume = _Volume(slices)
            patient = patient_of(folder)
            for name in slices:
                if name in lesions and all(slice_ in digests for slice_ in slices):
                    digest = _digest(name, slices, digests)
                    pathology = LESION if lesions[name] else NO_LESION
                    person = joined.get(patient, patient)
                    cases.append(Case(digest, name, person, pathology, image_sha256=digests[name]))
                    self._slices[digest] = (name, volume)
        if not volumes:
            return Survey((), tuple(problems))
        chosen = select_cases(self._section, str(self._root), _without_doubles(cases), self._config.where)
        return Survey(chosen.cases, (*problems, *(chosen.problems if cases else ())))

    def decode(self, case: Case) -> Decoded:
        """Returns a slice cropped to its volume's brain, padded to a square and normalised, and its lesion.

        Raises:
            DataError: If a slice of the volume or the mask cannot be read, or sizes disagree.
        """
        _ = self.survey
        if case.digest not in self._slices:
            what = f"no slice is the case {case.digest[:16]}; plan the study again."
            raise DataError(Problem(f"data.{self._section}", what))
        name, volume = self._slices[case.digest]
        scale = self._scale(volume)
        image = self._image(self._root / name)
        lesion = self._lesion(name)
        if lesion.shape != image.shape[:2]:
            what = f"the mask's shape is {lesion.shape}, its image's {image.shape[:2]}."
            raise DataError(Problem(str(self._root / mask_of(name)), what))
        target = crop_and_pad(lesion * np.uint8(STRUCTURE), scale.box)
        return Decoded(normalised(crop_and_pad(image, scale.box), scale), target)

    def _lesions(
        self, names: Sequence[str], digests: Mapping[str, str], memo: FileMemo, problems: list[Problem]
    ) -> dict[str, bool]:
        """Slice -> whether its mask has a lesion; slices whose mask cannot be read are left out."""
        known = {name: memo.fact(f"lesion {digests[mask_of(name)]}") for name in names}
        unknown = [name for name, fact in known.items() if fact is None]
        for name, found in zip(unknown, for_each(unknown, self._has_lesion), strict=True):
            if isinstance(found, DataError):
                problems += found.problems
            else:
                known[name] = "yes" if found else "no"
                memo.remember(f"lesion {digests[mask_of(name)]}", known[name] or "")
        return {name: fact == "yes" for name, fact in known.items() if fact is not None}

    def _has_lesion(self, name: str) -> bool | DataError:
        try:
            return bool(self._lesion(name).any())
        except DataError as error:
            return error

    def _scale(self, volume: _Volume) -> Scale:
        with volume.lock:
            if volume.scale is None:
                try:
                    volume.scale = scale_of([self._root / name for name in volume.slices], self._image)
                except DataError as error:
                    volume.scale = error
        if isinstance(volume.scale, DataError):
            raise joined([volume.scale])
        return volume.scale

    def _image(self, path: Path) -> NDArray[np.uint8]:
        return read_colour(path, self._bytes(path.relative_to(self._root).as_posix()))

    def _lesion(self, name: str) -> NDArray[np.bool_]:
        path = self._root / mask_of(name)
        labels = read_labels(path, self._bytes(mask_of(name))).values
        strange = sorted(set(np.unique(labels).tolist()) - {0, 255})
        if strange:
            shown = ", ".join(map(str, strange[:8]))
            raise DataError(Problem(str(path), f"mask values {shown}; a lesion is 255, everything else 0."))
        return np.asarray(labels == 255)

    def _bytes(self, name: str) -> bytes:
        return PlannedFiles(self._root, self._memo_dir).read(name, self._digests[name])


def find_volumes(root: Path, drop_ends: int) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """Returns folder -> its slices in order without the dropped ends (paths below the root), and findings."""
    try:
        return _volumes(root, drop_ends)
    except OSError as error:
        return {}, [Problem(str(root), f"cannot be looked into: {error.strerror or error}.")]


def _volumes(root: Path, drop_ends: int) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    if not root.is_dir():
        what = "there is no such folder. If `root` names an environment variable, see that it is set right."
        return {}, [Problem(str(root), what)]
    volumes: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        numbers = {
            int(match["number"]): f"{folder.name}/{path.name}"
            for path in folder.iterdir()
            if (match := _SLICE.match(path.name)) and match["volume"] == folder.name
        }
        slices = tuple(numbers[number] for number in sorted(numbers))
        used = slices[drop_ends : len(slices) - drop_ends]
        if used:
            volumes[folder.name] = used
        elif slices:
            what = f"{len(slices)} slices, of which `drop_ends: {drop_ends}` leaves none."
            problems.append(Problem(str(folder), what))
    if not volumes and not problems:
        what = "no folder holds slices named <folder>/<folder>_<number>.tif; is this the `kaggle_3m` folder?"
        problems.append(Problem(str(root), what))
    return volumes, problems


def mask_of(name: str) -> str:
    """Returns the path of a slice's mask."""
    return f"{name.removesuffix('.tif')}_mask.tif"


def patient_of(folder: str) -> str:
    """Returns the patient of a volume: a TCGA name without its date, so that two visits are one patient."""
    match = _TCGA.match(folder)
    return match["patient"] if match else folder


def _digest(name: str, slices: Sequence[str], digests: Mapping[str, str]) -> str:
    """A slice's pixels depend on all of its volume through crop and normalisation."""
    recipe = {
        "source": "lgg",
        "decode": DECODE_VERSION,
        "image": digests[name],
        "mask": digests[mask_of(name)],
        "volume": [digests[other] for other in slices],
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _without_doubles(cases: Sequence[Case]) -> list[Case]:
    """Slices of one volume may be equal (empty ones); by name, the first of them stays."""
    first: dict[str, Case] = {}
    for case in sorted(cases, key=lambda case: (case.patient, case.name)):
        first.setdefault(case.digest, case)
    return list(first.values())
