from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import nn

from xferlab.networks.build import build, initialise
from xferlab.networks.freezing import LEVELS, PARTS, freeze, frozen_modules
from xferlab.networks.translator import Translator


@dataclass(frozen=True)
class Freeze:
    """What a task's configuration says of freezing."""

    part: str
    unfreeze_after: int | Mapping[str, int] | None = None

    def thaws_after(self, level: str) -> int | None:
        after = self.unfreeze_after
        return after.get(level) if isinstance(after, Mapping) else after


ENCODER = {"encoder1", "encoder2", "encoder3", "encoder4", "bottleneck"}
DECODER = {f"{kind}{number}" for kind in ("upconv", "decoder") for number in (1, 2, 3, 4)}
LAYERS = Translator(depth=1, width=3)


def network(translator: Translator | None = None) -> nn.Module:
    model = build("unet", in_channels=1, out_channels=1, init_features=2, translator=translator)
    initialise(model, 1)
    return model


def trainable(model: nn.Module) -> set[str]:
    return {key.split(".")[0] for key, value in model.named_parameters() if value.requires_grad}


def training(model: nn.Module) -> set[str]:
    return {name for name, part in model.named_children() if part.training} - {"pool"}


# --- what is frozen when ---------------------------------------------------------------------------


def test_levels_are_all_modules_of_the_network_in_order():
    modules = [module for level in LEVELS.values() for module in level]
    deepest = build("fc_densenet56", in_channels=1, out_channels=1, growth=1)
    for model, others in ((network(), {"encoder5", "upconv5", "decoder5"}), (deepest, set())):
        parts = [name for name, part in model.named_children() if list(part.parameters())]
        assert [name for name in modules if name not in others] == parts
    assert set(modules) == ENCODER | DECODER | {"conv", "encoder5", "upconv5", "decoder5"}


ALL = ENCODER | DECODER | {"conv"}
GRADUAL = Freeze("donor", {"head": 0, "decoder1": 2, "bottleneck": 4})


@pytest.mark.parametrize(
    ("freeze", "frozen"),
    [
        (Freeze("encoder"), {1: ENCODER, 2: ENCODER, 1000: ENCODER}),
        (Freeze("donor"), {1: ALL, 2: ALL, 1000: ALL}),
        (Freeze("encoder", 3), {1: ENCODER, 3: ENCODER, 4: set(), 5: set()}),
        (
            GRADUAL,
            {
                1: ALL - {"conv"},
                2: ALL - {"conv"},
                3: ALL - {"conv", "decoder1", "upconv1"},
                99: ALL - {"conv", "decoder1", "upconv1", "bottleneck"},
            },
        ),
    ],
    ids=["encoder", "donor", "for three epochs", "level by level"],
)
def test_what_is_frozen_in_an_epoch(freeze, frozen):
    assert {epoch: frozen_modules(freeze, epoch) & ALL for epoch in frozen} == frozen


@pytest.mark.parametrize("after", [None, 1, 4, {"encoder1": 2, "bottleneck": 0}])
def test_what_trains_once_trains_on(after):
    for part in PARTS:
        frozen = [frozen_modules(Freeze(part, after), epoch) for epoch in range(1, 8)]
        assert all(later <= earlier for earlier, later in pairwise(frozen))


# --- applied to a network --------------------------------------------------------------------------


@pytest.mark.parametrize("translator", [None, LAYERS])
def test_frozen_parts_have_no_gradient_and_fixed_statistics_the_others_both(translator):
    model = network(translator).train()
    new = {"translator"} if translator else set()
    freeze(model, Freeze("encoder"), epoch=1)
    assert trainable(model) == training(model) == DECODER | {"conv"} | new
    assert model.training
    freeze(model.train(), Freeze("encoder", 4), epoch=5)
    assert trainable(model) == training(model) == ENCODER | DECODER | {"conv"} | new


def test_thawing_gives_back_gradients_and_statistics():
    model, gradual = network(LAYERS), Freeze("donor", {"decoder1": 1})
    freeze(model.train(), gradual, epoch=1)
    assert trainable(model) == training(model) == {"translator"}
    freeze(model.eval(), gradual, epoch=2)
    assert trainable(model) == training(model) == {"translator", "decoder1", "upconv1"}


def seen_by_autograd(model: nn.Module, part: str) -> list[bool]:
    """Whether the input of a part is the output of something that autograd follows."""
    followed: list[bool] = []
    handle = getattr(model, part).register_forward_pre_hook(
        lambda _, inputs: followed.append(inputs[0].grad_fn is not None)
    )
    model(torch.randn(2, 1, 32, 32)).sum().backward()
    handle.remove()
    return followed


def test_the_backward_pass_ends_where_what_is_frozen_begins():
    model = network(LAYERS).train()
    assert seen_by_autograd(model, "translator") == [True]
    freeze(model, Freeze("donor"), epoch=1)
    assert seen_by_autograd(model, "translator") == [False]
    model = network().train()
    freeze(model, Freeze("encoder"), epoch=1)
    assert seen_by_autograd(model, "upconv4") == [False]
    assert seen_by_autograd(model, "decoder4") == [True]


def test_gradual_thawing_needs_no_translator_if_a_level_trains_from_the_start():
    model = network().train()
    freeze(model, Freeze("donor", {"head": 0, "decoder1": 1}), epoch=1)
    assert trainable(model) == {"conv"}
