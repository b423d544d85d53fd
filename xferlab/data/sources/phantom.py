"""Sections of procedural images: always there, identified by their recipe, rendered only when decoded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xferlab.cohort import Case
from xferlab.data.filters import join_patients, select_cases
from xferlab.data.simulation import simulate, simulation_recipe
from xferlab.data.sources.source import STRUCTURE, Decoded, Source, Survey
from xferlab.errors import DataError, Problem
from xferlab.phantoms import (
    PATHOLOGIES,
    PHANTOMS_VERSION,
    brain_mri,
    brain_patient,
    chest_mask,
    chest_xray,
)
from xferlab.study.sections import PhantomCxrData, PhantomMriData


@dataclass(frozen=True)
class _Recipe:
    """What determines a phantom; `plain` is its digest before any device simulation."""

    index: int
    pathology: str
    plain: str


class PhantomCxrSource(Source):
    """Chest X-rays; every index is a patient of its own, and a higher count leaves the first as they are."""

    channels = 1

    def __init__(self, section: str, config: PhantomCxrData, *, memo_dir: Path):
        self._section, self._config = section, config
        self._recipes: dict[str, _Recipe] = {}

    def look(self) -> Survey:
        """Returns the cases; draws nothing."""
        cases = []
        joined = join_patients(self._config.same_patient)
        for index, pathology in self._members():
            plain = _digest("phantom_cxr", self._config, index=index, pathology=pathology)
            digest = plain
            if self._config.simulate:
                digest = _sha({"plain": plain, "simulate": simulation_recipe(self._config.simulate)})
            name = f"phantom-chest-{self._config.seed}-{index}"
            simulated = self._config.simulate or ""
            cases.append(Case(digest, name, joined.get(name, name), pathology, simulated))
            self._recipes[digest] = _Recipe(index, pathology, plain)
        return select_cases(self._section, "phantom_cxr", cases, self._config.where)

    def decode(self, case: Case) -> Decoded:
        """Returns a drawn image and the lungs as they are, also behind heart, ribs and clavicles."""
        _ = self.survey
        recipe = _found(self._section, self._recipes, case)
        config = self._config
        drawn = chest_xray(
            seed=config.seed, index=recipe.index, pathology=recipe.pathology, size_px=config.size_px
        )
        image, target = drawn.image, (chest_mask(drawn.labels) * np.uint8(STRUCTURE)).astype(np.uint8)
        if config.simulate:
            image, target = simulate(image, target, seed=config.seed, key=recipe.plain)
        return Decoded(image, target)

    def _members(self) -> Iterator[tuple[int, str]]:
        """(index, pathology): pathologies take turns, so that one's count moves no patient of another."""
        count = self._config.count
        if isinstance(count, int):
            yield from ((index, PATHOLOGIES[index % len(PATHOLOGIES)]) for index in range(count))
            return
        for pathology, wanted in count.items():
            place = PATHOLOGIES.index(pathology)
            for number in range(wanted):
                yield number * len(PATHOLOGIES) + place, pathology


class PhantomMriSource(Source):
    """Brain MRI slices of three channels, several a patient; their pathology is `brain`, lesion or not."""

    channels = 3
    empty_targets = True

    def __init__(self, section: str, config: PhantomMriData, *, memo_dir: Path):
        self._section, self._config = section, config
        self._recipes: dict[str, _Recipe] = {}

    def look(self) -> Survey:
        """Returns the cases; draws nothing."""
        if self._config.simulate:
            return Survey((), (no_simulation(self._section, "phantom_mri"),))
        cases = []
        joined = join_patients(self._config.same_patient)
        for index in range(self._config.count):
            digest = _digest("phantom_mri", self._config, index=index, pathology="brain")
            patient = f"phantom-brain-{self._config.seed}-{brain_patient(index)}"
            name = f"phantom-brain-slice-{self._config.seed}-{index}"
            cases.append(Case(digest, name, joined.get(patient, patient), "brain"))
            self._recipes[digest] = _Recipe(index, "brain", digest)
        return select_cases(self._section, "phantom_mri", cases, self._config.where)

    def decode(self, case: Case) -> Decoded:
        """Returns a drawn slice `(H, W, 3)` and its lesion."""
        _ = self.survey
        recipe = _found(self._section, self._recipes, case)
        drawn = brain_mri(seed=self._config.seed, index=recipe.index, size_px=self._config.size_px)
        return Decoded(drawn.image, ((drawn.labels > 0) * np.uint8(STRUCTURE)).astype(np.uint8))


def no_simulation(section: str, source: str) -> Problem:
    """Returns the refusal of a device simulation on images that are no chest X-rays."""
    what = (
        f"simulate: portable is for chest X-rays; a section of source {source} cannot have it. Leave it out."
    )
    return Problem(f"data.{section}.simulate", what)


def _digest(source: str, config: PhantomCxrData | PhantomMriData, *, index: int, pathology: str) -> str:
    return _sha(
        {
            "source": source,
            "version": PHANTOMS_VERSION,
            "seed": config.seed,
            "size_px": config.size_px,
            "index": index,
            "pathology": pathology,
        }
    )


def _sha(recipe: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _found(section: str, recipes: dict[str, _Recipe], case: Case) -> _Recipe:
    if case.digest not in recipes:
        what = f"no phantom of this section is {case.name} ({case.digest[:16]}); plan the study again."
        raise DataError(Problem(f"data.{section}", what))
    return recipes[case.digest]
