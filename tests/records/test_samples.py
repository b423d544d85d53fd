"""Records of samples: what is finished, what is begun, and which one is best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from xferlab.errors import RecordError
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records import layout
from xferlab.records.samples import (
    RepetitionCurve,
    SampleRecord,
    best_of,
    read_begun,
    read_sample,
    read_samples,
    read_tuning,
    search_store,
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
        max_epochs=9,
        better="lower",
        repetitions=(
            RepetitionCurve("t1", curve, len(curve), "max_epochs" if outcome == "complete" else ""),
            RepetitionCurve("t2", curve[:1], 1, "patience"),
        ),
    )


@pytest.fixture
def search(local: Store) -> Store:
    return search_store(local, "search")


def spec(number: int) -> SampleSpec:
    return SampleSpec(f"sample{number}", "search", number, {"p": number}, ())


def test_a_record_survives_the_storage(local: Store, search: Store) -> None:
    write_sample(search, record())
    assert read_sample(search, "sample1") == record()
    assert read_sample(search, "sample2") is None
    assert read_samples(local, "search") == [record()]
    assert SampleRecord.from_json(record().to_json()) == record()


def test_a_repetition_that_has_stopped_keeps_its_loss_in_the_mean() -> None:
    sample = record(1, 0.5, 0.25)
    assert (sample.num_epochs, sample.curve, sample.score) == (2, (0.5, 0.375), 0.375)
    assert replace(sample, outcome="diverged").score is None
    nothing = replace(sample, repetitions=(RepetitionCurve("t1", (), 0, ""),))
    assert (nothing.num_epochs, nothing.curve, nothing.score) == (0, (), None)


def test_a_torn_record_counts_as_absent(local: Store, search: Store) -> None:
    write_sample(search, record())
    search.write(layout.TrialFiles("sample1").record, b'{"version": 2')
    assert read_sample(search, "sample1") is None
    assert read_samples(local, "search") == []


def test_records_of_another_version_are_refused(local: Store) -> None:
    with pytest.raises(RecordError, match="version 99"):
        SampleRecord.from_json({**record().to_json(), "version": 99})
    write_tuning(local, {"tuning_id": "search", "version": 1})
    with pytest.raises(RecordError, match="search 'search' has version 1, and this xferlab needs version 2"):
        read_tuning(local, "search")
    with pytest.raises(RecordError, match=r"no search 'none' \(searches here: search\)"):
        read_tuning(local, "none")


def test_what_is_finished_is_not_begun_any_more(local: Store, search: Store) -> None:
    for number in (2, 1, 3):
        write_begun(search, spec(number))
    assert read_begun(local, "search") == [spec(1), spec(2), spec(3)]
    search.write(f"{layout.TrialFiles('sample2').checkpoint}/state", b"")
    write_sample(search, record(2))
    assert read_begun(local, "search") == [spec(1), spec(3)]
    assert not search.exists(layout.TrialFiles("sample2").checkpoint)
    search.write(layout.TrialFiles("sample3").spec, b"torn")
    assert read_begun(local, "search") == [spec(1)]


def test_the_best_has_trained_to_its_end() -> None:
    records = [
        record(1, 0.5, 0.1),
        record(2, 0.1, outcome="stopped"),
        record(3, outcome="diverged"),
        record(4, 0.4),
    ]
    best = best_of(records)
    assert best is not None
    assert best.number == 1
    assert best_of(records[1:3]) is None
    assert [sample.score for sample in records] == [0.3, 0.1, None, 0.4]
    ranked = sorted([*records[2:], *records[:2]], key=SampleRecord.rank)
    assert [sample.number for sample in ranked] == [1, 4, 2, 3]
    higher = [replace(sample, better="higher") for sample in records]
    assert [sample.number for sample in sorted(higher, key=SampleRecord.rank)] == [4, 1, 2, 3]


def test_saved_epochs_are_those_that_were_left() -> None:
    stopped = record(1, 0.5, 0.4, 0.3, outcome="stopped")
    assert (stopped.epochs_trained, stopped.epochs_saved) == (4, 6)  # the other ended by patience
    assert record(1).epochs_saved == 0
    assert replace(stopped, outcome="diverged").epochs_saved == 0
