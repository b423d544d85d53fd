from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from xferlab.errors import TrainingError
from xferlab.networks.unet import UNet
from xferlab.tasks.segmentation.resized import BinarySegmentation, ImageExamples, normalise
from xferlab.training.augment import rotate, rotation_angles
from xferlab.training.learner import AugmentationSeed

pytestmark = pytest.mark.component
CPU = torch.device("cpu")
NUM, SIZE = 10, 16
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (NUM, 1, SIZE, SIZE), dtype=np.uint8)
TARGETS = RANDOM.choice(np.array([0, 127, 255], np.uint8), (NUM, SIZE, SIZE))
SPACING = np.full((NUM, 2), np.nan, np.float32)


def make_examples(
    images: np.ndarray = IMAGES, *, targets: np.ndarray = TARGETS, rows: list[int] | None = None
) -> ImageExamples:
    chosen = np.array(range(len(images)) if rows is None else rows)
    digests = tuple(hashlib.sha256(str(row).encode()).hexdigest() for row in chosen)
    return ImageExamples(digests, images, targets, SPACING, rows=chosen, device=CPU)


def make_task(**changed: Any) -> BinarySegmentation:
    return BinarySegmentation(**{"in_channels": 3, "rotation": (10.0, 0.75), **changed})


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return UNet(in_channels=channels, out_channels=1, init_features=2).to(memory_format=torch.channels_last)


ALL = np.arange(NUM)


def test_examples_are_rows_of_a_table_in_the_order_asked_for():
    some = make_examples(rows=[7, 2, 5])
    assert len(some) == 3
    images, targets = some.take(np.array([2, 0]))
    assert np.array_equal(images.numpy(), IMAGES[[5, 7]])
    assert np.array_equal(targets[:, 0].numpy(), TARGETS[[5, 7]])
    assert np.array_equal(some.case(1)[0], IMAGES[2])
    assert some.keys.tolist() == make_examples().keys[[7, 2, 5]].tolist()


def test_a_read_only_table_is_never_written(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    images, _ = make_examples(mapped).take(np.array([0, 1]))
    images.zero_()  # a copy of its own
    assert np.array_equal(mapped, IMAGES)


def test_zscore_is_each_images_own():
    values = normalise(torch.from_numpy(IMAGES), "zscore").numpy()
    expected = (IMAGES - IMAGES.mean((2, 3), keepdims=True)) / IMAGES.std((2, 3), keepdims=True)
    assert np.allclose(values, expected, atol=1e-5)
    assert np.allclose(normalise(torch.from_numpy(IMAGES), "unit").numpy(), IMAGES / 255, atol=1e-7)


def test_zscore_of_an_even_image_is_zero_and_of_a_faint_one_small():
    even = torch.full((1, 1, 4, 4), 200, dtype=torch.uint8)
    assert (normalise(even, "zscore") == 0).all()
    faint = even.clone()
    faint[0, 0, 0, 0] = 201
    assert normalise(faint, "zscore").abs().max() <= 1.0


def test_a_batch_without_a_draw_is_not_augmented():
    batch = make_task().batch(make_examples(), ALL, None)
    assert torch.equal(batch.inputs[:, :1], normalise(torch.from_numpy(IMAGES), "zscore"))
    assert np.array_equal(batch.target[:, 0].numpy(), TARGETS == 255)
    assert np.array_equal(batch.valid[:, 0].numpy(), TARGETS != 127)
    assert batch.inputs.dtype == batch.target.dtype == batch.valid.dtype == torch.float32
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_with_a_draw_is_rotated_by_the_angles_of_its_cases():
    some = make_examples()
    rows = np.array([3, 1, 8, 0])
    batch = make_task().batch(some, rows, AugmentationSeed(seed=4, epoch=2))
    angles = rotation_angles(some.keys[rows], degrees=10.0, probability=0.75, seed=4, epoch=2)
    raw, labels = some.take(rows)
    images, targets = rotate(normalise(raw, "zscore"), labels.float(), angles)
    assert angles.any()
    assert torch.equal(batch.inputs[:, :1], images)
    assert torch.equal(batch.target, (targets == 255).float())
    assert torch.equal(batch.valid, (targets != 127).float())


def test_no_rotation_asked_for_none_done():
    task = make_task(rotation=None)
    one, other = (
        task.batch(make_examples(), ALL, draw).inputs for draw in (None, AugmentationSeed(seed=4, epoch=2))
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("draw", [None, AugmentationSeed(seed=4, epoch=2)])
def test_grey_repeated_equals_three_equal_channels(draw):
    grey = make_task().batch(make_examples(), ALL, draw)
    explicit = make_task().batch(make_examples(np.repeat(IMAGES, 3, axis=1)), ALL, draw)
    assert torch.equal(grey.inputs, explicit.inputs)
    model = network()
    assert torch.equal(make_task().loss(model, grey), make_task().loss(model, explicit))


def test_colour_images_for_a_grey_network_are_refused():
    colour = make_examples(np.repeat(IMAGES, 3, axis=1))
    with pytest.raises(
        TrainingError, match=r"images have 3 channels and the network takes 1; .*in_channels to 3"
    ):
        make_task(in_channels=1).batch(colour, ALL, None)


def test_the_loss_is_the_one_named_over_the_pixels_that_count():
    batch = make_task().batch(make_examples(), ALL, None)
    model = network().eval()
    probability = torch.sigmoid(model(batch.inputs)).detach().double().numpy()[:, 0]
    p, t = probability[TARGETS != 127], (TARGETS == 255)[TARGETS != 127]
    total = p.sum() + t.sum()
    for name, expected in (
        ("dice", 1 - (2 * (p * t).sum() + 3) / (total + 3)),
        ("dice_as_printed", 1 - 2 * ((p * t).sum() + 3) / (total + 3)),
    ):
        loss = make_task(loss_name=name, smoothing=3.0).loss(model, batch)
        assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)


def test_what_is_under_an_ignored_pixel_in_the_target_does_not_count():
    """All that a mask says is in the loss: an ignored image has the gradient of no image."""
    ignored = TARGETS.copy()
    ignored[0] = 127
    loss = make_task().loss(network().eval(), make_task().batch(make_examples(targets=ignored), ALL, None))
    others = make_task().batch(make_examples(targets=ignored), ALL[1:], None)
    expected = make_task().loss(network().eval(), others)
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=1e-6)


def seen_dtypes(model: nn.Module, task: BinarySegmentation) -> set[torch.dtype]:
    seen: set[torch.dtype] = set()
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda _, __, out: seen.add(out.dtype)) for layer in layers]
    loss = task.loss(model, task.batch(make_examples(), ALL, None))
    for hook in hooks:
        hook.remove()
    assert loss.dtype == torch.float32
    assert loss.ndim == 0
    return seen


def test_autocast_is_for_training_alone():
    task, model = make_task(autocast=torch.bfloat16), network()
    assert seen_dtypes(model.train(), task) == {torch.bfloat16}
    assert seen_dtypes(model.eval(), task) == {torch.float32}
    assert seen_dtypes(model.train(), make_task()) == {torch.float32}


def test_predictions_are_float32_probabilities_with_or_without_autocast():
    model = network().eval()
    batch = make_task().batch(make_examples(), ALL, None)
    one, other = (make_task(autocast=dtype).predict(model, batch) for dtype in (None, torch.bfloat16))
    assert one.shape == (NUM, SIZE, SIZE)
    assert one.dtype == np.float32
    assert ((one > 0) & (one < 1)).all()
    assert np.array_equal(one, other)


def test_measures_and_pixels_are_of_the_case_itself():
    some = make_examples(rows=[7, 2])
    perfect = (TARGETS[2] == 255).astype(np.float32)
    assert make_task().measure(some, 1, perfect)["DICE"] == 1.0
    pixels = make_task().pixels(some, 1, np.full((SIZE, SIZE), 0.5, np.float32))
    assert (pixels["height"], pixels["width"]) == (SIZE, SIZE)
    assert pixels["image"] == IMAGES[2, 0].tobytes()
    assert pixels["target"] == TARGETS[2].tobytes()
    assert set(pixels["probability"]) == {128}
