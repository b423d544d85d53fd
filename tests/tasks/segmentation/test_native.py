"""Whole images of any size: as at the fixed size where sizes are equal; what is padded counts nowhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.tasks.segmentation.learners import make
from tests.training.images import STRONG, images_of, native, resized, smooth
from tests.training.learners import same
from xferlab.metrics.measuring import measure
from xferlab.tasks.segmentation.windows import NormalisedImage, labels_of, normalised
from xferlab.training.intensity import INTENSITIES, normalise
from xferlab.training.learner import AugmentationSeed

ODD_SIZES = [(1, 1), (3, 300), (200, 2), (33, 47), (16, 16), (64, 50)]
STRONG_FIELDS = vars(STRONG)


def native_and_resized(channels: int = 1, **training: Any) -> tuple[Any, Any]:
    """Two learners with the same network."""
    models = [{"in_channels": channels, "image_size": size} for size in ("native", 48)]
    one, other = (make(model=model, **training) for model in models)
    return one, other


@pytest.mark.parametrize("intensity", list(INTENSITIES))
@pytest.mark.parametrize("channels", [1, 3])
def test_windows_are_cut_from_the_normalised_whole(intensity: str, channels: int) -> None:
    image = smooth(40, 55, seed=1, channels=channels)
    whole = normalise(torch.from_numpy(image)[None], intensity)[0].numpy()
    lazy = NormalisedImage.of(image, intensity)
    assert (lazy.window(0, 0, (40, 55)) == whole).all()
    assert (lazy.window(7, 20, (16, 30)) == whole[:, 7:23, 20:50]).all()
    beyond = lazy.window(-5, 50, (60, 20))
    assert (beyond[:, 5:45, :5] == whole[:, :, 50:]).all()
    outside = np.ones((60, 20), bool)
    outside[5:45, :5] = False
    assert (beyond[:, outside] == whole.min()).all()


@given(st.integers(-70, 70), st.integers(-70, 70), st.integers(1, 50), st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_windows_anywhere_have_their_shape(top: int, left: int, height: int, width: int) -> None:
    examples = native(images_of([(23, 31)]))
    window = normalised(examples, 0, "zscore").window(top, left, (height, width))
    (labels,) = labels_of(examples, 0, (top, left), (height, width))
    assert (window.shape, window.dtype) == ((1, height, width), torch.float32)
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    inside = ((rows >= 0) & (rows < 23))[:, None] & ((columns >= 0) & (columns < 31))[None]
    assert (labels[~inside] == 127).all()
    assert set(np.unique(labels[inside])) <= {0, 127, 255}


@pytest.mark.parametrize("intensity", list(INTENSITIES))
@pytest.mark.parametrize("channels", [1, 3])
def test_equal_sizes_give_what_the_fixed_size_gives(intensity: str, channels: int) -> None:
    images, rows = images_of([(48, 48)] * 3, channels=channels), np.arange(3)
    learner, base = native_and_resized(3, intensity=intensity)
    own_size, fixed = native(images), resized(np.stack(images.images), np.stack(images.targets))
    batch, expected = learner.load(own_size, rows, None), base.load(fixed, rows, None)
    (part,) = batch.parts
    assert same(part._asdict(), expected._asdict())
    assert torch.equal(learner.loss(learner.network, batch), base.loss(base.network, expected))
    predictions = learner.predict(batch)
    assert np.allclose(np.stack(predictions), np.stack(base.predict(expected)), atol=1e-6)
    for row in rows.tolist():
        metrics = base.measure(fixed, row, predictions[row])
        assert learner.measure(own_size, row, predictions[row]) == pytest.approx(metrics, rel=0, nan_ok=True)


@pytest.mark.parametrize("augmentation", [None, STRONG_FIELDS])
def test_augmentation_of_equal_sizes_is_that_of_the_fixed_size(augmentation: Any) -> None:
    images, rows, draw = images_of([(48, 48)] * 4), np.arange(4), AugmentationSeed(seed=5, epoch=3)
    learner, base = native_and_resized(augmentation=augmentation)
    expected = base.load(resized(np.stack(images.images), np.stack(images.targets)), rows, draw)
    (part,) = learner.load(native(images), rows, draw).parts
    assert torch.allclose(part.inputs, expected.inputs, atol=1e-4)
    # Turning by 0 degrees in a batch resamples at the same places, to float precision.
    assert (part.target != expected.target).float().mean() < 1e-3


def test_what_is_padded_counts_nowhere() -> None:
    images = images_of(ODD_SIZES)
    learner = make(model={"image_size": "native"})
    (part,) = learner.load(native(images), np.arange(len(ODD_SIZES)), None).parts
    assert part.inputs.shape == (6, 1, 208, 304)
    for row, target in enumerate(images.targets):
        height, width = target.shape
        assert (part.valid[row, 0, :height, :width].numpy() == (target != 127)).all()
        assert part.valid[row].sum() == (target != 127).sum()
        assert (part.target[row, 0, :height, :width].numpy() == (target == 255)).all()
        padding = part.inputs[row, 0].numpy().copy()
        padding[:height, :width] = part.inputs[row].min()
        assert (padding == part.inputs[row].min().item()).all()


@pytest.mark.parametrize("tiles", [None, {"size": 48}])
def test_predictions_have_the_size_of_the_image_in_any_company(tiles: Any) -> None:
    examples, rows = native(images_of(ODD_SIZES)), np.arange(len(ODD_SIZES))
    learner = make(model={"image_size": "native", "tiles": tiles})
    together = learner.predict(learner.load(examples, rows, None))
    assert [prediction.shape for prediction in together] == [(1, *size) for size in ODD_SIZES]
    for row, prediction in enumerate(together):
        (alone,) = learner.predict(learner.load(examples, rows[row : row + 1], None))
        assert alone.dtype == np.float32
        assert (alone == prediction).all()
        (target,) = examples.case(row)[1]
        expected = measure(prediction[0], target == 255, ignore=target == 127)
        assert learner.measure(examples, row, prediction) == pytest.approx(expected, nan_ok=True)


def test_prediction_is_that_of_the_padded_image() -> None:
    examples, learner = native(images_of([(33, 47)])), make(model={"image_size": "native"})
    (prediction,) = learner.predict(learner.load(examples, np.array([0]), None))
    whole = normalise(torch.from_numpy(examples.case(0)[0])[None], "zscore")
    by_hand = nn.functional.pad(whole, (0, 1, 0, 15), value=whole.min().item())
    with torch.inference_mode():
        expected = torch.sigmoid(learner.network(by_hand))[0, 0, :33, :47].numpy()
    assert np.allclose(prediction, expected, atol=1e-6)


def test_spacing_reaches_the_metrics() -> None:
    images = images_of([(40, 40), (40, 40)])
    images.spacing_mm[1] = 0.5
    prediction = np.roll((images.targets[0] == 255).astype(np.float32), 6, axis=0)[None]
    learner, examples = make(model={"image_size": "native"}), native(images)
    unknown, known = (learner.measure(examples, row, prediction) for row in (0, 1))
    assert np.isnan(unknown["HD95_mm"])
    assert known["HD95_mm"] == pytest.approx(0.5 * known["HD95_px"])


def test_what_is_shown_is_small() -> None:
    examples, learner = native(images_of([(700, 1400), (33, 47)])), make(model={"image_size": "native"})
    for row, shape in enumerate([(256, 512), (33, 47)]):
        shown = learner.outputs(examples, row, np.zeros((1, *examples.size(row)), np.float32))
        assert {name: array.shape for name, array in shown.items()} == dict.fromkeys(
            ("image", "target", "probability"), shape
        )
        assert {array.dtype for array in shown.values()} == {np.dtype(np.uint8)}
        assert set(np.unique(shown["target"])) <= {0, 127, 255}
    assert np.array_equal(shown["image"], examples.case(1)[0][0])
