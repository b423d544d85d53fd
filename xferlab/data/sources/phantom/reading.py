"""Sections of procedural images: always there, identified by their recipe, rendered only when decoded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data.sources.filters import join_patients, select_cases
from xferlab.data.sources.phantom.config import PhantomCxrData, PhantomMriData
from xferlab.data.sources.source import STRUCTURE, Decoded, Source, Survey, digest_of
from xferlab.phantoms import (
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
    def draw(self, index: int, pathology: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Returns an image and where the structure is."""

    def look(self) -> Survey:
        """Returns the cases; draws nothing."""
        config, cases = self.config, []
        same = join_patients(config.same_patient)
        for index, member in self.members():
            plain = digest = digest_of(
                {
                    "source": config.source,
                    "version": PHANTOMS_VERSION,
                    "seed": config.seed,
                    "size_px": config.size_px,
                    "index": index,
                    "pathology": member.pathology,
                }
            )
            if config.simulate:
                digest = digest_of({"plain": plain, "simulate": device.recipe(config.simulate)})
            patient, simulated = same.get(member.patient, member.patient), config.simulate or ""
            columns = {"patient_id": member.patient, "pathology": member.pathology}
            cases.append(Case(digest, member.name, patient, member.pathology, simulated, columns=columns))
            self._entries[digest] = index, member.pathology, plain
        return select_cases(self.name, config.source, cases, config.where)

    def read(self, entry: tuple[int, str, str]) -> Decoded:
        """Returns a drawn image and its structure, from index, pathology and digest before simulation."""
        index, pathology, plain = entry
        image, inside = self.draw(index, pathology)
        target = (inside * np.uint8(STRUCTURE)).astype(np.uint8)
        if self.config.simulate:
            image, target = device.simulate_portable(image, target, seed=self.config.seed, key=plain)
        return Decoded(image, target)


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

    def draw(self, index: int, pathology: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Returns an image and the lungs as they are, also behind heart, ribs and clavicles."""
        seed, size_px = self.config.seed, self.config.size_px
        drawn = chest_xray(seed=seed, index=index, pathology=pathology, size_px=size_px)
        return drawn.image, chest_mask(drawn.labels)


class PhantomMriSource(PhantomSource):
    """Brain MRI slices of three channels, several a patient; their pathology is `brain`, lesion or not."""

    config: PhantomMriData

    def members(self) -> Iterator[tuple[int, Case]]:
        """Yields the slices, patient by patient."""
        seed = self.config.seed
        for index in range(self.config.count):
            patient = f"phantom-brain-{seed}-{brain_patient(index)}"
            yield index, Case("", f"phantom-brain-slice-{seed}-{index}", patient, "brain")

    def draw(self, index: int, pathology: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Returns a slice `(H, W, 3)` and its lesion."""
        drawn = brain_mri(seed=self.config.seed, index=index, size_px=self.config.size_px)
        return drawn.image, drawn.labels > 0
