"""Files behind any pyarrow filesystem (`s3://` and others): on an object store a file is one PUT."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pyarrow.fs as pafs

_SMALL_BYTES = 1 << 20
_READS = 20


class Files:
    """The operations of a store on a filesystem; every one may be tried again. Raises OSError."""

    def __init__(self, filesystem: pafs.FileSystem):
        self.filesystem = filesystem

    def read(self, path: str) -> bytes | None:
        """Returns the bytes of a file, or None where there is none.

        On S3, pyarrow asks how long an object is, and then for as many bytes: of one that was replaced in
        between, these may be the beginning alone. Small files are compared with the MD5 that S3 tells. Where
        it tells something else, as of encrypted objects, they are read until two reads agree. Large files are
        not replaced while others read them.
        """
        data, before = b"", None
        for _ in range(_READS):
            try:
                with self.filesystem.open_input_stream(path) as stream:
                    tag = (stream.metadata() or {}).get("ETag", b"").decode()
                    data = bytes(stream.read())
            except (FileNotFoundError, NotADirectoryError):
                return None
            if not tag or len(data) > _SMALL_BYTES or data == before or _md5(data) in tag:
                break
            before = data
        return data

    def look(self, path: str) -> pafs.FileInfo | None:
        """Returns what lies there, or None."""
        info = self.filesystem.get_file_info(path)
        return None if info.type == pafs.FileType.NotFound else info

    def leaves_out(self, path: str) -> bool:
        """Returns whether a file is known by its size and digest alone, as some are in an archive."""
        return False

    def write(self, path: str, data: bytes) -> None:
        """Writes a file as a whole or not at all."""
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(data)

    def append(self, path: str, data: bytes) -> None:
        """Adds to the end of a file, where the file system can; object stores cannot."""
        with self.filesystem.open_append_stream(path) as stream:
            stream.write(data)

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file only where none is: best effort, since pyarrow has no conditional PUT."""
        if self.look(path) is not None:
            return False
        self.write(path, data)
        return True

    def list(self, path: str, *, recursive: bool = False) -> list[pafs.FileInfo]:
        """Returns what lies in a folder, directly or at any depth; nothing where it is absent."""
        selector = pafs.FileSelector(path, allow_not_found=True, recursive=recursive)
        return list(self.filesystem.get_file_info(selector))

    def delete(self, path: str) -> None:
        """Deletes a file; that it is already gone is no error."""
        self._unless_gone(path, lambda: self.filesystem.delete_file(path))

    def delete_dir(self, path: str) -> None:
        """Deletes a folder with all that it holds; that it is already gone is no error."""
        self._unless_gone(path, lambda: self.filesystem.delete_dir(path))

    def move(self, path: str, to: str) -> None:
        """Renames a file, on an object store by a copy; that it is already gone is no error."""
        self._unless_gone(path, lambda: self.filesystem.move(path, to))

    def _unless_gone(self, path: str, change: Callable[[], object]) -> None:
        try:
            change()
        except OSError as error:
            if not isinstance(error, FileNotFoundError) and self.look(path) is not None:
                raise


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
