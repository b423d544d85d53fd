"""Everything that a run has written, to be searched for what must not be in it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

MIN_DIGITS = 8
"""Fewer digits in base64 stand in a picture by chance."""


def holding(words: Iterable[str], *folders: Path) -> dict[str, list[str]]:
    """Returns the words that stand in names or contents of files, plain or encoded, and where."""
    found: dict[str, list[str]] = {}
    known = {word: list(encodings(word)) for word in words}
    for folder in folders:
        for path in [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]:
            text = b"\n".join([str(path.relative_to(folder)).encode(), *contents(path)])
            lower = text.lower()
            for word, (plain, *encoded) in known.items():
                if plain in lower or any(one in text for one in encoded):
                    found.setdefault(word, []).append(str(path))
    return found


def encodings(word: str) -> Iterator[bytes]:
    """Yields a word in lower case, in hex digits, and as it may stand in base64."""
    plain = word.encode()
    yield plain.lower()
    yield plain.hex().encode()
    for shift in range(3):
        # What its neighbours take part in is cut off at both ends.
        whole = b64encode(b"\0" * shift + plain)
        inner = whole[(0, 2, 3)[shift] : len(whole) - 4]
        if len(inner) >= MIN_DIGITS:
            yield inner


def contents(path: Path) -> Iterator[bytes]:
    """Yields the bytes of a file, and what stands in it compressed: the columns of a Parquet table."""
    data = path.read_bytes()
    yield data
    if path.suffix == ".parquet":
        for column in pq.read_table(pa.BufferReader(data)).columns:
            yield repr(column.to_pylist()).encode()


def copied(filesystem: pafs.FileSystem, root: str, folder: Path) -> Path:
    """Copies a storage to local files, read object by object."""
    folder.mkdir()
    pafs.copy_files(root, str(folder), source_filesystem=filesystem, use_threads=False)
    return folder
