"""JSON files that are found out when torn or altered, and parquet that is equal byte for byte."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from xferlab.errors import RecordError
from xferlab.plan.identity import canonical_json, seal_holds, sealed
from xferlab.records.store import Store

_MEND = "run the study again: it is measured again"


def write_json(store: Store, name: str, body: Mapping[str, Any]) -> None:
    """Writes a sealed JSON file, atomically.

    Raises:
        RecordError: The file that is there has a higher version: a newer xferlab wrote it.
    """
    if "version" in body:
        _check_no_newer(store, name, body["version"])
    store.write(name, json_bytes(body))


def _check_no_newer(store: Store, name: str, version: int) -> None:
    try:
        found = (read_json(store, name) or {}).get("version")
    except RecordError:
        return  # what is damaged may be written again
    if isinstance(found, int) and found > version:
        raise RecordError(
            f"{store.path(name)}: has version {found}, and this xferlab writes {version}; use the xferlab "
            "that wrote it, or another storage"
        )


def json_bytes(body: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a sealed JSON file."""
    return (canonical_json(sealed(body)) + "\n").encode()


def read_json(store: Store, name: str) -> dict[str, Any] | None:
    """Returns the body of a sealed JSON file, or None where there is none.

    Raises:
        RecordError: The file is torn or altered.
    """
    data = store.read(name)
    if data is None:
        return None
    try:
        return unsealed(data)
    except ValueError as error:
        raise RecordError(f"{store.path(name)}: {error}; delete it and run again") from error


def unsealed(data: bytes) -> dict[str, Any]:
    """Returns the body of sealed JSON.

    Raises:
        ValueError: It is torn, altered, or nothing of the kind.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ValueError(f"is no JSON ({error})") from error
    except RecursionError:
        raise ValueError("is no JSON of ours (nested too deeply)") from None
    if not isinstance(value, dict) or not _holds(value, data):
        raise ValueError("does not match its own digest")
    return {key: item for key, item in value.items() if key != "sha256"}


def _holds(value: dict[str, Any], data: bytes) -> bool:
    try:
        return seal_holds(value) and (canonical_json(value) + "\n").encode() == data
    except (ValueError, RecursionError):  # a number that was altered into infinity
        return False


def matches(data: bytes | None, sha256: str) -> bool:
    """Returns whether a file is there and has this digest."""
    return data is not None and hashlib.sha256(data).hexdigest() == sha256


def parquet_bytes(table: pa.Table) -> bytes:
    """Returns a parquet file that depends on the table alone (one row group, fixed settings)."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=max(1, table.num_rows))
    return sink.getvalue()


def read_parquet(store: Store, name: str, *, sha256: str | None = None) -> pa.Table:
    """Returns a parquet file as a table.

    Raises:
        RecordError: It is absent, unreadable, or differs from the digest given.
    """
    data = store.read(name)
    if data is None:
        raise RecordError(f"{store.path(name)}: is missing; {_MEND}")
    if sha256 is not None and not matches(data, sha256):
        raise RecordError(f"{store.path(name)}: does not match the digest in its record; {_MEND}")
    try:
        # Without threads: at exit, Arrow may abort the process whose threads read parquet (arrow#34314).
        return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: names that are no UTF-8
        raise RecordError(f"{store.path(name)}: is no readable parquet ({error}); {_MEND}") from error
