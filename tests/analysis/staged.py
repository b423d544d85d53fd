"""A study of two stages and of many arms, whose values fall with the share of the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.analysis.conftest import StudyBuilder
from xferlab.metrics.classes import metrics_of_classes, values_of_classes
from xferlab.metrics.measuring import METRICS
from xferlab.metrics.metric import Metric
from xferlab.plan.identity import short_id
from xferlab.records.store import Store

STRUCTURES, CLASSES = ("heart", "left_lung", "right_lung"), ("normal", "bacterial", "tuberculosis", "viral")
DICE = next(metric for metric in METRICS if metric.name == "DICE")
JACC = Metric(
    name="JACC_SMOOTH", label="Jaccard (+1)", better="higher", source="-", definition="-", undefined="-"
)
OF_STRUCTURES = [
    replace(JACC, name=f"JACC_SMOOTH_{name}", label=f"Jaccard (+1), {name}", of=name)
    for name in (*STRUCTURES, "lung", "lungs")
]
SHARES = {"half": 0.5, "tenth": 0.1}
GLOBAL, ORIGINAL = {"stages.triage.model": {"name": "resnet18"}}, {"data.montgomery": {"equalise": None}}
# What they change of `triage` does not matter to `segment`.
FEWER = {
    name: {"stages.segment.label_fraction": share, "stages.triage.masks.from": "baseline.segment"}
    for name, share in SHARES.items()
}
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "global": GLOBAL,
    "original": ORIGINAL,
    "unet": {"stages.segment.model": {"name": "unet"}},
    **FEWER,
    **{f"{name}_original": {**changes, **ORIGINAL} for name, changes in FEWER.items()},
    **{f"patches_{name}": {"stages.triage.label_fraction": share} for name, share in SHARES.items()},
    **{f"global_{name}": {**GLOBAL, "stages.triage.label_fraction": share} for name, share in SHARES.items()},
}


def share_of(arm: str, stage: str) -> float:
    """The share of its labels that a stage of an arm learns from."""
    is_of_triage = arm.startswith(("patches_", "global_"))
    share = next((share for name, share in SHARES.items() if name in arm), 1.0)
    return share if is_of_triage == (stage == "triage") else 1.0


@dataclass
class Staged(StudyBuilder):
    """Stages `segment`, and `triage` that takes its masks; a value falls with the share of the labels."""

    compare_to: str | None = "oh2020"
    repetitions: int = 3

    def measured(self, stage: str) -> tuple[Metric, ...]:
        return (DICE, JACC, *OF_STRUCTURES) if stage == "segment" else metrics_of_classes(CLASSES)

    def history(self, stage: str, repetition: int, epoch: int) -> dict[str, float]:
        more = {"accuracy": 1 - 0.6 / epoch, "mean_f1": 1 - 0.7 / epoch} if stage == "triage" else {}
        values = {
            f"{part}_{name}": value - 0.05 * (part == "validation") + 0.01 * repetition
            for name, value in more.items()
            for part in ("train", "validation")
        }
        return super().history(stage, repetition, epoch) | values

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        seed = np.random.default_rng([image, repetition, *arm.encode()])
        loss = (0.4 if arm.startswith("global") else 0.15) * -np.log10(share_of(arm, stage))
        if stage == "segment":
            lost = 0.03 * metric.endswith("heart") + 0.2 * loss + 0.01 * ("original" in arm)
            return float(0.95 - lost + seed.normal(0, 0.01) + 0.002 * (image % 5))
        truth = np.arange(4) == image % 4
        scores = np.exp(seed.normal(truth * 3 * (1 - loss), 1.0))
        return values_of_classes(CLASSES, truth, scores / scores.sum(), exclusive=True)[metric]

    def _trials(self) -> list[dict[str, Any]]:
        trials = list[dict[str, Any]]()
        for repetition in range(1, self.repetitions + 1):
            producers = [
                self._planned("segment", repetition, arms)
                for arms in alike(lambda arm: (arm == "unet", share_of(arm, "segment")))
            ]
            given = {arm: trial["trial_id"] for trial in producers for arm in trial["arms"]}
            given |= dict.fromkeys([arm for arm in ARMS if share_of(arm, "segment") < 1], given["baseline"])
            consumers = alike(lambda arm: (arm == "unet", arm.startswith("global"), share_of(arm, "triage")))
            trials += producers
            trials += [self._planned("triage", repetition, arms, given[arms[0]]) for arms in consumers]
        order = [*ARMS]
        return sorted(trials, key=lambda trial: order.index(trial["arms"][0]))  # as a plan has them

    def _planned(self, stage: str, repetition: int, arms: list[str], given: str = "") -> dict[str, Any]:
        """A trial; on Montgomery, arms that do not equalise have results of their own."""
        trial, learnt = self._trial(arms, "donor", repetition, ""), {"segment": STRUCTURES, "triage": CLASSES}
        groups = {"test": [arms]}
        if stage == "segment":
            kinds = ([arm for arm in arms if ("original" in arm) == is_kind] for is_kind in (False, True))
            groups["hold_out"] = [kind for kind in kinds if kind]
        places = {"test": "triage" if given else "jsrt", "hold_out": "montgomery"}
        trial_id = short_id([stage, repetition, arms])
        evaluations = [
            {
                **trial["evaluations"][0],
                "evaluation_id": short_id([trial_id, part, askers]),
                "section": places[part],
                "part": part,
                "arms": askers,
            }
            for part, of_part in groups.items()
            for askers in of_part
        ]
        changes = {
            "trial_id": trial_id,
            "stage": stage,
            "names": [f"{arm}/{stage}/r{repetition:02d}" for arm in arms],
            "data": places["test"],
            "targets": list(learnt[stage]),
            "inputs": [{"role": "masks", "trials": [given], "donor": None}] if given else [],
            "train_patients": round(48 * share_of(arms[0], stage)),
            "num_train": round(60 * share_of(arms[0], stage)),
            "evaluations": evaluations,
        }
        return {**trial, **changes}

    def _write_evaluation(
        self, store: Store, trial: Mapping[str, Any], evaluation: Mapping[str, Any]
    ) -> None:
        super()._write_evaluation(store, {**trial, "arms": evaluation["arms"]}, evaluation)

    def _plan(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        plan = super()._plan(trials)
        stage = {"starts_from": None, "repetitions": self.repetitions, "pool_patients": 80}
        arms = {
            arm: {
                "description": changes,
                "shareable": dict.fromkeys(PLACES, False),
                "stages": {
                    "segment": {**stage, "data": "jsrt", "label_fraction": share_of(arm, "segment")},
                    "triage": {
                        **stage,
                        "data": "triage",
                        "label_fraction": share_of(arm, "triage"),
                        "masks": {"from": changes.get("stages.triage.masks.from", "segment")},
                    },
                },
            }
            for arm, changes in ARMS.items()
        }
        return plan | {
            "data": dict.fromkeys(PLACES, plan["data"]["mri"]),
            "stages": ["segment", "triage"],
            "tasks": {"segment": "segmentation", "triage": "classification"},
            "metrics": [m.to_json() for stage in ("segment", "triage") for m in self.measured(stage)],
            "arms": arms,
        }


PLACES = ("jsrt", "montgomery", "triage")


def alike(key: Callable[[str], object]) -> list[list[str]]:
    """Arms by an equal key, which share a trial."""
    groups: dict[object, list[str]] = {}
    for arm in ARMS:
        groups.setdefault(key(arm), []).append(arm)
    return list(groups.values())
