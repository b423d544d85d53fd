"""Cases are measured beside the network: the same records, the same failures, and nobody waits."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from itertools import count
from threading import Event
from typing import Any

import pytest

from tests.trial.conftest import GENERAL, Bench, Make
from xferlab.records import reader
from xferlab.tasks.segmentation.learner import SegmentationLearner


def unmeasured(copied: Make, cpu: int) -> Bench:
    """A complete trial that reserves some cores, and whose evaluation and pictures were lost."""
    trials = copied(resources={"cpu": cpu})
    shutil.rmtree(trials.folder(GENERAL) / "evaluations")
    return trials


@pytest.mark.parametrize("cpu", [2, 4])
def test_the_network_does_not_wait_for_metrics_and_records_are_the_same(
    whole: Bench, copied: Make, monkeypatch: pytest.MonkeyPatch, cpu: int
) -> None:
    second, batches = Event(), count(1)
    predict, measure = SegmentationLearner.predict, SegmentationLearner.measure

    def predicted(self: SegmentationLearner, batch: Any) -> Any:
        outputs = predict(self, batch)
        if next(batches) == 2:
            second.set()
        return outputs

    def measured(self: SegmentationLearner, *case: Any) -> Mapping[str, float]:
        assert second.wait(60), "the second batch waits for the metrics of the first"
        return measure(self, *case)

    monkeypatch.setattr(SegmentationLearner, "predict", predicted)
    monkeypatch.setattr(SegmentationLearner, "measure", measured)
    trials = unmeasured(copied, cpu)
    trials.run(GENERAL)
    assert trials.records == whole.records


@pytest.mark.parametrize("cpu", [1, 4])
def test_a_metric_that_fails_fails_the_trial_and_names_the_case(
    whole: Bench, copied: Make, monkeypatch: pytest.MonkeyPatch, cpu: int
) -> None:
    trials, measure = unmeasured(copied, cpu), SegmentationLearner.measure
    case = trials.plan.selections[trials[GENERAL].evaluations[0].selection].digests[2]

    def measured(self: SegmentationLearner, examples: Any, row: int, prediction: Any) -> Mapping[str, float]:
        if row == 2:
            raise ValueError("no such distance")
        return measure(self, examples, row, prediction)

    with monkeypatch.context() as failing:
        failing.setattr(SegmentationLearner, "measure", measured)
        with pytest.raises(ValueError, match=f"^no such distance\nwhile case {case} was measured$"):
            trials.run(GENERAL)
    failure = reader.read_failure(trials.store, trials[GENERAL].trial_id)
    assert failure is not None
    assert failure["type"] == "ValueError"
    assert failure["traceback"].endswith(f"\nwhile case {case} was measured\n")
    assert not list(trials.folder(GENERAL).glob("evaluations/*"))
    trials.run(GENERAL)
    assert trials.records == whole.records
