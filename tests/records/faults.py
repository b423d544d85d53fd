"""Storage that fails when it is told to: at the N-th operation, from the N-th on, or as a seed draws.

`faulty(store, faults)` gives the same storage behind a real pyarrow filesystem whose operations fail: the
way of object stores, whatever lies behind. `faulty_disk(faults)` makes the system calls of local stores of
this process fail while it is entered: open, read, write, fsync, replace, link, unlink and so on, one by one.

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
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
    """The system calls of local stores fail while this is entered."""
    with (
        patch.object(local, "os", _Faulty(os, faults)),
        patch.object(local, "shutil", _Faulty(shutil, faults)),
    ):
        yield faults


@contextmanager
def without_pauses() -> Iterator[None]:
    """Retries follow at once."""
    with patch.object(retries, "DELAYS_S", (0.0,) * len(retries.DELAYS_S)):
        yield


_READS = {"open", "read", "stat", "listdir"}
_WRITES = {"write", "fsync", "replace", "link", "unlink", "makedirs", "close", "rmtree"}


class _Faulty(ModuleType):
    """A module of system calls, of which some fail."""

    def __init__(self, real: ModuleType, faults: Faults):
        super().__init__(real.__name__)
        self._real, self._faults = real, faults

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._real, name)
        if name not in _READS | _WRITES:
            return call

        def faulty(*arguments: Any, **options: Any) -> Any:
            def effect() -> Any:
                return call(*arguments, **options)

            try:
                return self._faults.meet(name, str(arguments[0]), effect, writes=name in _WRITES)
            except OSError:
                if name == "close":  # a descriptor is closed even if closing it fails
                    _close(arguments[0])
                raise

        return faulty


def _close(descriptor: int) -> None:
    with suppress(OSError):  # where its answer was lost it took effect
        os.close(descriptor)


class _FaultyHandler(pafs.FileSystemHandler):  # type: ignore[misc]
    """Objects in another pyarrow filesystem; folders appear with the first object in them."""

    def __init__(self, inner: pafs.FileSystem, faults: Faults):
        self._inner, self._faults = inner, faults

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def get_type_name(self) -> str:
        return "faulty"

    def normalize_path(self, path: str) -> str:
        return str(self._inner.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> Any:
        return self._faults.meet("look", ", ".join(paths), lambda: self._inner.get_file_info(paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> Any:
        return self._faults.meet("list", selector.base_dir, lambda: self._inner.get_file_info(selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        self._inner.create_dir(path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._write("delete_dir", path, lambda: self._inner.delete_dir(path))

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self._inner.delete_dir_contents(path, missing_dir_ok=missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self._write("delete", path, lambda: self._inner.delete_file(path))

    def move(self, src: str, dest: str) -> None:
        self._write("move", src, lambda: self._inner.move(src, dest))

    def copy_file(self, src: str, dest: str) -> None:
        self._write("copy", src, lambda: self._inner.copy_file(src, dest))

    def open_input_stream(self, path: str) -> Any:
        return self._faults.meet("get", path, lambda: self._inner.open_input_stream(path))

    def open_input_file(self, path: str) -> Any:
        return self._faults.meet("get", path, lambda: self._inner.open_input_file(path))

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        return pa.PythonFile(_Put(self, path), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError

    def put(self, path: str, data: bytes) -> None:
        def effect() -> None:
            self._inner.create_dir(path.rpartition("/")[0], recursive=True)
            with self._inner.open_output_stream(path) as stream:
                stream.write(data)

        self._write("put", path, effect)

    def _write(self, operation: str, path: str, effect: Callable[[], None]) -> None:
        self._faults.meet(operation, path, effect, writes=True)


class _Put:
    """An object on its way: nothing of it is there before it is closed."""

    def __init__(self, handler: _FaultyHandler, path: str):
        self._handler, self._path, self._parts = handler, path, list[bytes]()
        self.closed = False

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._handler.put(self._path, b"".join(self._parts))
