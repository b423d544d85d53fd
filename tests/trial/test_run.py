"""The contract of a trial: return if complete, resume what is there, do only what is missing."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.studies import attempts, recorded
from tests.trial.conftest import GENERAL, PORTABLE, STAGES, Make, quick, stop_at, stop_every
from xferlab.errors import InterruptedTrialError, NonFiniteLossError, RecordError, StorageError
from xferlab.records import reader, writer
from xferlab.records.complete import is_complete
from xferlab.records.schema import EpochResult
from xferlab.trial.attempt import Attempt

pytestmark = pytest.mark.component


def modified(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_what_was_measured_with_other_weights_is_measured_again(bench: Make) -> None:
    """Lost weights come back with other bits where another device trains them."""
    trials = bench()
    trials.run(GENERAL)
    store, spec, whole = trials.store, trials[GENERAL], recorded(trials.folder(GENERAL))
    evaluation_id = spec.evaluations[0].evaluation_id
    record, cases = reader.read_evaluation(store, spec.trial_id, evaluation_id), b"what other weights gave"
    assert record is not None
    outputs = store.read(record.files.table("outputs"))
    other = replace(record, weights_sha256="0" * 64)
    writer.write_measurement(store, other, {"cases": cases, "outputs": outputs or b""})
    assert not is_complete(store, spec)
    trials.run(GENERAL)
    assert recorded(trials.folder(GENERAL)) == whole


def test_a_complete_trial_is_returned_at_once_with_all_that_is_promised(bench: Make) -> None:
    trials = bench()
    record, folder, spec = trials.run(GENERAL), trials.folder(GENERAL), trials[GENERAL]
    assert is_complete(trials.store, spec)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "checkpoint/best.safetensors",
        *(
            f"evaluations/{spec.evaluations[0].evaluation_id}/{name}"
            for name in ("cases.parquet", "outputs.parquet", "record.json")
        ),
        "history.jsonl",
        "record.json",
        "run.json",
        "spec.json",
    ]
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
    before = modified(folder)
    assert trials.run(GENERAL, stop=lambda: True) == record
    assert modified(folder) == before


@pytest.mark.parametrize("batches", [1, 3, 7])
def test_stopped_and_resumed_equals_uninterrupted(bench: Make, tmp_path: Path, batches: int) -> None:
    whole, parts = bench(storage="whole"), bench(storage="parts")
    for name in (GENERAL, PORTABLE):
        whole.run(name)
        stops = 0
        while len(reader.read_history(parts.store, parts[name].trial_id)) < 4:
            parts.interrupt(name, stop_every(batches))
            stops += 1
            assert len(parts.states(name)) <= 2
        parts.run(name)
        assert parts.outcomes(name) == ["interrupted"] * stops + ["complete"]
        assert not parts.states(name)
    assert recorded(tmp_path / "parts") == recorded(tmp_path / "whole")


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


def test_another_evaluation_trains_nothing(bench: Make, tmp_path: Path) -> None:
    trials = bench()
    trials.run(GENERAL)
    before = modified(trials.folder(GENERAL))
    evaluated = {**STAGES["general"], "evaluate_on": ["general.test", "portable.hold_out"]}
    more = bench(stages={**STAGES, "general": evaluated})
    assert more[GENERAL].trial_id == trials[GENERAL].trial_id
    assert not is_complete(more.store, more[GENERAL])
    assert more.epochs(GENERAL) == []
    assert is_complete(more.store, more[GENERAL])
    after = modified(more.folder(GENERAL))
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert changed <= {"spec.json", "run.json", "evaluations", more.folder(GENERAL).name}
    assert len(list(more.folder(GENERAL).glob("evaluations/*/record.json"))) == 2
    assert more.outcomes(GENERAL) == ["complete", "complete"]
    assert reader.read_run(more.store, more[GENERAL].trial_id)["memory_peak_gib"] > 0
    bench(storage="fresh", stages=STAGES).run(GENERAL)
    assert recorded(tmp_path / "fresh").items() <= recorded(tmp_path / "results").items()


def test_what_a_killed_writer_left_is_removed(bench: Make) -> None:
    trials = bench()
    folder = trials.folder(GENERAL) / "checkpoint"
    folder.mkdir(parents=True)
    (folder / ".state-000001-000002.pt.77.ab.tmp").write_bytes(b"half")
    trials.run(GENERAL)
    assert [path.name for path in folder.iterdir()] == ["best.safetensors"]


def test_an_infinite_loss_is_reported_before_the_step(bench: Make) -> None:
    trials = bench(training=quick(lr=1e30))
    with pytest.raises(NonFiniteLossError, match=r"Most often training\.lr \(now 1e\+30\) is too high"):
        trials.run(GENERAL)
    failure = reader.read_failure(trials.store, trials[GENERAL].trial_id)
    assert failure is not None
    assert set(failure) == {
        "type", "kind", "message", "traceback", "signal", "memory_peak_gib", "host", "pid", "epoch", "when",
    }  # fmt: skip
    assert (failure["type"], failure["kind"], failure["epoch"]) == ("NonFiniteLossError", "hopeless", 0)
    assert "the weights are finite, and the network's output is not" in failure["message"]
    assert failure["traceback"].startswith("Traceback (most recent call last)")
    (attempt,) = trials.attempts(GENERAL)
    assert (attempt["outcome"], attempt["failure"]["type"]) == ("failed", "NonFiniteLossError")
    assert not (trials.folder(GENERAL) / "record.json").exists()


def test_a_failure_becomes_an_entry_when_a_retry_succeeds(bench: Make) -> None:
    trials = bench()
    obstacle = trials.folder(GENERAL) / "progress.jsonl"
    obstacle.mkdir(parents=True)
    with pytest.raises(StorageError, match=r"progress.jsonl: cannot be written"):
        trials.run(GENERAL)
    assert (trials.folder(GENERAL) / "failure.json").exists()
    obstacle.rmdir()
    trials.run(GENERAL)
    assert not (trials.folder(GENERAL) / "failure.json").exists()
    assert trials.outcomes(GENERAL) == ["failed", "complete"]
    assert "cannot be written" in trials.attempts(GENERAL)[0]["failure"]["message"]


def test_an_attempt_without_an_end_was_killed_also_one_that_died_before_its_record(bench: Make) -> None:
    trials = bench()
    trials.interrupt(GENERAL, stop_at(3))
    Attempt(trials.store, trials[GENERAL].trial_id).begin(1)
    trials.run(GENERAL)
    assert trials.outcomes(GENERAL) == ["interrupted", "killed", "complete"]
    (trials.folder(GENERAL) / "record.json").unlink()
    trials.run(GENERAL)
    assert trials.outcomes(GENERAL) == ["interrupted", "killed", "killed", "complete"]
    (trials.folder(GENERAL) / "checkpoint/best.safetensors").unlink()
    trials.run(GENERAL)
    assert trials.outcomes(GENERAL) == ["interrupted", "killed", "killed", "lost", "complete"]


def test_a_child_needs_its_parent(bench: Make) -> None:
    trials = bench()
    with pytest.raises(RecordError, match=f"^{PORTABLE}: a parent is not complete; run the study again$"):
        trials.run(PORTABLE)


def test_a_lost_selection_is_reported(bench: Make) -> None:
    trials = bench()
    (Path(trials.store.root) / "selections" / f"{trials[GENERAL].selection}.json").unlink()
    with pytest.raises(RecordError, match=r"selections/.*\.json: is missing; run the study again"):
        trials.run(GENERAL)


def test_the_best_parent_feeds_all_children(bench: Make) -> None:
    trials = bench(stages={**STAGES, "portable": {**STAGES["portable"], "chaining": "best"}})
    first, second = (trials.run(f"a/general/r0{number}") for number in (1, 2))
    best = min(first, second, key=lambda record: record.best_score)
    assert first.best_score != second.best_score
    for number in (1, 2):
        assert trials.run(f"a/portable/r0{number}").started_from == best.trial_id
    assert set(trials[PORTABLE].parents) == {first.trial_id, second.trial_id}
    assert len(attempts(Path(trials.store.root))) == 4
