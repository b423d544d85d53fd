"""Our dropout: rates and scaling, and draws that are a function of trial, epoch, batch and layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.learners import Cases, Small, same, trainer
from xferlab.networks.dropout import Dropout, reseed

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_drops_the_share_and_scales_the_others(p):
    layer = Dropout(p)
    layer.seed(1, CPU)
    values = torch.full((200_000,), 3.0, requires_grad=True)
    output = layer(values)
    output.sum().backward()
    kept = output != 0
    assert float(kept.float().mean()) == pytest.approx(1 - p, abs=0.005)
    assert output[kept].detach().numpy() == pytest.approx(3.0 / (1 - p))
    assert float(output.detach().mean()) == pytest.approx(3.0, rel=0.02)
    torch.testing.assert_close(values.grad, kept / (1 - p))


def test_whole_channels_share_a_draw_that_no_size_or_memory_format_changes():
    layer = Dropout(0.2, whole_channels=True)

    def kept(values: torch.Tensor) -> torch.Tensor:
        layer.seed(3, CPU)
        output = layer(values)
        share = output.amax(dim=(2, 3))
        assert torch.equal(output, share[:, :, None, None].expand_as(output))
        return share

    drawn = kept(torch.ones(100, 50, 3, 4))
    assert set(drawn.unique().tolist()) == {0.0, 1.25}
    assert float((drawn != 0).float().mean()) == pytest.approx(0.8, abs=0.02)
    assert torch.equal(kept(torch.ones(100, 50, 6, 2).to(memory_format=torch.channels_last)), drawn)


def test_drops_nothing_in_evaluation_or_at_0():
    values = torch.randn(100)
    assert Dropout(0.5).eval()(values) is values
    assert Dropout(0.0)(values) is values


def test_draws_belong_to_seed_epoch_batch_and_layer():
    network = nn.Sequential(nn.Linear(1, 1), Dropout(0.5), Dropout(0.5))

    def drawn(**changed: int) -> tuple[torch.Tensor, torch.Tensor]:
        reseed(network, **{"seed": 1, "epoch": 1, "batch": 0, **changed})
        return tuple(layer(torch.ones(64)) for layer in network[1:])

    first, second = drawn()
    assert not torch.equal(first, second)
    assert same(drawn(), (first, second))
    for changed in ({"seed": 2}, {"epoch": 2}, {"batch": 1}):
        assert not torch.equal(drawn(**changed)[0], first)


def test_two_trainings_in_one_process_do_not_disturb_each_other():
    expected = [trainer(Small(seed=seed), max_epochs=3).fit(Cases(9), Cases(4)).weights for seed in (1, 2)]
    one, other = (trainer(Small(seed=seed), max_epochs=3) for seed in (1, 2))
    before = torch.get_rng_state()
    one.fit(Cases(9), Cases(4), after_batch=lambda: step(other))
    while not other.stopped_by():
        step(other)
    assert same([one.best, other.best], expected)
    assert torch.get_rng_state().equal(before)


def step(training) -> None:
    """Trains the next epoch, if there is one."""
    if not training.stopped_by():
        training.epoch(Cases(9), Cases(4))
