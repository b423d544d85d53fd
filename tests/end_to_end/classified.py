"""A small study of classification: whole images, the lungs alone, and all but the lungs."""

from __future__ import annotations

from typing import Any

from tests.studies import TINY

NAMES = ("covid19", "normal")


def fields(**changes: Any) -> dict[str, Any]:
    """Lungs, a filter of views that lets all pass, and three arms of one stage: whole, inside, outside."""
    chests = {
        "source": "phantom_cxr", "count": {"normal": 18, "covid19": 18}, "seed": 1, "size_px": 40,
        "hold_out": 0.3,
    }  # fmt: skip
    head = {"widths": [16], "dropout": [0.2, 0.2]}
    learning = {"batch_size": 8, "max_epochs": 2, "patience": 2, "lr": 1e-3}
    kinds = {
        "task": "classification",
        "data": "chests",
        "model": {"name": "vgg16", "width": 0.05, "image_size": 32, "head": head},
        "training": learning,
    }
    stages = {
        "lungs": {"data": "chests", "evaluate_on": ["chests.hold_out"]},
        "filter": {**kinds, "evaluate_on": ["chests.hold_out"]},
        "kinds": {
            **kinds,
            "training": {**learning, "rotation": {"degrees": 5}, "augmentation": {"noise": 0.05}},
            "starts_from": "filter",
            "masks": {"from": "lungs", "keep": "whole"},
            "gate": {"from": "filter", "keep": list(NAMES)},
            "evaluate_on": ["chests.test", "chests.hold_out", "chests.hold_out@cable"],
        },
    }
    arms = {"whole": {}, "inside": {"stages.kinds.masks.keep": "inside"}}
    return {
        "repetitions": 2, "data": {"chests": chests}, "stages": stages,
        "model": {"init_features": 1, "image_size": 16},
        "training": {**TINY["training"], "max_epochs": 2},
        "arms": {**arms, "outside": {"stages.kinds.masks.keep": "outside"}}, **changes,
    }  # fmt: skip


PATCHED: dict[str, Any] = {
    "stages.lungs.model": {"name": "fc_densenet56", "growth": 1, "image_size": 32, "in_channels": 1},
    "stages.kinds.model": {
        "name": "resnet18", "width": 0.125, "image_size": 48,
        "patches": {"size_px": 33, "number": 5, "validation": 2},
    },
    "stages.kinds.starts_from": None,
    "stages.kinds.gate": None,
    "stages.kinds.masks": {"from": "lungs", "keep": "inside", "out_of_fold": 2},
    "stages.kinds.training.sampling": "balanced",
    "stages.kinds.training.class_weights": None,
    "stages.kinds.training.score": "mean_f1",
    "stages.kinds.evaluate_on": ["chests.hold_out"],
}  # fmt: skip
"""An arm of `fields`: patches of what masks of an FC-DenseNet leave, out of fold."""
