"""Storage that fails when it is told to: at the N-th operation, from the N-th on, or as a seed draws.

`faulty(store, faults)` gives the same storage behind a real pyarrow filesystem whose operations fail: the
way of object stores, whatever lies behind. `faulty_disk(faults)` makes the operations of local stores of
this process fail while it is entered: pyarrow's, and the system calls of writes (open, write, fsync, replace,
link and so on), one by one.

    faults = Faults()                                    # none: count the operations of an undisturbed run
    faults = Faults(nth(7))                              # the 7th fails once, with EIO
    faults = Faults(onwards(7), error=errno.ENOSPC)      # the disk is full from the 7th on
    faults = Faults(seeded(5, share=0.1), late=True)     # every tenth: done, but its answer is lost
    faults = Faults(on=lambda operation, path: path.endswith("record.json"))
    ...
    faults.log                                           # [(operation, path), ...] of all, failed ones too

Between attempts a store pauses (`retries.DELAYS_S`); `without_pauses` leaves the attempts and drops the
pauses.
"""

from __future__ import annotations

import errno as errors
import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.fs as pafs

from xferlab.records import local, retries
from xferlab.records.store import Store

Fails = Callable[[int], bool]
"""Whether the operation of this number (from 1) fails."""


def never(number: int) -> bool:
    return False


def nth(number: int, *, times: int = 1) -> Fails:
    """One operation fails, or a few in a row."""
    return lambda one: number <= one < number + times


def onwards(number: int) -> Fails:
    """This and all later operations fail."""
    return lambda one: one >= number


def seeded(seed: int, *, share: float) -> Fails:
    """A share of all operations fails; the same ones for the same seed."""
    return lambda one: random.Random(f"{seed}/{one}").random() < share


@dataclass
class Faults:
    """What fails, and a log of all that was tried.

    Attributes:
        fails: Whether the operation of a number fails.
        error: Its errno.
        late: Writing operations take effect, and only their answer is lost.
        on: The operations that count and may fail, by their name and path.
        log: Name and path of every operation that counts, in order.
        num_failed: How many of them failed.
    """

    fails: Fails = never
    error: int = errors.EIO
    late: bool = False
    on: Callable[[str, str], bool] = lambda operation, path: True
    log: list[tuple[str, str]] = field(default_factory=list)
    num_failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meet(self, operation: str, path: str, effect: Callable[[], Any], *, writes: bool = False) -> Any:
        """Does an operation, or fails as it is told to."""
        if not self._due(operation, path):
            return effect()
        if self.late and writes:
            effect()
        raise OSError(self.error, f"injected: {os.strerror(self.error)}", path)

    def _due(self, operation: str, path: str) -> bool:
        if not self.on(operation, path):
            return False
        with self._lock:
            self.log.append((operation, path))
            failed = self.fails(len(self.log))
            self.num_failed += failed
        return failed


def faulty(store: Store, faults: Faults) -> Store:
    """Returns the same storage behind a filesystem that fails; it is not local any more."""
    handler = _FaultyHandler(store.filesystem, faults)
    return Store(store.location, pafs.PyFileSystem(handler), store.root)


@contextmanager
def faulty_disk(faults: Faults) -> Iterator[Faults]:
    """The operations of local stores fail while this is entered: pyarrow's, and system calls of writes."""
    disk = pafs.PyFileSystem(_FaultyHandler(pafs.LocalFileSystem(), faults))
    filesystem = property(lambda files: disk, lambda files, value: vars(files).update(filesystem=value))
    with (
        patch.object(local, "os", _FaultyCalls(faults)),
        patch.object(local.LocalFiles, "filesystem", filesystem, create=True),
    ):
        yield faults


@contextmanager
def without_pauses() -> Iterator[None]:
    """Retries follow at once."""
    with patch.object(retries, "DELAYS_S", (0.0,) * len(retries.DELAYS_S)):
        yield


_READS = {"open", "stat"}
_WRITES = {"write", "fsync", "replace", "link", "unlink", "makedirs", "close"}


class _FaultyCalls(ModuleType):
    """The module `os`, of whose calls some fail."""

    def __init__(self, faults: Faults):
        super().__init__("os")
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        if name not in _READS | _WRITES:
            return call

        def faulty(*arguments: Any, **options: Any) -> Any:
            effect = partial(call, *arguments, **options)
            try:
                return self._faults.meet(name, str(arguments[0]), effect, writes=name in _WRITES)
            except OSError:
                if name == "close":  # a descriptor is closed even if closing it fails
                    with suppress(OSError):  # where its answer was lost it took effect
                        os.close(arguments[0])
                raise

        return faulty


def _passed(method: str, operation: str = "", *, writes: bool = False) -> Callable[..., Any]:
    """A method of the handler: that of the filesystem behind it, which may fail if it is an operation."""

    def call(self: _FaultyHandler, path: Any, *arguments: Any, **options: Any) -> Any:
        effect = partial(getattr(self.inner, method), path, *arguments, **options)
        name = getattr(path, "base_dir", path)
        name = ", ".join(name) if isinstance(name, list) else name
        return self.faults.meet(operation, name, effect, writes=writes) if operation else effect()

    return call


class _FaultyHandler(pafs.FileSystemHandler):  # type: ignore[misc]
    """Objects in another pyarrow filesystem; folders appear with the first object in them."""

    def __init__(self, inner: pafs.FileSystem, faults: Faults):
        self.inner, self.faults = inner, faults

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def get_type_name(self) -> str:
        return "faulty"

    get_file_info = _passed("get_file_info", "look")
    get_file_info_selector = _passed("get_file_info", "list")
    open_input_stream = _passed("open_input_stream", "get")
    open_input_file = _passed("open_input_file", "get")
    delete_file = _passed("delete_file", "delete", writes=True)
    delete_dir = _passed("delete_dir", "delete_dir", writes=True)
    move = _passed("move", "move", writes=True)
    copy_file = _passed("copy_file", "copy", writes=True)
    normalize_path = _passed("normalize_path")
    create_dir = _passed("create_dir")
    delete_dir_contents = _passed("delete_dir_contents")
    delete_root_dir_contents = _passed("delete_dir_contents")
    open_append_stream = _passed("open_append_stream")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        return pa.PythonFile(_Put(self, path), mode="w")

    def put(self, path: str, data: bytes) -> None:
        def effect() -> None:
            self.inner.create_dir(path.rpartition("/")[0], recursive=True)
            with self.inner.open_output_stream(path) as stream:
                stream.write(data)

        self.faults.meet("put", path, effect, writes=True)


class _Put(io.BytesIO):
    """An object on its way: nothing of it is there before it is closed."""

    def __init__(self, handler: _FaultyHandler, path: str):
        super().__init__()
        self._handler, self._path = handler, path

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            self._handler.put(self._path, data)
