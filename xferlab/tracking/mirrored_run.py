"""What a W&B run holds already, compared with the records; the framing of the offline files."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# The file is framed like a LevelDB log: blocks of 32 KiB, chunks with a header of (CRC-32, length, kind).
_BLOCK = 32 * 1024
_IDENT = struct.Struct("<4sHB")
_CHUNK = struct.Struct("<IHB")
_ALL = 100_000
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class MirroredRun:
    """What one run holds.

    Attributes:
        epochs: Values by epoch.
        config: Its configuration.
        summary: Its last values.
        finished: Whether it was closed.
    """

    epochs: dict[int, dict[str, Any]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    @staticmethod
    def of_online(run: Any) -> MirroredRun:
        """Returns what a run of the public API holds."""
        # Not `scan_history`: it reads what the server exports some time after a run.
        rows = run.history(samples=_ALL, pandas=False)
        epochs = {row["epoch"]: row for row in rows if row.get("epoch") is not None}
        return MirroredRun(epochs, dict(run.config), dict(run.summary), run.state == "finished")

    @staticmethod
    def together(parts: Sequence[MirroredRun]) -> MirroredRun:
        """Returns what several parts of one run hold, oldest first; later values hide earlier ones."""
        whole = MirroredRun()
        for part in parts:
            whole.epochs |= part.epochs
            whole.config |= part.config
            whole.summary |= part.summary
            whole.finished = part.finished
        return whole

    def is_exactly(self, wanted: Mapping[str, Any]) -> bool:
        """Returns whether it holds all that is wanted, and nothing that is not.

        Args:
            wanted: `config` and `summary` (values that it must have), `epochs` (these and no others),
                `may_show` (sets whose images may be there), `can_show` (sets of stored images).
        """
        return (
            self.finished
            and len(self.epochs) == len(wanted["epochs"])
            and continues(self.epochs, wanted["epochs"])
            and all(same(self.config.get(key), value) for key, value in wanted["config"].items())
            and all(same(self.summary.get(key), value) for key, value in wanted["summary"].items())
            and self._shows(wanted["may_show"], wanted["can_show"])
        )

    def _shows(self, may: Sequence[str], can: Sequence[str]) -> bool:
        sets = self.summary.get("overlay_sets") or []
        return set(sets) <= set(may) and bool(sets or not can)


def continues(held: Mapping[int, Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> bool:
    """Returns whether the epochs held are the first ones of those wanted, with the same values."""
    return len(held) <= len(wanted) and all(
        result["epoch"] in held and all(same(held[result["epoch"]].get(k), v) for k, v in result.items())
        for result in wanted[: len(held)]
    )


def same(a: Any, b: Any) -> bool:
    """Returns whether two JSON values are equal, to the last digits of a float; NaN and null are alike."""
    if isinstance(a, float | None) and isinstance(b, float | None):
        undefined = [value is None or math.isnan(value) for value in (a, b)]
        return all(undefined) if any(undefined) else math.isclose(a or 0.0, b or 0.0, rel_tol=1e-9)
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-9)
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
