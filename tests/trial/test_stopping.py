"""A stop after training loses no training; a loss that is not finite keeps the last good state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.studies import recorded
from tests.trial.conftest import GENERAL, Make, quick, stop_at
from xferlab.errors import InterruptedTrialError, NonFiniteLossError
from xferlab.records import reader
from xferlab.tasks.segmentation.resized import BinarySegmentation

pytestmark = pytest.mark.component

FEATURES = {"on": "portable.hold_out", "cases": 6}


class StopAfterTraining:
    """A stop request at one question of those that follow the last epoch."""

    def __init__(self, question: int):
        self._question, self._epochs, self.asked = question, 0, 0

    def epoch(self, result: object, best_loss: float) -> None:
        self._epochs += 1

    def __call__(self) -> bool:
        self.asked += self._epochs == 4
        return self.asked == self._question


def test_a_stop_between_measured_cases_loses_no_training(bench: Make, tmp_path: Path) -> None:
    whole, parts = (bench(storage=name, features=FEATURES) for name in ("whole", "parts"))
    never = StopAfterTraining(-1)
    whole.run(GENERAL, stop=never, on_epoch=never.epoch)
    num_cases = len(whole.plan.selections[whole[GENERAL].evaluations[0].selection].digests)
    assert never.asked >= num_cases + 2 * 6  # features: of the start and of the best weights
    stop = StopAfterTraining(2)
    with pytest.raises(InterruptedTrialError, match="stopped while it was evaluated; run the study again"):
        parts.run(GENERAL, stop=stop, on_epoch=stop.epoch)
    assert not list(parts.folder(GENERAL).glob("evaluations/*"))
    parts.interrupt(GENERAL, stop_at(num_cases + 3))  # in the features
    assert len(list(parts.folder(GENERAL).glob("evaluations/*/record.json"))) == 1
    assert not list(parts.folder(GENERAL).glob("features/*"))
    assert parts.epochs(GENERAL) == []
    assert parts.outcomes(GENERAL) == ["interrupted", "interrupted", "complete"]
    assert [attempt["first_epoch"] for attempt in parts.attempts(GENERAL)] == [1, 5, 5]
    assert recorded(tmp_path / "parts") == recorded(tmp_path / "whole")


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(
    bench: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = bench(storage="whole"), bench(storage="parts", training=quick(checkpoint_every_s=0.0001))
    whole.run(GENERAL)
    loss = BinarySegmentation.loss
    with monkeypatch.context() as spoiled:
        epochs: list[Any] = []
        spoiled.setattr(
            BinarySegmentation, "loss",
            lambda self, *given: loss(self, *given) * (float("nan") if len(epochs) == 2 else 1.0),
        )  # fmt: skip
        with pytest.raises(NonFiniteLossError, match="in epoch 3"):
            parts.run(GENERAL, on_epoch=lambda result, best_loss: epochs.append(result))
    failure = reader.read_failure(parts.store, parts[GENERAL].trial_id)
    assert failure is not None
    assert (failure["kind"], failure["epoch"]) == ("hopeless", 2)
    assert parts.states(GENERAL)[-1].name.startswith(("state-000002", "state-000003"))
    parts.run(GENERAL)
    assert parts.outcomes(GENERAL) == ["failed", "complete"]
    assert parts.attempts(GENERAL)[1]["first_epoch"] in (2, 3)
    assert recorded(tmp_path / "parts") == recorded(tmp_path / "whole")
