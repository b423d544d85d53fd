"""Everything that a run has written, to be searched for what must not be in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def holding(words: Iterable[str], *folders: Path) -> dict[str, list[str]]:
    """Returns the words that stand in names or contents of files, whatever their case, and where."""
    found: dict[str, list[str]] = {}
    known = {word: word.encode().lower() for word in words}
    for folder in folders:
        for path in [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]:
            text = b"\n".join([str(path.relative_to(folder)).encode(), *contents(path)]).lower()
            for word, wanted in known.items():
                if wanted in text:
                    found.setdefault(word, []).append(str(path))
    return found


def contents(path: Path) -> Iterator[bytes]:
    """Yields the bytes of a file, and what stands in it compressed: the columns of a Parquet table."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".parquet":
        for column in pq.read_table(pa.BufferReader(data)).columns:
            yield repr(column.to_pylist()).encode()
