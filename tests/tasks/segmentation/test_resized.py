"""Images of one size: how they become batches, what the loss and the metrics see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.tasks.segmentation.learners import make, trainer
from tests.training.images import STRONG, digests, noisy, resized
from tests.training.learners import same
from xferlab.errors import TrainingError
from xferlab.networks.unet import UNet
from xferlab.tasks.segmentation.resized import ImageBatch, ResizedSegmentation
from xferlab.training.augment import Augmentation, rotate, rotation_angles
from xferlab.training.examples import ImageExamples
from xferlab.training.intensity import normalise
from xferlab.training.learner import AugmentationSeed
from xferlab.training.precision import float32
from xferlab.training.randomness import case_keys

NUM, SIZE = 12, 16
IMAGES, TARGETS = noisy(NUM, SIZE)
EXAMPLES = resized(IMAGES, TARGETS)
DRAW = AugmentationSeed(seed=4, epoch=2)
ALL = np.arange(NUM)


def batch_of(
    rows: Any = ALL, *, draw: AugmentationSeed | None = DRAW, examples: ImageExamples = EXAMPLES, **view: Any
) -> ImageBatch:
    return view_of(**view).batch(examples, np.array(rows), draw)


def view_of(**changed: Any) -> ResizedSegmentation:
    return ResizedSegmentation(**{"in_channels": 1, "rotation": (10.0, 0.75), **changed})


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return UNet(in_channels=channels, init_features=2).to(memory_format=torch.channels_last).eval()


def equal(one: ImageBatch, other: ImageBatch) -> bool:
    return same(one._asdict(), other._asdict())


# --- examples --------------------------------------------------------------------------------------


def test_examples_are_rows_of_a_table_in_the_order_asked_for():
    some = resized(IMAGES, TARGETS, rows=[7, 2, 5])
    assert len(some) == 3
    images, targets = some.take(np.array([2, 0]))
    assert np.array_equal(images.numpy(), IMAGES[[5, 7]])
    assert np.array_equal(targets[:, 0].numpy(), TARGETS[[5, 7]])
    assert np.array_equal(some.case(1)[0], IMAGES[2])
    assert some.keys.tolist() == case_keys(digests([7, 2, 5])).tolist()


def test_a_read_only_table_is_never_written(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    images, _ = resized(mapped, TARGETS).take(np.array([0, 1]))
    images.zero_()  # a copy of its own
    assert np.array_equal(mapped, IMAGES)


def test_the_order_of_cases_on_disk_does_not_matter():
    """Digest order decides; the rows of the table do not."""
    order = np.random.default_rng(1).permutation(NUM)
    images, targets = np.empty_like(IMAGES), np.empty_like(TARGETS)
    images[order], targets[order] = IMAGES, TARGETS

    def fit(images: np.ndarray, targets: np.ndarray, rows: np.ndarray) -> dict[str, torch.Tensor]:
        parts = [resized(images, targets, rows=rows[part]) for part in (slice(8), slice(8, None))]
        for part, cases in zip(parts, (range(8), range(8, NUM)), strict=True):
            part.keys = case_keys(digests(cases))
        return trainer(batch_size=3, max_epochs=2).fit(*parts).weights

    assert same(fit(IMAGES, TARGETS, ALL), fit(images, targets, order))


# --- batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", [None, STRONG])
def test_a_batch_without_a_draw_is_not_augmented(augmentation):
    batch = batch_of(draw=None, in_channels=3, augmentation=augmentation)
    assert torch.equal(batch.inputs[:, :1], normalise(torch.from_numpy(IMAGES), "zscore"))
    assert np.array_equal(batch.target[:, 0].numpy(), TARGETS == 255)
    assert np.array_equal(batch.valid[:, 0].numpy(), TARGETS != 127)
    assert batch.inputs.dtype == batch.target.dtype == batch.valid.dtype == torch.float32
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_with_a_draw_is_rotated_by_the_angles_of_its_cases():
    rows = np.array([3, 1, 8, 0])
    batch = batch_of(rows)
    angles = rotation_angles(EXAMPLES.keys[rows], degrees=10.0, probability=0.75, seed=4, epoch=2)
    raw, labels = EXAMPLES.take(rows)
    images, targets = rotate(normalise(raw, "zscore"), labels.float(), angles)
    assert angles.any()
    assert torch.equal(batch.inputs, images)
    assert torch.equal(batch.target, (targets == 255).float())
    assert torch.equal(batch.valid, (targets != 127).float())


NO_ROTATION = {"rotation": None}
COLOUR = {"in_channels": 3, "examples": resized(np.repeat(IMAGES, 3, axis=1), TARGETS)}


@pytest.mark.parametrize(
    ("changes", "like"),
    [
        (NO_ROTATION, {"draw": None}),
        ({"augmentation": Augmentation()}, {}),
        ({"augmentation": Augmentation(flip=0.0, scale=(1.0, 1.0))}, {}),
        # The only curve that 256 levels cannot undo is one that lets levels coincide; this one does not.
        (
            {"intensity": "equalise", "augmentation": Augmentation(gamma=(0.999, 1.001))} | NO_ROTATION,
            {"intensity": "equalise"} | NO_ROTATION,
        ),
        ({"in_channels": 3}, COLOUR),
        ({"in_channels": 3, "draw": None}, COLOUR | {"draw": None}),
    ],
    ids=["no rotation", "nothing on", "nothing done", "equalised gamma", "grey and colour", "not drawn"],
)
def test_what_is_off_is_as_if_it_were_not_there_and_grey_as_three_equal_channels(changes, like):
    assert equal(batch_of(**changes), batch_of(**like))


def test_colour_images_for_a_grey_network_are_refused():
    with pytest.raises(
        TrainingError, match=r"images have 3 channels and the network takes 1; .*in_channels to 3"
    ):
        batch_of(examples=COLOUR["examples"], draw=None)


# --- augmentation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("intensity", ["zscore", "unit", "minmax", "raw", "equalise"])
@pytest.mark.parametrize("rotation", [None, (10.0, 0.75)])
def test_a_case_is_augmented_alike_in_any_batch(intensity, rotation):
    options = {"augmentation": STRONG, "intensity": intensity, "rotation": rotation}
    together = batch_of(**options)
    for rows in ([3], [11, 0, 5, 3], range(5, 12)):
        part = batch_of(list(rows), **options)
        for key in ("target", "valid"):
            assert getattr(part, key).equal(getattr(together, key)[list(rows)])
        torch.testing.assert_close(part.inputs, together.inputs[list(rows)], rtol=1e-5, atol=1e-5)
    assert equal(batch_of(**options), together)
    assert not batch_of(**options, draw=AugmentationSeed(1, 2)).inputs.equal(together.inputs)


def test_targets_do_not_know_of_the_exposure():
    degraded = batch_of(augmentation=Augmentation(objects=3, blur=1.0, noise=0.1, gamma=(0.5, 2.0)))
    plain = batch_of()
    assert degraded.target.equal(plain.target)
    assert degraded.valid.equal(plain.valid)
    assert not degraded.inputs.equal(plain.inputs)


def test_the_share_that_is_mirrored():
    always = batch_of(rotation=None, augmentation=Augmentation(flip=1.0))
    plain = batch_of(rotation=None)
    assert always.inputs.equal(plain.inputs.flip(-1))
    assert always.target.equal(plain.target.flip(-1))
    shares = []
    for epoch in range(40):
        draw = AugmentationSeed(1, epoch)
        half = batch_of(draw=draw, rotation=None, augmentation=Augmentation(flip=0.5))
        shares.append(float((half.inputs == always.inputs).all(dim=(1, 2, 3)).float().mean()))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)


# --- loss, prediction, metrics ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dice", "dice_as_printed"])
def test_the_loss_is_the_one_named_over_the_pixels_that_count(name):
    batch, model = batch_of(draw=None, in_channels=3), network()
    probability = torch.sigmoid(model(batch.inputs)).detach().double().numpy()[:, 0]
    p, t = probability[TARGETS != 127], (TARGETS == 255)[TARGETS != 127]
    both, total = (p * t).sum(), p.sum() + t.sum()
    expected = {"dice": 2 * both + 3, "dice_as_printed": 2 * (both + 3)}[name] / (total + 3)
    loss = view_of(in_channels=3, loss_name=name, smoothing=3.0).loss(model, batch)
    assert float(loss.detach()) == pytest.approx(1 - expected, abs=1e-6)


def test_what_is_under_an_ignored_pixel_in_the_target_does_not_count():
    """All that a mask says is in the loss: an ignored image has the loss of no image."""
    targets, model = TARGETS.copy(), network(1)
    targets[0] = 127
    losses = [
        float(view_of().loss(model, batch_of(rows, draw=None, examples=resized(IMAGES, targets))).detach())
        for rows in (ALL, ALL[1:])
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_pixel_of_several_masks_is_learnt_as_the_first_and_measured_as_all():
    masks = torch.tensor([[255.0, 255, 0, 0, 127], [255, 0, 255, 0, 255], [0, 255, 255, 255, 255]])
    targets = masks.reshape(1, 3, 1, 5)
    view = ResizedSegmentation(in_channels=1, is_exclusive=True, first_counts=True)
    batch = view.framed(torch.zeros(1, 1, 1, 5), targets)
    expected = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]])
    assert torch.equal(batch.target[0, :, 0], expected)
    assert torch.equal(batch.valid, (targets != 127).float())
    assert torch.equal(targets[0, :, 0], masks)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_precision_is_for_training_alone(precision, dtype):
    learner, seen = make(precision=precision), []
    for layer in learner.network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    batch = learner.load(EXAMPLES, ALL, DRAW)
    assert learner.train_step(batch)["loss"].dtype == torch.float32
    assert set(seen) == {dtype}
    seen.clear()
    learner.validate(EXAMPLES)
    learner.predict(batch)
    assert set(seen) == {torch.float32}


def test_predictions_are_probabilities_in_ieee_arithmetic_whatever_the_process_allows():
    learner, seen = make(), []
    learner.network.register_forward_pre_hook(
        lambda network, _: seen.append((network.training, torch.backends.cudnn.allow_tf32))
    )
    with float32(tf32=True):
        predictions = np.stack(learner.predict(batch_of(draw=None)))
        assert torch.backends.cudnn.allow_tf32
    assert seen == [(False, False)]
    assert (predictions.shape, predictions.dtype) == ((NUM, 1, SIZE, SIZE), np.float32)
    assert ((predictions > 0) & (predictions < 1)).all()


def test_measures_and_outputs_are_of_the_case_itself():
    learner, some = make(), resized(IMAGES, TARGETS, rows=[7, 2])
    assert learner.measure(some, 1, (TARGETS[[2]] == 255).astype(np.float32))["DICE"] == 1.0
    outputs = learner.outputs(some, 1, np.full((1, SIZE, SIZE), 0.5, np.float32))
    assert same({name: value.tolist() for name, value in outputs.items()}, {
        "image": IMAGES[2, 0].tolist(), "target": TARGETS[2].tolist(), "probability": [[128] * SIZE] * SIZE,
    })  # fmt: skip
    assert {value.dtype for value in outputs.values()} == {np.dtype(np.uint8)}
