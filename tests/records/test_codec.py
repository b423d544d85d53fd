from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from xferlab.errors import RecordError
from xferlab.plan.identity import canonical_json
from xferlab.records import codec, writer
from xferlab.records.schema import CASES_SCHEMA, OUTPUTS_SCHEMA
from xferlab.records.store import Store

BODY = {
    "version": 1,
    "loss": 1e-05,
    "name": 'é"x',
    "parents": ["ab", None],
    "improved": True,
    "n": {"k": -0.5},
}


def overwrite(store: Store, name: str, data: bytes) -> None:
    Path(store.path(name)).write_bytes(data)  # as damage does: neither atomic nor synced


def test_what_is_written_is_read(store: Store) -> None:
    codec.write_json(store, "a/r.json", BODY)
    assert codec.read_json(store, "a/r.json") == BODY
    assert codec.read_json(store, "a/none.json") is None


def damages(data: bytes) -> Iterator[bytes]:
    """White space and the case of \\u00E9 carry no value; 1e-05 may become 1e905, infinity for JSON."""
    for position, byte in enumerate(data):
        yield data[:position]
        others = [byte ^ 1 << bit for bit in (0, 5, 7)] + [digit for digit in b"09" if digit != byte]
        yield from (data[:position] + bytes([other]) + data[position + 1 :] for other in others)


def test_every_torn_file_flipped_bit_and_other_digit_is_found(local: Store) -> None:
    for bad in damages(codec.json_bytes(BODY)):
        overwrite(local, "r.json", bad)
        with pytest.raises(RecordError):
            codec.read_json(local, "r.json")


@pytest.mark.parametrize(
    "text", ["[]", "1", "null", '{"a": 1}', '{"a": NaN, "sha256": "x"}', "\x00" * 50, "\xff"]
)
def test_what_is_no_sealed_object_is_refused(local: Store, text: str) -> None:
    overwrite(local, "r.json", text.encode("latin1"))
    with pytest.raises(RecordError, match=r"r\.json: .*delete it and run again"):
        codec.read_json(local, "r.json")


def test_a_number_that_json_lacks_is_not_written(local: Store) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        codec.write_json(local, "r.json", {"loss": math.nan})
    assert local.read("r.json") is None


def case_columns(count: int) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [f"{name} {row % 7}" for row in range(count)] for name in CASES_SCHEMA.names
    }
    return {**columns, "value": [math.nan if row % 5 == 0 else row / 7 for row in range(count)]}


def output_columns(count: int) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [f"{row}" for row in range(count)] for name in OUTPUTS_SCHEMA.names
    }
    pixels = [bytes([row % 256]) * 12 for row in range(count)]
    return {**columns, "shape": [[3, 4]] * count, "data": pixels}


def read(store: Store, sha256: str) -> pa.Table:
    return codec.read_parquet(store, "t.parquet", sha256=sha256, holds=lambda: True)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_tables_come_back_as_they_were(local: Store, count: int) -> None:
    for schema, columns in ((CASES_SCHEMA, case_columns(count)), (OUTPUTS_SCHEMA, output_columns(count))):
        data = writer.table(schema, columns)
        local.write("t.parquet", data)
        found = read(local, hashlib.sha256(data).hexdigest())
        assert found.schema.equals(schema)
        assert canonical_json(
            json.loads(json.dumps(found.to_pydict(), default=repr).replace("NaN", "0"))
        ) == (canonical_json(json.loads(json.dumps(columns, default=repr).replace("NaN", "0"))))


def test_every_torn_or_altered_table_is_found(local: Store) -> None:
    data = writer.table(CASES_SCHEMA, case_columns(20))
    digest = hashlib.sha256(data).hexdigest()
    for position in range(0, len(data), 97):
        for bad in (data[:position], data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]):
            overwrite(local, "t.parquet", bad)
            with pytest.raises(RecordError, match=r"digest .*run the study again, which measures it again"):
                read(local, digest)
    local.delete("t.parquet")
    with pytest.raises(RecordError, match="is missing; run the study again"):
        read(local, digest)


def test_columns_of_text_are_dictionaries_in_order_of_appearance() -> None:
    data = writer.table(CASES_SCHEMA, case_columns(9))
    table = pa.parquet.read_table(pa.BufferReader(data))
    assert table["metric"].combine_chunks().dictionary.to_pylist() == [f"metric {n}" for n in range(7)]
