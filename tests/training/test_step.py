"""Steps: those of plain Adam, and none after a loss that is not finite."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.learners import copied, same
from xferlab.errors import NonFiniteLossError
from xferlab.training.step import LossGuard, Optimisation, Stepper, check_together

NAN = float("nan")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1))


def losses(model: nn.Module, factors: list[float]):
    """A loss for each factor, of the network as it is then."""
    for number, factor in enumerate(factors):
        inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(number))
        yield model(inputs).square().mean() * factor


@pytest.mark.parametrize("decay", [{}, {"weight_decay": 0.2}])
def test_finite_steps_are_those_of_plain_adam_bit_for_bit(decay):
    model, plain = network(), network()
    stepper = Stepper(model, Optimisation(lr=0.1, **decay))
    adam = torch.optim.Adam(plain.parameters(), lr=0.1, fused=True, **decay)
    for loss, expected in zip(losses(model, [1.0] * 5), losses(plain, [1.0] * 5), strict=True):
        assert torch.equal(stepper(loss), expected.detach())
        adam.zero_grad()
        expected.backward()
        adam.step()
    assert same(copied(model), copied(plain))
    assert same(stepper.optimizer.state_dict()["state"], adam.state_dict()["state"])
    stepper.check("")


@pytest.mark.parametrize("field", ["weight_decay", "l1"])
def test_a_penalty_adds_to_the_gradient_what_it_would_in_the_loss(field):
    decayed, penalised = network(), network()
    norm = {"weight_decay": lambda value: value.square().sum() / 2, "l1": lambda value: value.abs().sum()}[
        field
    ]
    one, other = (
        Stepper(decayed, Optimisation(lr=0.1, **{field: 0.2})),
        Stepper(penalised, Optimisation(lr=0.1)),
    )
    for loss, plain in zip(losses(decayed, [1.0] * 5), losses(penalised, [1.0] * 5), strict=True):
        assert float(one(loss)) == pytest.approx(float(plain.detach()), rel=1e-2)  # without the penalty
        other(plain + 0.2 * sum(norm(value) for value in penalised.parameters()))
    for value, expected in zip(decayed.parameters(), penalised.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_milestones_are_those_of_pytorch_in_any_order_of_epochs():
    how = Optimisation(lr=0.1, milestones=((2, 3, 6), 0.5))
    stepper, plain = Stepper(network(), how), torch.optim.Adam(network().parameters(), lr=0.1)
    schedule, expected = torch.optim.lr_scheduler.MultiStepLR(plain, [2, 3, 6], gamma=0.5), []
    for _ in range(8):
        expected.append(plain.param_groups[0]["lr"])
        plain.step()
        schedule.step()
    for epoch in (5, 1, 8, 7, 2, 3, 4, 6):
        stepper.begin_epoch(epoch)
        assert stepper.end_epoch(1.0, 1.0) == pytest.approx(expected[epoch - 1], rel=1e-12)


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf")])
def test_from_a_bad_loss_on_no_step_is_taken_and_the_first_is_told(bad):
    model, plain = network(), network()
    stepper, expected = Stepper(model, Optimisation(lr=0.1)), Stepper(plain, Optimisation(lr=0.1))
    for loss in losses(plain, [1.0] * 2):
        expected(loss)
    for loss in losses(model, [1.0, 1.0, bad, 1.0, 1.0, NAN]):
        stepper(loss)
    assert same(copied(model), copied(plain))
    assert same(stepper.optimizer.state_dict()["state"], expected.optimizer.state_dict()["state"])
    with pytest.raises(NonFiniteLossError, match=rf"the training loss became {bad} in epoch 3; .*now 0\.1"):
        stepper.check("in epoch 3")


def test_of_several_networks_the_damaged_one_is_suspected():
    guard, models = LossGuard(), [network(), network()]
    steppers = [
        Stepper(model, Optimisation(lr=lr), guard=guard, rate=rate)
        for model, lr, rate in zip(models, (0.1, 0.2), ("lr", "segmenter_lr"), strict=True)
    ]
    for stepper, model in zip(steppers, models, strict=True):
        for loss in losses(model, [1.0]):
            stepper(loss)
    check_together(steppers, "in epoch 1")
    with torch.no_grad():
        next(models[1].parameters()).fill_(NAN)
    for loss in losses(models[0], [NAN]):
        steppers[0](loss)
    first = next(name for name, _ in models[1].named_parameters())
    what = (
        rf"became nan in epoch 1; a step before it made '{first}' NaN .*training\.segmenter_lr \(now 0\.2\)"
    )
    with pytest.raises(NonFiniteLossError, match=what):
        check_together(steppers, "in epoch 1")


def test_a_state_continues_optimizer_and_schedule():
    whole, model = network(), network()
    uninterrupted, first = (
        Stepper(trained, Optimisation(lr=0.1, plateau=(0.5, 1))) for trained in (whole, model)
    )

    def step(stepper: Stepper, trained: nn.Module) -> None:
        for loss in losses(trained, [1.0] * 2):
            stepper(loss)

    for stepper, trained in ((uninterrupted, whole), (first, model)):
        step(stepper, trained)
        assert [stepper.end_epoch(score, 0.0) for score in (1.0, 1.0, 1.0)] == [0.1] * 3
    second = Stepper(model, Optimisation(lr=9.0, plateau=(0.5, 1)))
    second.restore(first.state())
    assert second.lr == 0.05
    step(uninterrupted, whole)
    step(second, model)
    assert same(copied(whole), copied(model))
