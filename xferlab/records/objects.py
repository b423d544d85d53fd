"""Objects behind any pyarrow filesystem (`s3://` and others): a file is one PUT, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.fs as pafs

from xferlab.records.file_info import FileInfo


class ObjectFiles:
    """The operations of a store on an object store; every one may be tried again. Raises OSError."""

    def __init__(self, filesystem: pafs.FileSystem):
        """Takes the pyarrow filesystem."""
        self._filesystem = filesystem

    def read(self, path: str) -> bytes | None:
        """Returns the bytes of a file, or None where there is none."""
        try:
            with self._filesystem.open_input_file(path) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def look(self, path: str) -> FileInfo | None:
        """Returns what lies there, or None."""
        return _info(self._filesystem.get_file_info(path))

    def write(self, path: str, data: bytes) -> None:
        """Writes a file as a whole or not at all."""
        with self._filesystem.open_output_stream(path) as stream:
            stream.write(data)

    def create(self, path: str, data: bytes) -> bool:
        """Writes a file only where none is: best effort, since pyarrow has no conditional PUT."""
        if self.look(path) is not None:
            return False
        self.write(path, data)
        return True

    def list(self, path: str) -> list[FileInfo]:
        """Returns what lies directly inside a folder; nothing where it is absent."""
        infos = self._filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
        return [info for info in map(_info, infos) if info is not None]

    def walk(self, path: str) -> Iterator[tuple[str, FileInfo]]:
        """Yields all files below a folder, by their path from there."""
        selector = pafs.FileSelector(path, allow_not_found=True, recursive=True)
        for file in self._filesystem.get_file_info(selector):
            info = _info(file)
            if info is not None and not info.is_dir:
                yield file.path[len(path) + 1 :], info

    def delete(self, path: str) -> None:
        """Deletes a file; that it is already gone is no error."""
        with self._unless_gone(path):
            self._filesystem.delete_file(path)

    def delete_dir(self, path: str) -> None:
        """Deletes a folder with all that it holds; that it is already gone is no error."""
        with self._unless_gone(path):
            self._filesystem.delete_dir(path)

    def move(self, path: str, to: str) -> None:
        """Renames a file, by a copy; that it is already gone is no error."""
        with self._unless_gone(path):
            self._filesystem.move(path, to)

    @contextmanager
    def _unless_gone(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not isinstance(error, FileNotFoundError) and self.look(path) is not None:
                raise


def _info(file: pafs.FileInfo) -> FileInfo | None:
    if file.type == pafs.FileType.NotFound:
        return None
    modified = file.mtime.timestamp() if file.mtime is not None else 0.0
    return FileInfo(file.base_name, file.type == pafs.FileType.Directory, int(file.size or 0), modified)
