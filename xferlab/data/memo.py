"""Digests of files, remembered while nothing about a file changed, so that known files are not read again.

A digest is believed only together with size, modification time, change time and inode. The change time moves
when a file is replaced or written, whatever time stamp it is given. The device is left out: network and
container file systems give it another number with each mount. A remembered digest may still be wrong where a
file system has no such times, so `FileMemo.read` compares it with the bytes that are decoded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from xferlab.errors import DataError, FileUnavailableError, attempt
from xferlab.parallel import for_each

MAX_BYTES = 2**30
"""Of a file to decode; an uncompressed image of the most pixels that are accepted has fewer."""

_VERSION = 2
"""Part of the name of the memo's file; version 1 did not remember change time and inode."""
_RACY_S = 2.0
"""A file as young as this may change again without a new time stamp, so it is not remembered."""


Stamp = tuple[int, ...]
"""What tells, without reading a file, that it was not replaced or written: see `stamp_of`."""


def stamp_of(status: os.stat_result) -> Stamp:
    """Returns size, modification time, change time and inode of a file; times in ns."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def is_settled(status: os.stat_result, time_ns: int) -> bool:
    """Returns whether a change after `time_ns` would alter the stamp of a file."""
    return max(status.st_mtime_ns, status.st_ctime_ns) < time_ns - _RACY_S * 1e9


class FileMemo:
    """SHA-256 of the files of one folder, and facts that follow from them.

    The memo only saves time: it may be deleted at any moment, and a torn file counts as empty. Writers
    replace it as a whole. Of two at once the first wins, and the other's files are read again, so that nobody
    writes back what `read` made all forget.

    Attributes:
        root: The folder; names are paths below it.
    """

    def __init__(self, memo_dir: Path, root: Path):
        self.root = root
        self._path = memo_dir / f"{_sha256(str(root))[:16]}.v{_VERSION}.json"
        self._files: dict[str, tuple[Stamp, str]] = {}
        self._facts: dict[str, str] = {}
        self._changed = False
        self._loaded_from = _stamp_at(self._path)
        with suppress(OSError, ValueError, TypeError, LookupError):
            content = read_json(self._path)
            self._files = {name: (tuple(stamp), sha) for name, (stamp, sha) in content["files"].items()}
            self._facts = dict(content["facts"])

    def digests(self, names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Returns (name -> SHA-256 hex, name -> why it cannot be read)."""
        digests = {name: self._known(name) for name in dict.fromkeys(names)}
        new = [name for name, digest in digests.items() if not digest]
        results = dict(zip(new, for_each(new, self._hash), strict=True))
        digests |= {name: digest for name, (digest, _) in results.items()}
        failures = {name: why for name, (_, why) in results.items() if why}
        return {name: digest for name, digest in digests.items() if digest}, failures

    def facts(
        self, keys: Mapping[str, str], find: Callable[[str], bool | None]
    ) -> tuple[dict[str, bool], dict[str, DataError]]:
        """Returns what follows from files; what is not remembered is found from them.

        Args:
            keys: Name -> what the fact is remembered under, which must contain the file's digest.
            find: Called with a name, from several threads at once. None: it cannot be known today.

        Returns:
            Name -> the fact, where it is known; and name -> why not, where `find` raised.
        """
        new = [name for name, key in keys.items() if key not in self._facts]
        results = dict(zip(new, for_each(new, partial(attempt, find)), strict=True))
        found = {name: result for name, result in results.items() if isinstance(result, bool)}
        self._facts |= {keys[name]: "yes" if fact else "no" for name, fact in found.items()}
        self._changed |= bool(found)
        facts = {name: self._facts[key] == "yes" for name, key in keys.items() if key in self._facts}
        return facts, {name: result for name, result in results.items() if isinstance(result, DataError)}

    def save(self) -> None:
        """Writes what is new, atomically. A folder that cannot be written costs time later, no more."""
        if self._changed and _stamp_at(self._path) == self._loaded_from:
            with suppress(OSError):
                write_json(self._path, {"files": self._files, "facts": self._facts})
                self._changed = False
            self._loaded_from = _stamp_at(self._path)

    def read(self, name: str, sha256: str) -> bytes:
        """Returns the bytes of a file that is to be decoded, if it has the digest that it was planned with.

        Raises:
            FileUnavailableError: The file cannot be read, or has another digest: then all digests of the
                folder are forgotten, so that planning again reads its files.
            DataError: The file has more than `MAX_BYTES`.
        """
        path = self.root / name
        try:
            data = read_file(path)
        except OSError as error:
            raise FileUnavailableError.at(path, f"cannot be read: {error.strerror or error}.") from error
        digest = hashlib.sha256(data).hexdigest()
        if digest != sha256:
            with suppress(OSError):
                write_json(self._path, {"files": {}, "facts": {}})
            raise FileUnavailableError.at(
                path,
                f"changed since the study was planned: its SHA-256 was {sha256[:16]}... and is now"
                f" {digest[:16]}.... Plan the study again, or restore the file.",
            )
        return data

    def _known(self, name: str) -> str:
        """The remembered digest of a file that did not change; empty if there is none."""
        stamp, digest = self._files.get(name, (None, ""))
        return digest if stamp == _stamp_at(self.root / name) else ""

    def _hash(self, name: str) -> tuple[str, str]:
        """The digest of a file, which is remembered if a later change would alter the stamp; or why not."""
        started_ns = time.time_ns()
        try:
            with open(self.root / name, "rb", opener=regular) as file:
                status = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError) as error:  # ValueError: a name that the file system cannot spell
            return "", getattr(error, "strerror", None) or str(error)
        if is_settled(status, started_ns):
            self._files[name] = stamp_of(status), digest
            self._changed = True
        return digest, ""


def _stamp_at(path: Path) -> Stamp | None:
    try:
        return stamp_of(os.stat(path))
    except (OSError, ValueError):
        return None  # reading it tells why


def read_file(path: Path, size: int = -1) -> bytes:
    """Returns the first bytes of a file that is to be decoded, or all.

    Raises:
        OSError: It cannot be read, or is no regular file.
        DataError: It has more than `MAX_BYTES`.
    """
    with open(path, "rb", opener=regular) as file:
        length = os.fstat(file.fileno()).st_size
        if length > MAX_BYTES:
            raise DataError.at(path, f"has {length:,} bytes; up to {MAX_BYTES:,} are accepted.")
        return file.read(size)


def regular(name: str, flags: int) -> int:
    """Opens a regular file, as `open` wants it of its opener."""
    # Without blocking: a pipe that took the file's name would keep us waiting for ever.
    descriptor = os.open(name, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "Is a directory" if stat.S_ISDIR(mode) else "Is no regular file")


def write_json(path: Path, content: object) -> None:
    """Writes a value atomically, after its digest.

    Raises:
        OSError: The folder cannot be written.
    """
    text = json.dumps(content)
    write_whole(path, lambda file: file.write(f"{_sha256(text)}\n{text}".encode()))


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


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file of the cache atomically.

    Raises:
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.stem}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
