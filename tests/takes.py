"""Studies whose stages take what others predict: masks, out of fold or not, and gates."""

from __future__ import annotations

from typing import Any

from tests.studies import TINY

CHESTS = {
    "source": "phantom_cxr", "count": {"normal": 15, "covid19": 15}, "seed": 1, "size_px": 32,
    "hold_out": 0.2,
}  # fmt: skip
BY_PATHOLOGY = {"column": "pathology"}
LEARNING = {"batch_size": 8, "max_epochs": 3, "patience": 3}
LUNGS, KINDS, SEEN = "a/lungs/r01", "a/kinds/r01", "a/seen/r01"
KEEP_ALL = {"from": "kinds", "keep": ["normal", "covid19"]}


def takes(*, out_of_fold: bool | int = False, gate: Any = KEEP_ALL, **changes: Any) -> dict[str, Any]:
    """Fields of a study: `seen` learns from what masks of `lungs` leave of the images that `kinds` passes."""
    model = {"image_size": 24, "width": 4}
    learning = {"data": "chests", "classes": BY_PATHOLOGY, "model": model, "training": LEARNING}
    stages = {
        "lungs": {"data": "chests", "evaluate_on": ["chests.hold_out"]},
        "kinds": {"task": "labelled", **learning, "evaluate_on": ["chests.hold_out"]},
        "seen": {
            "task": "masked",
            **learning,
            "masks": {"from": "lungs", "out_of_fold": out_of_fold},
            **({"gate": gate} if gate else {}),
            "evaluate_on": ["chests.test", "chests.hold_out", "chests.hold_out@implant"],
        },
    }
    return {
        "repetitions": 2,
        "data": {"chests": CHESTS},
        "model": {"init_features": 1, "image_size": 16},
        "training": {**TINY["training"], "max_epochs": 2, "checkpoint_every_s": 0.0001},
        "stages": stages,
        "arms": {"a": {}},
        "overlay_cases": 0,
        "features": None,
        **changes,
    }
