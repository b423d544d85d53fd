"""Bytes under names on any pyarrow filesystem; a reader never meets a half-written file."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from xferlab.errors import StorageError


@dataclass(frozen=True)
class Store:
    """A storage location: a local folder or a URI such as `s3://bucket/prefix`.

    Attributes:
        location: Absolute path or URI; enough to open the same store on another machine.
        filesystem: The pyarrow filesystem behind it.
        root: The location within that filesystem.
    """

    location: str = field(repr=False)
    filesystem: pafs.FileSystem
    root: str

    @staticmethod
    def open(location: str | Path) -> Store:
        """Opens a storage; a local folder need not exist yet.

        Raises:
            StorageError: The URI's scheme is unknown or its parts do not parse.
        """
        text = str(location)
        if "://" not in text:
            path = str(Path(text).expanduser().resolve())
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

    @property
    def shown(self) -> str:
        """The location for messages: without its query and user part, where keys may stand."""
        return without_query(self.location) if "://" in self.location else self.location

    @property
    def is_local(self) -> bool:
        """Whether other machines see it only through a shared file system."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def path(self, name: str) -> str:
        """Returns where a file lies, for messages and for local appends."""
        return f"{self.root}/{name}"

    def read(self, name: str) -> bytes | None:
        """Returns the bytes of a file, or None where there is none.

        Raises:
            StorageError: It exists and cannot be read.
        """
        try:
            with self.filesystem.open_input_file(self.path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None
        except OSError as error:
            if not self.exists(name):
                return None
            raise StorageError(f"{self.path(name)}: cannot be read: {error}") from error

    def exists(self, name: str) -> bool:
        """Returns whether there is a file or folder of this name."""
        return self.size(name) is not None or bool(
            self.filesystem.get_file_info(self.path(name)).type == pafs.FileType.Directory
        )

    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes, or None where there is no such file."""
        try:
            info = self.filesystem.get_file_info(self.path(name))
        except OSError as error:
            raise StorageError(f"{self.path(name)}: cannot be reached: {error}") from error
        return int(info.size) if info.type == pafs.FileType.File else None

    def write(self, name: str, data: bytes) -> None:
        """Writes a file as a whole or not at all: temp, fsync, replace locally; one PUT on object stores.

        Raises:
            StorageError: It cannot be written; a file that was there before is unchanged.
        """
        try:
            if self.is_local:
                _replace(Path(self.path(name)), data)
            else:
                with self.filesystem.open_output_stream(self.path(name)) as stream:
                    stream.write(data)
        except OSError as error:
            raise StorageError(f"{self.path(name)}: cannot be written: {error}") from error

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file only where none is: exclusive locally, best effort on object stores.

        Returns:
            Whether this call created it.
        """
        if not self.is_local:
            if self.exists(name):
                return False
            self.write(name, data)
            return True
        path = Path(self.path(name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = _write_temporary(path, data)
            try:
                return _link(temporary, path)
            finally:
                temporary.unlink()
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error}") from error

    def list(self, name: str) -> list[str]:
        """Returns the names directly inside a folder, sorted; none where it is absent."""
        selector = pafs.FileSelector(self.path(name), allow_not_found=True)
        try:
            return sorted(info.base_name for info in self.filesystem.get_file_info(selector))
        except OSError as error:
            raise StorageError(f"{self.path(name)}: cannot be listed: {error}") from error

    def delete(self, name: str) -> None:
        """Deletes a file; that it is already gone is no error."""
        try:
            self.filesystem.delete_file(self.path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            if self.exists(name):
                raise StorageError(f"{self.path(name)}: cannot be deleted: {error}") from error

    def delete_dir(self, name: str) -> None:
        """Deletes a folder with all that it holds; that it is already gone is no error."""
        try:
            self.filesystem.delete_dir(self.path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"{self.path(name)}: cannot be deleted: {error}") from error


def without_query(uri: str) -> str:
    """Returns a URI without its query and user part, where keys may stand."""
    scheme, _, rest = uri.partition("://")
    place, _, query = rest.partition("?")
    if "@" in query:  # a key may hold a question mark: what stands before it is no place then
        return f"{scheme}://..."
    return f"{scheme}://{place.rpartition('@')[2]}"


def _in_one_request(uri: str) -> str:
    """Returns an S3 URI that makes a small file one PUT; without it pyarrow makes three requests of it."""
    if not uri.startswith("s3://") or "allow_delayed_open" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def _write_temporary(path: Path, data: bytes) -> Path:
    # The prefix marks leftovers of a killed writer; the suffix keeps two writers apart.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk is no place for half a file
        raise
    return temporary


def _link(temporary: Path, path: Path) -> bool:
    """A hard link appears with its whole content, and fails where the name is taken."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    return True


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _write_temporary(path, data)
    try:
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
