"""The record of deep features: what is written is read, and what does not verify is not there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.identities import trial_spec
from xferlab.errors import RecordError
from xferlab.plan.spec import FeaturesSpec
from xferlab.records import codec, layout, reader, writer
from xferlab.records.complete import is_measured, lacks_features
from xferlab.records.schema import FEATURES_SCHEMA, FeaturesRecord
from xferlab.records.store import Store

TRIAL_ID, FEATURES_ID = "0" * 16, "f" * 16
SPEC = trial_spec(TRIAL_ID, features=FeaturesSpec(FEATURES_ID, "cxr", "3" * 64, "cxr"))


def write(store: Store) -> FeaturesRecord:
    columns: dict[str, list[Any]] = {
        "layer": ["encoder1"],
        "gram_start": [[1.0, -1.0, -1.0, 1.0]],
        "gram_best": [[2.0, -2.0, -2.0, 2.0]],
        "distance": [0.5],
        "cosine": [0.9],
        "filter_changes": [[0.1, 0.2, float("inf")]],
    }
    data = writer.table(FEATURES_SCHEMA, columns)
    record = FeaturesRecord(FEATURES_ID, TRIAL_ID, "3" * 64, 2, hashlib.sha256(data).hexdigest(), "w")
    writer.write_features(store, record, data)
    return record


def test_what_is_written_is_read(store: Store) -> None:
    assert lacks_features(store, SPEC, "w")
    record = write(store)
    assert not lacks_features(store, SPEC, "w")
    assert not is_measured(store, SPEC, "w")
    codec.write_json(store, layout.TrialFiles(TRIAL_ID).spec, SPEC.to_json())
    assert is_measured(store, SPEC, "w")
    assert FeaturesRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert reader.read_features_record(store, TRIAL_ID, FEATURES_ID) == record
    table = reader.read_features(store, record)
    assert table.schema.equals(FEATURES_SCHEMA)
    assert table.column("gram_best").to_pylist() == [[2.0, -2.0, -2.0, 2.0]]


def test_nothing_is_lacking_where_nothing_is_asked_for(store: Store) -> None:
    assert not lacks_features(store, replace(SPEC, features=None), "w")


@pytest.mark.parametrize("damage", [b"", b"{}", b"torn"])
def test_a_damaged_record_is_none(store: Store, damage: bytes) -> None:
    write(store)
    store.write(layout.TrialFiles(TRIAL_ID).features(FEATURES_ID).record, damage)
    assert lacks_features(store, SPEC, "w")


def test_a_record_of_other_features_is_none(store: Store) -> None:
    record = write(store)
    name = layout.TrialFiles(TRIAL_ID).features(FEATURES_ID).record
    codec.write_json(store, name, replace(record, features_id="e" * 16).to_json())
    assert lacks_features(store, SPEC, "w")


def test_altered_features_and_other_versions_are_told(store: Store) -> None:
    record = write(store)
    store.write(layout.TrialFiles(TRIAL_ID).features(FEATURES_ID).features, b"other")
    with pytest.raises(RecordError, match=r"features\.parquet: does not match the digest in its record"):
        reader.read_features(store, record)
    name = layout.TrialFiles(TRIAL_ID).features(FEATURES_ID).record
    store.write(name, codec.json_bytes({**record.to_json(), "version": 3}))
    with pytest.raises(RecordError, match=r"this record has version 3, and this xferlab needs version 2"):
        reader.read_features_record(store, TRIAL_ID, FEATURES_ID)
