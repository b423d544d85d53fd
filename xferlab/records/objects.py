"""Objects behind any pyarrow filesystem (`s3://` and others): a file is one PUT, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

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
        return _found(self._filesystem.get_file_info(path))

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
        return [one for one in map(_found, infos) if one is not None]

    def walk(self, path: str) -> Iterator[tuple[str, FileInfo]]:
        """Yields all files below a folder, by their path from there."""
        selector = pafs.FileSelector(path, allow_not_found=True, recursive=True)
        for info in self._filesystem.get_file_info(selector):
            found = _found(info)
            if found is not None and not found.is_dir:
                yield info.path[len(path) + 1 :], found

    def delete(self, path: str) -> None:
        """Deletes a file; that it is already gone is no error."""
        self._delete(path, self._filesystem.delete_file)

    def delete_dir(self, path: str) -> None:
        """Deletes a folder with all that it holds; that it is already gone is no error."""
        self._delete(path, self._filesystem.delete_dir)

    def _delete(self, path: str, delete: Callable[[str], None]) -> None:
        try:
            delete(path)
        except FileNotFoundError:
            return
        except OSError:
            if self.look(path) is not None:
                raise

    def move(self, path: str, to: str) -> None:
        """Renames a file, by a copy; that it is already gone is no error."""
        try:
            self._filesystem.move(path, to)
        except OSError:
            if self.look(path) is not None:
                raise


def _found(info: pafs.FileInfo) -> FileInfo | None:
    if info.type == pafs.FileType.NotFound:
        return None
    modified = info.mtime.timestamp() if info.mtime is not None else 0.0
    return FileInfo(info.base_name, info.type == pafs.FileType.Directory, int(info.size or 0), modified)
