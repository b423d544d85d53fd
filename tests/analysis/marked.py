"""A study with markers: patients with several images, five pathologies of four classes, and two sections."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.metrics.classes import metrics_of_classes, values_of_classes
from xferlab.metrics.markers import MARKERS
from xferlab.metrics.metric import Metric
from xferlab.phantoms.chest import chest_xray
from xferlab.phantoms.phantom import chest_mask
from xferlab.records.schema import CaseOutputs
from xferlab.records.store import Store

CLASSES = ("normal", "bacterial", "tuberculosis", "viral")
KINDS = ("normal", "bacterial", "tuberculosis", "viral", "covid19")
LABELS = (0, 1, 2, 3, 3)
SPREAD = {"LUNG_SD": 0.02, "LUNG_OUTLINE": 0.3}
CENTRE = {
    "LUNG_MEAN": 0.54, "LUNG_SD": 0.14, "LUNG_AREA": 0.31, "LUNG_OUTLINE": 3.4, "HEART_MEAN": 0.74,
    "CTR": 0.47, "PATCH_MEAN": 0.52, "PATCH_SD": 0.13,
}  # fmt: skip


class MarkedStudy(StudyBuilder):
    """The stage `portable` tells classes by masks; its section is there without equalisation, too.

    Image i is of kind i mod 5. A patient has two images of COVID-19, and each other image has one of its own.
    """

    at: Mapping[str, Any]
    size_px = 64
    stored = 10

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        if metric in CENTRE:
            return self._marker(stage, repetition, image, metric)
        truth = np.arange(4) == LABELS[image % 5]
        scores = np.random.default_rng((image, repetition)).normal(2 * truth, 1)
        given = np.exp(scores) / np.exp(scores).sum()
        return values_of_classes(CLASSES, truth, given, exclusive=True)[metric]

    def _marker(self, stage: str, repetition: int, image: int, metric: str) -> float:
        if stage != "portable" or (metric == "CTR" and image % 7 == 0):
            return float("nan")
        random = np.random.default_rng((image, len(metric), ord(metric[-1])))
        is_viral, spread = LABELS[image % 5] == 3, SPREAD.get(metric, 0.05)
        value = CENTRE[metric] + spread * (random.normal() - 0.8 * is_viral) + 0.001 * repetition
        is_plain = self.at["section"].endswith("_original")
        return value - 0.15 + 0.1 * float(random.normal()) if is_plain else value

    def _case(self, evaluation: Mapping[str, Any], repetition: int, image: int) -> tuple[str, str, str, str]:
        digest, *_ = super()._case(evaluation, repetition, image)
        number = digest.rpartition("-")[2]
        patient = f"c{int(number) // 10}" if int(number) % 5 == 4 else f"p{number}"
        return digest, f"{evaluation['part']}-{number}.png", patient, KINDS[image % 5]

    def _trial(self, arms: list[str], stage: str, repetition: int, parent: str) -> dict[str, Any]:
        trial = super()._trial(arms, stage, repetition, parent)
        held = [e for e in trial["evaluations"] if stage == "portable" and e["part"] == "hold_out"]
        trial["evaluations"] += [
            {**e, "section": "portable_original", "evaluation_id": e["evaluation_id"][::-1]} for e in held
        ]
        return trial

    def _plan(self, trials: list[dict[str, Any]]) -> dict[str, Any]:
        plan = super()._plan(trials)
        plan["tasks"] = dict.fromkeys(plan["tasks"], "classification")
        plan["data"]["portable_original"] = dict(plan["data"]["portable"])
        plan["data"]["portable"] |= {"equalise": True, "gamma": 0.5}
        return plan

    def _write_evaluation(
        self, store: Store, trial: Mapping[str, Any], evaluation: Mapping[str, Any]
    ) -> None:
        self.at = evaluation
        super()._write_evaluation(store, trial, evaluation)

    def _outputs(self, trial: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[CaseOutputs]:
        if trial["stage"] != "portable":
            return []
        case = partial(self._case, evaluation, trial["repetition"])
        return [CaseOutputs(*case(image), "", outputs(image, self.size_px)) for image in range(self.stored)]


def outputs(image: int, size_px: int) -> dict[str, np.ndarray]:
    """What is stored of a drawn chest: 20 patches, of which the most probable class of 15 is the true one."""
    pathology = {"normal": "normal", "covid19": "covid19"}.get(KINDS[image % 5], "pathological")
    drawn = chest_xray(seed=1, index=image, pathology=pathology, size_px=size_px)
    lungs = chest_mask(drawn.labels)
    masks = {name: chest_mask(drawn.labels, name) for name in ("left_lung", "right_lung", "heart")}
    random = np.random.default_rng(image)
    patches = np.zeros((20, 8), np.float32)
    patches[:, 2] = random.normal(0.55 - 0.03 * LABELS[image % 5], 0.05, 20)
    patches[:, 3] = random.normal(0.1, 0.02, 20)
    patches[:15, 4 + LABELS[image % 5]] = 0.9
    patches[15:, 4 + (LABELS[image % 5] + 1) % 4] = 0.9
    return {
        "image": drawn.image * lungs,
        "whole": drawn.image[None],
        "mask": lungs.astype(np.uint8) * 255,
        **{f"mask_{name}": mask.astype(np.uint8) * 255 for name, mask in masks.items()},
        "heat": np.zeros((2, 2), np.float32),
        "heats": random.uniform(0, 0.5, (4, 2, 2)).astype(np.float32),
        "patches": patches,
        "probability": np.full(4, 0.25, np.float32),
    }


def marked_contents(folder: Path, **changes: Any) -> Contents:
    """Returns what is known of such a study, without pixels but for `changes`."""
    declared: tuple[Metric, ...] = (*metrics_of_classes(CLASSES), *MARKERS)
    fields = {"pixels": False, "images": 60, "compare_to": None, "missing": set[str](), "arms": ("baseline",)}
    MarkedStudy(folder, structures=CLASSES, metrics=declared, **fields | changes).write()
    return Contents(load_study(folder, STUDY))
