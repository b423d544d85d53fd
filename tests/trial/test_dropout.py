"""Networks with dropout: stopped or killed anywhere, a trial ends with the bytes of one that was not."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count

import pytest

from tests.studies import TINY
from tests.trial.conftest import GENERAL, PORTABLE, STAGES, Bench, Make, quick

pytestmark = pytest.mark.component

MODEL = {**TINY["model"], "name": "unet_dropout"}
FREEZE = {"part": "encoder", "unfreeze_after": {"bottleneck": 2}}
CHAIN = {**STAGES, "portable": {**STAGES["portable"], "adapt": {"freeze": FREEZE}}}


class Killed(BaseException):
    """Ends a trial at once; nothing is written after it but what `finally` writes."""


def killed_at(question: int) -> Callable[[], bool]:
    numbers = count(1)

    def ask() -> bool:
        if next(numbers) == question:
            raise Killed
        return False

    return ask


@pytest.fixture(scope="module")
def undisturbed(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    trials = bench_in(tmp_path_factory.mktemp("undisturbed"), model=MODEL, stages=CHAIN)
    for name in (GENERAL, PORTABLE):
        trials.run(name)
    return trials


@pytest.mark.parametrize("batches", [1, 4])
def test_stopped_and_resumed_equals_uninterrupted(undisturbed: Bench, bench: Make, batches: int) -> None:
    pieces = bench(model=MODEL, stages=CHAIN)
    for name in (GENERAL, PORTABLE):
        pieces.run_in_pieces(name, batches)
    assert pieces.records == undisturbed.records


@pytest.mark.parametrize("every_s", [0.0001, 0.05])
def test_killed_anywhere_equals_uninterrupted(undisturbed: Bench, bench: Make, every_s: float) -> None:
    """Also where the last checkpoint is some batches old, so that batches are trained again."""
    trials, draws = (
        bench(model=MODEL, stages=CHAIN, training=quick(checkpoint_every_s=every_s)),
        random.Random(1),
    )
    kills = 0
    for name in (GENERAL, PORTABLE):
        for _ in range(6):
            try:
                trials.run(name, stop=killed_at(draws.randint(1, 9)))
            except Killed:
                kills += 1
        trials.run(name)
    assert kills >= 8
    assert trials.records == undisturbed.records


def test_it_has_the_deep_features_of_its_levels(undisturbed: Bench) -> None:
    layers = undisturbed.features(PORTABLE)
    assert list(layers)[:5] == ["encoder1", "encoder2", "encoder3", "encoder4", "bottleneck"]
