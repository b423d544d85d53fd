"""A stop after training loses no training; a loss that is not finite keeps the last good state."""

from __future__ import annotations

import pytest

from tests.trial.conftest import GENERAL, Bench, Make, quick, stop_at
from xferlab.errors import InterruptedTrialError, NonFiniteLossError
from xferlab.records import reader
from xferlab.tasks.segmentation.resized import ResizedSegmentation


def test_a_stop_between_measured_cases_loses_no_training(whole: Bench, bench: Make) -> None:
    parts = bench()
    trained, second = parts.folder(GENERAL) / "history.jsonl", stop_at(2)
    num_cases = len(parts.plan.selections[parts[GENERAL].evaluations[0].selection].digests)
    with pytest.raises(InterruptedTrialError, match="stopped while it was evaluated; run the study again"):
        parts.run(GENERAL, stop=lambda: trained.exists() and second())
    assert not list(parts.folder(GENERAL).glob("evaluations/*"))
    parts.interrupt(GENERAL, stop_at(num_cases + 6 + 3))  # in the features of the best weights
    assert len(list(parts.folder(GENERAL).glob("evaluations/*/record.json"))) == 1
    assert not list(parts.folder(GENERAL).glob("features/*"))
    assert parts.epochs(GENERAL) == []
    assert parts.outcomes(GENERAL) == ["interrupted", "interrupted", "complete"]
    assert [attempt["first_epoch"] for attempt in parts.attempts(GENERAL)] == [1, 5, 5]
    assert parts.records.items() <= whole.records.items()


def test_a_loss_that_is_not_finite_is_reported_and_keeps_the_last_good_state(
    whole: Bench, bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, loss = bench(training=quick(checkpoint_every_s=0.0001)), ResizedSegmentation.loss
    epochs: list[object] = []
    with monkeypatch.context() as spoiled:
        spoiled.setattr(
            ResizedSegmentation, "loss",
            lambda self, *given: loss(self, *given) * (float("nan") if len(epochs) == 2 else 1.0),
        )  # fmt: skip
        with pytest.raises(NonFiniteLossError, match="in epoch 3"):
            trials.run(GENERAL, on_epoch=lambda result, best_loss: epochs.append(result))
    failure = reader.read_failure(trials.store, trials[GENERAL].trial_id)
    assert failure is not None
    assert (failure["type"], failure["kind"], failure["epoch"]) == ("NonFiniteLossError", "hopeless", 2)
    assert failure["traceback"].startswith("Traceback (most recent call last)")
    assert not (trials.folder(GENERAL) / "record.json").exists()
    assert trials.states(GENERAL)[-1].name.startswith(("state-000002", "state-000003"))
    trials.run(GENERAL)
    assert not (trials.folder(GENERAL) / "failure.json").exists()
    assert trials.outcomes(GENERAL) == ["failed", "complete"]
    failed, complete = trials.attempts(GENERAL)
    assert failed["failure"] == failure
    assert complete["first_epoch"] in (2, 3)
    assert trials.records.items() <= whole.records.items()
