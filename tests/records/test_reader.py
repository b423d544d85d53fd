from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.identities import trial_spec
from xferlab.errors import RecordError
from xferlab.plan.spec import EvaluationSpec
from xferlab.records import codec, layout, reader, writer
from xferlab.records.complete import complete_trials, is_complete, is_measured
from xferlab.records.schema import (
    CASES_SCHEMA,
    EpochResult,
    EvaluationRecord,
    TrialRecord,
    history_sha256,
)
from xferlab.records.store import Store

TRIAL = TrialRecord(
    trial_id="0123456789abcdef",
    identity={"seed": 1, "parent": {"trials": ["aa"]}},
    num_epochs=3,
    best_epoch=2,
    best_score=0.25,
    stopped_by="max_epochs",
    num_parameters=10,
    num_train=6,
    num_validation=2,
    started_from=None,
    weights_sha256="0" * 64,
    weights_bytes=4,
    history_sha256="1" * 64,
)
SPEC = trial_spec(
    TRIAL.trial_id, evaluations=(EvaluationSpec("e" * 16, "cxr", "test", "3" * 64, overlay_cases=4),)
)


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def epoch(number: int, *, train_loss: float | None = None, **times: float) -> EpochResult:
    loss = 0.1 + 0.2 / 3
    values = {"train_loss": train_loss or 0.5 / number, "validation_loss": loss, "lr": 1e-3}
    return EpochResult(number, values, loss, number < 3, **{"train_s": 1.5, "validation_s": 0.5, **times})


def write_trial(store: Store) -> None:
    store.write(layout.TrialFiles(TRIAL.trial_id).weights, b"1234")
    writer.write_trial(store, TRIAL)


def write_evaluation(store: Store, evaluation_id: str = "e" * 16) -> EvaluationRecord:
    cases = writer.table(CASES_SCHEMA, {name: [] for name in CASES_SCHEMA.names})
    outputs = writer.outputs_table([])
    digests = {"cases_sha256": hashlib.sha256(cases).hexdigest()}
    digests["outputs_sha256"] = hashlib.sha256(outputs).hexdigest()
    record = EvaluationRecord(
        evaluation_id,
        TRIAL.trial_id,
        "3" * 64,
        num_cases=0,
        metrics_version=1,
        weights_sha256=TRIAL.weights_sha256,
        **digests,
    )
    writer.write_evaluation(store, record, cases=cases, outputs=outputs)
    return record


# --- records -----------------------------------------------------------------------------------------------


def test_records_survive_json() -> None:
    evaluation = EvaluationRecord("e", "t", "s", 3, 1, "a", "b", "c")
    assert TrialRecord.from_json(json.loads(json.dumps(TRIAL.to_json()))) == TRIAL
    assert EvaluationRecord.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation
    assert EpochResult(**json.loads(json.dumps(epoch(1).to_json()))) == epoch(1)


def test_what_is_written_is_read(store: Store) -> None:
    write_trial(store)
    assert reader.read_trial(store, TRIAL.trial_id) == TRIAL
    record = write_evaluation(store)
    assert reader.read_evaluation(store, TRIAL.trial_id, "e" * 16) == record
    assert reader.read_cases(store, record).schema.equals(CASES_SCHEMA)
    assert reader.read_outputs(store, record) == []


def test_a_record_is_a_function_of_its_values(tmp_path: Path) -> None:
    stores = [Store.open(tmp_path / name) for name in ("a", "b")]
    for store in stores:
        write_trial(store)
        write_evaluation(store)
    for name in (
        layout.TrialFiles(TRIAL.trial_id).record,
        layout.TrialFiles(TRIAL.trial_id).evaluation("e" * 16).cases,
    ):
        assert stores[0].read(name) == stores[1].read(name) is not None


def test_a_trial_without_record_weights_or_seal_is_not_complete(local: Store) -> None:
    assert reader.read_trial(local, TRIAL.trial_id) is None
    writer.write_trial(local, TRIAL)
    assert reader.read_trial(local, TRIAL.trial_id) is None  # no weights
    local.write(layout.TrialFiles(TRIAL.trial_id).weights, b"123")
    assert reader.read_trial(local, TRIAL.trial_id) is None  # torn weights
    local.write(layout.TrialFiles(TRIAL.trial_id).weights, b"1234")
    assert reader.read_trial(local, TRIAL.trial_id) == TRIAL
    name = layout.TrialFiles(TRIAL.trial_id).record
    data = local.read(name)
    assert data is not None
    local.write(name, data.replace(b'"best_epoch":2', b'"best_epoch":3'))
    assert reader.read_trial(local, TRIAL.trial_id) is None


def test_a_record_in_the_folder_of_another_is_not_its_record(local: Store) -> None:
    write_trial(local)
    other = "f" * 16
    for name in ("record", "weights"):
        content = local.read(getattr(layout.TrialFiles(TRIAL.trial_id), name))
        local.write(getattr(layout.TrialFiles(other), name), content or b"")
    assert reader.read_trial(local, other) is None
    write_evaluation(local)
    moved = local.read(layout.TrialFiles(TRIAL.trial_id).evaluation("e" * 16).record)
    local.write(layout.TrialFiles(TRIAL.trial_id).evaluation("d" * 16).record, moved or b"")
    assert reader.read_evaluation(local, TRIAL.trial_id, "d" * 16) is None


def test_a_record_of_another_version_is_told_and_not_run_again(local: Store) -> None:
    write_trial(local)
    newer = {**TRIAL.to_json(), "version": 3, "new": 1}
    codec.write_json(local, layout.TrialFiles(TRIAL.trial_id).record, newer)
    told = r"/record\.json: this record has version 3, and this xferlab reads version 2; use"
    with pytest.raises(RecordError, match=told):
        reader.read_trial(local, TRIAL.trial_id)
    with pytest.raises(RecordError, match=r"/record\.json: has version 3, and this xferlab writes 2; use"):
        writer.write_trial(local, TRIAL)
    assert codec.read_json(local, layout.TrialFiles(TRIAL.trial_id).record) == newer
    record = write_evaluation(local)
    name = layout.TrialFiles(TRIAL.trial_id).evaluation("e" * 16).record
    local.write(name, codec.json_bytes({**record.to_json(), "version": 0}))
    with pytest.raises(RecordError, match=r"this record has version 0"):
        reader.read_evaluation(local, TRIAL.trial_id, "e" * 16)


@pytest.mark.parametrize("body", [{"version": 2, "attempts": []}, {"type": "E", "message": ""}, {}])
def test_a_whole_file_of_another_kind_is_no_record(local: Store, body: dict[str, object]) -> None:
    write_trial(local)
    write_evaluation(local)
    local.write(layout.TrialFiles(TRIAL.trial_id).record, codec.json_bytes(body))
    local.write(layout.TrialFiles(TRIAL.trial_id).evaluation("e" * 16).record, codec.json_bytes(body))
    assert reader.read_trial(local, TRIAL.trial_id) is None
    assert reader.read_evaluation(local, TRIAL.trial_id, "e" * 16) is None


def test_complete_means_that_all_records_verify(store: Store) -> None:
    assert not is_complete(store, SPEC)
    assert complete_trials(store, "s", [SPEC]) == {}
    write_trial(store)
    assert not is_measured(store, SPEC, TRIAL.weights_sha256)
    write_evaluation(store)
    assert not is_complete(store, SPEC)
    codec.write_json(store, layout.TrialFiles(SPEC.trial_id).spec, SPEC.to_json())
    assert is_complete(store, SPEC)
    other = replace(SPEC, trial_id="f" * 16)
    assert set(complete_trials(store, "s", [SPEC, other])) == {TRIAL.trial_id}
    more = replace(
        SPEC, evaluations=(*SPEC.evaluations, replace(SPEC.evaluations[0], evaluation_id="d" * 16))
    )
    assert not is_complete(store, more)


# --- plan, run, failure ------------------------------------------------------------------------------------


def test_the_plan_of_a_study_is_read_or_told(store: Store) -> None:
    codec.write_json(store, layout.StudyFiles("here").plan, {"version": 2, "study": "here"})
    assert reader.read_plan(store, "here")["study"] == "here"
    store.write("studies/there/lease", b"")  # of a run that was refused before it planned
    with pytest.raises(RecordError, match=r"no plan of study 'there' \(studies here: here\)"):
        reader.read_plan(store, "there")
    codec.write_json(store, layout.StudyFiles("here").plan, {"version": 9})
    with pytest.raises(RecordError, match="'here' has version 9, and this xferlab reads 2"):
        reader.read_plan(store, "here")


def test_facts_of_a_run_are_optional(local: Store) -> None:
    assert reader.read_run(local, "t") == {}
    assert reader.read_failure(local, "t") is None
    writer.write_run(local, "t", {"total_s": 1.5})
    assert reader.read_run(local, "t") == {"total_s": 1.5}
    for path in (layout.TrialFiles("t").run, layout.TrialFiles("t").failure):
        local.write(path, b'{"total_s": 1.5')
    assert reader.read_run(local, "t") == {}
    assert reader.read_failure(local, "t") is None


# --- history -----------------------------------------------------------------------------------------------


def test_a_history_grows_by_a_line_an_epoch(store: Store) -> None:
    history = writer.HistoryFile(store, "t")
    assert reader.read_history(store, "t") == []
    for number in (1, 2, 3):
        history.append(epoch(number))
    history.finish()
    assert reader.read_history(store, "t") == [epoch(1), epoch(2), epoch(3)]
    assert (store.read(layout.TrialFiles("t").history) or b"").count(b"\n") == 3
    assert store.read(layout.TrialFiles("t").progress) is None


def test_progress_is_there_at_once_on_a_local_storage(local: Store) -> None:
    history = writer.HistoryFile(local, "t")
    for number in (1, 2):
        history.append(epoch(number))
        assert len(reader.read_history(local, "t")) == number


@pytest.mark.component
def test_on_an_object_store_progress_is_put_again_only_now_and_then(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = Store.open(s3_uri), 100.0
    monkeypatch.setattr(writer.time, "monotonic", lambda: now)
    history = writer.HistoryFile(store, "t")
    history.append(epoch(1))
    assert reader.read_history(store, "t") == []
    now += writer.REMOTE_HISTORY_EVERY_S
    history.append(epoch(2))
    assert [one.epoch for one in reader.read_history(store, "t")] == [1, 2]
    history.append(epoch(3))
    assert len(reader.read_history(store, "t")) == 2
    history.finish()
    assert len(reader.read_history(store, "t")) == 3


def test_resumed_progress_is_cut_to_what_the_checkpoint_vouches_for(store: Store) -> None:
    history = writer.HistoryFile(store, "t")
    for number in (1, 2, 3):
        history.append(epoch(number))
    resumed = writer.HistoryFile(store, "t", [epoch(1)])
    assert reader.read_history(store, "t") == [epoch(1)]
    resumed.append(epoch(2, train_loss=9.0))
    resumed.finish()
    assert [one.values["train_loss"] for one in reader.read_history(store, "t")] == [0.5, 9.0]


def test_a_late_execution_takes_nothing_from_a_whole_history(store: Store) -> None:
    """It may be killed at any moment, when the trial is complete already."""
    ahead = writer.HistoryFile(store, "t")
    for number in (1, 2, 3):
        ahead.append(epoch(number))
    ahead.finish()
    late = writer.HistoryFile(store, "t", [epoch(1)])
    late.append(epoch(2))
    assert reader.read_history(store, "t") == [epoch(1), epoch(2), epoch(3)]


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(local: Store) -> None:
    history = writer.HistoryFile(local, "t")
    for number in (1, 2, 3):
        history.append(epoch(number))
    path = Path(local.path(layout.TrialFiles("t").progress))
    data = path.read_bytes()
    last = data.rindex(b"\n", 0, -1) + 1
    for length in range(last, len(data) - 1):
        path.write_bytes(data[:length])
        assert reader.read_history(local, "t") == [epoch(1), epoch(2)]
    path.write_bytes(data[:-1])  # the line is whole, only its end is missing
    assert reader.read_history(local, "t") == [epoch(1), epoch(2), epoch(3)]
    path.write_bytes(data + b"\x00" * 40)  # what a crashed file system leaves
    assert reader.read_history(local, "t") == [epoch(1), epoch(2), epoch(3)]


@pytest.mark.parametrize("damage", [b'{"epoch": 2', b"[1, 2]", b"7", b'{"epoch": 2}', b"\xff\xfe", b""])
def test_a_damaged_line_in_the_middle_is_told_with_its_number(local: Store, damage: bytes) -> None:
    lines = [codec.json_bytes(epoch(number).to_json()) for number in (1, 2, 3)]
    local.write(layout.TrialFiles("t").history, b"".join([lines[0], damage + b"\n", lines[2]]))
    place = rf"history\.jsonl:2 \(byte {len(lines[0])}\): is damaged .*run the study again, which trains"
    with pytest.raises(RecordError, match=place):
        reader.read_history(local, "t")


def test_every_flipped_bit_of_a_history_is_told_or_drops_the_last_line(
    local: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A bit turns a digit into another, a line's end into none, a letter into a line's end."""
    history = writer.HistoryFile(local, "t")
    whole = [epoch(number) for number in (1, 2, 3)]
    for one in whole:
        history.append(one)
    path = Path(local.path(layout.TrialFiles("t").progress))
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :])
        try:
            found = reader.read_history(local, "t", sha256=history_sha256(whole))
        except RecordError as error:
            assert "progress.jsonl" in str(error)  # noqa: PT017
        else:
            assert found == whole  # white space only
    caplog.clear()
    path.write_bytes(data[:-1] + b"x")
    assert reader.read_history(local, "t") == whole[:2]
    start = data.rindex(b"\n", 0, -1) + 1
    assert f"progress.jsonl:3 (byte {start}): the last line is torn; left out" in caplog.text


def test_a_history_that_lacks_epochs_is_told_by_the_record(local: Store) -> None:
    history = writer.HistoryFile(local, "t")
    history.append(epoch(1))
    with pytest.raises(RecordError, match="its 1 epochs are not those of the record"):
        reader.read_history(local, "t", sha256=history_sha256([epoch(1), epoch(2)]))


def test_an_epoch_that_stands_twice_counts_once_and_the_later_one(local: Store) -> None:
    writer.HistoryFile(local, "t", [epoch(1), epoch(2), epoch(2, train_loss=7.0)])
    assert [one.values["train_loss"] for one in reader.read_history(local, "t")] == [0.5, 7.0]


def test_the_digest_of_a_history_leaves_times_out() -> None:
    digest = history_sha256([epoch(1), epoch(2)])
    assert history_sha256([epoch(1, train_s=99.0), epoch(2, validation_s=0.0)]) == digest
    assert history_sha256([epoch(1), epoch(2, train_loss=0.1)]) != digest
    assert history_sha256([epoch(2), epoch(1)]) != digest
