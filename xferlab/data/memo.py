"""Digests of files, remembered by (path, size, modification time), so that known files are not read again."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

_RACY_S = 2.0
"""A file as young as this may change again without a new time stamp, so it is not remembered."""


class FileMemo:
    """SHA-256 of the files of one folder, and facts that follow from them.

    The memo is an accelerator only: it may be deleted at any time, and a torn file counts as empty.
    Writers replace it as a whole; of two at once the later wins and the other's files are read again.
    """

    def __init__(self, memo_dir: Path, root: Path):
        self.root = root
        self._path = memo_dir / f"{hashlib.sha256(str(root).encode()).hexdigest()[:16]}.json"
        self._files: dict[str, tuple[int, int, str]] = {}
        self._facts: dict[str, str] = {}
        self._changed = False
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
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                failures[name] = "Is a directory" if stat.S_ISDIR(status.st_mode) else "Is no regular file"
                continue
            known = self._files.get(name)
            if known is not None and known[:2] == (status.st_size, status.st_mtime_ns):
                digests[name] = known[2]
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
        if not self._changed:
            return
        content = json.dumps({"files": self._files, "facts": self._facts})
        content = f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}"
        self._changed = not write_whole(self._path, lambda file: file.write(content.encode()))

    def _load(self) -> None:
        try:
            digest, _, text = self._path.read_bytes().partition(b"\n")
            if digest.decode() != hashlib.sha256(text).hexdigest():
                return  # a flipped bit would give a case another digest, and a trial another identity
            content = json.loads(text)
            self._files = {name: (size, mtime, sha) for name, (size, mtime, sha) in content["files"].items()}
            self._facts = dict(content["facts"])
        except (OSError, ValueError):
            self._files, self._facts = {}, {}

    def _hash_all(self, names: list[str], digests: dict[str, str], failures: dict[str, str]) -> None:
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for name, result in zip(names, pool.map(self._hash, names), strict=True):
                if isinstance(result, OSError):
                    failures[name] = result.strerror or str(result)
                    continue
                digests[name] = result[2]
                if time.time() - result[1] / 1e9 > _RACY_S:
                    self._files[name] = result
                    self._changed = True

    def _hash(self, name: str) -> tuple[int, int, str] | OSError:
        try:
            with open(self.root / name, "rb") as file:
                status = os.fstat(file.fileno())
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            return error
        return status.st_size, status.st_mtime_ns, digest


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
