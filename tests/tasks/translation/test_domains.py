"""What validation says of how domains are told apart, and intensities that let no gradient through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.metrics.test_domains import drawn
from tests.refusals import problems_of
from tests.training.images import CPU, resized
from xferlab.errors import StudyError
from xferlab.metrics.domains import DomainClassifier, features_of
from xferlab.study.load import load
from xferlab.tasks.config import Execution
from xferlab.tasks.registry import learner_of
from xferlab.tasks.translation.config import Identity
from xferlab.tasks.translation.learner import TranslationLearner
from xferlab.tasks.translation.sections import Learning, Network
from xferlab.training.sets import CaseSets

pytestmark = pytest.mark.component


def learner(**model: Any) -> TranslationLearner:
    small = {"width": 2, "blocks": 1, "discriminator_width": 2, "image_size": 32}
    made = learner_of(
        Identity(
            task="translation",
            version=1,
            model=Network(**{**small, **model}),
            training=Learning(),
            execution=Execution(device="cpu", precision="float32", compile=False),
            selection="",
            seed=1,
        ),
        CPU,
    )
    assert isinstance(made, TranslationLearner)
    return made


def pictures(number: int, seed: int, *, gamma: float) -> np.ndarray:
    return np.rint(255 * drawn(number, seed) ** gamma)[:, None].astype(np.uint8)


def sets(a: np.ndarray, b: np.ndarray) -> CaseSets:
    return CaseSets({name: resized(each, np.zeros_like(each)) for name, each in (("a", a), ("b", b))})


@pytest.mark.parametrize("name", ["cyclegan", "munit_small"])
def test_validation_tells_domains_before_and_after_translation(name: str) -> None:
    trained = pictures(20, 1, gamma=1.0), pictures(20, 2, gamma=2.0)
    a, b = pictures(12, 3, gamma=1.0), pictures(10, 4, gamma=2.0)
    own, validation = learner(name=name), sets(a, b)
    assert "domain_after" not in own.validate(validation)
    own.prepare(sets(*trained))
    values = own.validate(validation)
    # By scratch, of the prediction of each image of b as one of a.
    planes = own.predict(own.load(validation.sets["b"], np.arange(len(b)), None))
    features = [features_of(images[:, 0] / 255) for images in (*trained, a)]
    told = DomainClassifier.fit(*features[:2])
    translated = features_of((np.stack([each[0] for each in planes]) + 1) / 2)
    assert values["domain_before"] == told.accuracy(features[2], features_of(b[:, 0] / 255)) > 0.9
    assert values["domain_after"] == pytest.approx(told.accuracy(features[2], translated), abs=1e-9)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("intensity", "warns"), [("matched", True), ("amplitude", False)])
def test_a_segmenter_that_lets_no_gradient_through_is_warned_of(
    tmp_path: Path, intensity: str, warns: bool
) -> None:
    (tmp_path / "study.yaml").write_text(
        "study: s\nrepetitions: 2\n"
        "data: {a: {source: phantom_cxr, count: 60}, b: {source: phantom_cxr, count: 60, seed: 2}}\n"
        "model: {image_size: 32}\n"
        "stages:\n"
        f"  lungs: {{data: a, training: {{intensity: {intensity}}}}}\n"
        "  across:\n    task: translation\n    data: {a: a, b: b}\n    model: {image_size: 32}\n"
        "    starts_from: {segmenter: lungs}\n"
    )
    warnings = [str(each) for each in load(tmp_path / "study.yaml", environ={}).warnings]
    found = [each for each in warnings if "passes no gradient on: its losses train the segmenter" in each]
    assert len(found) == warns


@pytest.mark.parametrize(
    ("model", "loss"), [("cyclegan", "style"), ("munit_small", "identity"), ("munit", "identity")]
)
def test_a_weight_of_a_loss_that_the_networks_lack_is_refused(tmp_path: Path, model: str, loss: str) -> None:
    (tmp_path / "study.yaml").write_text(
        "study: s\nrepetitions: 2\n"
        "data: {a: {source: phantom_cxr, count: 60}, b: {source: phantom_cxr, count: 60, seed: 2}}\n"
        "stages:\n"
        f"  across:\n    task: translation\n    data: {{a: a, b: b}}\n    model: {{name: {model}}}\n"
        f"    training: {{weights: {{cycle: 2, {loss}: 1}}}}\n"
    )
    (problem,) = problems_of(StudyError, load, tmp_path / "study.yaml", environ={})
    assert problem.what == f"stage 'across' has weights.{loss}, and {model} no such loss; leave it out"
    assert problem.where.endswith(":9")
