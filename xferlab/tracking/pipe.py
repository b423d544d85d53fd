"""The process that writes to W&B, seen from outside: messages without waiting, answers with a limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

import xferlab
from xferlab.errors import StorageError

PENDING_LIMIT = 1 << 28
"""Bytes that wait for a process that does not read before it is given up."""
HEARD_BYTES = 1 << 20
"""Longest text that is told of what it has printed."""
LINGER_S = 20.0
"""How long the process may go on alone once nobody feeds it any more; it ends itself then."""
GAVE_UP = 75
"""Its exit code then."""
_GRACE_S = 10.0
_LAST_WORD_S = 0.5
BEGUN = "begun"
"""The answer to the begin of a run that is not there yet."""
PRESENT, WRITTEN = "present", "written"
"""The answers to that of a run that is there or was left to a later attempt, and to the end of a run; a begin
has the second, too, where that alone wrote what was missing."""
_LATE = "W&B had not taken the whole run {:g} s later"
_idle: list[MirrorProcess] = []

Ended = Callable[[str | None], None]
"""Takes why a run may lack something, or None where it is whole."""
Heard = Callable[[str], None]
"""Takes what the process has printed while it was somebody's; must not raise."""


class NoAnswerError(StorageError):
    """The process has said nothing for as long as its feeder waits."""


class MirrorProcess:
    """The other end of `writer`. Threads write and read the pipes, so that no method waits for them."""

    def __init__(self, directory: Path):
        """Starts the process.

        Raises:
            OSError: It cannot be started.
        """
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        self._environment = environment(directory)
        with ExitStack() as undo:
            self._errors = undo.enter_context(tempfile.TemporaryFile())
            self._process = _spawn(self._environment, self._errors)
            undo.pop_all()
        self._heard: Heard | None = None
        self._num_heard = 0
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._answers: SimpleQueue[str] = SimpleQueue()
        self._queued = self._written = 0
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()
        threading.Thread(target=self._listen, daemon=True).start()

    @staticmethod
    def take(directory: Path, *, heard: Heard | None = None) -> MirrorProcess:
        """Returns the process that an earlier run has left free, or starts one, which takes seconds.

        Args:
            directory: Local folder of the W&B files.
            heard: Called when the process is left or free again, if it has printed anything until then.

        Raises:
            OSError: It cannot be started.
        """
        process = MirrorProcess._free(directory) or MirrorProcess(directory)
        process._tell()  # what it printed last is of the run before
        process._heard = heard
        return process

    @staticmethod
    def _free(directory: Path) -> MirrorProcess | None:
        with suppress(IndexError):
            free = _idle.pop()
            if free._environment == environment(directory.absolute()) and free._process.poll() is None:
                return free
            free.leave()
        return None

    @staticmethod
    def prepare(directory: Path) -> None:
        """Has a process ready for `take`, so that it starts while its feeder does something else.

        Raises:
            OSError: It cannot be started.
        """
        MirrorProcess.take(directory)._rest()

    def send(self, kind: str, **message: Any) -> None:
        """Sends a message; it waits in memory while the pipe is full.

        Raises:
            StorageError: The process ended, or does not read.
            ValueError: The message is no JSON; or TypeError.
        """
        line = json.dumps({"kind": kind, **message}, default=float).encode() + b"\n"
        if self._process.poll() is not None:
            raise StorageError(self._reason())
        self._queued += len(line)
        self._lines.put(line)
        if self._queued - self._written > PENDING_LIMIT:
            raise StorageError("its process does not read")

    def _feed(self) -> None:
        assert self._process.stdin is not None
        # Closing may fail as writing does; whoever waits for the process reports how it ended.
        with suppress(OSError), self._process.stdin as stream:
            for line in iter(self._lines.get, b""):
                left = memoryview(line)
                while left:
                    left = left[os.write(stream.fileno(), left) :]
                self._written += len(line)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._answers.put(line.decode().strip())
        self._answers.put("")

    def answer(self, timeout_s: float) -> str:
        """Returns the next word that the process says.

        Raises:
            NoAnswerError: It says none in time.
            StorageError: It ended.
        """
        try:
            word = self._answers.get(timeout=timeout_s)
        except Empty:
            raise NoAnswerError(f"no answer in {timeout_s:g} s") from None
        if not word:
            raise StorageError(self._reason())
        return word

    def is_written(self, timeout_s: float) -> bool:
        """Waits until the run whose end was sent is closed; False if it is not in time: `abandon` it then.

        The process is free then, and kept for the next run that `take` begins.

        Raises:
            StorageError: It failed.
        """
        deadline = time.monotonic() + timeout_s
        with suppress(NoAnswerError):
            while self.answer(max(0.0, deadline - time.monotonic())) == BEGUN:
                pass
            self._rest()
            return True
        return False

    def _rest(self) -> None:
        self._tell()
        _idle.append(self)
        for surplus in _idle[:-1]:
            with suppress(ValueError):  # a trial in another thread has just taken it
                _idle.remove(surplus)
                surplus.leave()

    def abandon(self, ended: Ended) -> None:
        """Lets a thread wait for the end of the run, and report it; one that does not end is given up."""
        threading.Thread(target=self._await, args=(ended,), daemon=True).start()

    def _await(self, ended: Ended) -> None:
        try:
            reason = None if self.is_written(LINGER_S) else _LATE.format(LINGER_S)
        except StorageError as error:
            reason = str(error)
        if reason:
            self.kill()
        ended(reason)

    def close(self, timeout_s: float) -> None:
        """Ends the messages and waits for the process; one that does not end in time is killed."""
        self._lines.put(b"")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """Ends the process at once; the service that it started sees that and ends, too."""
        self._process.kill()
        self.leave()

    def leave(self) -> None:
        """Ends the messages and returns; the process closes its run and ends itself."""
        self._tell()
        self._lines.put(b"")
        threading.Thread(target=self._see_off, daemon=True).start()

    def _see_off(self) -> None:
        self._feeder.join(LINGER_S)
        try:
            self._process.wait(LINGER_S + _GRACE_S)
        except subprocess.TimeoutExpired:  # it is stopped, and cannot end itself
            self._process.kill()
            self._process.wait()
        self._tell()
        self._errors.close()

    def _tell(self) -> None:
        if self._heard is None:  # whoever takes it hears it
            return
        with suppress(ValueError, OSError):  # it is closed: all was told
            # Not `read`: the process writes where the file is read, since they share the position.
            data = os.pread(self._errors.fileno(), HEARD_BYTES, self._num_heard)
            self._num_heard += len(data)
            if text := data.decode(errors="replace").strip():
                self._heard(text)

    def _reason(self) -> str:
        # The last line of a traceback says it; a process that was killed says nothing of that.
        try:
            code: int | None = self._process.wait(_LAST_WORD_S)
        except subprocess.TimeoutExpired:
            code = None
        if code == GAVE_UP:
            return _LATE.format(LINGER_S)
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return last_words(self._errors) or f"its process ended with code {code}"


def _spawn(its_environment: Mapping[str, str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: a folder `wandb` where the command runs must not hide the library.
        [sys.executable, "-P", "-m", "xferlab.tracking.writer", str(LINGER_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        bufsize=0,
        env=its_environment,
        start_new_session=True,  # Ctrl-C is for the trial
    )


def last_words(errors: IO[bytes]) -> str:
    """Returns the last line of a traceback that a process wrote; empty where it said nothing."""
    errors.seek(0)
    lines = errors.read()[-4000:].decode(errors="replace").split("\n")
    said = [line for line in lines if line and not line.startswith((" ", "wandb: "))]
    return said[-1] if said else ""


def environment(directory: Path) -> dict[str, str]:
    """Returns the environment of a process that talks to W&B, whose files go to a folder."""
    kept = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    paths = [str(Path(xferlab.__file__).parents[1]), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        "WANDB_CACHE_DIR": str(directory / "cache"),
        "WANDB_DATA_DIR": str(directory / "cache"),
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "WANDB_ERROR_REPORTING": "false",
    }
