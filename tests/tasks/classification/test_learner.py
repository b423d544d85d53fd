"""What the network of classification sees, learns from training cases, and takes over."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.refusals import problems_of
from tests.tasks.classification.learners import CLASSES, SIDE, examples, identity, make
from tests.tasks.classification.test_contract import DROPOUT, INSIDE
from xferlab.errors import DonorError, StudyError
from xferlab.networks.build import build
from xferlab.study.load import load
from xferlab.tasks.classification.config import Identity
from xferlab.tasks.classification.measures import NO_THRESHOLD
from xferlab.tasks.classification.sampling import balanced
from xferlab.training.learner import AugmentationSeed
from xferlab.training.loop import weights_of

ROWS = np.arange(4)


@pytest.mark.parametrize("keep", ["inside", "outside", "whole"])
def test_a_network_sees_what_masks_leave(keep: str) -> None:
    cases = examples(masks=True)
    inputs = make(masks={**INSIDE, "keep": keep}).load(cases, ROWS, None).inputs.numpy()
    for row, image in enumerate(inputs):
        raw = cases.case(row)[0].astype(float)
        inside = (cases.masks_of(row) > 0).any(axis=0)
        left = {"inside": raw * inside, "outside": raw * ~inside, "whole": raw}[keep]
        expected = (left - left.min()) / (left.max() - left.min())
        np.testing.assert_allclose(image, expected, atol=1e-6)
    levels = make(masks={**INSIDE, "keep": keep}, model={"intensity": "raw"}).load(cases, ROWS, None).inputs
    assert np.array_equal(levels[-1].numpy(), left)


def test_grey_levels_as_they_are_do_not_fit_published_weights(tmp_path: Path) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        "study: s\ndata:\n  a: {source: phantom_cxr, count: 60}\nstages:\n  sick:\n    data: a\n"
        "    task: classification\n    model: {intensity: raw, standardise: imagenet}\n"
    )
    (problem,) = problems_of(StudyError, load, study)
    assert str(problem) == (
        f"{study}:8: stage 'sick' leaves images at 0 to 255, and `standardise: imagenet` expects 0 to 1; set "
        "model.intensity: unit, or model.standardise: null"
    )


def test_the_version_of_a_network_is_in_the_identity_of_its_trials_alone() -> None:
    """So that a change of one network renews the trials of no other, and a spec of before reads as it was."""
    told = identity(model={"name": "efficientnet_lite0"}).to_json()
    assert told["network_version"] == 2
    assert Identity.from_json(told).to_json() == told
    before = {name: value for name, value in told.items() if name != "network_version"}
    assert Identity.from_json(before).to_json() == before
    for name in ("vgg16", "vgg19", "resnet18"):
        assert "network_version" not in identity(model={"name": name}).to_json()


def test_a_network_that_tells_no_images_apart_says_so(caplog: pytest.LogCaptureFixture) -> None:
    learner = make()
    learner.finish(examples())
    assert not caplog.text
    with torch.no_grad():
        for value in learner.network.parameters():
            value.zero_()
    learner.finish(examples())
    assert "gives all 6 validation images the same probabilities" in caplog.text


def test_masks_turn_with_their_images() -> None:
    learner = make(masks=INSIDE, rotation={"degrees": 90.0, "probability": 1.0}, augmentation={"flip": 0.5})
    seen = learner.load(examples(masks=True), ROWS, AugmentationSeed(1, 1)).inputs
    again = learner.load(examples(masks=True), ROWS, AugmentationSeed(1, 1)).inputs
    assert torch.equal(seen, again)
    still = learner.load(examples(masks=True), ROWS, None).inputs
    assert not torch.equal(seen, still)
    # Two thirds of each image are left, wherever they are turned to.
    for image in seen[:, 0]:
        assert 0.4 < float((image > 0).float().mean()) < 0.72


def test_training_images_give_mean_and_deviation() -> None:
    learner, cases = make(), examples()
    learner.prepare(cases)
    pixels = learner.load(cases, np.arange(6), None).inputs.double()
    buffers = learner.network.standardise
    assert buffers is not None
    assert float(buffers.mean) == pytest.approx(float(pixels.mean()), rel=1e-6)
    assert float(buffers.deviation) == pytest.approx(float(pixels.std(correction=0)), rel=1e-6)
    assert "network.standardise.mean" in weights_of(learner)


def test_classes_count_alike() -> None:
    truth = torch.tensor([[1, 0], [1, 0], [1, 0], [0, 1]]).float()
    assert balanced(truth, is_exclusive=True).tolist() == pytest.approx([4 / (2 * 3), 4 / 2])
    assert balanced(truth, is_exclusive=False).tolist() == pytest.approx([1 / 3, 3.0])


@pytest.mark.parametrize("weights", ["balanced", None])
def test_the_loss_is_the_weighted_mean_of_the_images(weights: str | None) -> None:
    labels = (0, 0, 0, 1, 0, 2)
    learner, cases = make(class_weights=weights), examples(labels=labels)
    learner.prepare(cases)
    batch = learner.load(cases, np.arange(6), None)
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    entropy = F.cross_entropy(logits, torch.tensor(labels), reduction="none")
    counts = torch.tensor([4.0, 1.0, 1.0])
    factors = (6 / (3 * counts))[list(labels)] if weights else torch.ones(6)
    assert float(learner.loss(lambda images: logits, batch)) == pytest.approx(
        float((entropy * factors).mean())
    )


def test_thresholds_are_chosen_on_validation_cases_and_travel_with_the_weights() -> None:
    learner, cases = make(), examples()
    assert learner.network.thresholds.tolist() == [[NO_THRESHOLD] * 3] * 2
    learner.finish(cases)
    chosen = learner.network.thresholds.clone()
    assert not torch.equal(chosen, torch.full((2, 3), NO_THRESHOLD))
    other = make(seed=2)
    other.start_from(weights_of(learner), origin="a parent")
    assert other.network.thresholds.tolist() == [[NO_THRESHOLD] * 3] * 2  # a child chooses its own


def test_published_weights_start_the_trunk(tmp_path: object) -> None:
    published = build("vgg16", in_channels=3, out_channels=1000).state_dict()
    learner = make(model={"width": 1.0, "head": DROPOUT, "image_size": SIDE}, adapt={"fold": "luminance"})
    learner.start_from(published, origin="published")
    first = learner.network.network.features[0].weight
    shares = torch.tensor([0.2989, 0.5870, 0.1140]).reshape(1, 3, 1, 1)
    expected = (published["features.0.weight"] * shares).sum(dim=1, keepdim=True)
    torch.testing.assert_close(first, expected)
    with pytest.raises(DonorError, match="width"):
        make(model={"head": DROPOUT}, adapt={"fold": "luminance"}).start_from(published, origin="published")


def test_a_parent_of_another_number_of_classes() -> None:
    parent = weights_of(make(classes=2))
    with pytest.raises(
        DonorError, match=r"has 2 outputs, and what the stage learns needs 3: set adapt: \{head: new\}"
    ):
        make().start_from(parent, origin="a parent")
    child = make(adapt={"head": "new"})
    before = child.network.network.head[-1].weight.clone()
    child.start_from(parent, origin="a parent")
    assert torch.equal(child.network.network.head[-1].weight, before)
    torch.testing.assert_close(child.network.network.features[0].weight, parent["network.features.0.weight"])


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "efficientnet_lite0"])
def test_a_frozen_trunk_does_not_change(name: str) -> None:
    learner = make(model={"name": name}, adapt={"freeze": {"unfreeze_after": 1}})
    cases = examples()
    learner.prepare(cases)

    def changed(epoch: int) -> set[str]:
        before = {key: value.clone() for key, value in weights_of(learner).items()}
        learner.begin_epoch(epoch)
        learner.train_step(learner.load(cases, ROWS, None))
        return {key for key, value in weights_of(learner).items() if not torch.equal(value, before[key])}

    assert {key.split(".")[1] for key in changed(1)} == {"head"}
    assert len({key.split(".")[1] for key in changed(2)}) > 1


def test_a_frozen_trunk_sees_images_standardised_as_in_all_training() -> None:
    learner = make(model={"standardise": "code"}, adapt={"freeze": {"unfreeze_after": 1}})
    cases, standardise = examples(), learner.network.standardise
    learner.prepare(cases)
    assert standardise is not None
    for epoch in (1, 2):
        learner.begin_epoch(epoch)
        seen = standardise(learner.load(cases, ROWS, None).inputs)
        means = seen.mean(dim=(1, 2, 3))
        torch.testing.assert_close(means, torch.zeros_like(means), rtol=0, atol=1e-5)


def test_a_prediction_holds_probabilities_and_heat() -> None:
    learner, cases = make(masks={**INSIDE, "keep": "whole"}), examples(masks=True)
    (prediction,) = learner.predict(learner.load(cases, np.array([0]), None))
    assert prediction[:3].sum() == pytest.approx(1.0)
    assert len(prediction) == 3 + 2 * 2
    measured = learner.measure(cases, 0, prediction)
    assert np.isnan(measured["HEAT_INSIDE"]) or 0 <= measured["HEAT_INSIDE"] <= 1
    outputs = learner.outputs(cases, 0, prediction)
    assert outputs["heat"].shape == (2, 2)
    assert outputs["mask"].shape == outputs["image"].shape == (SIDE, SIDE)
    assert learner.for_others(prediction, 0.5)["probability"].tolist() == prediction[:3].tolist()
    shown = learner.present(cases.case(0)[0][0], prediction, height=SIDE, targets=CLASSES, threshold=0.5)
    assert shown.columns["class"] in CLASSES
    assert shown.files["heat"].startswith(b"\x89PNG")


@pytest.mark.parametrize("patched", [None, {"patches": {"size_px": 33, "number": 3, "validation": 2}}])
def test_a_temperature_moves_probabilities_and_not_what_an_image_is_called(
    patched: dict[str, object] | None,
) -> None:
    model = {"name": "resnet18", "width": 0.125, "image_size": 48, **patched} if patched else {}
    side = 48 if patched else SIDE
    learner, cases = make(model=model), examples(side=side)
    learner.finish(cases)
    (prediction,) = learner.predict(learner.load(cases, np.array([1]), None))
    outcomes = learner.outcomes(cases, 1, prediction)
    assert outcomes.truth.ravel().tolist() == [0, 1, 0]
    before = learner.measure(cases, 1, prediction)
    after = learner.measure_at(cases, 1, prediction, 0.5)
    given = np.array([before[f"P_{name}"] for name in CLASSES])
    np.testing.assert_allclose(outcomes.probability.ravel(), given, atol=1e-7)
    np.testing.assert_allclose(
        [after[f"P_{name}"] for name in CLASSES], given**2 / (given**2).sum(), rtol=1e-5
    )
    assert after["CALLED"] == before["CALLED"]
    assert not np.isnan(before["CALLED_YOUDEN_sick"])
    assert np.isnan(after["CALLED_YOUDEN_sick"])
