"""Completeness from one listing: what is as the index says is not read, and all else is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.identities import trial_spec
from tests.records.faults import Faults, faulty
from tests.records.stored import store_trial
from xferlab.errors import RecordError
from xferlab.plan.spec import EvaluationSpec, FeaturesSpec, TrialSpec
from xferlab.records import complete, reader, writer
from xferlab.records.complete import complete_trials, is_complete
from xferlab.records.layout import StudyFiles, TrialFiles
from xferlab.records.schema import CASES_SCHEMA
from xferlab.records.store import Store

INDEX = StudyFiles("s").index
EVALUATION = EvaluationSpec("e" * 16, "cxr", "test", "3" * 64, overlay_cases=1)
EXTRACTION = FeaturesSpec("f" * 16, "cxr", "3" * 64, "cxr")
SPECS = tuple(trial_spec(c * 16, evaluations=(EVALUATION,), features=EXTRACTION) for c in "abc")
FILES = TrialFiles(SPECS[0].trial_id)
MEASURED, EXTRACTED = FILES.evaluation("e" * 16), FILES.features("f" * 16)
CASES, OUTPUTS, FEATURES = MEASURED.table("cases"), MEASURED.table("outputs"), EXTRACTED.table("features")
RECORDS = (FILES.record, MEASURED.record, EXTRACTED.record)
NEEDED = (*RECORDS, FILES.spec, FILES.weights, CASES, OUTPUTS, FEATURES)


READS: dict[str, Callable[..., object]] = {
    CASES: reader.read_cases,
    OUTPUTS: reader.read_outputs,
    FEATURES: reader.read_features,
}


@pytest.fixture
def indexed(store: Store) -> Store:
    """Three complete trials and their index, on a storage whose operations can be counted."""
    counted = faulty(store, Faults())
    for spec in SPECS:
        store_trial(counted, spec)
    complete_trials(counted, "s", SPECS)
    return counted


def operations(store: Store, specs: tuple[TrialSpec, ...] = SPECS) -> tuple[set[str], list[tuple[str, str]]]:
    """The complete trials, and what was asked of the storage to know them."""
    faults = Faults()
    return set(complete_trials(faulty(store, faults), "s", specs)), faults.log


def ids(*specs: TrialSpec) -> set[str]:
    return {spec.trial_id for spec in specs}


def test_with_an_index_one_listing_tells_what_is_complete(indexed: Store) -> None:
    complete_now, asked = operations(indexed)
    assert complete_now == ids(*SPECS)
    assert [operation for operation, _ in asked] == ["list", "get"]


def test_the_index_holds_what_a_run_ends_with(indexed: Store) -> None:
    trial = complete_trials(indexed, "s", SPECS)[SPECS[0].trial_id]
    assert (trial.num_epochs, trial.best_score) == (
        2,
        reader.read_history(indexed, SPECS[0].trial_id)[1].score,
    )
    assert trial.means == {"e" * 16: {"DICE": 0.75, "AUC": 0.75}}  # the undefined one of three is left out


def test_a_file_that_changed_is_read_again(indexed: Store) -> None:
    for name, damage in itertools.product(NEEDED, (None, b"", b"other")):
        content = indexed.read(name)
        assert content is not None
        write_or_delete(indexed, name, damage)
        for _ in range(2):
            assert set(complete_trials(indexed, "s", SPECS)) == ids(*SPECS[1:]), (name, damage)
        indexed.write(name, content)
        assert set(complete_trials(indexed, "s", SPECS)) == ids(*SPECS), (name, damage)
        assert len(operations(indexed)[1]) == 2


def write_or_delete(store: Store, name: str, content: bytes | None) -> None:
    if content is None:
        store.delete(name)
    else:
        store.write(name, content)


def test_a_damage_of_equal_size_is_found_by_its_time(local: Store) -> None:
    store_trial(local, SPECS[0])
    complete_trials(local, "s", SPECS[:1])
    local.write(CASES, bytes(local.size(CASES) or 0))
    assert complete_trials(local, "s", SPECS[:1]) == {}


@pytest.mark.parametrize("name", [*RECORDS, *READS])
def test_a_damage_that_no_listing_shows_is_found_by_its_reader(local: Store, name: str) -> None:
    """The reader sets the file aside, so that the next run writes it again."""
    record = store_trial(local, SPECS[0])
    complete_trials(local, "s", SPECS[:1])
    evaluation = reader.read_evaluation(local, record.trial_id, "e" * 16)
    features = reader.read_features_record(local, record.trial_id, "f" * 16)
    path = Path(local.path(name))
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert set(complete_trials(local, "s", SPECS[:1])) == ids(SPECS[0])
    if name in READS:
        with pytest.raises(
            RecordError, match=r"and is now .*\.damaged-.*; run the study again, which measures"
        ):
            READS[name](local, features if name == FEATURES else evaluation)
    else:
        assert not is_complete(local, SPECS[0])
    assert complete_trials(local, "s", SPECS[:1]) == {}
    assert len(list(path.parent.glob(f"{path.name}.damaged-*"))) == 1


def test_an_index_that_is_damaged_or_gone_is_computed_again(indexed: Store) -> None:
    before = indexed.read(INDEX)
    for content in (b"", b"{}", b'{"version": 1', b"null", None):
        write_or_delete(indexed, INDEX, content)
        assert set(complete_trials(indexed, "s", SPECS)) == ids(*SPECS), content
        assert indexed.read(INDEX) == before


def test_an_index_of_another_version_is_computed_again(
    indexed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = indexed.read(INDEX)
    with monkeypatch.context() as patch:
        patch.setattr(complete, "INDEX_VERSION", [*complete.INDEX_VERSION, "other"])
        assert set(complete_trials(indexed, "s", SPECS)) == ids(*SPECS)
        assert indexed.read(INDEX) != before
    assert set(complete_trials(indexed, "s", SPECS)) == ids(*SPECS)
    assert indexed.read(INDEX) == before


def test_a_storage_that_cannot_be_written_is_read(indexed: Store) -> None:
    indexed.delete(INDEX)
    readable = faulty(
        indexed, Faults(lambda number: True, error=30, on=lambda operation, _: operation == "put")
    )
    assert set(complete_trials(readable, "s", SPECS)) == ids(*SPECS)
    assert not indexed.exists(INDEX)


def test_other_trials_stay_in_the_index_and_deleted_ones_leave_it(indexed: Store) -> None:
    indexed.delete_dir(FILES.folder)
    complete_trials(indexed, "s", SPECS[2:])
    assert len(operations(indexed)[1]) == 2  # the second trial was not asked for, and is known
    store_trial(indexed, SPECS[0])
    assert set(complete_trials(indexed, "s", SPECS)) == ids(*SPECS)


def test_a_measurement_that_is_asked_for_later_is_looked_for(indexed: Store) -> None:
    later = replace(EVALUATION, evaluation_id="d" * 16)
    more = replace(SPECS[0], evaluations=(EVALUATION, later))
    assert complete_trials(indexed, "s", (more,)) == {}
    store_trial(indexed, more)
    assert set(complete_trials(indexed, "s", (more,))) == ids(more)
    assert set(complete_trials(indexed, "s", SPECS)) == ids(*SPECS)


def test_means_are_of_cases_that_passed_the_gate(store: Store) -> None:
    spec = replace(SPECS[0], features=None)
    store_trial(store, spec)
    record = reader.read_evaluation(store, spec.trial_id, EVALUATION.evaluation_id)
    assert record is not None
    rows = [("a", 0.5, 1.0), ("b", 1.0, 0.0), ("c", 0.75, 1.0)]
    columns: dict[str, list[Any]] = {name: ["-"] * 6 for name in CASES_SCHEMA.names}
    columns |= {"case": [case for case, *_ in rows for _ in range(2)], "metric": ["DICE", "passed"] * 3}
    columns["value"] = [value for _, *values in rows for value in values]
    tables = {"cases": writer.table(CASES_SCHEMA, columns), "outputs": writer.outputs_table([])}
    writer.write_measurement(store, replace(record, tables={}), tables)
    (trial,) = complete_trials(store, "s", [spec]).values()
    assert trial.means == {EVALUATION.evaluation_id: {"DICE": 0.625, "passed": 1.0}}
