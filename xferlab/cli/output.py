"""Standard output and standard error as streams that never raise: what is printed decides nothing.

All that this process prints goes through them: `print`, rich, logging, warnings, tracebacks, Ray, tqdm. A
stream whose reader is gone, or whose disk is full, loses what is printed while that lasts. A verb that works
(`run`) does not wait for a reader that has stopped: beyond `BACKLOG` bytes, lines are dropped and counted. A
verb that only prints (`plan`) waits, as programs do that write to a pager.

With `--json`, all lines for people go to standard error, and standard output gets one JSON document at the
end: what the verb told by `tell`, the error if there is one, and the exit code.
"""

from __future__ import annotations

import codecs
import errno
import io
import json
import math
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

BACKLOG = 1 << 18
"""Bytes that may wait for a reader that has stopped; what is printed beyond them is dropped."""
WAIT_S = 0.5
"""How long a line waits for its reader, once: then nothing waits until the reader has caught up."""
LINGER_S = 5.0
"""At the end, how long a reader may take for nothing at all before what is left is dropped."""
_CHUNK = 1 << 16
_told: dict[str, Any] = {}
_alone: dict[str, Any] = {}


def tell(**facts: Any) -> None:
    """Adds what a verb has to tell to its JSON document; a fact that is told again replaces the first."""
    _told.update(facts)


def tell_alone(document: Mapping[str, Any]) -> None:
    """Makes a document of its own the JSON document of a verb, in place of all that is told."""
    _alone.update(document)


def has_document() -> bool:
    """Returns whether standard output is kept for one JSON document."""
    return isinstance(sys.stdout, Output) and sys.stdout is sys.stderr


class Output:
    """A stream in place of `sys.stdout` or `sys.stderr`; what it lacks, the stream behind it has.

    Attributes:
        label: Its name in messages.
        error: The last error, None while all is well.
        other: The stream that reports the first error, where nothing waits for the reader.
        thread: What writes, if nothing waits for the reader.
    """

    errors = "backslashreplace"
    """A character that the encoding lacks is printed as its number."""

    def __init__(self, stream: Any, label: str):
        """Takes the stream; until `unblock`, printing waits for its reader."""
        self._stream, self.label = stream, label
        self.error: Exception | None = None
        self.other: Output | None = None
        self.thread: threading.Thread | None = None
        encoder = codecs.getincrementalencoder(getattr(stream, "encoding", None) or "utf-8")
        self._encode = encoder(self.errors).encode
        self._sink = _sink_of(stream)
        self._num_lost = 0
        self.after_fork()
        _OUTPUTS.add(self)

    def after_fork(self) -> None:
        """In a forked child: the thread is the parent's, as is what waits, and the lock may be held."""
        self._changed, self.thread = threading.Condition(), None
        self._queue: deque[bytes | None] = deque()
        self._partial, self._waiting, self._stalled = "", 0, False

    def __getattr__(self, name: str) -> Any:
        """Returns what the stream behind it has: `encoding`, `fileno`, `isatty`, `buffer`, ..."""
        if name.startswith("_"):  # `copy` asks before there is a stream behind it
            raise AttributeError(name)
        return getattr(self._stream, name)

    def writelines(self, lines: Iterable[str]) -> None:
        """Prints several texts."""
        self.write("".join(lines))

    def write(self, text: str) -> int:
        """Prints text as soon as its line is whole, or `flush` is called."""
        with self._changed:
            self._partial += text
            if "\n" in text:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Hands on what was written."""
        with self._changed:
            text, self._partial = self._partial, ""
            if text:
                self._submit(self._encode(text))

    def unblock(self) -> None:
        """From now on a thread writes, and nobody waits long for the reader; if there can be a thread."""
        thread = threading.Thread(target=self._work, name=f"xferlab-{self.label}", daemon=True)
        with suppress(RuntimeError):  # this user may start no more
            thread.start()
            self.thread = thread

    def finish(self) -> int:
        """Waits for the reader as long as it reads, and returns how many lines are lost."""
        self.flush()
        if self.thread is None:
            return self._num_lost
        with self._changed:
            size = self._waiting + 1
            while self._waiting and self._waiting != size:
                size = self._waiting
                self._changed.wait(LINGER_S)  # notified by nobody else at the end
            self._stalled = self._waiting > 0
            self._queue.append(None)
            self._changed.notify_all()
            left = sum(data.count(b"\n") for data in self._queue if data)
        self.thread.join(None if not self._stalled else 0.0)
        return self._num_lost + left

    def _submit(self, data: bytes) -> None:
        if self.thread is None:
            self._put(data)
        elif self._waiting > BACKLOG:
            self._num_lost += data.count(b"\n")
        else:
            self._queue.append(data)
            self._waiting += len(data)
            self._changed.notify_all()
            if not self._stalled:
                self._stalled = not self._changed.wait_for(lambda: not self._waiting, WAIT_S)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                data = self._queue[0]
            if data is None:
                return
            self._put(data)
            with self._changed:
                self._queue.popleft()
                self._waiting -= len(data)
                self._stalled = self._stalled and self._waiting > 0
                self._changed.notify_all()

    def _put(self, data: bytes) -> None:
        with self._changed:
            num_lost, self._num_lost = self._num_lost, 0
        note = f"[{num_lost} lines could not be printed here]\n".encode() if num_lost else b""
        try:
            self._sink(note + data)
        except (OSError, ValueError) as error:  # ValueError: the stream behind it was closed
            with self._changed:
                self._num_lost += num_lost + data.count(b"\n")
                first, self.error = self.error is None, error
            if first and self.thread and self.other and self.other.error is None:
                lost = f"{self.label} cannot be written ({_reason(error)})"
                print(
                    f"xferlab: {lost}; the work continues, and what is printed there is lost", file=self.other
                )


_OUTPUTS: WeakSet[Output] = WeakSet()


def _after_fork() -> None:
    for stream in list(_OUTPUTS):
        stream.after_fork()


os.register_at_fork(after_in_child=_after_fork)


class Streams:
    """Both streams of this process."""

    def __init__(self) -> None:
        _open_closed_descriptors()
        self._before = sys.stdout, sys.stderr
        # Python has no stream where the descriptor was closed (`>&-`).
        out, err = (stream or open(os.devnull, "w") for stream in self._before)  # noqa: SIM115
        self.out, self.err = Output(out, "standard output"), Output(err, "standard error")
        self.out.other, self.err.other = self.err, self.out

    def unblock(self) -> None:
        """From now on work is done, which no reader may hold up."""
        self.out.unblock()
        self.err.unblock()

    def install(self) -> None:
        """Puts them in the place of `sys.stdout` and `sys.stderr`."""
        for stream in self._before:
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        sys.stdout, sys.stderr = self.out, self.err

    def document(self) -> None:
        """From now on prints go to standard error, and `end_document` writes to standard output."""
        _told.clear()
        _alone.clear()
        sys.stdout = self.err

    def end_document(self, code: int) -> None:
        """Prints what was told, if there is to be a document."""
        if sys.stdout is self.err:
            told = _alone or {**_told, "exit_code": code}
            print(json.dumps(_plain(told), indent=2, default=str), file=self.out)

    def remove(self) -> None:
        """Puts back what was there."""
        sys.stdout, sys.stderr = self._before

    def finish(self) -> bool:
        """Prints what still waits, and reports what is lost.

        Returns:
            Whether all that was printed arrived, or its reader had gone for having read enough (`| head`).
        """
        num_lost = self.out.finish()
        error = self.out.error
        arrived = error is None or getattr(error, "errno", None) == errno.EPIPE
        if num_lost and self.out.thread and error is None:
            cause = "standard output is read too slowly or not at all"
            print(f"xferlab: {num_lost} lines were not printed: {cause}", file=self.err)
        if not arrived and not self.out.thread:
            print(f"xferlab: standard output cannot be written: {_reason(error)}", file=self.err)
        self.err.finish()
        return arrived


def _plain(value: Any) -> Any:
    """Returns a value whose numbers JSON has: null stands for those that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_lost(stream: object) -> bool:
    """Returns whether what was last printed to a stream of this process did not arrive."""
    return isinstance(stream, Output) and stream.error is not None


def _reason(error: Exception | None) -> str:
    return getattr(error, "strerror", None) or str(error)


def _open_closed_descriptors() -> None:
    """Opens 0, 1 and 2 where they are closed: a file that takes the number would get what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def _sink_of(stream: Any) -> Callable[[bytes], None]:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(raw, io.FileIO) or raw.closed:  # a notebook's has a descriptor that is not its own
        return lambda data: _write_object(stream, data)
    descriptor = raw.fileno()
    # Past the buffers of the stream: what a full disk leaves in them would fail again at exit, with code 120.
    return lambda data: _write_all(descriptor, data)


def _write_object(stream: Any, data: bytes) -> None:
    stream.write(data.decode(getattr(stream, "encoding", None) or "utf-8"))
    stream.flush()


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(descriptor, left[:_CHUNK]) :]
        except BlockingIOError:  # another process made it non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
