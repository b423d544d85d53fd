from __future__ import annotations

import pytest
import torch

from xferlab.tasks.segmentation.losses import LOSSES, dice, dice_as_printed

pytestmark = pytest.mark.component

PROBABILITY = torch.tensor([[0.5, 1.0], [0.0, 0.25]]).reshape(2, 1, 1, 2)
TARGET = torch.tensor([[1.0, 1.0], [0.0, 0.0]]).reshape(2, 1, 1, 2)
ALL = torch.ones_like(TARGET)


def test_dice_by_hand():
    # I = 1.5, P = 1.75, T = 2 over both images together
    assert float(dice(PROBABILITY, TARGET, ALL, 1.0)) == pytest.approx(1 - (2 * 1.5 + 1) / (1.75 + 2 + 1))
    assert float(dice(PROBABILITY, TARGET, ALL, 5.0)) == pytest.approx(1 - (2 * 1.5 + 5) / (1.75 + 2 + 5))


def test_dice_as_printed_by_hand():
    assert float(dice_as_printed(PROBABILITY, TARGET, ALL, 1.0)) == pytest.approx(
        1 - 2 * (1.5 + 1) / (3.75 + 1)
    )


def test_a_perfect_match_and_emptiness():
    nothing = torch.zeros_like(TARGET)
    assert float(dice(TARGET, TARGET, ALL, 1.0)) == 0.0
    assert float(dice(nothing, nothing, ALL, 1.0)) == 0.0
    assert float(dice_as_printed(TARGET, TARGET, ALL, 1.0)) == pytest.approx(-0.2)  # as the paper prints it
    assert float(dice(1 - TARGET, TARGET, ALL, 1.0)) == pytest.approx(1 - 1 / 5)


def random_batch(*, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probability = torch.rand(3, 1, 4, 5, generator=generator, dtype=torch.float64)
    target = (torch.rand(3, 1, 4, 5, generator=generator) < 0.4).double()
    valid = (torch.rand(3, 1, 4, 5, generator=generator) < 0.7).double()
    return probability, target, valid


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_the_loss(name):
    probability, target, valid = random_batch()
    probability.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: LOSSES[name](p, target, valid, 1.0), (probability,))


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_change_neither_loss_nor_gradient(name):
    def loss_and_gradient(probability, target):
        probability = probability.clone().requires_grad_()
        loss = LOSSES[name](probability, target, valid, 1.0)
        loss.backward()
        return loss.detach(), probability.grad

    probability, target, valid = random_batch()
    loss, gradient = loss_and_gradient(probability, target)
    other = torch.where(valid == 1, probability, torch.rand_like(probability))
    other_loss, other_gradient = loss_and_gradient(other, torch.where(valid == 1, target, 1 - target))
    assert torch.equal(loss, other_loss)
    assert torch.equal(gradient, other_gradient)
    assert (gradient[valid == 0] == 0).all()
    assert (gradient[valid == 1] != 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_better_output_has_a_lower_loss(name):
    probability, target, valid = random_batch()
    better = probability + 0.1 * (target - probability)
    assert LOSSES[name](better, target, valid, 1.0) < LOSSES[name](probability, target, valid, 1.0)


def test_the_order_of_images_does_not_matter():
    probability, target, valid = random_batch()
    order = [2, 0, 1]
    assert float(dice(probability[order], target[order], valid[order], 1.0)) == pytest.approx(
        float(dice(probability, target, valid, 1.0)), abs=1e-15
    )
