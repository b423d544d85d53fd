"""Records, plans and histories: what is written is read, and what is damaged is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.identities import trial_spec
from tests.records.faults import Faults, faulty, onwards, without_pauses
from tests.records.stored import TRIAL, WEIGHTS, epoch, store_trial
from xferlab.errors import RecordError, StorageError
from xferlab.plan.spec import PLAN_VERSION, EvaluationSpec, FeaturesSpec
from xferlab.records import codec, layout, reader, writer
from xferlab.records.complete import complete_trials, is_complete, is_measured, lacks_features
from xferlab.records.schema import (
    CASES_SCHEMA,
    FEATURES_SCHEMA,
    EpochResult,
    TrialRecord,
    history_sha256,
)
from xferlab.records.store import Store

E, F = "e" * 16, "f" * 16
SPEC = trial_spec(
    TRIAL.trial_id,
    evaluations=(EvaluationSpec(E, "cxr", "test", "3" * 64, overlay_cases=4),),
    features=FeaturesSpec(F, "cxr", "3" * 64, "cxr"),
)
FILES = layout.TrialFiles(TRIAL.trial_id)
PARTS = MEASURED, EXTRACTED = FILES.evaluation(E), FILES.features(F)
TABLES = {MEASURED: "cases", EXTRACTED: "features"}
THREE = [epoch(1), epoch(2), epoch(3)]


# --- records -----------------------------------------------------------------------------------------------


def test_records_survive_json() -> None:
    assert TrialRecord.from_json(json.loads(json.dumps(TRIAL.to_json()))) == TRIAL
    assert EpochResult(**json.loads(json.dumps(epoch(1).to_json()))) == epoch(1)


def test_what_is_written_is_read_and_a_function_of_its_values(store: Store, tmp_path: Path) -> None:
    record = store_trial(store, SPEC)
    assert reader.read_trial(store, SPEC.trial_id) == record
    evaluation = reader.read_evaluation(store, SPEC.trial_id, E)
    features = reader.read_features_record(store, SPEC.trial_id, F)
    assert evaluation is not None
    assert features is not None
    assert evaluation.weights_sha256 == features.weights_sha256 == record.weights_sha256
    assert reader.read_cases(store, evaluation).schema.equals(CASES_SCHEMA)
    assert reader.read_outputs(store, evaluation) == []
    table = reader.read_features(store, features)
    assert table.schema.equals(FEATURES_SCHEMA)
    assert table.column("gram_best").to_pylist() == [[2.0, -2.0, -2.0, 2.0]]
    other = Store.open(tmp_path / "other")
    store_trial(other, SPEC)
    for name in (FILES.record, *(name for part in PARTS for name in (part.record, part.table(TABLES[part])))):
        assert store.read(name) == other.read(name) is not None


def test_a_late_execution_that_is_killed_takes_nothing_from_a_whole_trial(local: Store) -> None:
    store_trial(local, SPEC)
    faults = Faults(onwards(1), on=lambda operation, path: path.endswith("cases.parquet"))
    with without_pauses(), pytest.raises(StorageError, match=r"cases\.parquet: cannot be written"):
        store_trial(faulty(local, faults), SPEC)
    assert is_complete(local, SPEC)


def test_a_first_measurement_deletes_no_record_that_another_execution_may_have_written(local: Store) -> None:
    deletions = Faults(on=lambda operation, path: operation == "delete")
    store_trial(faulty(local, deletions), SPEC)
    assert [path for _, path in deletions.log if path.endswith("record.json")] == []


def test_a_trial_without_record_weights_or_checksum_is_not_complete(local: Store) -> None:
    assert reader.read_trial(local, TRIAL.trial_id) is None
    writer.write_trial(local, TRIAL)
    assert reader.read_trial(local, TRIAL.trial_id) is None  # no weights
    local.write(FILES.weights, WEIGHTS[:-1])
    assert reader.read_trial(local, TRIAL.trial_id) is None  # torn weights
    local.write(FILES.weights, WEIGHTS)
    assert reader.read_trial(local, TRIAL.trial_id) == TRIAL
    data = local.read(FILES.record)
    assert data is not None
    local.write(FILES.record, data.replace(b'"best_epoch":2', b'"best_epoch":3'))
    assert reader.read_trial(local, TRIAL.trial_id) is None


def test_a_record_in_the_folder_of_another_is_not_its_record(local: Store) -> None:
    store_trial(local, SPEC)
    other = layout.TrialFiles("f" * 16)
    for name, there in (
        (FILES.record, other.record),
        (FILES.weights, other.weights),
        (MEASURED.record, FILES.evaluation("d" * 16).record),
        (EXTRACTED.record, FILES.features("d" * 16).record),
    ):
        local.write(there, local.read(name) or b"")
    assert reader.read_trial(local, "f" * 16) is None
    assert reader.read_evaluation(local, TRIAL.trial_id, "d" * 16) is None
    assert reader.read_features_record(local, TRIAL.trial_id, "d" * 16) is None


def test_a_record_of_another_version_is_told_and_not_run_again(local: Store) -> None:
    store_trial(local, SPEC)
    newer = {**TRIAL.to_json(), "version": 3, "new": 1}
    local.write(FILES.record, codec.json_bytes(newer))
    told = r"/record\.json: this record has version 3, and this xferlab needs version 2; use"
    with pytest.raises(RecordError, match=told):
        reader.read_trial(local, TRIAL.trial_id)
    with pytest.raises(
        RecordError, match=r"/record\.json: has version 3, and this xferlab needs version 2; use"
    ):
        writer.write_trial(local, TRIAL)
    assert codec.read_json(local, FILES.record) == newer
    local.write(MEASURED.record, codec.json_bytes({"version": 0}))
    with pytest.raises(RecordError, match=r"this record has version 0"):
        reader.read_evaluation(local, TRIAL.trial_id, E)


@pytest.mark.parametrize(
    "content",
    [
        *(
            codec.json_bytes(body)
            for body in ({"version": 2, "attempts": []}, {"type": "E", "message": ""}, {})
        ),
        b"",
        b"{}",
        b"torn",
    ],
)
def test_what_is_damaged_or_of_another_kind_is_no_record(local: Store, content: bytes) -> None:
    store_trial(local, SPEC)
    for name in (FILES.record, *(part.record for part in PARTS)):
        local.write(name, content)
    assert reader.read_trial(local, TRIAL.trial_id) is None
    assert reader.read_evaluation(local, TRIAL.trial_id, E) is None
    assert reader.read_features_record(local, TRIAL.trial_id, F) is None


def test_complete_means_that_all_records_verify(store: Store) -> None:
    assert not is_complete(store, SPEC)
    assert complete_trials(store, "s", [SPEC]) == {}
    record = store_trial(store, replace(SPEC, evaluations=(), features=None))
    assert not is_measured(store, SPEC, record.weights_sha256)
    assert lacks_features(store, SPEC, record.weights_sha256)
    assert not lacks_features(store, replace(SPEC, features=None), record.weights_sha256)
    store_trial(store, SPEC)
    assert not lacks_features(store, SPEC, record.weights_sha256)
    store.delete(FILES.spec)
    assert not is_complete(store, SPEC)
    codec.write_json(store, FILES.spec, SPEC.to_json())
    assert is_complete(store, SPEC)
    assert not is_measured(store, SPEC, "w")  # of other weights
    other = replace(SPEC, trial_id="f" * 16)
    assert set(complete_trials(store, "s", [SPEC, other])) == {TRIAL.trial_id}
    more = replace(SPEC.evaluations[0], evaluation_id="d" * 16)
    assert not is_complete(store, replace(SPEC, evaluations=(*SPEC.evaluations, more)))


# --- plan, run, failure ------------------------------------------------------------------------------------


def test_the_plan_of_a_study_is_read_or_told(store: Store) -> None:
    codec.write_json(store, layout.StudyFiles("here").plan, {"version": PLAN_VERSION, "study": "here"})
    assert reader.read_plan(store, "here")["study"] == "here"
    store.write("studies/there/lease", b"")  # of a run that was refused before it planned
    with pytest.raises(RecordError, match=r"no plan of study 'there' \(studies here: here\)"):
        reader.read_plan(store, "there")
    store.write(layout.StudyFiles("here").plan, codec.json_bytes({"version": 9}))
    with pytest.raises(RecordError, match="'here' has version 9, and this xferlab needs version 4") as caught:
        reader.read_plan(store, "here")
    assert str(caught.value).endswith(
        f"give another storage by --storage, or delete {store.shown} with all results in it"
    )
    store.write(layout.StudyFiles("here").plan, codec.json_bytes({"version": 3}))
    with pytest.raises(RecordError, match=r"run the study again, which .* keeps its complete trials"):
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


def written(store: Store, *results: EpochResult) -> writer.HistoryFile:
    history = writer.HistoryFile(store, "t")
    for result in results:
        history.append(result)
    return history


def test_a_history_grows_by_a_line_an_epoch(store: Store) -> None:
    history = writer.HistoryFile(store, "t")
    assert reader.read_history(store, "t") == []
    for number, result in enumerate(THREE, start=1):
        history.append(result)
        if store.is_local:  # progress is there at once
            assert reader.read_history(store, "t") == THREE[:number]
    history.finish()
    assert reader.read_history(store, "t") == THREE
    assert (store.read(layout.TrialFiles("t").history) or b"").count(b"\n") == 3
    assert store.read(layout.TrialFiles("t").progress) is None


@pytest.mark.component
def test_on_an_object_store_progress_is_put_again_only_now_and_then(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = Store.open(s3_uri), 100.0
    monkeypatch.setattr(writer.time, "monotonic", lambda: now)
    history = written(store, epoch(1))
    assert reader.read_history(store, "t") == []
    now += writer.REMOTE_HISTORY_EVERY_S
    history.append(epoch(2))
    assert reader.read_history(store, "t") == THREE[:2]
    history.append(epoch(3))
    assert len(reader.read_history(store, "t")) == 2


def test_resumed_progress_is_cut_to_what_the_checkpoint_holds(store: Store) -> None:
    written(store, *THREE)
    resumed = writer.HistoryFile(store, "t", [epoch(1)])
    assert reader.read_history(store, "t") == [epoch(1)]
    resumed.append(epoch(2, train_loss=9.0))
    resumed.finish()
    assert [result.values["train_loss"] for result in reader.read_history(store, "t")] == [0.5, 9.0]


def test_a_late_execution_takes_nothing_from_a_whole_history(store: Store) -> None:
    """It may be killed at any moment, when the trial is complete already."""
    written(store, *THREE).finish()
    writer.HistoryFile(store, "t", [epoch(1)]).append(epoch(2))
    assert reader.read_history(store, "t") == THREE


@pytest.mark.parametrize("damage", [b'{"epoch": 2', b"[1, 2]", b"7", b'{"epoch": 2}', b"\xff\xfe", b""])
@pytest.mark.parametrize("number", [2, 3])
def test_a_damaged_line_is_told_with_its_number(local: Store, damage: bytes, number: int) -> None:
    lines = [codec.json_bytes(result.to_json()) for result in THREE]
    offset = sum(map(len, lines[: number - 1]))
    lines[number - 1] = damage + b"\n"
    local.write(layout.TrialFiles("t").history, b"".join(lines))
    where = rf"history\.jsonl:{number} \(byte {offset}\): is damaged .*run the study again, which trains"
    with pytest.raises(RecordError, match=where):
        reader.read_history(local, "t")


def test_every_flipped_bit_of_a_history_is_told(local: Store) -> None:
    """A bit turns a digit into another, a line's end into none, a letter into a line's end."""
    written(local, *THREE)
    path = Path(local.path(layout.TrialFiles("t").progress))
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :])
        with pytest.raises(RecordError, match=r"progress\.jsonl"):
            reader.read_history(local, "t", sha256=history_sha256(THREE))


def test_a_history_that_lacks_epochs_is_told_by_the_record(local: Store) -> None:
    written(local, epoch(1))
    with pytest.raises(RecordError, match="its 1 epochs are not those of the record"):
        reader.read_history(local, "t", sha256=history_sha256(THREE[:2]))


def test_the_digest_of_a_history_leaves_times_out() -> None:
    digest = history_sha256([epoch(1), epoch(2)])
    assert history_sha256([epoch(1, train_s=99.0), epoch(2, validation_s=0.0)]) == digest
    assert history_sha256([epoch(1), epoch(2, train_loss=0.1)]) != digest
    assert history_sha256([epoch(2), epoch(1)]) != digest
