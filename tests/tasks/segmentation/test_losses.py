"""Losses by hand, and against MONAI and PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.losses import TverskyLoss

from xferlab.training.pixel_losses import LOSSES, cross_entropy, dice, dice_as_printed


def column(*values: float) -> torch.Tensor:
    """Two images, each a row of pixels."""
    return torch.tensor(values).reshape(2, 1, 1, -1)


PROBABILITY, TARGET = column(0.5, 1.0, 0.0, 0.25), column(1.0, 1.0, 0.0, 0.0)
NOTHING = torch.zeros_like(TARGET)


@pytest.mark.parametrize(
    ("loss", "probability", "target", "smoothing", "expected"),
    [
        # I = 1.5, P = 1.75, T = 2 over both images together
        (dice, PROBABILITY, TARGET, 1.0, 1 - (2 * 1.5 + 1) / (1.75 + 2 + 1)),
        (dice, PROBABILITY, TARGET, 5.0, 1 - (2 * 1.5 + 5) / (1.75 + 2 + 5)),
        (dice, TARGET, TARGET, 1.0, 0.0),
        (dice, NOTHING, NOTHING, 1.0, 0.0),
        (dice, 1 - TARGET, TARGET, 1.0, 1 - 1 / 5),
        (dice_as_printed, PROBABILITY, TARGET, 1.0, 1 - 2 * (1.5 + 1) / (3.75 + 1)),
        (dice_as_printed, TARGET, TARGET, 1.0, -0.2),  # as the paper prints it
    ],
)
def test_losses_by_hand(loss, probability, target, smoothing, expected):
    assert float(loss(probability, target, torch.ones_like(target), smoothing)) == pytest.approx(expected)


def random_batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 1, 8, 9, generator=generator, dtype=torch.float64)
    target = (torch.rand(3, 1, 8, 9, generator=generator) < 0.4).double()
    valid = (torch.rand(3, 1, 8, 9, generator=generator) < 0.7).double()
    return logits, target, valid


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_the_loss_which_is_blind_to_the_order_of_images(name):
    logits, target, valid = random_batch()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, target, valid, 1.0), (logits,))
    loss, shuffled = (
        float(LOSSES[name](*(values.detach()[order] for values in (logits, target, valid)), 1.0))
        for order in ([0, 1, 2], [2, 0, 1])
    )
    assert shuffled == pytest.approx(loss, abs=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_change_neither_loss_nor_gradient_and_better_is_lower(name):
    def loss_and_gradient(logits, target):
        logits = logits.clone().requires_grad_()
        loss = LOSSES[name](logits, target, valid, 1.0)
        loss.backward()
        return loss.detach(), logits.grad

    logits, target, valid = random_batch()
    loss, gradient = loss_and_gradient(logits, target)
    other_loss, other_gradient = loss_and_gradient(
        torch.where(valid == 1, logits, 1 - logits), torch.where(valid == 1, target, 1 - target)
    )
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)
    assert (gradient[valid == 0] == 0).all()
    assert (gradient[valid == 1] != 0).all()
    assert loss_and_gradient(logits + 0.5 * (2 * target - 1), target)[0] < loss


def test_cross_entropy_is_pytorchs_over_the_pixels_that_count():
    logits, target, valid = random_batch()
    counted = valid == 1
    expected = F.binary_cross_entropy(torch.sigmoid(logits[counted]), target[counted])
    assert float(cross_entropy(logits, target, valid)) == pytest.approx(float(expected), rel=1e-12)


def test_cross_entropy_stays_finite_where_the_sigmoid_is_0_or_1():
    logits = torch.tensor([200.0, -200.0]).reshape(1, 1, 1, 2).requires_grad_()
    target = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    loss = cross_entropy(logits, target, torch.ones_like(target))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(200.0)
    assert logits.grad.flatten().tolist() == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize("name", LOSSES)
def test_where_no_pixel_counts_nothing_is_learnt(name):
    logits, target, _ = random_batch()
    logits.requires_grad_()
    loss = LOSSES[name](logits, target, torch.zeros_like(target), 1.0)
    loss.backward()
    assert loss.isfinite()
    assert (logits.grad == 0).all()


def test_dice_cross_entropy_is_the_sum_of_both():
    batch = random_batch()
    both = LOSSES["dice"](*batch, 2.0) + LOSSES["cross_entropy"](*batch, 2.0)
    assert float(LOSSES["dice_cross_entropy"](*batch, 2.0)) == pytest.approx(float(both), rel=1e-14)


@pytest.mark.parametrize("smoothing", [1.0, 1e-5])
def test_focal_tversky_is_a_power_of_monais_tversky(smoothing):
    logits, target, _ = random_batch()
    # MONAI's alpha weighs false positives, Abraham and Khan's false negatives.
    tversky = TverskyLoss(
        sigmoid=True, alpha=0.3, beta=0.7, batch=True, smooth_nr=smoothing, smooth_dr=smoothing
    )
    expected = tversky(logits, target) ** 0.75
    loss = LOSSES["focal_tversky"](logits, target, torch.ones_like(target), smoothing)
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_perfect_match_has_a_gradient_that_is_a_number(value):
    target = torch.full((1, 1, 4, 4), value)
    logits = (200.0 * (2 * target - 1)).requires_grad_()
    loss = LOSSES["focal_tversky"](logits, target, torch.ones_like(target), 1.0)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(torch.finfo(torch.float32).eps ** 0.75)
    assert logits.grad.isfinite().all()
