"""Tasks by name, and what bare weights tell of theirs."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tasks.segmentation.learners import identity, make
from xferlab import tasks
from xferlab.errors import DonorError, TaskError, UsageError, XferlabError
from xferlab.tasks import registry
from xferlab.training.loop import weights_of

LAYERS = {"depth": 2, "width": 3, "kernel": 5}


def test_each_folder_with_a_configuration_is_a_task() -> None:
    folders = {path.parent.name for path in Path(tasks.__path__[0]).glob("*/config.py")}
    assert set(registry.names()) == folders
    assert registry.names()[0] == registry.DEFAULT
    assert {registry.task(name).name for name in folders} == folders


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"found 'segmentatoin'; accepted: .*\. Did you mean 'segmentation'\?"
    ):
        registry.task("segmentatoin")


def test_a_task_measures_what_its_metrics_of_sets_are_made_of() -> None:
    known = registry.task(registry.DEFAULT)
    dice = next(metric for metric in known.metrics(()) if metric.name == known.headline)
    auc = replace(dice, name="SET_AUC", computed_by="roc_auc", made_of=("label", "probability"))
    measured = replace(known, metrics=lambda targets: (auc, dice, auc)).measured(())
    assert measured == ("label", "probability", "DICE")
    with pytest.raises(TaskError, match=r"headline is 'SET_AUC', which is none of .* a case \(DICE\)"):
        replace(known, metrics=lambda targets: (auc, dice), headline="SET_AUC")
    with pytest.raises(TaskError, match=r"ranked_by is 'DIC', .*\(DICE\)\. Did you mean 'DICE'\?"):
        replace(known, metrics=lambda targets: (auc, dice), ranked_by="DIC")


def test_cases_are_ranked_by_a_metric_that_has_a_better_side() -> None:
    known = registry.task(registry.DEFAULT)
    assert known.ranking is not None
    assert known.ranking.name == "DICE"
    ranked = registry.task("classification").ranking
    assert ranked is not None
    assert (ranked.name, ranked.better) == ("LOG_LOSS", "lower")
    neither = tuple(replace(metric, better=None) for metric in known.metrics(()))
    assert replace(known, metrics=lambda targets: neither).ranking is None


@pytest.mark.parametrize(
    ("task", "arrays"),
    [
        (
            "segmentation",
            {"target_heart": np.zeros((40, 20), np.uint8), "mask_heart": np.full((40, 20), 255, np.uint8)},
        ),
        ("classification", {"heat": np.eye(4, dtype=np.float32), "probability": np.ones(2, np.float32)}),
    ],
)
def test_a_picture_is_two_panels_of_256_px_whatever_the_size(task: str, arrays: dict[str, Any]) -> None:
    outputs = {"image": np.full((40, 20), 90, np.uint8), **arrays}
    with Image.open(io.BytesIO(registry.picture_of(task, outputs))) as picture:
        assert (picture.format, picture.size) == ("JPEG", (2 * 128, 256))
    assert registry.picture_of(task, {}) == b""


def test_a_metric_is_declared_once_and_for_the_trials_that_learn_most() -> None:
    one, two = ("lung",), ("heart", "lung")
    declared = registry.declared_metrics([(registry.DEFAULT, names) for names in ((), two, one)])
    known = registry.task(registry.DEFAULT)
    assert {metric.name: metric for metric in declared} == {m.name: m for m in known.metrics(two)}
    assert [metric.name for metric in declared if metric.whole == "DICE"] == [
        "DICE",
        "DICE_heart",
        "DICE_lung",
    ]
    assert registry.declared_metrics([(registry.DEFAULT, one)]) == known.metrics(())


def test_what_a_task_declares_must_exist() -> None:
    known = registry.task(registry.DEFAULT)
    (first, *_) = known.metrics(())
    auc = replace(first, name="AREA", computed_by="rocauc", made_of=("LABEL", "SCORE"))
    with pytest.raises(
        TaskError, match=r"metric AREA is computed by 'rocauc', which is no function .* 'roc_auc'"
    ):
        replace(known, metrics=lambda targets: (*known.metrics(targets), auc))
    with pytest.raises(TaskError, match="targets is 'class', and not one of"):
        replace(known, targets="class")


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"translator": LAYERS},
        {"name": "fc_densenet56"},
        {"name": "fc_densenet67", "growth": 3},
        {"name": "fcn32s", "width": 0.05},
        {"name": "segnet", "width": 0.25, "translator": LAYERS},
    ],
)
def test_bare_weights_tell_their_network(model: Any) -> None:
    trained = identity(model={"in_channels": 3, "image_size": 32, **model})
    weights = weights_of(registry.learner_of(trained, torch.device("cpu")))
    options = {"image_size": 32, "intensity": "unit"}
    identity_of_file = registry.identity_of_weights(weights, origin="w.pt", options=options)
    assert identity_of_file.model == trained.model
    assert (identity_of_file.image_size, identity_of_file.preprocessing) == (32, "unit")


@pytest.mark.parametrize(
    ("weights", "intensity", "kind", "message"),
    [
        (
            {"fc.weight": torch.zeros(2, 2)},
            "unit",
            DonorError,
            r"w\.pt: found no 'encoder1\.enc1conv1.weight'.* Weights of another task need the record of th",
        ),
        (
            weights_of(make()),
            "min_max",
            UsageError,
            r"--intensity: found 'min_max'; .*Did you mean 'minmax'\?",
        ),
    ],
)
def test_weights_that_cannot_predict_are_refused(
    weights: Any, intensity: str, kind: type[XferlabError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        registry.identity_of_weights(
            weights, origin="w.pt", options={"image_size": 32, "intensity": intensity}
        )
