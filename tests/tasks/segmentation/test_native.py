"""Whole images of any size: as at the fixed size where sizes are equal; what is padded counts nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from xferlab.tasks.segmentation.native_examples import NormalisedImage, labels_of

from tests.training.images import Images, digests, examples_of, images_of, smooth
from xferlab.metrics.measuring import measure
from xferlab.networks.build import build
from xferlab.tasks.segmentation.native import NativeSegmentation
from xferlab.tasks.segmentation.resized import BinarySegmentation, ImageExamples
from xferlab.training.augment import STRONG
from xferlab.training.intensity import INTENSITIES, normalise
from xferlab.training.learner import AugmentationSeed
from xferlab.training.loop import Recipe, Trainer

pytestmark = pytest.mark.component

ODD_SIZES = [(1, 1), (3, 300), (200, 2), (33, 47), (16, 16), (64, 50)]
CPU = torch.device("cpu")


def network(channels: int = 1, *, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build("unet", in_channels=channels, out_channels=1, init_features=2).eval()


def fixed_size(images: Images) -> ImageExamples:
    count = len(images.images)
    return ImageExamples(
        digests(count),
        np.stack(images.images),
        np.stack(images.targets),
        images.spacing_mm,
        rows=np.arange(count),
        device=CPU,
    )


@pytest.mark.parametrize("intensity", list(INTENSITIES))
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_are_cut_from_the_normalised_whole(intensity: str, channels: int) -> None:
    image = smooth(40, 55, seed=1, channels=channels)
    whole = normalise(torch.from_numpy(image)[None], intensity)[0].numpy()
    toned = NormalisedImage.of(image, intensity)
    assert (toned.window(0, 0, (40, 55)) == whole).all()
    assert (toned.window(7, 20, (16, 30)) == whole[:, 7:23, 20:50]).all()
    beyond = toned.window(-5, 50, (60, 20))
    assert (beyond[:, 5:45, :5] == whole[:, :, 50:]).all()
    outside = np.ones((60, 20), bool)
    outside[5:45, :5] = False
    assert (beyond[:, outside] == whole.min()).all()


@given(st.integers(-70, 70), st.integers(-70, 70), st.integers(1, 50), st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_windows_anywhere_have_their_shape(top: int, left: int, height: int, width: int) -> None:
    examples = examples_of(images_of([(23, 31)]))
    window = examples.toned(0, "zscore").window(top, left, (height, width))
    labels = labels_of(examples, 0, (top, left), (height, width))
    assert (window.shape, window.dtype) == ((1, height, width), np.float32)
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    inside = ((rows >= 0) & (rows < 23))[:, None] & ((columns >= 0) & (columns < 31))[None]
    assert (labels[~inside] == 127).all()
    assert set(np.unique(labels[inside])) <= {0, 127, 255}


@pytest.mark.parametrize("intensity", list(INTENSITIES))
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_sizes_give_what_the_fixed_size_gives(intensity: str, channels: int) -> None:
    images, rows = images_of([(48, 48)] * 3, channels=channels), np.arange(3)
    base = BinarySegmentation(in_channels=3, intensity=intensity)
    task, model = NativeSegmentation(base), network(3)
    expected = base.batch(fixed_size(images), rows, None)
    found = task.batch(examples_of(images), rows, None)
    (part,) = found.parts
    assert torch.equal(part.inputs, expected.inputs)
    assert torch.equal(part.target, expected.target)
    assert torch.equal(part.valid, expected.valid)
    assert torch.equal(task.loss(model, found), base.loss(model, expected))
    predictions = task.predict(model, found)
    assert np.allclose(np.stack(predictions), base.predict(model, expected), atol=1e-6)
    for row in rows.tolist():
        native = task.measure(found.examples, row, predictions[row])
        expected_metrics = base.measure(fixed_size(images), row, predictions[row])
        assert native == pytest.approx(expected_metrics, rel=0, nan_ok=True)


@pytest.mark.parametrize("augmentation", [None, STRONG])
def test_augmentation_of_equal_sizes_is_that_of_the_fixed_size(augmentation: Any) -> None:
    images, rows, draw = images_of([(48, 48)] * 4), np.arange(4), AugmentationSeed(seed=5, epoch=3)
    base = BinarySegmentation(in_channels=1, rotation=(10.0, 0.75), augmentation=augmentation)
    expected = base.batch(fixed_size(images), rows, draw)
    (part,) = NativeSegmentation(base).batch(examples_of(images), rows, draw).parts
    assert torch.allclose(part.inputs, expected.inputs, atol=1e-4)
    # Turning by 0 degrees in a batch resamples at the same places, to float precision.
    assert (part.target != expected.target).float().mean() < 1e-3


def test_what_is_padded_counts_nowhere() -> None:
    images = images_of(ODD_SIZES)
    examples, rows = examples_of(images), np.arange(len(ODD_SIZES))
    task = NativeSegmentation(BinarySegmentation(in_channels=1))
    (part,) = task.batch(examples, rows, None).parts
    assert part.inputs.shape == (6, 1, 208, 304)
    for row, target in enumerate(images.targets):
        height, width = target.shape
        assert (part.valid[row, 0, :height, :width].numpy() == (target != 127)).all()
        assert part.valid[row].sum() == (target != 127).sum()
        assert (part.target[row, 0, :height, :width].numpy() == (target == 255)).all()
        padding = part.inputs[row, 0].numpy().copy()
        padding[:height, :width] = part.inputs[row].min()
        assert (padding == part.inputs[row].min().item()).all()


def test_predictions_have_the_size_of_the_image_in_any_company() -> None:
    examples, rows = examples_of(images_of(ODD_SIZES)), np.arange(len(ODD_SIZES))
    task, model = NativeSegmentation(BinarySegmentation(in_channels=1)), network()
    together = task.predict(model, task.batch(examples, rows, None))
    assert [prediction.shape for prediction in together] == ODD_SIZES
    for row, prediction in enumerate(together):
        (alone,) = task.predict(model, task.batch(examples, rows[row : row + 1], None))
        assert alone.dtype == np.float32
        assert (alone == prediction).all()
        metrics = task.measure(examples, row, prediction)
        target = examples.case(row)[1]
        assert metrics == pytest.approx(measure(prediction, target == 255, ignore=target == 127), nan_ok=True)


def test_prediction_is_that_of_the_padded_image() -> None:
    examples, model = examples_of(images_of([(33, 47)])), network()
    task = NativeSegmentation(BinarySegmentation(in_channels=1))
    (found,) = task.predict(model, task.batch(examples, np.array([0]), None))
    whole = normalise(torch.from_numpy(examples.case(0)[0])[None], "zscore")
    by_hand = nn.functional.pad(whole, (0, 1, 0, 15), value=whole.min().item())
    with torch.inference_mode():
        expected = torch.sigmoid(model(by_hand))[0, 0, :33, :47].numpy()
    assert np.allclose(found, expected, atol=1e-6)


def test_spacing_reaches_the_metrics() -> None:
    images = images_of([(40, 40), (40, 40)])
    images.spacing_mm[1] = 0.5
    examples = examples_of(images)
    prediction = np.roll((images.targets[0] == 255).astype(np.float32), 6, axis=0)
    task = NativeSegmentation(BinarySegmentation(in_channels=1))
    unknown, known = (task.measure(examples, row, prediction) for row in (0, 1))
    assert np.isnan(unknown["HD95_mm"])
    assert known["HD95_mm"] == pytest.approx(0.5 * known["HD95_px"])


def test_what_is_shown_is_small() -> None:
    examples = examples_of(images_of([(700, 1400), (33, 47)]))
    task = NativeSegmentation(BinarySegmentation(in_channels=1))
    for row, (height, width) in enumerate([(256, 512), (33, 47)]):
        shown = task.pixels(examples, row, np.zeros(examples.size(row), np.float32))
        assert (shown["height"], shown["width"]) == (height, width)
        assert {len(shown[name]) for name in ("image", "target", "probability")} == {height * width}
        assert set(shown["target"]) <= {0, 127, 255}
    assert shown["image"] == examples.case(1)[0][0].tobytes()


def test_training_lowers_the_loss_and_has_no_state() -> None:
    examples = examples_of(images_of([(48, 40), (33, 64), (50, 20), (40, 40)]))
    task = NativeSegmentation(BinarySegmentation(in_channels=1, rotation=(10.0, 0.75), augmentation=STRONG))
    recipe = Recipe(seed=1, lr=1e-2, batch_size=2, max_epochs=4, patience=9)
    runs = [Trainer(network(), task, recipe).fit(examples, examples) for _ in range(2)]
    losses = [result.values["validation_loss"] for result in runs[0].history]
    assert losses[-1] < losses[0]
    for name, value in runs[0].weights.items():
        assert torch.equal(value, runs[1].weights[name])
