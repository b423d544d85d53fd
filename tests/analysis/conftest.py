"""A small study with known values, written by the real writers.

The value of a metric on image i (from 0) in repetition r (from 1) is
`BASE[stage] + ARM[arm] + 0.01 * r + 0.001 * i`, so that tables can be checked by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xferlab.analysis import StudyResults, load_study
from xferlab.metrics.catalogue import CATALOGUE
from xferlab.plan.identity import short_id
from xferlab.records import codec, layout, writer
from xferlab.records.schema import (
    CASES_SCHEMA,
    CaseOutputs,
    EpochResult,
    EvaluationRecord,
    TrialRecord,
    history_sha256,
)
from xferlab.records.store import Store

BASE = {"donor": 0.5, "general": 0.8, "portable": 0.9}
ARM = {"baseline": 0.0, "frozen": -0.02}
PATHOLOGIES = ("covid19", "normal", "pathological")
NETWORK = {"mean": 3.8, "sd": 0.2, "n": 20}


@dataclass
class StudyBuilder:
    """Writes a study into a storage; every attribute may be changed before `write`."""

    folder: Path
    study: str = "covid_lung"
    arms: tuple[str, ...] = ("baseline", "frozen")
    repetitions: int = 4
    missing: set[str] = field(default_factory=lambda: {"baseline/portable/r04"})
    compare_to: str | None = "vidal2021"
    note: str | None = None
    section_notes: dict[str, str] = field(default_factory=dict)
    pathologies: tuple[str, ...] = PATHOLOGIES
    images: int = 18
    images_per_patient: int = 1
    size: int = 32
    pixels: bool = True
    epochs: int = 6
    noise: float = 0.0
    hold_out: str = "portable"
    own_evaluations: bool = False
    seen: set[str] = field(default_factory=set)
    simulated: str = ""
    warnings: tuple[str, ...] = ()
    train_patients: int | None = 48
    """Of each repetition, out of 80 who train in any; None: the plan counts neither."""
    variants: dict[str, float] = field(default_factory=dict)
    """Variants of the hold-out, each with what it adds to every metric."""

    def write(self) -> Path:
        """Writes plan and trials; returns the storage folder."""
        store = Store.open(self.folder)
        trials = self._trials()
        for trial in trials:
            if not self.missing & set(trial["names"]):
                self._write_trial(store, trial)
        self._write_failures(store, trials)
        codec.write_json(store, layout.StudyFiles(self.study).plan, self._plan(trials))
        return self.folder

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        """Returns the known value of one image."""
        if metric == "HD95_mm" or (metric == "BRIDGES" and image % 2):
            return float("nan")
        if metric in ("BRIDGES", "ISLANDS", "COMPONENTS"):
            return float((image + repetition) % 3) if stage == "general" else 0.0
        known = BASE.get(stage, 0.7) + ARM.get(arm, 0.0) + 0.01 * repetition + 0.001 * image
        if not self.noise:
            return known
        seed = int(short_id([arm, stage, repetition, image, metric])[:8], 16)
        return float(min(0.999, known - abs(np.random.default_rng(seed).normal(0, self.noise))))

    def _trials(self) -> list[dict[str, Any]]:
        trials = [self._trial(["baseline", *self.arms[1:]], "donor", 1, [])]
        for stage, parent in (("general", "donor"), ("portable", "general")):
            for arm in self.arms:
                for repetition in range(1, self.repetitions + 1):
                    parents = [t for t in trials if t["stage"] == parent and arm in t["arms"]]
                    own = [t for t in parents if len(parents) == 1 or t["repetition"] == repetition]
                    trials.append(self._trial([arm], stage, repetition, [t["trial_id"] for t in own]))
        return trials

    def _trial(self, arms: list[str], stage: str, repetition: int, parents: list[str]) -> dict[str, Any]:
        section = "mri" if stage == "donor" else stage
        trial_id = short_id([self.study, arms, stage, repetition])
        held = [(self.hold_out, "hold_out", variant) for variant in ("", *self.variants)]
        sets = [(section, "test", ""), *([] if stage == "donor" else held)]
        return {
            "trial_id": trial_id,
            "names": [f"{arm}/{stage}/r{repetition:02d}" for arm in arms],
            "arms": arms,
            "stage": stage,
            "repetition": repetition,
            "parents": parents,
            "data": section,
            "max_epochs": self.epochs,
            "device": "cpu",
            "num_train": 60,
            "num_validation": 20,
            **({"train_patients": self.train_patients} if self.train_patients else {}),
            "evaluations": [
                {
                    "evaluation_id": short_id([trial_id, *filter(None, one), askers]),
                    "section": one[0],
                    "part": one[1],
                    "selection": "0" * 64,
                    "overlay_cases": 4,
                    "parent_may_have_seen": f"{arms[0]}/{stage}/{one[0]}.{one[1]}" in self.seen,
                    "arms": askers,
                    **({"variant": one[2]} if one[2] else {}),
                }
                for one in sets
                for askers in ([[arm] for arm in arms] if self.own_evaluations else [arms])
            ],
        }

    def _plan(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        chain = {"donor": None, "general": "donor", "portable": "general"}
        counts = {"cases": 100, "patients": 80, "pathologies": {"covid19": {"cases": 100, "patients": 80}}}
        return {
            "version": 2,
            "study": self.study,
            "seed": 2021,
            "profile": "cpu",
            "repetitions": self.repetitions,
            "device": "cpu",
            "retries": 1,
            "note": self.note,
            "compare_to": self.compare_to,
            "tracking": None,
            "split": {"train": 0.6, "validation": 0.2, "test": 0.2, "group_by": "patient_id"},
            "data": {
                name: {
                    "source": "manifest",
                    "note": self.section_notes.get(name),
                    "shareable": False,
                    "simulate": None,
                    "hold_out": 0.5 if name == "portable" else 0.0,
                    **counts,
                }
                for name in ("mri", "general", "portable")
            },
            "stages": list(chain),
            "arms": {
                arm: {
                    "description": {},
                    "stages": {
                        stage: {
                            "data": stage,
                            "starts_from": parent,
                            "repetitions": 1,
                            "evaluate_on": None,
                            **({"pool_patients": 80} if self.train_patients else {}),
                        }
                        for stage, parent in chain.items()
                    },
                }
                for arm in self.arms
            },
            "trials": trials,
            "warnings": list(self.warnings),
        }

    def _write_failures(self, store: Store, trials: Iterable[Mapping[str, Any]]) -> None:
        for trial in trials:
            if self.missing & set(trial["names"]):
                codec.write_json(
                    store,
                    layout.TrialFiles(trial["trial_id"]).failure,
                    {"type": "TrainingError", "message": "killed by signal 9 | <b>out of memory</b>\nmore"},
                )

    def _write_trial(self, store: Store, trial: Mapping[str, Any]) -> None:
        trial_id, repetition = trial["trial_id"], trial["repetition"]
        num_epochs = self.epochs - repetition % 2
        results = [
            EpochResult(
                epoch=epoch,
                values={
                    "train_loss": 0.5 / epoch + 0.01 * repetition,
                    "validation_loss": 0.6 / epoch + 0.02 * repetition,
                    "lr": 1e-3,
                },
                score=0.6 / epoch + 0.02 * repetition,
                improved=True,
                train_s=1.0 + 0.1 * epoch,
                validation_s=0.25,
            )
            for epoch in range(1, num_epochs + 1)
        ]
        writer.HistoryFile(store, trial_id, results).finish()
        store.write(layout.TrialFiles(trial_id).weights, b"weights")
        for one in trial["evaluations"]:
            self._write_evaluation(store, trial, one)
        writer.write_run(
            store,
            trial_id,
            {
                "attempts": [{"outcome": "complete"}],
                "device": "cpu",
                "device_name": "Test CPU <1>",
                "total_s": 10.0 * repetition,
                "memory_peak_gib": 1.1,
                "network_ms_per_image": NETWORK,
            },
        )
        writer.write_trial(
            store,
            TrialRecord(
                trial_id=trial_id,
                identity={},
                num_epochs=num_epochs,
                best_epoch=num_epochs,
                best_score=results[-1].score,
                stopped_by="max_epochs",
                num_parameters=10,
                num_train=60,
                num_validation=20,
                started_from=None,
                weights_sha256="0" * 64,
                weights_bytes=len(b"weights"),
                history_sha256=history_sha256(results),
            ),
        )

    def _case(self, section: str, part: str, repetition: int, image: int) -> tuple[str, str, str, str]:
        shift = 0 if part == "hold_out" else 5 * repetition
        patient = f"p{(image + shift) // self.images_per_patient:03d}"
        name = f"{section}_{part}_{image + shift:03d}.png"
        return (
            f"{section}-{part}-{image + shift}",
            name,
            patient,
            self.pathologies[image % len(self.pathologies)],
        )

    def _write_evaluation(self, store: Store, trial: Mapping[str, Any], one: Mapping[str, Any]) -> None:
        cases: dict[str, list[Any]] = {name: [] for name in CASES_SCHEMA.names}
        for image in range(self.images):
            identity = self._case(one["section"], one["part"], trial["repetition"], image)
            for metric in CATALOGUE:
                value = self.value(
                    arm=trial["arms"][0],
                    stage=trial["stage"],
                    repetition=trial["repetition"],
                    image=image,
                    metric=metric.name,
                )
                value += self.variants.get(one.get("variant", ""), 0.0)
                row = (*identity, self.simulated, metric.name, value)
                for name, item in zip(CASES_SCHEMA.names, row, strict=True):
                    cases[name].append(item)
        outputs = self._outputs(trial, one) if self.pixels else []
        tables = [writer.table(CASES_SCHEMA, cases), writer.outputs_table(outputs)]
        digests = [_sha256(data) for data in tables]
        record = EvaluationRecord(
            one["evaluation_id"], trial["trial_id"], one["selection"], self.images, 1, *digests, "0" * 64
        )
        writer.write_evaluation(store, record, cases=tables[0], outputs=tables[1])

    def _outputs(self, trial: Mapping[str, Any], one: Mapping[str, Any]) -> list[CaseOutputs]:
        stored = []
        for image in range(min(self.images, 2 * len(self.pathologies))):
            case, name, patient, pathology = self._case(
                one["section"], one["part"], trial["repetition"], image
            )
            pixels = chest(self.size, seed=image, artefact=trial["stage"] == "general", part=image % 3)
            arrays = dict(zip(("image", "target", "probability"), pixels, strict=True))
            stored.append(CaseOutputs(case, name, patient, pathology, "", arrays))
        return stored


def chest(size: int, *, seed: int, artefact: bool, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns image, target and probability (uint8) of two ellipses on a soft ground."""
    y, x = np.mgrid[0:size, 0:size] / size - 0.5
    tilt = 0.02 * (seed % 4)
    lungs = np.minimum(
        ((x + 0.2) / 0.14) ** 2 + ((y - tilt) / 0.33) ** 2, ((x - 0.2) / 0.15) ** 2 + (y / 0.32) ** 2
    )
    target = np.where(lungs < 1, 255, 0)
    random = np.random.default_rng(seed)
    image = 190 - 90 * np.exp(-(lungs**2) / 1.5) - 120 * (x**2 + y**2) + random.normal(0, 6, (size, size))
    distance = lungs * (1.25 if artefact else 1.03)
    if artefact and part == 0:
        distance = np.where((np.abs(y + 0.05) < 0.03) & (np.abs(x) < 0.25), 0.5, distance)
    if artefact and part == 1:
        distance = np.minimum(distance, ((x - 0.38) / 0.05) ** 2 + ((y - 0.38) / 0.06) ** 2)
    probability = 255 / (1 + np.exp(8 * (distance - 1)))
    return (
        np.clip(image, 0, 255).astype(np.uint8),
        target.astype(np.uint8),
        np.clip(probability, 0, 255).astype(np.uint8),
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full study: two arms, three stages, four repetitions, one failed."""
    return StudyBuilder(tmp_path_factory.mktemp("storage")).write()


@pytest.fixture(scope="session")
def results(storage: Path) -> StudyResults:
    """The study of `storage`, loaded."""
    return load_study(storage, "covid_lung")


@pytest.fixture
def builder(tmp_path: Path) -> StudyBuilder:
    """A builder that a test may change before it writes."""
    return StudyBuilder(tmp_path / "storage")
