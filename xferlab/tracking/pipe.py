"""The process that writes to W&B, seen from outside: messages without waiting, answers with a limit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

import xferlab
from xferlab.errors import StorageError

PENDING_LIMIT = 1 << 28
"""Bytes that wait for a process that does not read before it is given up."""
LINGER_S = 20.0
"""How long the process may go on alone once nobody feeds it any more; it ends itself then."""
GAVE_UP = 75
"""Its exit code then."""
_GRACE_S = 10.0
_LAST_WORD_S = 0.5

Ended = Callable[[str | None], None]
"""Takes why a process failed, or None where it did not."""


class MirrorProcess:
    """The other end of `writer`. Threads write and read the pipes, so that no method waits for them."""

    def __init__(self, directory: Path):
        """Starts the process.

        Raises:
            OSError: It cannot be started.
        """
        directory = directory.absolute()
        directory.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            self._errors = undo.enter_context(tempfile.TemporaryFile())
            self._process = _spawn(directory, self._errors)
            undo.pop_all()
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._answers: SimpleQueue[str] = SimpleQueue()
        self._queued = self._written = 0
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()
        threading.Thread(target=self._listen, daemon=True).start()

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
            StorageError: It says none in time, or ended.
        """
        try:
            word = self._answers.get(timeout=timeout_s)
        except Empty:
            raise StorageError(f"no answer in {timeout_s:g} s") from None
        if not word:
            raise StorageError(self._reason())
        return word

    def close(self, timeout_s: float) -> bool:
        """Ends the messages and waits for the process; False if it is not ready in time: `abandon` it then.

        Raises:
            StorageError: It failed.
        """
        self._lines.put(b"")
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        reason = self._reason() if code else ""
        self.abandon()
        if reason:
            raise StorageError(reason)
        return True

    def abandon(self, ended: Ended = lambda reason: None) -> None:
        """Lets the process go: a thread waits for it, and reports how it ended."""
        self._lines.put(b"")
        threading.Thread(target=self._see_off, args=(ended,), daemon=True).start()

    def kill(self) -> None:
        """Ends the process at once; the service that it started sees that and ends, too."""
        self._process.kill()
        self.abandon()

    def _see_off(self, ended: Ended) -> None:
        self._feeder.join(LINGER_S)
        try:
            code = self._process.wait(LINGER_S + _GRACE_S)
            reason = self._reason() if code else None
        except subprocess.TimeoutExpired:  # it is stopped, and cannot end itself
            self._process.kill()
            self._process.wait()
            reason = f"its process had not ended {LINGER_S + _GRACE_S:g} s later and was killed"
        self._errors.close()
        ended(reason)

    def _reason(self) -> str:
        # The last line of a traceback says it; a process that was killed says nothing of that.
        try:
            code: int | None = self._process.wait(_LAST_WORD_S)
        except subprocess.TimeoutExpired:
            code = None
        if code == GAVE_UP:
            return f"W&B had not taken the whole run {LINGER_S:g} s later"
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return last_words(self._errors) or f"its process ended with code {code}"


def _spawn(directory: Path, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: a folder `wandb` where the command runs must not hide the library.
        [sys.executable, "-P", "-m", "xferlab.tracking.writer", str(LINGER_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        bufsize=0,
        env=environment(directory),
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
