"""Files in a local folder or a network mount: written whole or not at all, and on the disk."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pyarrow.fs as pafs

from xferlab.records.files import Files

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
"""Errors by which file systems refuse hard links (FAT, exFAT, some network mounts)."""
_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
"""Errors by which file systems refuse to sync a folder (SMB, some of FUSE)."""


class LocalFiles(Files):
    """The operations of a store on a local file system; writes are system calls. Raises OSError.

    An NFS client remembers for up to a minute that a file is not there, whoever writes it meanwhile, and asks
    its server again when the folder is opened. So what is not found is looked for once more.
    """

    def read(self, path: str) -> bytes | None:
        """Returns the bytes of a file, or None where there is none."""
        data = super().read(path)
        return super().read(path) if data is None and _is_reopened(os.path.dirname(path)) else data

    def look(self, path: str) -> pafs.FileInfo | None:
        """Returns what lies there, or None."""
        info = super().look(path)
        return super().look(path) if info is None and _is_reopened(os.path.dirname(path)) else info

    def list(self, path: str, *, recursive: bool = False) -> list[pafs.FileInfo]:
        """Returns what lies in a folder, directly or at any depth; nothing where it is absent."""
        _is_reopened(path)
        return super().list(path, recursive=recursive)

    def write(self, path: str, data: bytes) -> None:
        """Writes a file as a whole or not at all, see `write_whole`."""
        write_whole(path, data)

    def append(self, path: str, data: bytes) -> None:
        """Adds to the end of a file, and does not wait for the disk."""
        _make_parent(path)
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as descriptor:
            _write_all(descriptor, data)

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file only where none is; returns whether this call created it.

        A hard link appears with its whole content and fails where the name is taken. Where there are no hard
        links, a reader may meet the file before its content is there.
        """
        _make_parent(path)
        temporary = _write_temporary(path, data)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return os.stat(temporary).st_nlink > 1  # NFS may ask twice, and answer for the second time
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _create_exclusively(path, data)
        finally:
            _discard(temporary)
        return True


def write_whole(path: str, data: bytes, *, mode: int = 0o666) -> None:
    """Writes a file as a whole or not at all: temp, fsync, replace.

    Args:
        path: The file; folders that lead to it are made.
        data: What it is to hold.
        mode: Who may do what with it, less the process's mask.

    Raises:
        OSError: It cannot be written; an earlier file stays.
    """
    _make_parent(path)
    temporary = _write_temporary(path, data, mode)
    try:
        os.replace(temporary, path)
    except OSError:
        _discard(temporary)
        raise
    _sync_folder(path)


@contextmanager
def _opened(path: str, flags: int, mode: int = 0o666) -> Iterator[int]:
    descriptor = os.open(path, flags, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_parent(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)


def _write_temporary(path: str, data: bytes, mode: int = 0o666) -> str:
    # The process number shows leftovers of a killed writer; the random part keeps two writers apart.
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name[:100]}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    _write_new(temporary, data, mode)
    return temporary


def _create_exclusively(path: str, data: bytes) -> bool:
    try:
        _write_new(path, data)
    except FileExistsError:
        return False
    return True


def _is_reopened(folder: str) -> bool:
    """Opens a folder, after those above it where it seems to be absent; returns whether it opens."""
    above = os.path.dirname(folder)
    return _opens(folder) or (above != folder and _is_reopened(above) and _opens(folder))


def _opens(folder: str) -> bool:
    try:
        with _opened(folder, os.O_RDONLY | os.O_DIRECTORY):
            return True
    except OSError:  # the first look stands: nothing is there
        return False


def _write_new(path: str, data: bytes, mode: int = 0o666) -> None:
    created = False
    try:
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) as descriptor:
            created = True
            _write_all(descriptor, data)
            os.fsync(descriptor)
    except OSError:
        if created:
            _discard(path)  # no half file stays on a full disk
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _discard(path: str) -> None:
    with suppress(OSError):  # the error before this one is reported; a leftover is pruned
        os.unlink(path)


def _sync_folder(path: str) -> None:
    with _opened(os.path.dirname(path), os.O_RDONLY) as folder:
        try:
            os.fsync(folder)
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
