"""A study in one zip file, which is only read: its records as in a storage, and the digest of every file.

`xferlab-archive.json` lists all files with their sizes and digests, and those that were left out. An archive
comes from elsewhere: all of it is verified when it is opened, nothing of it is ever written to a disk, and
whatever is not as the list says is an error that names the entry.
"""

from __future__ import annotations

import errno
import hashlib
import os
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NoReturn
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import pyarrow.fs as pafs
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from xferlab.errors import RecordError
from xferlab.plan.spec import PLAN_VERSION, SPEC_VERSION
from xferlab.records import codec
from xferlab.records.files import Files
from xferlab.records.schema import RECORD_VERSION
from xferlab.records.store import Store

MANIFEST, CRATE = "xferlab-archive.json", "ro-crate-metadata.json"
STORAGE = "storage/"
"""Folder of the records in an archive."""
WEIGHTS = ".safetensors"
"""Files that are verified when they are read, since they are large."""
VERSIONS = {"archives": 1, "plans": PLAN_VERSION, "records": RECORD_VERSION, "specs": SPEC_VERSION}
MAX_RATIO, SMALL_BYTES = 100, 1 << 26
"""Files of more than 64 MiB, and 100 times as large as their archive, are refused; records shrink tenfold."""
_DAMAGED = (BadZipFile, OSError, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises for entries that are torn or encrypted."""


@dataclass(frozen=True)
class FileFacts:
    """Size and SHA-256 of a file."""

    size: int
    sha256: str

    @staticmethod
    def of(data: bytes) -> FileFacts:
        """Returns those of a content."""
        return FileFacts(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        study: Name of the study.
        written_by: Version of xferlab.
        versions: Of the formats in it: `VERSIONS`.
        missing: Trials that are not complete: `trial_id`, `name` and `reason`.
        files: All files by name, but for itself and the RO-Crate metadata, to which authors may add.
        left_out: Files that records name and the archive does not hold.
    """

    study: str
    written_by: str
    versions: Mapping[str, int]
    missing: tuple[Mapping[str, str], ...]
    files: Mapping[str, FileFacts]
    left_out: Mapping[str, FileFacts]


class ArchivedFiles(Files):
    """The records of an archive, or of one that is being made. Nothing can be written.

    Files that were left out are listed with their sizes, so that the trials that have them are complete.
    """

    def __init__(
        self, root: str, sizes: Mapping[str, int], content: Callable[[str], bytes], left_out: Collection[str]
    ):
        """Takes the sizes of all files by name, what returns the content of one, and which are left out."""
        super().__init__(pafs.LocalFileSystem())
        self._root, self._sizes, self._content, self._left_out = root, sizes, content, left_out
        self._folders = {str(folder) for name in sizes for folder in Path(name).parents}

    def read(self, path: str) -> bytes | None:
        """Returns the bytes of a file, or None where there is none."""
        name = self._name(path)
        if name in self._left_out:
            raise OSError("it was left out when the study was archived")
        return self._content(name) if name in self._sizes else None

    def leaves_out(self, path: str) -> bool:
        """Returns whether a file was left out."""
        return self._name(path) in self._left_out

    def look(self, path: str) -> pafs.FileInfo | None:
        """Returns what lies there, or None."""
        name = self._name(path)
        if name in self._sizes:
            return pafs.FileInfo(path, pafs.FileType.File, size=self._sizes[name])
        return pafs.FileInfo(path, pafs.FileType.Directory) if name in self._folders else None

    def list(self, path: str, *, recursive: bool = False) -> list[pafs.FileInfo]:
        """Returns what lies in a folder, directly or at any depth; nothing where it is absent."""
        folder, names = self._name(path), {*self._sizes, *self._folders} - {"."}
        inside = [
            name
            for name in sorted(names)
            if (folder in map(str, Path(name).parents) if recursive else str(Path(name).parent) == folder)
        ]
        return [info for name in inside if (info := self.look(f"{self._root}/{name}"))]

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root).strip("/") or "."

    def _refuse(self, path: str, *args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    write = append = create = delete = delete_dir = move = _refuse


def open_archive(path: Path) -> Store:
    """Returns the records of an archive as a storage that is only read. All but weights are verified.

    Raises:
        RecordError: It does not exist, is no archive of ours, of another version, damaged or altered; says
            which entry.
    """
    try:
        archive = ZipFile(path)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: there is no such archive; check its name and folder") from error
    except _DAMAGED as error:
        raise RecordError(
            f"{path}: is no whole zip file ({error}); it may have been cut off: copy it again"
        ) from error
    manifest = _checked(path, archive)

    def content(name: str) -> bytes:
        return _content(path, archive, name, manifest.files[name])

    for name in manifest.files:
        if not name.endswith(WEIGHTS):
            content(name)
    facts = {**manifest.files, **manifest.left_out}
    sizes = {
        name.removeprefix(STORAGE): each.size for name, each in facts.items() if name.startswith(STORAGE)
    }
    left_out = {name.removeprefix(STORAGE) for name in manifest.left_out}
    files = ArchivedFiles(str(path), sizes, lambda name: content(STORAGE + name), left_out)
    return Store(str(path), files.filesystem, str(path), files)


def _checked(path: Path, archive: ZipFile) -> Manifest:
    """Returns the list of an archive whose entries are those of the list, by their names and sizes."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    for info in infos:
        parts = info.orig_filename.replace("\\", "/").split("/")
        if ".." in parts or not parts[0] or ":" in parts[0] or "\0" in info.orig_filename:
            raise _damaged(path, info.orig_filename, "its name leads out of the archive")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):  # of others, a part cannot be read alone
            raise _damaged(path, info.filename, "it is compressed in another way than xferlab does it")
    name, number = Counter(info.filename for info in infos).most_common(1)[0] if infos else ("", 0)
    if number > 1:
        raise _damaged(path, name, f"there are {number} of this name")
    whole = sum(info.file_size for info in infos)
    if whole > max(SMALL_BYTES, MAX_RATIO * path.stat().st_size):
        largest = max(infos, key=lambda info: info.file_size)
        raise _damaged(path, largest.filename, f"it says that it holds {largest.file_size} bytes, too many")
    sizes = {info.filename: info.file_size for info in infos}
    manifest = _manifest(path, archive, sizes)
    for name, facts in manifest.files.items():
        if name not in sizes:
            raise _damaged(path, name, "it is missing")
        if sizes[name] != facts.size:
            raise _damaged(path, name, f"it has {sizes[name]} bytes, and the archive lists {facts.size}")
    for name in sizes.keys() - manifest.files.keys() - {MANIFEST, CRATE}:
        raise _damaged(path, name, "the archive does not list it")
    return manifest


def _manifest(path: Path, archive: ZipFile, sizes: Mapping[str, int]) -> Manifest:
    if MANIFEST not in sizes:
        raise RecordError(f"{path}: has no {MANIFEST}, so `xferlab archive` did not write it")
    try:
        body = codec.checked(_read(archive, MANIFEST, sizes[MANIFEST]))
        versions = {name: int(version) for name, version in body["versions"].items()}
    except (KeyError, TypeError, AttributeError, *_DAMAGED) as error:
        raise _damaged(path, MANIFEST, f"it is damaged ({error})") from error
    for name, accepted in VERSIONS.items():
        if versions.get(name) != accepted:
            raise RecordError(
                f"{path}: was written by xferlab {body.get('written_by')} with {name} of version "
                f"{versions.get(name)}, and this xferlab reads version {accepted}; use the one that wrote it"
            )
    try:
        manifest: Manifest = TypeAdapter(Manifest).validate_python(body)
    except ValueError as error:
        raise _damaged(path, MANIFEST, f"it is damaged ({error})") from error
    return manifest


def _content(path: Path, archive: ZipFile, name: str, facts: FileFacts) -> bytes:
    try:
        data = _read(archive, name, facts.size)
    except _DAMAGED as error:
        raise _damaged(path, name, f"it is damaged ({error})") from error
    if FileFacts.of(data) != facts:
        raise _damaged(path, name, "it does not match its digest in the archive")
    return data


def _read(archive: ZipFile, name: str, size: int) -> bytes:
    """Returns an entry of a size; of one that expands to more, no more than shows it."""
    with archive.open(name) as stream:
        return stream.read(size + 1)


def _damaged(path: Path, entry: str, what: str) -> RecordError:
    return RecordError(f"{path}: entry {entry!r}: {what}; get the archive again from where it was published")
