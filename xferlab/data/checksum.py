"""The digest beside a file of the cache: whether its bytes are those that were written, once per process."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

_verdicts: dict[FileIdentity, bool] = {}
"""What this process found. A worker opens the same tables for every trial, and reading them takes seconds."""


@dataclass(frozen=True)
class FileIdentity:
    """Which file lies at a path: a file that takes its place, or is written to, is another one."""

    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path, file: int | None = None) -> FileIdentity:
        """Returns the identity of the file at the path, or of the open file descriptor.

        Raises:
            OSError: If there is none.
        """
        status = os.stat(path if file is None else file)
        return cls(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def seal_path(path: Path) -> Path:
    """Returns where the digest of a file lies, in the form that `sha256sum --check` reads."""
    return path.with_suffix(".sha256")


def replace_sealed(written: Path, path: Path) -> None:
    """Renames a complete file to `path`, with its digest.

    The digest comes first: whoever sees the file sees its digest, and a kill in between leaves one that is
    no file's. The caller holds the lock of `path`; its seal is made in `written`'s folder as `<written>.tmp`.

    Raises:
        OSError: If the folder cannot be written.
    """
    seal = written.with_name(f"{written.name}.tmp")
    try:
        with open(written, "rb") as file:
            seal.write_bytes(_line(hashlib.file_digest(file, "sha256").hexdigest(), path))
        os.replace(seal, seal_path(path))
        os.replace(written, path)
    finally:
        seal.unlink(missing_ok=True)


def is_intact(identity: FileIdentity) -> bool:
    """Returns whether a file has the bytes that were sealed; False, too, if another took its place.

    Take the identity before mapping and ask after it: then the bytes that were read are those of the map.
    """
    if identity not in _verdicts:
        try:
            with open(identity.path, "rb") as file:
                if FileIdentity.of(identity.path, file.fileno()) != identity:
                    return False
                sealed = seal_path(identity.path).read_bytes()
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return False
        _verdicts[identity] = sealed == _line(found, identity.path)
    return _verdicts[identity]


def _line(digest: str, path: Path) -> bytes:
    return f"{digest}  {path.name}\n".encode()
