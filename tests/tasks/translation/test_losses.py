"""Losses of translation by hand arithmetic."""

from __future__ import annotations

import pytest
import torch

from xferlab.tasks.translation.losses import discriminator_loss, generator_loss, reconstruction_loss

pytestmark = pytest.mark.component

REAL = (torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.5]]]]))
GENERATED = (torch.tensor([[[[0.0, 2.0]]]]), torch.tensor([[[[-1.0]]]]))


def test_scales_are_summed_and_patches_averaged():
    # Real: (0 + 4) / 2 and 0.25; generated against 0: (0 + 4) / 2 and 1; against 1: (1 + 1) / 2 and 4.
    assert float(discriminator_loss(REAL, GENERATED)) == 2 + 0.25 + 2 + 1
    assert float(generator_loss(GENERATED)) == 1 + 4
    assert float(discriminator_loss(REAL[:1], GENERATED[:1])) == 2 + 2


def test_the_best_scores_give_0_and_gradients_pull_the_two_apart():
    ones, zeros = (torch.ones(2, 1, 3, 3),), (torch.zeros(2, 1, 3, 3),)
    assert float(discriminator_loss(ones, zeros)) == float(generator_loss(ones)) == 0.0
    scores = torch.full((1, 1, 1, 1), 0.5, requires_grad=True)
    for loss, slope in ((discriminator_loss(ones, (scores,)), 1.0), (generator_loss((scores,)), -1.0)):
        assert torch.autograd.grad(loss, scores)[0].item() == slope


def test_reconstruction_is_the_mean_absolute_difference_with_gradients_to_both():
    result = torch.tensor([[1.0, -2.0], [0.0, 4.0]], requires_grad=True)
    original = torch.tensor([[0.0, -2.0], [0.5, 1.5]], requires_grad=True)
    loss = reconstruction_loss(result, original)
    loss.backward()
    assert float(loss.detach()) == (1 + 0 + 0.5 + 2.5) / 4
    assert result.grad.tolist() == [[0.25, 0.0], [-0.25, 0.25]]
    assert torch.equal(original.grad, -result.grad)
