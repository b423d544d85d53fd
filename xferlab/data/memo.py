"""Digests of files, remembered while nothing about a file changed, so that known files are not read again.

A digest is believed only together with size, modification time, change time and inode: the change time moves
when a file is replaced or written, whatever time stamp it is given. The device is left out, since network and
container file systems number it anew with each mount. Even so, a remembered digest may be wrong where a file
system has no such times: `PlannedFiles` compares it with the bytes that are decoded.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from xferlab.errors import DataError, FileUnavailableError, Problem

MAX_BYTES = 2**30
"""Of a file to decode; an uncompressed image of the most pixels that are accepted has fewer."""

_VERSION = 2
"""Part of the name of the memo's file; version 1 did not remember change time and inode."""
_RACY_S = 2.0
"""A file as young as this may change again without a new time stamp, so it is not remembered."""


class _Stamp(NamedTuple):
    """What tells, without reading a file, that it was not replaced or written."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def is_older_than(self, time_ns: int) -> bool:
        return max(self.modified_ns, self.changed_ns) < time_ns - _RACY_S * 1e9


class FileMemo:
    """SHA-256 of the files of one folder, and facts that follow from them.

    The memo is an accelerator only: it may be deleted at any time, and a torn file counts as empty.
    Writers replace it as a whole; of two at once the first wins and the other's files are read again, so that
    nobody writes back what `PlannedFiles` made all forget.
    """

    def __init__(self, memo_dir: Path, root: Path):
        self.root = root
        self._path = _memo_path(memo_dir, root)
        self._files: dict[str, tuple[_Stamp, str]] = {}
        self._facts: dict[str, str] = {}
        self._changed = False
        self._loaded_from = self._stamp()
        self._load()

    def digests(self, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Returns (name -> SHA-256 hex, name -> why it cannot be read); names are paths below the root."""
        digests: dict[str, str] = {}
        failures: dict[str, str] = {}
        unknown = []
        for name in dict.fromkeys(names):
            try:
                status = os.stat(self.root / name)
            except (OSError, ValueError) as error:  # ValueError: a name that the file system cannot spell
                failures[name] = getattr(error, "strerror", None) or str(error)
                continue
            if not stat.S_ISREG(status.st_mode):
                failures[name] = "Is a directory" if stat.S_ISDIR(status.st_mode) else "Is no regular file"
                continue
            known = self._files.get(name)
            if known is not None and known[0] == _Stamp.of(status):
                digests[name] = known[1]
            else:
                unknown.append(name)
        if unknown:
            self._hash_all(unknown, digests, failures)
        return digests, failures

    def fact(self, key: str) -> str | None:
        """Returns what was remembered under the key, or None."""
        return self._facts.get(key)

    def remember(self, key: str, value: str) -> None:
        """Remembers a fact; the key must contain the digest of what the fact follows from."""
        self._facts[key] = value
        self._changed = True

    def save(self) -> None:
        """Writes what is new, atomically. A folder that cannot be written costs time later, no more."""
        if not self._changed or self._stamp() != self._loaded_from:
            return
        self._changed = not write_json(self._path, {"files": self._files, "facts": self._facts})
        self._loaded_from = self._stamp()

    def _stamp(self) -> _Stamp | None:
        try:
            return _Stamp.of(os.stat(self._path))
        except OSError:
            return None

    def _load(self) -> None:
        try:
            content = read_json(self._path)
            self._files = {name: (_Stamp(*stamp), sha) for name, (stamp, sha) in content["files"].items()}
            self._facts = dict(content["facts"])
        except (OSError, ValueError, TypeError, LookupError):
            self._files, self._facts = {}, {}

    def _hash_all(self, names: list[str], digests: dict[str, str], failures: dict[str, str]) -> None:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for name, result in zip(names, pool.map(self._hash, names), strict=True):
                if isinstance(result, OSError):
                    failures[name] = result.strerror or str(result)
                    continue
                stamp, digests[name], started_ns = result
                if stamp.is_older_than(started_ns):
                    self._files[name] = stamp, digests[name]
                    self._changed = True

    def _hash(self, name: str) -> tuple[_Stamp, str, int] | OSError:
        """The stamp from before the file was read, its digest, and the time when reading began."""
        started_ns = time.time_ns()
        try:
            with _opened(self.root / name) as file:
                stamp = _Stamp.of(os.fstat(file.fileno()))
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return error
        return stamp, digest, started_ns


@dataclass(frozen=True)
class PlannedFiles:
    """The files of a folder, read to be decoded: their bytes have the digests that they were planned with.

    Attributes:
        root: The folder.
        memo_dir: Where its digests are remembered.
    """

    root: Path
    memo_dir: Path

    def read(self, name: str, sha256: str) -> bytes:
        """Returns the bytes of a file below the root.

        Raises:
            FileUnavailableError: The file cannot be read, or has another digest: then all digests of the
                folder are forgotten, so that planning again reads its files.
            DataError: The file has more than `MAX_BYTES`.
        """
        path = self.root / name
        try:
            data = _read_whole(path)
        except OSError as error:
            raise _unavailable(path, f"cannot be read: {error.strerror or error}.") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != sha256:
            write_json(_memo_path(self.memo_dir, self.root), {"files": {}, "facts": {}})
            what = f"changed since the study was planned: its SHA-256 was {sha256[:16]}... and is now"
            raise _unavailable(path, f"{what} {digest[:16]}.... Plan the study again, or restore the file.")
        return data


def _opened(path: Path) -> BufferedReader:
    # Without blocking: a pipe that took the file's name would keep us waiting for ever.
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _read_whole(path: Path) -> bytes:
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise DataError(Problem(str(path), f"has {size:,} bytes; up to {MAX_BYTES:,} are accepted."))
        return file.read()


def _unavailable(path: Path, what: str) -> FileUnavailableError:
    return FileUnavailableError(Problem(str(path), what))


def _memo_path(memo_dir: Path, root: Path) -> Path:
    return memo_dir / f"{_sha256(str(root))[:16]}.v{_VERSION}.json"


def write_json(path: Path, content: object) -> bool:
    """Writes a value atomically, after its digest; returns whether it is written."""
    text = json.dumps(content)
    return write_whole(path, lambda file: file.write(f"{_sha256(text)}\n{text}".encode()))


def read_json(path: Path) -> Any:
    """Returns what `write_json` wrote.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is torn, or a bit of it flipped, which could give a trial another identity.
    """
    digest, _, text = path.read_text().partition("\n")
    if digest != _sha256(text):
        raise ValueError(f"{path}: does not match its own digest")
    return json.loads(text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> bool:
    """Writes a file of the cache atomically; a folder that cannot be written costs time later, no more.

    Returns:
        Whether it is written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError:
        return False
    return True
