"""Sections of procedural images: always there, identified by their recipe, rendered only when decoded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data import preprocessing
from xferlab.data.sources.filters import join_patients, select_cases
from xferlab.data.sources.phantom.config import PhantomCxrData, PhantomMriData
from xferlab.data.sources.source import STRUCTURE, Decoded, Source, Survey, digest_of
from xferlab.phantoms import (
    CHEST_LABELS,
    PATHOLOGIES,
    PHANTOMS_VERSION,
    brain_mri,
    brain_patient,
    chest_mask,
    chest_xray,
    device,
)


class PhantomSource(Source):
    """Phantoms of one kind."""

    config: PhantomCxrData | PhantomMriData

    @abstractmethod
    def members(self) -> Iterator[tuple[int, Case]]:
        """Yields index and case of all phantoms of the section; the cases lack their digests."""

    @abstractmethod
    def draw(self, index: int, pathology: str) -> tuple[NDArray[np.uint8], Mapping[str, NDArray[np.bool_]]]:
        """Returns an image and where each structure is."""

    def look(self) -> Survey:
        """Returns the cases; draws nothing."""
        config, cases = self.config, []
        same = join_patients(config.same_patient)
        for index, member in self.members():
            recipe: dict[str, object] = {
                "source": config.source,
                "version": PHANTOMS_VERSION,
                "seed": config.seed,
                "size_px": config.size_px,
                "index": index,
                "pathology": member.pathology,
            }
            # What was read before a section could read other structures is not named.
            others = {} if config.targets == config.marked[:1] else {"structures": config.targets}
            plain, digest = digest_of(recipe), digest_of(recipe | others | preprocessing.recipe(config))
            if config.simulate:
                digest = digest_of({"plain": digest, "simulate": device.recipe(config.simulate)})
            patient, simulated = same.get(member.patient, member.patient), config.simulate or ""
            columns = {"patient_id": member.patient, "pathology": member.pathology}
            cases.append(Case(digest, member.name, patient, member.pathology, simulated, columns=columns))
            self._entries[digest] = index, member.pathology, plain
        return select_cases(self.name, config.source, cases, config.where)

    def read(self, entry: tuple[int, str, str]) -> Decoded:
        """Returns a drawn image and its structures, from index, pathology and the digest of its recipe."""
        index, pathology, _ = entry
        image, inside = self.draw(index, pathology)
        targets = np.zeros((len(self.config.targets), *image.shape[:2]), np.uint8)
        for plane, name in zip(targets, self.config.targets, strict=True):
            plane[inside[name]] = STRUCTURE
        return Decoded(image, targets)

    def device_key(self, entry: tuple[int, str, str]) -> tuple[int, str]:
        """Keyed by the phantom, whichever of its structures are read."""
        return self.config.seed, entry[2]


class PhantomCxrSource(PhantomSource):
    """Chest X-rays; every index is a patient of its own, and a higher count leaves the first as they are."""

    config: PhantomCxrData

    def members(self) -> Iterator[tuple[int, Case]]:
        """Pathologies take turns, so that the count of one moves no patient of another."""
        count, kinds = self.config.count, len(PATHOLOGIES)
        if isinstance(count, int):
            indices = list(range(count))
        else:
            starts = {PATHOLOGIES.index(pathology): number for pathology, number in count.items()}
            indices = [start + kinds * turn for start, number in starts.items() for turn in range(number)]
        for index in indices:
            name = f"phantom-chest-{self.config.seed}-{index}"
            yield index, Case("", name, name, PATHOLOGIES[index % kinds])

    def draw(self, index: int, pathology: str) -> tuple[NDArray[np.uint8], Mapping[str, NDArray[np.bool_]]]:
        """Returns an image and its structures; the lungs are whole, also behind heart, ribs and clavicles."""
        seed, size_px = self.config.seed, self.config.size_px
        drawn = chest_xray(seed=seed, index=index, pathology=pathology, size_px=size_px)
        single = {name: chest_mask(drawn.labels, name) for name in self.config.marked if name in CHEST_LABELS}
        return drawn.image, {"lung": chest_mask(drawn.labels), **single}


class PhantomMriSource(PhantomSource):
    """Brain MRI slices of three channels, several a patient; their pathology is `brain`, lesion or not."""

    config: PhantomMriData

    def members(self) -> Iterator[tuple[int, Case]]:
        """Yields the slices, patient by patient."""
        seed = self.config.seed
        for index in range(self.config.count):
            patient = f"phantom-brain-{seed}-{brain_patient(index)}"
            yield index, Case("", f"phantom-brain-slice-{seed}-{index}", patient, "brain")

    def draw(self, index: int, pathology: str) -> tuple[NDArray[np.uint8], Mapping[str, NDArray[np.bool_]]]:
        """Returns a slice `(H, W, 3)` and its lesion."""
        drawn = brain_mri(seed=self.config.seed, index=index, size_px=self.config.size_px)
        return drawn.image, {"lesion": drawn.labels > 0}
