from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.learners import copied, same
from xferlab.networks.build import build, initialise


def small(**options) -> nn.Module:
    return build("unet", **({"in_channels": 3, "out_channels": 1, "init_features": 4} | options))


@pytest.mark.parametrize("seed", [0, 2021, 2**32 - 1])
@pytest.mark.parametrize("make", [small, lambda: nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1, bias=False))])
def test_equals_a_network_that_pytorch_initialised_under_the_seed(make, seed):
    torch.manual_seed(seed)
    expected = make()
    model = make()
    initialise(model, seed)
    assert same(copied(model), copied(expected))


def test_depends_on_the_seed_alone():
    one, other, third = small(), small(), small()
    initialise(one, 5)
    torch.manual_seed(99)
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if threads == 1 else 1)
    try:
        initialise(other, 5)
    finally:
        torch.set_num_threads(threads)
    initialise(third, 6)
    assert same(copied(one), copied(other))
    assert not same(copied(one), copied(third))


def test_forgets_what_was_learnt_and_leaves_the_global_generator_alone():
    model, fresh = small(), small()
    initialise(fresh, 1)
    model(torch.randn(2, 3, 16, 16))
    before = torch.get_rng_state()
    initialise(model, 1)
    assert same(copied(model), copied(fresh))
    assert torch.get_rng_state().equal(before)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_layers_without_a_rule_are_refused():
    with pytest.raises(NotImplementedError, match="1: no rule for the initial weights of a PReLU"):
        initialise(nn.Sequential(nn.ReLU(), nn.PReLU()), 0)
