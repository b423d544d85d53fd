"""The contract of a trial: return if complete, resume what is there, do what is missing; stops lose none."""

from __future__ import annotations

import gc
import importlib
import os
import socket
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trial.conftest import GENERAL, PORTABLE, STAGES, Bench, Make, quick, stop_at
from xferlab.errors import InterruptedTrialError, NonFiniteLossError, RecordError
from xferlab.records import layout, reader, writer
from xferlab.records.complete import is_complete
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.tasks.segmentation.resized import ResizedSegmentation
from xferlab.trial.attempt import Attempt


def modified(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_what_was_measured_with_other_weights_is_measured_again(whole: Bench, copied: Make) -> None:
    """Lost weights come back with other bits where another device trains them."""
    trials = copied()
    store, spec = trials.store, trials[GENERAL]
    evaluation_id = spec.evaluations[0].evaluation_id
    record, cases = reader.read_evaluation(store, spec.trial_id, evaluation_id), b"what other weights gave"
    assert record is not None
    outputs = store.read(record.files.table("outputs"))
    other = replace(record, weights_sha256="0" * 64)
    writer.write_measurement(store, other, {"cases": cases, "outputs": outputs or b""})
    assert not is_complete(store, spec)
    trials.run(GENERAL)
    assert trials.records == whole.records


def test_a_complete_trial_is_returned_at_once_with_all_that_is_promised(copied: Make) -> None:
    trials = copied()
    folder, spec = trials.folder(GENERAL), trials[GENERAL]
    assert is_complete(trials.store, spec)
    assert spec.features is not None
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "checkpoint/best.safetensors",
        *(
            f"evaluations/{spec.evaluations[0].evaluation_id}/{name}"
            for name in ("cases.parquet", "outputs.parquet", "pictures.parquet", "record.json")
        ),
        *(f"features/{spec.features.features_id}/{name}" for name in ("features.parquet", "record.json")),
        "history.jsonl",
        *(f"logs/{path.name}" for path in folder.glob("logs/*")),
        "record.json",
        "run.json",
        "spec.json",
    ]
    before = modified(folder)
    record = trials.run(GENERAL, stop=lambda: True)
    assert modified(folder) == before
    history = reader.read_history(trials.store, spec.trial_id)
    assert record.num_epochs == len(history) == 4
    assert record.best_score == min(result.values["validation_loss"] for result in history)
    run = reader.read_run(trials.store, spec.trial_id)
    assert run["total_s"] > 0
    assert 0.05 < run["memory_peak_gib"] < 64
    assert (run["host"], run["device"]) == (socket.gethostname(), "cpu")
    assert set(run["network_ms_per_image"]) == {"mean", "sd", "n"}
    assert {"python", "torch", "xferlab"} <= set(run["versions"])
    (attempt,) = run["attempts"]
    assert (attempt["outcome"], attempt["first_epoch"], attempt["last_epoch"]) == ("complete", 1, 4)
    assert (attempt["host"], attempt["pid"]) == (socket.gethostname(), os.getpid())
    assert attempt["started"] <= attempt["ended"]


@pytest.mark.parametrize("batches", [1, 3, 7])
def test_stopped_and_resumed_equals_uninterrupted(whole: Bench, bench: Make, batches: int) -> None:
    parts = bench()
    for name in (GENERAL, PORTABLE):
        torn = parts.weights(name).with_name(".state-000001-000002.pt.77.ab.tmp")  # of a killed writer
        torn.parent.mkdir(parents=True)
        torn.write_bytes(b"half")
        parts.run_in_pieces(name, batches)
        assert list(torn.parent.iterdir()) == [parts.weights(name)]
    assert parts.records == whole.records


def test_a_stop_leaves_no_failure_and_the_best_loss_counts_all_epochs(bench: Make) -> None:
    trials = bench()
    losses: list[float] = []
    reported: list[float | None] = []

    def note(result: EpochResult, best_score: float | None) -> None:
        losses.append(result.values["validation_loss"])
        reported.append(best_score)

    with pytest.raises(InterruptedTrialError, match=f"^{GENERAL}: stopped in epoch 3; run the study again"):
        trials.run(GENERAL, on_epoch=note, stop=lambda: len(losses) == 2)
    assert not (trials.folder(GENERAL) / "failure.json").exists()
    trials.run(GENERAL, on_epoch=note)
    assert reported == [min(losses[: number + 1]) for number in range(4)]


def test_another_evaluation_trains_nothing(whole: Bench, copied: Make) -> None:
    evaluated = {**STAGES["general"], "evaluate_on": ["general.test", "portable.hold_out"]}
    more = copied(stages={**STAGES, "general": evaluated})
    before = modified(more.folder(GENERAL))
    assert more[GENERAL].trial_id == whole[GENERAL].trial_id
    assert not is_complete(more.store, more[GENERAL])
    assert more.epochs(GENERAL) == []
    assert is_complete(more.store, more[GENERAL])
    after = modified(more.folder(GENERAL))
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert changed <= {"spec.json", "run.json", "logs", "evaluations", more.folder(GENERAL).name}
    assert len(list(more.folder(GENERAL).glob("evaluations/*/record.json"))) == 2
    assert more.outcomes(GENERAL) == ["complete", "complete"]
    assert reader.read_run(more.store, more[GENERAL].trial_id)["memory_peak_gib"] > 0
    assert whole.records.items() <= more.records.items()


def test_an_attempt_without_an_end_was_killed_also_one_that_died_before_its_record(
    whole: Bench, copied: Make
) -> None:
    trials = copied()
    (trials.folder(GENERAL) / "record.json").unlink()
    Attempt(trials.store, trials[GENERAL].trial_id).begin(1)
    trials.run(GENERAL)
    assert trials.outcomes(GENERAL) == ["killed", "killed", "complete"]
    assert trials.records == whole.records
    (trials.folder(GENERAL) / "checkpoint/best.safetensors").unlink()
    trials.run(GENERAL)
    assert trials.outcomes(GENERAL) == ["killed", "killed", "lost", "complete"]


def test_a_parent_and_a_selection_must_be_there(bench: Make) -> None:
    trials = bench()
    with pytest.raises(RecordError, match=f"^{PORTABLE}: a parent is not complete; run the study again$"):
        trials.run(PORTABLE)
    Path(trials.store.path(layout.selection_path(trials[GENERAL].selection))).unlink()
    with pytest.raises(RecordError, match=r"selections/.*\.json: is missing; run the study again"):
        trials.run(GENERAL)


def test_a_trial_leaves_nothing_for_the_garbage_collector(
    bench: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A circle of references would keep networks and images of every trial that a worker has run."""
    importlib.import_module("torch._dynamo")  # from Python 3.12 on, its import leaves a circle of its own
    trials, left, made = bench(), [], registry.learner_of

    def learner_of(*arguments: Any, **options: Any) -> Any:
        learner = made(*arguments, **options)
        left.append(weakref.ref(learner))
        return learner

    monkeypatch.setattr(registry, "learner_of", learner_of)
    gc.collect()
    gc.disable()
    try:
        trials.run(GENERAL)
        assert [reference() for reference in left] == [None] * len(left)
        assert left
    finally:
        gc.enable()


def test_the_best_parent_feeds_all_children(copied: Make) -> None:
    trials = copied(stages={**STAGES, "portable": {**STAGES["portable"], "chaining": "best"}})
    first, second = (trials.run(f"a/general/r0{number}") for number in (1, 2))
    best = min(first, second, key=lambda record: record.best_score)
    assert first.best_score != second.best_score
    for number in (1, 2):
        assert trials.run(f"a/portable/r0{number}").started_from == best.trial_id
    assert set(trials[PORTABLE].parents) == {first.trial_id, second.trial_id}


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


def outcomes(store: Store) -> list[tuple[int, str]]:
    return [(attempt["pid"], attempt["outcome"]) for attempt in reader.read_run(store, "t")["attempts"]]


def test_a_process_that_was_replaced_keeps_the_log_of_its_successor(
    local: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getpid", lambda: 1)
    former = Attempt(local, "t")
    former.begin(1)
    monkeypatch.setattr("os.getpid", lambda: 2)
    latter = Attempt(local, "t")
    latter.begin(3)
    latter.complete(device="cpu")
    assert outcomes(local) == [(1, "killed"), (2, "complete")]

    former.failed(InterruptedTrialError("resumed and asked to stop"))
    assert outcomes(local) == [(1, "interrupted"), (2, "complete")]
    assert reader.read_run(local, "t")["device"] == "cpu"
