"""JSON files with a checksum that finds torn and altered ones, and parquet that is equal byte for byte."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeGuard

import pyarrow as pa
import pyarrow.parquet as pq

from xferlab.errors import RecordError, StorageError, other_version
from xferlab.plan.identity import json_with_checksum
from xferlab.records.store import Store

_MEASURED_AGAIN = "run the study again, which measures it again"


def write_json(store: Store, name: str, body: Mapping[str, Any], *, replaces: Collection[int] = ()) -> None:
    """Writes a JSON file with its checksum, atomically; an equal file that is there is left alone.

    Args:
        store: The storage.
        name: The file.
        body: What it is to hold.
        replaces: Earlier versions of such files that may be overwritten.

    Raises:
        RecordError: The file that is there has another version: another xferlab wrote it.
    """
    data = json_bytes(body)
    if "version" in body:
        stored = store.read(name)
        if stored == data:
            return
        _check_version(store, name, stored, body["version"], replaces)
    store.write(name, data)


def _check_version(
    store: Store, name: str, stored: bytes | None, version: int, replaces: Collection[int]
) -> None:
    try:
        stored_version = checked(stored or b"").get("version")
    except ValueError:
        return  # a damaged file may be overwritten
    if isinstance(stored_version, int) and stored_version not in (version, *replaces):
        raise other_version(f"{store.path(name)}:", stored_version, version, storage=store.shown)


def json_bytes(body: Mapping[str, Any]) -> bytes:
    """Returns the bytes of a JSON file with its checksum."""
    return json_with_checksum(body) + b"\n"


def read_json(store: Store, name: str) -> dict[str, Any] | None:
    """Returns the body of a JSON file without its checksum, or None where there is no file.

    Raises:
        RecordError: The file is torn or altered.
    """
    data = store.read(name)
    if data is None:
        return None
    try:
        return checked(data)
    except ValueError as error:
        raise RecordError(f"{store.path(name)}: {error}; delete it and run again") from error


def read_whole(store: Store, name: str) -> dict[str, Any]:
    """Returns what `read_json` does; nothing, in silence, where the file is absent, torn or altered."""
    try:
        return read_json(store, name) or {}
    except RecordError:
        return {}


def checked(data: bytes) -> dict[str, Any]:
    """Returns the body of JSON whose checksum holds, without the checksum.

    Raises:
        ValueError: It is torn, altered, or not JSON of ours.
    """
    try:
        value = json.loads(data)
        fields = value.items() if isinstance(value, dict) else ()
        body = {key: item for key, item in fields if key != "sha256"}
        # White space and the spelling of a number change no value, but show damage: compare all bytes.
        holds = json_bytes(body) == data
    except ValueError as error:
        raise ValueError(f"is no JSON ({error})") from error
    except RecursionError:
        raise ValueError("is no JSON of ours (nested too deeply)") from None
    if not holds:
        raise ValueError("does not match its own digest")
    return body


def matches(data: bytes | None, sha256: str) -> TypeGuard[bytes]:
    """Returns whether a file is there and has this digest."""
    return data is not None and hashlib.sha256(data).hexdigest() == sha256


def set_aside(store: Store, name: str, problem: str, *, remedy: str = _MEASURED_AGAIN) -> RecordError:
    """Renames a damaged file, so that its trial counts as not complete and the next run writes it again.

    Returns:
        The error to raise: what is wrong, where the file is now, and what to do.
    """
    try:
        aside = store.set_aside(name)
    except StorageError as error:  # a storage that is only read
        return RecordError(f"{store.path(name)}: {problem}, and cannot be set aside ({error})")
    return RecordError(f"{store.path(name)}: {problem}, and is now {aside}; {remedy}")


def parquet_bytes(table: pa.Table) -> bytes:
    """Returns a parquet file that depends on the table alone (one row group, fixed settings)."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=max(1, table.num_rows))
    return sink.getvalue()


def read_parquet(store: Store, name: str, *, sha256: str, holds: Callable[[], bool]) -> pa.Table:
    """Returns a parquet file as a table; one that differs from its digest is set aside.

    Args:
        store: The storage.
        name: The file.
        sha256: The digest that its record names.
        holds: Asked before a file is set aside: whether the record still names that digest. Where another
            process is writing the file again, nothing is renamed.

    Raises:
        RecordError: It is absent, or differs from the digest.
    """
    data = store.read(name)
    if data is None:
        raise RecordError(f"{store.path(name)}: is missing; {_MEASURED_AGAIN}")
    if not matches(data, sha256):
        if not holds():
            raise RecordError(f"{store.path(name)}: is being written again; read it when that has ended")
        raise set_aside(store, name, "does not match the digest in its record")
    # Without threads: at exit, Arrow may abort the process whose threads read parquet (arrow#34314).
    return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
