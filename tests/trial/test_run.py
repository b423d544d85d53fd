"""The contract of a trial: return if complete, resume what is there, do only what is missing."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.studies import attempts, recorded
from tests.trial.conftest import STAGES, Bench, Make, quick
from xferlab.errors import InterruptedTrialError, NonFiniteLossError, RecordError, StorageError
from xferlab.records import layout, reader, writer
from xferlab.records.complete import is_complete
from xferlab.records.schema import EpochResult

pytestmark = pytest.mark.component

GENERAL, PORTABLE = "a/general/r01", "a/portable/r01"


def tries(bench: Bench, name: str) -> list[dict[str, Any]]:
    body: dict[str, Any] = json.loads((bench.folder(name) / "run.json").read_text())
    found: list[dict[str, Any]] = body["attempts"]
    return found


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


class Every:
    """A stop request after every so many batches."""

    def __init__(self, batches: int):
        self._batches, self._asked = batches, 0

    def __call__(self) -> bool:
        self._asked += 1
        return self._asked % self._batches == 0


def test_what_was_measured_with_other_weights_is_measured_again(bench: Make) -> None:
    """Lost weights come back with other bits where another device trains them."""
    trials = bench()
    trials.run(GENERAL)
    store, spec, whole = trials.session.store, trials[GENERAL], recorded(trials.folder(GENERAL))
    asked = spec.evaluations[0].evaluation_id
    record, cases = reader.read_evaluation(store, spec.trial_id, asked), b"what other weights gave"
    assert record is not None
    other = replace(record, weights_sha256="0" * 64, cases_sha256=hashlib.sha256(cases).hexdigest())
    outputs = store.read(layout.TrialFiles(spec.trial_id).evaluation(asked).outputs)
    writer.write_evaluation(store, other, cases=cases, outputs=outputs or b"")
    assert not is_complete(store, spec)
    trials.run(GENERAL)
    assert recorded(trials.folder(GENERAL)) == whole


def test_a_complete_trial_is_returned_at_once(bench: Make) -> None:
    trials = bench()
    first = trials.run(GENERAL)
    before = stamps(trials.folder(GENERAL))
    assert trials.run(GENERAL, stop=lambda: True) == first
    assert stamps(trials.folder(GENERAL)) == before


def test_a_finished_trial_leaves_what_is_promised(bench: Make) -> None:
    trials = bench()
    record = trials.run(GENERAL)
    folder = trials.folder(GENERAL)
    spec = trials[GENERAL]
    assert is_complete(trials.session.store, spec)
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
    assert record.num_epochs == len(reader.read_history(trials.session.store, spec.trial_id)) == 4
    assert record.best_score == min(
        one.values["validation_loss"] for one in reader.read_history(trials.session.store, spec.trial_id)
    )
    run = reader.read_run(trials.session.store, spec.trial_id)
    assert run["total_s"] > 0
    assert 0.05 < run["memory_peak_gib"] < 64
    assert run["host"] == socket.gethostname()
    assert run["device"] == "cpu"
    assert set(run["network_ms_per_image"]) == {"mean", "sd", "n"}
    assert {"python", "torch", "xferlab"} <= set(run["versions"])
    (only,) = run["attempts"]
    assert (only["outcome"], only["first_epoch"], only["last_epoch"]) == ("complete", 1, 4)
    assert (only["host"], only["pid"]) == (socket.gethostname(), os.getpid())
    assert only["started"] <= only["ended"]


@pytest.mark.parametrize("batches", [1, 3, 7])
def test_stopped_and_resumed_equals_uninterrupted(bench: Make, tmp_path: Path, batches: int) -> None:
    whole, parts = bench(storage="whole"), bench(storage="parts")
    for name in (GENERAL, PORTABLE):
        whole.run(name)
        stops = 0
        while True:
            trained = len(reader.read_history(parts.session.store, parts[name].trial_id)) == 4
            try:
                parts.run(name, stop=Every(10**6 if trained else batches))
            except InterruptedTrialError:
                stops += 1
                assert len(list((parts.folder(name) / "checkpoint").glob("state-*"))) <= 2
            else:
                break
        assert stops >= 1
        assert [one["outcome"] for one in tries(parts, name)] == ["interrupted"] * stops + ["complete"]
        assert not list((parts.folder(name) / "checkpoint").glob("*state-*"))
    assert recorded(tmp_path / "parts") == recorded(tmp_path / "whole")


def test_a_stop_leaves_no_failure_and_the_best_loss_counts_all_epochs(bench: Make) -> None:
    trials = bench()
    losses: list[float] = []
    told: list[float] = []

    def note(result: EpochResult, best_score: float | None) -> None:
        losses.append(result.values["validation_loss"])
        told.append(best_score)

    with pytest.raises(InterruptedTrialError, match=f"^{GENERAL}: stopped in epoch 3; run the study again"):
        trials.run(GENERAL, on_epoch=note, stop=lambda: len(losses) == 2)
    assert not (trials.folder(GENERAL) / "failure.json").exists()
    trials.run(GENERAL, on_epoch=note)
    assert told == [min(losses[: number + 1]) for number in range(4)]


def test_another_evaluation_trains_nothing(bench: Make, tmp_path: Path) -> None:
    trials = bench()
    trials.run(GENERAL)
    before = stamps(trials.folder(GENERAL))
    more = bench(
        stages={
            **STAGES,
            "general": {**STAGES["general"], "evaluate_on": ["general.test", "portable.hold_out"]},
        }
    )
    assert more[GENERAL].trial_id == trials[GENERAL].trial_id
    assert not is_complete(more.session.store, more[GENERAL])
    epochs: list[int] = []
    more.run(GENERAL, on_epoch=lambda result, best_score: epochs.append(result.epoch))
    assert epochs == []
    assert is_complete(more.session.store, more[GENERAL])
    after = stamps(more.folder(GENERAL))
    changed = {Path(path).name for path in before if after[path] != before[path]}
    assert changed <= {"spec.json", "run.json", "evaluations", more.folder(GENERAL).name}
    assert len(list(more.folder(GENERAL).glob("evaluations/*/record.json"))) == 2
    run = reader.read_run(more.session.store, more[GENERAL].trial_id)
    assert [one["outcome"] for one in run["attempts"]] == ["complete", "complete"]
    assert run["memory_peak_gib"] > 0
    fresh = bench(storage="fresh", stages=STAGES)
    fresh.run(GENERAL)
    assert recorded(tmp_path / "fresh").items() <= recorded(tmp_path / "results").items()


@pytest.mark.parametrize("spoil", [b"", b"torn", None])
def test_a_corrupt_checkpoint_falls_back_to_the_one_before(
    bench: Make, tmp_path: Path, spoil: bytes | None
) -> None:
    whole, parts = bench(storage="whole"), bench(storage="parts", training=quick(checkpoint_every_s=0.0001))
    whole.run(GENERAL)
    with pytest.raises(InterruptedTrialError):
        parts.run(GENERAL, stop=Every(6))
    _, latest = sorted((parts.folder(GENERAL) / "checkpoint").glob("state-*"))
    data = bytearray(latest.read_bytes())
    data[-1] ^= 1
    latest.write_bytes(bytes(data) if spoil is None else spoil)
    parts.run(GENERAL)
    assert recorded(tmp_path / "parts") == recorded(tmp_path / "whole")


def test_what_a_killed_writer_left_is_removed(bench: Make) -> None:
    trials = bench()
    folder = trials.folder(GENERAL) / "checkpoint"
    folder.mkdir(parents=True)
    (folder / ".state-000001-000002.pt.77.ab.tmp").write_bytes(b"half")
    trials.run(GENERAL)
    assert [path.name for path in folder.iterdir()] == ["best.safetensors"]


def test_an_infinite_loss_is_told_before_the_step(bench: Make) -> None:
    trials = bench(training=quick(lr=1e30))
    with pytest.raises(NonFiniteLossError, match=r"Most often training\.lr \(now 1e\+30\) is too high"):
        trials.run(GENERAL)
    failure = reader.read_failure(trials.session.store, trials[GENERAL].trial_id)
    assert failure is not None
    assert set(failure) == {
        "type", "kind", "message", "traceback", "signal", "memory_peak_gib", "host", "pid", "epoch", "when",
    }  # fmt: skip
    assert (failure["type"], failure["kind"]) == ("NonFiniteLossError", "hopeless")
    assert "the weights are finite, and the network's output is not" in failure["message"]
    assert failure["traceback"].startswith("Traceback (most recent call last)")
    assert failure["epoch"] == 0
    (only,) = tries(trials, GENERAL)
    assert (only["outcome"], only["failure"]["type"]) == ("failed", "NonFiniteLossError")
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
    first, second = tries(trials, GENERAL)
    assert (first["outcome"], second["outcome"]) == ("failed", "complete")
    assert "cannot be written" in first["failure"]["message"]


def test_an_attempt_without_an_end_was_killed(bench: Make) -> None:
    trials = bench()
    with pytest.raises(InterruptedTrialError):
        trials.run(GENERAL, stop=Every(3))
    from xferlab.trial.attempt import Attempt

    Attempt(trials.session.store, trials[GENERAL].trial_id).begin(1)
    trials.run(GENERAL)
    assert [one["outcome"] for one in tries(trials, GENERAL)] == ["interrupted", "killed", "complete"]


def test_a_child_needs_its_parent(bench: Make) -> None:
    trials = bench()
    with pytest.raises(RecordError, match=f"^{PORTABLE}: a parent is not complete; run the study again$"):
        trials.run(PORTABLE)


def test_a_child_refuses_altered_weights_of_its_parent(bench: Make) -> None:
    trials = bench()
    trials.run(GENERAL)
    weights = trials.folder(GENERAL) / "checkpoint/best.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(RecordError, match=r"best\.safetensors: is altered .* and is now .*; run the study"):
        trials.run(PORTABLE)
    (aside,) = (trials.folder(GENERAL) / "checkpoint").iterdir()
    assert aside.read_bytes() == data
    trials.run(GENERAL)
    trials.run(PORTABLE)


def test_a_trial_whose_weights_are_gone_is_trained_again_to_the_same(bench: Make, tmp_path: Path) -> None:
    trials = bench()
    trials.run(GENERAL)
    before = recorded(tmp_path / "results")
    (trials.folder(GENERAL) / "checkpoint/best.safetensors").unlink()
    trials.run(GENERAL)
    assert recorded(tmp_path / "results") == before
    assert len(tries(trials, GENERAL)) == 2


def test_a_lost_selection_is_told(bench: Make) -> None:
    trials = bench()
    (Path(trials.session.store.root) / "selections" / f"{trials[GENERAL].selection}.json").unlink()
    with pytest.raises(RecordError, match=r"selections/.*\.json: is missing; run the study again"):
        trials.run(GENERAL)


def test_the_best_parent_feeds_all_children(bench: Make) -> None:
    stages = {**STAGES, "portable": {**STAGES["portable"], "chaining": "best"}}
    trials = bench(stages=stages)
    parents = [trials.run(f"a/general/r0{number}") for number in (1, 2)]
    best = min(parents, key=lambda record: record.best_score)
    assert parents[0].best_score != parents[1].best_score
    for number in (1, 2):
        child = trials.run(f"a/portable/r0{number}")
        assert child.started_from == best.trial_id
    assert set(trials["a/portable/r01"].parents) == {record.trial_id for record in parents}
    assert len(attempts(Path(trials.session.store.root))) == 4


def test_an_attempt_that_died_before_its_record_did_not_complete(bench: Make) -> None:
    trials = bench()
    trials.run(GENERAL)
    record = trials.folder(GENERAL) / "record.json"
    record.unlink()
    trials.run(GENERAL)
    assert [one["outcome"] for one in tries(trials, GENERAL)] == ["killed", "complete"]
