"""Predictions for other trials: what is written is read, the first writer wins, and damage is made good."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.records.faults import Faults, faulty, onwards, without_pauses
from xferlab.errors import RecordError, StorageError
from xferlab.records import codec, predictions
from xferlab.records.predictions import PredictedCases, PredictionRecord, table_of, wanted
from xferlab.records.store import Store

DIGESTS = tuple(letter * 64 for letter in "abc")
ASKED = wanted("1" * 16, "2" * 64, DIGESTS, threshold=0.5)


def masks(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([0, 255], np.uint8), shape)


ARRAYS: list[tuple[str, Mapping[str, Any]]] = [
    (DIGESTS[0], {"structures": masks(1, 2, 5, 7), "probability": np.array([0.25, 0.75], np.float32)}),
    (DIGESTS[1], {"structures": masks(2, 2, 3, 3)}),
    (DIGESTS[2], {"structures": np.zeros((2, 1, 9), np.uint8)}),
]
TABLE = table_of(ARRAYS)
OTHER = table_of([(digest, {"structures": masks(7, 1, 4, 4)}) for digest in DIGESTS])


def stored(store: Store, asked: PredictionRecord = ASKED) -> tuple[PredictionRecord, PredictedCases]:
    found = predictions.read(store, asked)
    assert found is not None
    return found


def same(cases: PredictedCases) -> bool:
    return all(
        cases[digest].keys() == arrays.keys()
        and all(np.array_equal(cases[digest][name], array) for name, array in arrays.items())
        and all(cases[digest][name].dtype == array.dtype for name, array in arrays.items())
        for digest, arrays in ARRAYS
    )


def test_what_is_written_is_read(store: Store) -> None:
    assert predictions.read(store, ASKED) is None
    predictions.write(store, ASKED, TABLE)
    record, cases = stored(store)
    assert same(cases)
    assert (record.trial_id, record.num_cases, record.threshold) == ("1" * 16, 3, 0.5)
    table, record_file = sorted(name for name, _ in store.walk(""))
    assert table == f"predictions/{ASKED.prediction_id}/{record.sha256[:16]}.parquet"
    assert record_file == f"predictions/{ASKED.prediction_id}/record.json"


def test_equal_arrays_have_equal_bytes_and_masks_take_a_bit_a_pixel(store: Store) -> None:
    assert table_of(iter(ARRAYS)) == TABLE
    disc = np.hypot(*np.indices((256, 256)) - 128.0) < 90
    shape = np.stack([disc, ~disc]).astype(np.uint8) * 255
    large = table_of((f"{number:064x}", {"structures": shape}) for number in range(50))
    assert len(large) < 50 * shape.size / 8 / 10  # bits of smooth shapes are compressed, too


@pytest.mark.parametrize(
    "other",
    [
        wanted("3" * 16, "2" * 64, DIGESTS, threshold=0.5),
        wanted("1" * 16, "3" * 64, DIGESTS, threshold=0.5),
        wanted("1" * 16, "2" * 64, DIGESTS[:2], threshold=0.5),
        wanted("1" * 16, "2" * 64, DIGESTS, threshold=0.4),
        wanted("1" * 16, "2" * 64, DIGESTS, threshold=0.5, variant="cable 1"),
    ],
    ids=["trial", "weights", "cases", "threshold", "variant"],
)
def test_whatever_differs_is_another_prediction(store: Store, other: PredictionRecord) -> None:
    assert other.prediction_id != ASKED.prediction_id
    predictions.write(store, ASKED, TABLE)
    assert predictions.read(store, other) is None
    record = store.read(ASKED.files.record)
    assert record is not None
    store.write(other.files.record, record)  # a record in the folder of another
    assert predictions.read(store, other) is None


def test_the_first_writer_wins(store: Store) -> None:
    predictions.write(store, ASKED, TABLE)
    record = store.read(ASKED.files.record)
    for data in (OTHER, TABLE):
        predictions.write(store, ASKED, data)
        assert same(stored(store)[1])
        assert store.read(ASKED.files.record) == record


def test_of_writers_at_once_one_wins_and_all_read_it(store: Store) -> None:
    tables = [TABLE, OTHER] * 4
    for number in range(5):
        asked = wanted(f"{number:016x}", "2" * 64, DIGESTS, threshold=0.5)

        def make(data: bytes, asked: PredictionRecord = asked) -> str:
            predictions.write(store, asked, data)
            return stored(store, asked)[0].sha256

        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(make, tables))
        last = stored(store, asked)[0].sha256
        assert last in read
        assert set(read) == {last} or not store.is_local  # an object store has no exclusive write


CHANGES: dict[str, Callable[[bytes], bytes] | None] = {
    "torn": lambda data: data[:-1],
    "empty": lambda data: b"",
    "foreign": lambda data: data[::-1],
    "missing": None,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("name", ["record.json", ".parquet"])
@pytest.mark.parametrize("again", [TABLE, OTHER], ids=["same", "other"])
def test_what_is_damaged_counts_as_absent_and_is_made_again(
    store: Store, name: str, change: Callable[[bytes], bytes] | None, again: bytes
) -> None:
    predictions.write(store, ASKED, TABLE)
    (damaged,) = [file for file, _ in store.walk("") if file.endswith(name)]
    data = store.read(damaged)
    assert data is not None
    store.delete(damaged) if change is None else store.write(damaged, change(data))
    assert predictions.read(store, ASKED) is None
    predictions.write(store, ASKED, again)
    assert stored(store)[0].sha256 == hashlib.sha256(again).hexdigest()


def test_a_writer_killed_anywhere_leaves_nothing_that_counts(store: Store) -> None:
    counted = Faults()
    predictions.write(
        faulty(Store(store.location, store.filesystem, f"{store.root}/calm"), counted), ASKED, TABLE
    )
    for number in range(1, len(counted.log) + 1):
        place = Store(store.location, store.filesystem, f"{store.root}/{number}")
        with without_pauses(), pytest.raises(StorageError, match="injected"):
            predictions.write(faulty(place, Faults(onwards(number))), ASKED, OTHER)
        assert predictions.read(place, ASKED) is None
        predictions.write(place, ASKED, TABLE)
        assert same(stored(place)[1])


def test_another_version_is_told(store: Store) -> None:
    predictions.write(store, ASKED, TABLE)
    body = {**stored(store)[0].to_json(), "version": 99}
    store.write(ASKED.files.record, codec.json_bytes(body))
    with pytest.raises(RecordError, match="this record has version 99"):
        predictions.read(store, ASKED)


def test_a_record_survives_json() -> None:
    record = replace(ASKED, tables={"a": "b"})
    assert PredictionRecord.from_json(record.to_json()) == record
