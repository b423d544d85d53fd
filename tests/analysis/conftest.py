"""A small study with known values, written by the real writers.

The value of a metric on image i (from 0) in repetition r (from 1) is
`BASE[stage] + ARM[arm] + 0.01 * r + 0.001 * i`, so that tables can be checked by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xferlab.analysis import StudyResults, load_study
from xferlab.analysis.contents import Contents
from xferlab.metrics.claims import Claims
from xferlab.metrics.measuring import METRICS, metrics_of
from xferlab.metrics.metric import Metric
from xferlab.plan.identity import short_id
from xferlab.plan.spec import PLAN_VERSION
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
from xferlab.tasks import registry

BASE = {"donor": 0.5, "general": 0.8, "portable": 0.9}
ARM = {"baseline": 0.0, "frozen": -0.02}
PATHOLOGIES = ("covid19", "normal", "pathological")
SECTIONS = ("mri", "general", "portable")
PARENTS = {"donor": None, "general": "donor", "portable": "general"}
STUDY = "covid_lung"


@dataclass
class StudyBuilder:
    """Writes a study into a storage; every attribute may be changed before `write`."""

    folder: Path
    study: str = STUDY
    arms: tuple[str, ...] = ("baseline", "frozen")
    repetitions: int = 4
    missing: set[str] = field(default_factory=lambda: {"baseline/portable/r04"})
    compare_to: str | None = "vidal2021"
    note: str | None = None
    section_notes: dict[str, str] = field(default_factory=dict)
    pathologies: tuple[str, ...] = PATHOLOGIES
    images: int = 18
    pixels: bool = True
    epochs: int = 6
    noise: float = 0.0
    own_evaluations: bool = False
    seen: set[str] = field(default_factory=set)
    simulated: str = ""
    warnings: tuple[str, ...] = ()
    variants: dict[str, float] = field(default_factory=dict)
    """Variants of the hold-out, each with what it adds to every metric."""
    metrics: tuple[Metric, ...] = METRICS
    structures: tuple[str, ...] = ()
    """Names, where each stage learns several; give `metrics` of them, too."""
    patient: tuple[str, ...] = ()
    """Stages whose trainings ended by patience; those of the others ended by max_epochs."""
    continues: bool = False
    claims: Claims | None = None

    def write(self) -> Path:
        """Writes plan and trials; returns the storage folder."""
        store, trials = Store.open(self.folder), self._trials()
        for trial in trials:
            if not self.missing & set(trial["names"]):
                self._write_trial(store, trial)
                continue
            failure = {"type": "TrainingError", "message": "killed by signal 9 | <b>out of memory</b>\nmore"}
            codec.write_json(store, layout.TrialFiles(trial["trial_id"]).failure, failure)
        codec.write_json(store, layout.StudyFiles(self.study).plan, self._plan(trials))
        return self.folder

    def best_score(self, score: float) -> float | None:
        """Returns the score that is stored of a training."""
        return score

    def history(self, stage: str, repetition: int, epoch: int) -> dict[str, float]:
        """Returns the values of an epoch."""
        return {
            "train_loss": 0.5 / epoch + 0.01 * repetition,
            "validation_loss": 0.6 / epoch + 0.02 * repetition,
            "lr": 1e-3,
        }

    def measured(self, stage: str) -> tuple[Metric, ...]:
        """Returns what a stage is measured by."""
        return self.metrics

    def identity(self, trial: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what is stored of what a trial is made of."""
        return {}

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        """Returns the known value of one image."""
        for number, name in enumerate(self.structures):
            if metric.endswith(f"_{name}"):
                whole = metric.removesuffix(f"_{name}")
                known = self.value(arm=arm, stage=stage, repetition=repetition, image=image, metric=whole)
                return known - 0.05 * (number + 1)
        if metric == "HD95_mm" or (metric == "BRIDGES" and image % 2):
            return float("nan")
        if metric in ("BRIDGES", "ISLANDS", "COMPONENTS"):
            return float((image + repetition) % 3) if stage == "general" else 0.0
        known = BASE[stage] + ARM.get(arm, 0.0) + 0.01 * repetition + 0.001 * image
        if not self.noise:
            return known
        seed = int(short_id([arm, stage, repetition, image, metric])[:8], 16)
        return float(min(0.999, known - abs(np.random.default_rng(seed).normal(0, self.noise))))

    def _trials(self) -> list[dict[str, Any]]:
        donor = self._trial(["baseline", *self.arms[1:]], "donor", 1, "")
        pairs = [(arm, repetition) for arm in self.arms for repetition in range(1, self.repetitions + 1)]
        general = [self._trial([arm], "general", number, donor["trial_id"]) for arm, number in pairs]
        portable = [
            self._trial([arm], "portable", number, parent["trial_id"])
            for (arm, number), parent in zip(pairs, general, strict=True)
        ]
        return [donor, *general, *portable]

    def _trial(self, arms: list[str], stage: str, repetition: int, parent: str) -> dict[str, Any]:
        section = "mri" if stage == "donor" else stage
        trial_id = short_id([STUDY, arms, stage, repetition])
        held = [("portable", "hold_out", variant) for variant in ("", *self.variants)]
        return {
            "trial_id": trial_id,
            "names": [f"{arm}/{stage}/r{repetition:02d}" for arm in arms],
            "arms": arms,
            "stage": stage,
            "repetition": repetition,
            "inputs": [{"role": "starts_from", "trials": [parent], "donor": None}] if parent else [],
            "data": section,
            "targets": list(self.structures or ("lung",)),
            "image_size": 256,
            "max_epochs": self.epochs,
            "device": "cpu",
            "num_train": 60,
            "num_validation": 20,
            "train_patients": 48,
            "evaluations": [
                {
                    "evaluation_id": short_id([trial_id, where, part, variant, askers]),
                    "section": where,
                    "part": part,
                    "selection": "0" * 64,
                    "overlay_cases": 4,
                    "parent_may_have_seen": f"{arms[0]}/{stage}/{where}.{part}" in self.seen,
                    "arms": askers,
                    "variant": variant,
                }
                for where, part, variant in [(section, "test", ""), *(held if stage != "donor" else [])]
                for askers in ([[arm] for arm in arms] if self.own_evaluations else [arms])
            ],
        }

    def _plan(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        counts = {"cases": 100, "patients": 80, "pathologies": {"covid19": {"cases": 100, "patients": 80}}}
        stages = {
            stage: {"data": stage, "starts_from": parent, "repetitions": 1, "pool_patients": 80}
            for stage, parent in PARENTS.items()
        }
        return {
            "version": PLAN_VERSION,
            "study": self.study,
            "seed": 2021,
            "profile": "cpu",
            "repetitions": self.repetitions,
            "note": self.note,
            "compare_to": self.compare_to,
            "data": {
                name: {
                    "source": "manifest",
                    "note": self.section_notes.get(name),
                    "shareable": False,
                    "simulate": None,
                    "hold_out": 0.5 if name == "portable" else 0.0,
                    **counts,
                }
                for name in SECTIONS
            },
            "stages": list(PARENTS),
            "tasks": dict.fromkeys(PARENTS, registry.DEFAULT),
            "metrics": [metric.to_json() for metric in self.metrics],
            "arms": {
                arm: {"description": {}, "shareable": dict.fromkeys(SECTIONS, False), "stages": stages}
                for arm in self.arms
            },
            "trials": trials,
            "warnings": list(self.warnings),
            **({"claims": self.claims.to_json()} if self.claims else {}),
        }

    def _write_trial(self, store: Store, trial: Mapping[str, Any]) -> None:
        trial_id, repetition = trial["trial_id"], trial["repetition"]
        results = [
            EpochResult(
                epoch=epoch,
                values=self.history(trial["stage"], repetition, epoch),
                score=0.6 / epoch + 0.02 * repetition,
                improved=True,
                train_s=1.0 + 0.1 * epoch,
                validation_s=0.25,
            )
            for epoch in range(1, self.epochs - repetition % 2 + 1)
        ]
        writer.HistoryFile(store, trial_id, results).finish()
        store.write(layout.TrialFiles(trial_id).weights, b"weights")
        for evaluation in trial["evaluations"]:
            self._write_evaluation(store, trial, evaluation)
        run = {
            "attempts": [{"outcome": "complete", **({"continues": "f" * 16} if self.continues else {})}],
            "device": "cpu",
            "device_name": "Test CPU <1>",
            "total_s": 10.0 * repetition,
            "memory_peak_gib": 1.1,
            "network_ms_per_image": {"mean": 3.8, "sd": 0.2, "n": 20},
        }
        writer.write_run(store, trial_id, run)
        record = TrialRecord(
            trial_id=trial_id,
            identity=self.identity(trial),
            num_epochs=len(results),
            best_epoch=len(results),
            best_score=self.best_score(results[-1].score),
            stopped_by="patience" if trial["stage"] in self.patient else "max_epochs",
            num_parameters=10,
            num_train=60,
            num_validation=20,
            started_from=None,
            weights_sha256="0" * 64,
            weights_bytes=len(b"weights"),
            history_sha256=history_sha256(results),
        )
        writer.write_trial(store, record)

    def _case(self, evaluation: Mapping[str, Any], repetition: int, image: int) -> tuple[str, str, str, str]:
        """Returns digest, name, patient and pathology; test parts move on by five images a repetition."""
        number = image + (0 if evaluation["part"] == "hold_out" else 5 * repetition)
        name = f"{evaluation['section']}-{evaluation['part']}-{number}"
        return name, f"{name}.png", f"p{number:03d}", self.pathologies[image % len(self.pathologies)]

    def _write_evaluation(
        self, store: Store, trial: Mapping[str, Any], evaluation: Mapping[str, Any]
    ) -> None:
        place = {"arm": trial["arms"][0], "stage": trial["stage"], "repetition": trial["repetition"]}
        added = self.variants.get(evaluation["variant"], 0.0)
        measured = self.measured(trial["stage"])
        made_of = [metric.made_of if metric.computed_by else (metric.name,) for metric in measured]
        names = list(dict.fromkeys(name for names in made_of for name in names))
        rows = [
            (*self._case(evaluation, trial["repetition"], image), self.simulated, name, value + added)
            for image in range(self.images)
            for name in names
            for value in [self.value(**place, image=image, metric=name)]
        ]
        columns = dict(zip(CASES_SCHEMA.names, map(list, zip(*rows, strict=True)), strict=True))
        outputs = self._outputs(trial, evaluation) if self.pixels else []
        tables = {"cases": writer.table(CASES_SCHEMA, columns), "outputs": writer.outputs_table(outputs)}
        record = EvaluationRecord(
            evaluation_id=evaluation["evaluation_id"],
            trial_id=trial["trial_id"],
            selection=evaluation["selection"],
            num_cases=self.images,
            metrics_version=1,
            weights_sha256="0" * 64,
        )
        writer.write_measurement(store, record, tables)

    def _outputs(self, trial: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[CaseOutputs]:
        stored = []
        for image in range(min(self.images, 2 * len(self.pathologies))):
            arrays = drawn(seed=image, artefact=trial["stage"] == "general", part=image % 3)
            arrays = halves(arrays, self.structures) if self.structures else arrays
            stored.append(CaseOutputs(*self._case(evaluation, trial["repetition"], image), "", arrays))
        return stored


def drawn(*, seed: int, artefact: bool, part: int) -> dict[str, np.ndarray]:
    """Returns image, target and probability (uint8, 32 x 32) of two ellipses on a soft ground."""
    y, x = np.mgrid[0:32, 0:32] / 32 - 0.5
    right = ((x + 0.2) / 0.14) ** 2 + ((y - 0.02 * (seed % 4)) / 0.33) ** 2
    ellipses = np.minimum(right, ((x - 0.2) / 0.15) ** 2 + (y / 0.32) ** 2)
    noise = np.random.default_rng(seed).normal(0, 6, (32, 32))
    image = 190 - 90 * np.exp(-(ellipses**2) / 1.5) - 120 * (x**2 + y**2) + noise
    distance = ellipses * (1.25 if artefact else 1.03)
    if artefact and part == 0:
        distance = np.where((np.abs(y + 0.05) < 0.03) & (np.abs(x) < 0.25), 0.5, distance)
    if artefact and part == 1:
        distance = np.minimum(distance, ((x - 0.38) / 0.05) ** 2 + ((y - 0.38) / 0.06) ** 2)
    probability = 255 / (1 + np.exp(8 * (distance - 1)))
    arrays = {"image": image, "target": 255 * (ellipses < 1), "probability": probability}
    return {name: np.clip(array, 0, 255).astype(np.uint8) for name, array in arrays.items()}


def halves(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns what is stored of several structures: one has the left half of the picture, the others all."""
    shown = {"image": arrays["image"]}
    for number, name in enumerate(names):
        kept = np.arange(32) < (16 if number == 0 else 32)
        shown[f"target_{name}"] = (arrays["target"] * kept).astype(np.uint8)
        shown[f"mask_{name}"] = ((arrays["probability"] > 127) * kept * 255).astype(np.uint8)
    return shown


@dataclass
class Marking(StudyBuilder):
    """Three structures, of which the section of the last stage marks two sides as one, and nothing else."""

    structures: tuple[str, ...] = ("heart", "left_lung", "right_lung")
    metrics: tuple[Metric, ...] = metrics_of(("heart", "left_lung", "right_lung"))

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        """Returns NaN for what the section does not mark."""
        whole = metric.removesuffix("_lungs")
        known = super().value(arm=arm, stage=stage, repetition=repetition, image=image, metric=whole)
        unmarked = metric.endswith(("_heart", "_left_lung", "_right_lung", "_lung"))
        return float("nan") if stage == "portable" and unmarked else known

    def _trial(self, arms: list[str], stage: str, repetition: int, parent: str) -> dict[str, Any]:
        trial = super()._trial(arms, stage, repetition, parent)
        for evaluation in trial["evaluations"] if stage == "portable" else ():
            evaluation["marks"] = ["lungs"]
        return trial

    def _outputs(self, trial: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[CaseOutputs]:
        stored = super()._outputs(trial, evaluation)
        return [
            replace(case, arrays=_as_one(case.arrays)) for case in stored if "marks" in evaluation
        ] or stored


def _as_one(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = {name: array for name, array in arrays.items() if not name.startswith("target")}
    return {**kept, "target_lungs": arrays["target_right_lung"]}


class Parsed(HTMLParser):
    """The tags of a page, which must all be closed, their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        self.open += [tag] if tag not in ("meta", "img") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def contents_of(folder: Path, **changes: Any) -> Contents:
    """Returns what is known of a study without pixels and without a failure, but for `changes`."""
    return Contents(
        load_study(StudyBuilder(folder, **{"missing": set(), "pixels": False, **changes}).write(), STUDY)
    )


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full study: two arms, three stages, four repetitions, one failed."""
    return StudyBuilder(tmp_path_factory.mktemp("storage")).write()


@pytest.fixture(scope="session")
def results(storage: Path) -> StudyResults:
    """The study of `storage`, loaded."""
    return load_study(storage, STUDY)


@pytest.fixture(scope="session")
def contents(results: StudyResults) -> Contents:
    """What is known of the study of `storage`."""
    return Contents(results)


@pytest.fixture
def builder(tmp_path: Path) -> StudyBuilder:
    """A builder that a test may change before it writes."""
    return StudyBuilder(tmp_path / "storage")
