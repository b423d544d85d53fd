"""Records of samples: what is finished, what is begun, and which one is best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xferlab.errors import RecordError
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records import layout
from xferlab.records.samples import (
    RepetitionCurve,
    SampleRecord,
    best_of,
    read_attempts,
    read_begun,
    read_sample,
    read_samples,
    read_tuning,
    sweep,
    write_attempts,
    write_begun,
    write_sample,
    write_tuning,
)
from xferlab.records.store import Store


def record(number: int = 1, *losses: float, outcome: str = "complete") -> SampleRecord:
    curve = losses or (0.5, 0.25)
    return SampleRecord(
        sample_id=f"sample{number}",
        tuning_id="search",
        number=number,
        parameters={"stages.s.training.lr": 0.1 * number},
        outcome=outcome,
        num_epochs=len(curve),
        max_epochs=9,
        curve=curve,
        repetitions=(
            RepetitionCurve("t1", curve, len(curve), "max_epochs" if outcome == "complete" else ""),
            RepetitionCurve("t2", curve[:1], 1, "patience"),
        ),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def spec(number: int) -> SampleSpec:
    return SampleSpec(f"sample{number}", "search", number, {"p": number}, ())


def test_a_record_survives_the_storage(store: Store) -> None:
    write_sample(store, record())
    assert read_sample(store, "search", "sample1") == record()
    assert read_sample(store, "search", "sample2") is None
    assert SampleRecord.from_json(record().to_json()) == record()


def test_a_torn_record_counts_as_absent(store: Store) -> None:
    write_sample(store, record())
    store.write(layout.SearchFiles("search").sample("sample1"), b'{"version": 1')
    assert read_sample(store, "search", "sample1") is None
    assert read_samples(store, "search") == []


def test_records_of_another_version_are_refused(store: Store) -> None:
    with pytest.raises(RecordError, match="version 99"):
        SampleRecord.from_json({**record().to_json(), "version": 99})
    write_tuning(store, {"tuning_id": "search", "version": 1})
    with pytest.raises(RecordError, match=r"no search 'none' \(searches here: search\)"):
        read_tuning(store, "none")


def test_what_is_finished_is_not_begun_any_more(store: Store) -> None:
    for number in (2, 1, 3):
        write_begun(store, spec(number))
    assert read_begun(store, "search") == [spec(1), spec(2), spec(3)]
    write_sample(store, record(2))
    assert [one.number for one in read_begun(store, "search")] == [1, 3]
    # The folder is removed after the record is written: a kill between the two leaves it.
    write_begun(store, spec(2))
    assert [one.number for one in read_begun(store, "search")] == [1, 3]
    sweep(store, "search")
    assert store.list(layout.SearchFiles("search").open_samples) == ["sample1", "sample3"]
    store.write(f"{layout.SearchFiles('search').open_sample('sample3')}/spec.json", b"torn")
    assert [one.number for one in read_begun(store, "search")] == [1]


def test_the_best_has_trained_to_its_end(store: Store) -> None:
    records = [
        record(1, 0.5, 0.3),
        record(2, 0.1, outcome="stopped"),
        record(3, outcome="diverged"),
        record(4, 0.3),
    ]
    best = best_of(records)
    assert best is not None
    assert best.number == 1
    assert best_of(records[1:3]) is None
    assert [one.loss for one in records] == [0.3, 0.1, None, 0.3]


def test_saved_epochs_are_those_that_were_left() -> None:
    stopped = record(1, 0.5, 0.4, 0.3, outcome="stopped")
    assert (stopped.epochs_trained, stopped.epochs_saved) == (4, 6)  # the other ended by patience
    assert record(1).epochs_saved == 0
    assert replace(stopped, outcome="diverged").epochs_saved == 0


def test_attempts_are_kept_beside(store: Store) -> None:
    assert read_attempts(store, "search", "sample1") == []
    write_attempts(store, "search", "sample1", [{"outcome": "running"}])
    assert read_attempts(store, "search", "sample1") == [{"outcome": "running"}]
