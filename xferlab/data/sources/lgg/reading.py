"""The LGG brain MRI set in its published layout, prepared nearly as its donor network saw it (see `volume`).

Of each volume the first and last slices are dropped. The rest is cropped to the brain, padded to a square and
normalised by volume and channel. Lesions are the structure.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data import preprocessing
from xferlab.data.decode import DECODE_VERSION, read_colour, read_labels
from xferlab.data.sources.filters import join_patients, select_cases
from xferlab.data.sources.lgg.config import LggData
from xferlab.data.sources.lgg.volume import Scale, crop_and_pad, normalised, scale_of
from xferlab.data.sources.source import NO_FOLDER, STRUCTURE, Decoded, FileSource, Survey, digest_of
from xferlab.errors import DataError, Problem, attempt, successes

LESION, NO_LESION = "tumour", "no_tumour"

_SLICE = re.compile(r"^(?P<volume>.+)_(?P<number>\d+)\.tif$")
_TCGA = re.compile(r"^(?P<patient>TCGA_[^_]+_[^_]+)_\d{8}$")


@dataclass
class _Volume:
    """The used slices of a folder, in order, and once it is known its scale, or why it has none."""

    slices: tuple[str, ...]
    lock: Lock = field(default_factory=Lock)
    scale: Scale | DataError | None = None


class LggSource(FileSource):
    """Slices of three channels (pre-contrast, FLAIR, post-contrast) with the FLAIR abnormality."""

    config: LggData

    @cached_property
    def root(self) -> Path:
        """The folder of the volumes."""
        inner = Path(self.config.root) / "kaggle_3m"
        return inner if os.path.isdir(inner) else inner.parent

    def look(self) -> Survey:
        """Returns the cases and all findings; decodes the masks that are new, to know who has a lesion."""
        volumes, problems = find_volumes(self.root, self.config.drop_ends)
        names = [name for volume in volumes.values() for name in volume]
        self._digests, failures = self.memo.digests([*names, *map(mask_of, names)])
        problems += [Problem(str(self.root / name), f"{why}.") for name, why in failures.items()]
        readable = [name for name in names if mask_of(name) in self._digests]
        keys = {name: f"lesion {self._digests[mask_of(name)]}" for name in readable}
        lesions, unreadable = self.memo.facts(keys, lambda name: bool(self._lesion(name).any()))
        problems += [problem for error in unreadable.values() for problem in error.problems]
        self.memo.save()
        same = join_patients(self.config.same_patient)
        cases: dict[str, Case] = {}
        for folder, slices in volumes.items():
            volume, patient = _Volume(slices), patient_of(folder)
            if not self._digests.keys() >= set(slices):
                continue
            for name in slices:
                if name in lesions:
                    digest, image_sha256 = self._digest(name, slices), self._digests[name]
                    person, pathology = same.get(patient, patient), LESION if lesions[name] else NO_LESION
                    # Slices of one volume may be equal (empty ones); the first of them stays.
                    columns = {"patient_id": patient, "pathology": pathology}
                    case = Case(digest, name, person, pathology, image_sha256=image_sha256, columns=columns)
                    cases[digest] = min(case, cases.get(digest, case), key=attrgetter("patient", "name"))
                    self._entries[digest] = name, volume
        if not cases:
            return Survey((), tuple(problems))
        chosen = select_cases(self.name, str(self.root), list(cases.values()), self.config.where)
        return Survey(chosen.cases, (*problems, *chosen.problems))

    def read(self, entry: tuple[str, _Volume]) -> Decoded:
        """Returns a slice cropped to its volume's brain, padded to a square and normalised, and its lesion.

        Raises:
            DataError: If a slice of the volume or the mask cannot be read, or sizes disagree.
        """
        name, volume = entry
        scale = self._scale(volume)
        image, lesion = self._image(name), self._lesion(name)
        if lesion.shape != image.shape[:2]:
            raise DataError.at(
                self.root / mask_of(name),
                f"the mask's shape is {lesion.shape}, its image's {image.shape[:2]}.",
            )
        target = crop_and_pad(lesion * np.uint8(STRUCTURE), scale.box)
        targets = target[None][: len(self.config.targets)]
        return Decoded(normalised(crop_and_pad(image, scale.box), scale), targets)

    def _digest(self, name: str, slices: Sequence[str]) -> str:
        """A slice's pixels depend on all of its volume through crop and normalisation."""
        mask = {"mask": self._digests[mask_of(name)]} if self.config.targets else {}
        return digest_of(
            {
                "source": "lgg",
                "decode": DECODE_VERSION,
                "image": self._digests[name],
                **mask,
                **preprocessing.recipe(self.config),
                "volume": [self._digests[other] for other in slices],
            }
        )

    def _scale(self, volume: _Volume) -> Scale:
        with volume.lock:
            if volume.scale is None:
                volume.scale = attempt(self._new_scale, volume.slices)
        return successes([volume.scale])[0]

    def _new_scale(self, slices: Sequence[str]) -> Scale:
        images = successes([attempt(self._image, name) for name in slices])
        return scale_of(images, where=(self.root / slices[0]).parent)

    def _image(self, name: str) -> NDArray[np.uint8]:
        return read_colour(self.root / name, self.memo.read(name, self._digests[name]))

    def _lesion(self, name: str) -> NDArray[np.bool_]:
        mask = mask_of(name)
        labels = read_labels(self.root / mask, self.memo.read(mask, self._digests[mask])).values
        strange = sorted(set(np.unique(labels).tolist()) - {0, 255})
        if strange:
            raise DataError.at(
                self.root / mask,
                f"mask values {', '.join(map(str, strange[:8]))}; a lesion is 255, everything else 0.",
            )
        return np.asarray(labels == 255)


def find_volumes(root: Path, drop_ends: int) -> tuple[dict[str, tuple[str, ...]], list[Problem]]:
    """Returns folder -> its slices in order without the dropped ends (paths below the root), and findings."""
    volumes: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    try:
        if not root.is_dir():
            return {}, [Problem(str(root), NO_FOLDER)]
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            slices = _slices(folder)
            used = slices[drop_ends : len(slices) - drop_ends]
            if used:
                volumes[folder.name] = used
            elif slices:
                what = f"{len(slices)} slices, of which `drop_ends: {drop_ends}` leaves none."
                problems.append(Problem(str(folder), what))
    except OSError as error:
        return {}, [Problem(str(root), f"cannot be looked into: {error.strerror or error}.")]
    if not volumes and not problems:
        what = "no folder holds slices named <folder>/<folder>_<number>.tif; is this the `kaggle_3m` folder?"
        problems.append(Problem(str(root), what))
    return volumes, problems


def _slices(folder: Path) -> tuple[str, ...]:
    """The slices of a volume in order, as paths below the root."""
    numbers = {
        int(match["number"]): f"{folder.name}/{path.name}"
        for path in folder.iterdir()
        if (match := _SLICE.match(path.name)) and match["volume"] == folder.name
    }
    return tuple(numbers[number] for number in sorted(numbers))


def mask_of(name: str) -> str:
    """Returns the path of a slice's mask."""
    return f"{name.removesuffix('.tif')}_mask.tif"


def patient_of(folder: str) -> str:
    """Returns the patient of a volume: a TCGA name without its date, so that two visits are one patient."""
    match = _TCGA.match(folder)
    return match["patient"] if match else folder
