"""Bytes under names on any pyarrow filesystem; a reader never meets a half-written file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from xferlab.errors import StorageError, without_query
from xferlab.records.files import Files
from xferlab.records.local import LocalFiles
from xferlab.records.retries import Result, with_retries


@dataclass(frozen=True)
class Store:
    """A storage location: a local folder, a URI such as `s3://bucket/prefix`, or an archive to read from.

    Attributes:
        location: Absolute path or URI; enough to open the same store on another machine.
        filesystem: The pyarrow filesystem behind it.
        root: The location within that filesystem.
        archived: What reads an archive, in place of the filesystem.
    """

    location: str = field(repr=False)
    filesystem: pafs.FileSystem
    root: str
    archived: Files | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def open(location: str | Path | Store) -> Store:
        """Opens a storage; a local folder need not exist yet. One that is open already is returned.

        Raises:
            StorageError: The URI's scheme is unknown or its parts do not parse, or an archive is damaged.
        """
        if isinstance(location, Store):
            return location
        text = str(location)
        if is_archive(text):
            from xferlab.records.archive import open_archive  # it reads records, which are read from stores

            return open_archive(Path(text).expanduser().resolve())
        if "://" not in text:
            try:
                path = str(Path(text).expanduser().resolve())
            except RuntimeError as error:  # no HOME, and no such user
                raise StorageError(
                    f"storage {text!r} lies in a home folder that is not known; give another with --storage"
                ) from error
            return Store(path, pafs.LocalFileSystem(), path)
        try:
            filesystem, root = pafs.FileSystem.from_uri(_in_one_request(text))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            # pyarrow quotes the whole URI; neither the message nor a traceback may hold its keys.
            reason = str(error).replace(_in_one_request(text), without_query(text)).rstrip(".")
            raise StorageError(
                f"storage {without_query(text)!r} cannot be opened: {reason}. "
                "Give a folder, or a URI that pyarrow knows such as s3://bucket/prefix."
            ) from None
        return Store(text, filesystem, root.rstrip("/"))

    def __repr__(self) -> str:
        return f"Store({self.shown!r})"

    @property
    def shown(self) -> str:
        """The location for messages: without its query and user part, where keys may stand."""
        return without_query(self.location)

    @property
    def is_local(self) -> bool:
        """Whether other machines see it only through a shared file system."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def path(self, name: str) -> str:
        """Returns where a file lies, for messages."""
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes | None:
        """Returns the bytes of a file, or None where there is none.

        Raises:
            StorageError: It exists and cannot be read.
        """
        return self._do("read", name, lambda: self._files.read(self.path(name)))

    def look(self, name: str) -> pafs.FileInfo | None:
        """Returns what lies under a name: size, time of the last change; None where nothing does."""
        return self._do("reached", name, lambda: self._files.look(self.path(name)))

    def exists(self, name: str) -> bool:
        """Returns whether there is a file or folder of this name."""
        return self.look(name) is not None

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes, or None where there is no such file."""
        info = self.look(name)
        return info.size if info and info.is_file else None

    def write(self, name: str, data: bytes) -> None:
        """Writes a file as a whole or not at all: temp, fsync, replace locally; one PUT on object stores.

        Raises:
            StorageError: It cannot be written; a file that was there before is unchanged.
        """
        self._do("written", name, lambda: self._files.write(self.path(name), data))

    def append(self, name: str, data: bytes) -> None:
        """Adds to the end of a file of a local storage; a reader may meet half of it. For logs alone.

        Raises:
            StorageError: It cannot be written.
        """
        self._do("written", name, lambda: self._files.append(self.path(name), data))

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file only where none is: exclusive locally, best effort on object stores.

        On a file system without hard links a reader may meet the file while it is still empty.

        Returns:
            Whether this call created it.
        """
        attempts = 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            if self._files.create(self.path(name), data):
                return True
            # An attempt whose answer was lost may have created it.
            return attempts > 1 and self._files.read(self.path(name)) == data

        return self._do("written", name, attempt)

    def list(self, name: str) -> list[str]:
        """Returns the names directly inside a folder, sorted; none where it is absent."""
        infos = self._do("listed", name, lambda: self._files.list(self.path(name)))
        return sorted(info.base_name for info in infos)

    def leaves_out(self, name: str) -> bool:
        """Returns whether the storage knows a file's size and digest, and does not hold it: in an archive."""
        return self._files.leaves_out(self.path(name))

    def walk(self, name: str) -> Sequence[tuple[str, pafs.FileInfo]]:
        """Returns all files below a folder, by their names in the storage; nothing where it is absent."""
        folder = self.path(name).rstrip("/")
        infos = self._do("listed", name, lambda: self._files.list(folder, recursive=True))
        files = {info.path[len(self.root) + 1 :]: info for info in infos if info.is_file}
        return sorted(files.items())

    def delete(self, name: str) -> None:
        """Deletes a file; that it is already gone is no error."""
        self._do("deleted", name, lambda: self._files.delete(self.path(name)))

    def delete_dir(self, name: str) -> None:
        """Deletes a folder with all that it holds; that it is already gone is no error."""
        self._do("deleted", name, lambda: self._files.delete_dir(self.path(name)))

    def set_aside(self, name: str) -> str:
        """Renames a damaged file, so that it counts as absent and nothing is lost.

        Returns:
            Where it lies now.
        """
        aside = f"{name}.damaged-{secrets.token_hex(4)}"
        self._do("set aside", name, lambda: self._files.move(self.path(name), self.path(aside)))
        return self.path(aside)

    @cached_property
    def _files(self) -> Files:
        return self.archived or (LocalFiles if self.is_local else Files)(self.filesystem)

    def _do(self, verb: str, name: str, operation: Callable[[], Result]) -> Result:
        path = self.path(name)
        try:
            return with_retries(operation, what=path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be {verb}: {error}") from error


def is_archive(location: str) -> bool:
    """Returns whether a location names an archive: by its ending, unless there is a folder of that name."""
    is_zip = location.lower().endswith(".zip") and "://" not in location
    return is_zip and not os.path.isdir(os.path.expanduser(location))


def _in_one_request(uri: str) -> str:
    """Returns an S3 URI that makes a small file one PUT; without it pyarrow makes three requests of it."""
    if not uri.startswith("s3://") or "allow_delayed_open" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"
