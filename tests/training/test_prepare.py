"""Freezing inside the loop: bits of what is frozen, the epoch at which it thaws, resuming."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.test_strong import EXAMPLES
from xferlab.networks.build import build, initialise
from xferlab.networks.freezing import Freeze, apply
from xferlab.networks.translator import Translator
from xferlab.tasks.segmentation.resized import BinarySegmentation
from xferlab.training.augment import STRONG
from xferlab.training.loop import Recipe, Trainer

pytestmark = pytest.mark.component


class Stopped(Exception):  # noqa: N818
    pass


def network(*, translated: bool = True) -> nn.Module:
    layers = Translator(depth=1, width=3) if translated else None
    model = build("unet", in_channels=1, out_channels=1, init_features=2, translator=layers)
    initialise(model, 1)
    return model


def trainer(model: nn.Module, freeze: Freeze | None, *, epochs: int = 3) -> Trainer[Any, Any]:
    task = BinarySegmentation(in_channels=1, rotation=(10.0, 0.75), augmentation=STRONG)
    recipe = Recipe(seed=1, lr=1e-2, batch_size=4, max_epochs=epochs, patience=9, plateau=(0.1, 1))
    prepare: Callable[[nn.Module, int], None] | None = None
    if freeze is not None:

        def prepare(model: nn.Module, epoch: int) -> None:
            apply(model, freeze, epoch=epoch)

    return Trainer(model, task, recipe, prepare=prepare)


def copied(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in state.items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert list(before) == list(after)
    return {key.split(".")[0] for key in before if not before[key].equal(after[key])}


def by_epoch(model: nn.Module, freeze: Freeze | None, *, epochs: int = 3) -> list[set[str]]:
    """Names of the parts whose weights or statistics changed, epoch by epoch."""
    states = [copied(model.state_dict())]
    trainer(model, freeze, epochs=epochs).fit(
        EXAMPLES, EXAMPLES, after_epoch=lambda result: states.append(copied(model.state_dict()))
    )
    return [changed(one, other) for one, other in pairwise(states)]


ENCODER = {"encoder1", "encoder2", "encoder3", "encoder4", "bottleneck"}
DECODER = {f"{kind}{number}" for kind in ("upconv", "decoder") for number in (1, 2, 3, 4)}


def test_a_frozen_donor_has_the_same_bits_after_training():
    assert by_epoch(network(), Freeze("donor")) == [{"translator"}] * 3


def test_a_frozen_encoder_has_the_same_bits_after_training():
    assert by_epoch(network(translated=False), Freeze("encoder")) == [DECODER | {"conv"}] * 3


def test_nothing_frozen_all_changes():
    assert by_epoch(network(translated=False), None, epochs=1) == [ENCODER | DECODER | {"conv"}]


def test_what_thaws_changes_after_its_epoch_and_not_before():
    everything = ENCODER | DECODER | {"translator"}  # the donor's head has no part in the output
    assert by_epoch(network(), Freeze("donor", 2)) == [{"translator"}, {"translator"}, everything]
    gradual = Freeze("donor", {"decoder1": 1, "bottleneck": 2})
    first, second, third = by_epoch(network(), gradual)
    assert first == {"translator"}
    assert second == first | {"decoder1", "upconv1"}
    assert third == second | {"bottleneck"}


def test_prepare_is_told_of_each_epoch_in_training_mode():
    told: list[tuple[int, bool]] = []
    own = trainer(network(), None)
    own.prepare = lambda model, epoch: told.append((epoch, model.training))
    own.fit(EXAMPLES, EXAMPLES)
    assert told == [(1, True), (2, True), (3, True)]


def test_a_prepare_that_does_nothing_changes_no_bit():
    one, other = network(), network()
    trainer(one, None).fit(EXAMPLES, EXAMPLES)
    own = trainer(other, None)
    own.prepare = lambda model, epoch: None
    own.fit(EXAMPLES, EXAMPLES)
    assert not changed(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4, 6, 7])
def test_resumed_equals_uninterrupted_bit_for_bit(stop_after):
    """With three batches an epoch: within a frozen epoch, at its end, and after thawing."""
    freeze = Freeze("donor", {"decoder1": 1, "encoder2": 2})
    whole = trainer(network(), freeze)
    expected = whole.fit(EXAMPLES, EXAMPLES)

    first, stored, count = trainer(network(), freeze), io.BytesIO(), 0

    def stop() -> None:
        nonlocal count
        count += 1
        if count == stop_after:
            torch.save(first.state(), stored)
            raise Stopped

    with pytest.raises(Stopped):
        first.fit(EXAMPLES, EXAMPLES, after_batch=stop)
    stored.seek(0)
    second = trainer(network(), freeze)
    second.restore(torch.load(stored))
    found = second.fit(EXAMPLES, EXAMPLES)
    assert not changed(expected.weights, found.weights)
    assert not changed(whole.model.state_dict(), second.model.state_dict())
    assert [one.values["validation_loss"] for one in found.history] == [
        one.values["validation_loss"] for one in expected.history
    ]
    assert [one.values["train_loss"] for one in found.history] == [
        one.values["train_loss"] for one in expected.history
    ]


def test_adam_keeps_no_state_of_what_never_trained():
    own = trainer(network(), Freeze("donor"))
    own.fit(EXAMPLES, EXAMPLES)
    names = [name for name, _ in own.model.named_parameters()]
    kept = {names[index].split(".")[0] for index in own.optimizer.state_dict()["state"]}
    assert kept == {"translator"}


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_bits_hold_under_autocast_as_well(precision):
    model = network()
    before = copied(model.state_dict())
    own = trainer(model, Freeze("donor"), epochs=1)
    own.task = BinarySegmentation(in_channels=1, autocast=None if precision == torch.float32 else precision)
    own.fit(EXAMPLES, EXAMPLES)
    assert changed(before, model.state_dict()) == {"translator"}


def test_a_view_is_taken_whatever_its_truth():
    """A compiled network has no length, so `or` fails on it; an empty container is the like of it."""
    model, view = network(), nn.Sequential()
    recipe = Recipe(seed=1, lr=1e-2, batch_size=4, max_epochs=1, patience=9)
    assert Trainer(model, BinarySegmentation(in_channels=1), recipe, forward=view).forward is view
    assert Trainer(model, BinarySegmentation(in_channels=1), recipe).forward is model
