"""What a W&B run holds already, read back from the server or from an offline file.

A run is whole if it was closed and its summary holds the digest of all that belongs to it
(`content.content_sha256`): nothing else is compared. The digest is part of the run, so that there is no
second place that could disagree with it. Epochs are read back only to go on where an unfinished run ended.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

CONTENT = "content_sha256"
"""Key of the digest in a run's summary."""

# W&B frames its file like a LevelDB log, and has no reader for it in Python: blocks of 32 KiB, chunks with a
# header of (CRC-32, length, kind).
_BLOCK = 32 * 1024
_IDENT = struct.Struct("<4sHB")
_CHUNK = struct.Struct("<IHB")
_FULL, _FIRST, _LAST = 1, 2, 4
_ALL = 100_000


@dataclass
class MirroredRun:
    """What one run holds.

    Attributes:
        epochs: Values by epoch.
        content: Digest of all that belongs to it; empty where it is not whole.
        finished: Whether it was closed.
        tags: Its tags.
        place: Entity and project of an offline run; empty where its file is torn before they are told.
    """

    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    content: str = ""
    finished: bool = False
    tags: tuple[str, ...] = ()
    place: tuple[str, str] = ("", "")

    @staticmethod
    def of_online(run: Any) -> MirroredRun:
        """Returns what a run of the public API holds."""
        # Not `scan_history`: it reads what the server exports some time after a run.
        rows = run.history(samples=_ALL, pandas=False)
        epochs = {row["epoch"]: row for row in rows if row.get("epoch") is not None}
        return MirroredRun(epochs, run.summary.get(CONTENT, ""), run.state == "finished", tuple(run.tags))

    @staticmethod
    def of_folder(folder: Path) -> MirroredRun:
        """Returns what an offline folder holds up to where its file is torn; an absent file holds nothing."""
        held = MirroredRun()
        for path in folder.glob("run-*.wandb"):
            for data in frames(path.read_bytes()):
                record = wandb_internal_pb2.Record.FromString(data)
                row = _values(record.history.item)
                if "epoch" in row:
                    held.epochs[row["epoch"]] = {
                        key: row[key] for key in row if not key.startswith(("_", "outputs"))
                    }
                held.content = _values(record.summary.update).get(CONTENT, held.content)
                held.finished |= record.HasField("exit")
                if record.HasField("run"):
                    held.tags, held.place = tuple(record.run.tags), (record.run.entity, record.run.project)
        return held

    def is_whole(self, content: str) -> bool:
        """Returns whether it holds the content of this digest."""
        return self.finished and self.content == content


def _values(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def continues(held: Mapping[int, Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether the epochs held are the first ones of those wanted, with the same values."""
    return len(held) <= len(wanted) and all(
        result["epoch"] in held and all(same(held[result["epoch"]].get(k), v) for k, v in result.items())
        for result in wanted[: len(held)]
    )


def same(a: Any, b: Any) -> bool:
    """Returns whether two JSON values are equal, to the last digits of a float; NaN and null are alike."""
    numbers = [math.nan if value is None else value for value in (a, b)]
    if all(isinstance(value, int | float) for value in numbers):
        return math.isclose(*numbers, rel_tol=1e-9) or all(map(math.isnan, numbers))
    return bool(a == b)


def frames(data: bytes) -> Iterator[bytes]:
    """Yields the records of an offline file as stored, up to where it is torn."""
    position, record = _IDENT.size, b""
    while position + _CHUNK.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _CHUNK.size:
            position += left
            continue
        checksum, length, kind = _CHUNK.unpack_from(data, position)
        position += _CHUNK.size
        chunk = data[position : position + length]
        if zlib.crc32(chunk, zlib.crc32(bytes([kind]))) != checksum:
            return
        position += length
        record = chunk if kind in (_FULL, _FIRST) else record + chunk
        if kind in (_FULL, _LAST):
            yield record
