"""Freezing inside the loop: bits of what is frozen, the epoch at which it thaws, resuming."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.tasks.segmentation.learners import trainer
from tests.training.images import noisy, resized
from tests.training.learners import assert_resumes, copied, same
from xferlab.tasks.segmentation.sections import Freezing
from xferlab.training.loop import Trainer

EXAMPLES = resized(*noisy(8, 32))
LAYERS = {"translator": {"depth": 1, "width": 3}}
ENCODER = {"encoder1", "encoder2", "encoder3", "encoder4", "bottleneck"}
DECODER = {f"{kind}{number}" for kind in ("upconv", "decoder") for number in (1, 2, 3, 4)}
EVERYTHING = ENCODER | DECODER | {"translator"}  # the donor's head has no part in the output


def training(freeze: Any, *, translated: bool = True, epochs: int = 3, **changed: Any) -> Trainer[Any, Any]:
    return trainer(
        max_epochs=epochs, adapt={"freeze": freeze}, model=LAYERS if translated else None, batch_size=4,
        lr=1e-2, plateau={"patience": 1}, augmentation={"flip": 0.5, "noise": 0.05}, **changed,
    )  # fmt: skip


def changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    """Names of the parts whose weights or statistics differ."""
    assert list(before) == list(after)
    return {key.split(".")[0] for key in before if not before[key].equal(after[key])}


def by_epoch(trainer: Trainer[Any, Any]) -> list[set[str]]:
    """Names of the parts that changed, epoch by epoch."""
    network = trainer.learner.networks["network"]
    states = [copied(network)]
    trainer.fit(EXAMPLES, EXAMPLES, after_epoch=lambda result: states.append(copied(network)))
    return [changed(before, after) for before, after in pairwise(states)]


@pytest.mark.parametrize(
    ("freeze", "translated", "expected"),
    [
        ({"part": "donor"}, True, [{"translator"}] * 3),
        ({"part": "encoder"}, False, [DECODER | {"conv"}] * 3),
        (None, False, [ENCODER | DECODER | {"conv"}]),
        ({"part": "donor", "unfreeze_after": 2}, True, [{"translator"}, {"translator"}, EVERYTHING]),
        (
            {"part": "donor", "unfreeze_after": {"decoder1": 1, "bottleneck": 2}},
            True,
            [
                {"translator"},
                {"translator", "decoder1", "upconv1"},
                {"translator", "decoder1", "upconv1", "bottleneck"},
            ],
        ),
    ],
    ids=["donor", "encoder", "nothing", "thaws", "gradually"],
)
def test_what_rests_has_the_same_bits_until_it_thaws(freeze, translated, expected):
    assert by_epoch(training(freeze, translated=translated, epochs=len(expected))) == expected


def test_bits_hold_under_autocast_as_well():
    assert by_epoch(training({"part": "donor"}, epochs=1, precision="bfloat16")) == [{"translator"}]


def test_resumed_equals_uninterrupted_bit_for_bit():
    """Within a frozen epoch, at its end, and after thawing."""
    freeze = {"part": "donor", "unfreeze_after": {"decoder1": 1, "encoder2": 2}}
    assert_resumes(lambda: training(freeze), EXAMPLES, EXAMPLES)


def test_freezing_nothing_changes_no_bit():
    thawed = {"part": "encoder", "unfreeze_after": dict.fromkeys(ENCODER, 0)}
    plain, other = (training(freeze).fit(EXAMPLES, EXAMPLES).weights for freeze in (None, thawed))
    assert same(plain, other)


def test_adam_keeps_no_state_of_what_never_trained():
    trainer = training({"part": "donor"})
    trainer.fit(EXAMPLES, EXAMPLES)
    names = [name for name, _ in trainer.learner.networks["network"].named_parameters()]
    state = trainer.learner.state()["optimizer"]["state"]
    assert {names[index].split(".")[0] for index in state} == {"translator"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"part": "encodr"}, "Input should be 'donor' or 'encoder'"),
        ({"part": "encoder", "unfreeze_after": 0}, "greater than or equal to 1"),
        ({"part": "encoder", "unfreeze_after": {"decoder1": 2}}, r"'decoder1' is no level of the encoder"),
        ({"part": "donor", "unfreeze_after": {"decodr1": 2}}, "unfreeze_after.*decodr1"),
        ({"part": "donor", "unfreeze_after": {"head": -1}}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_frozen_is_refused(fields, message):
    with pytest.raises(ValidationError, match=f"(?s){message}"):
        Freezing(**fields)
