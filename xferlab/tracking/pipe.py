"""The process that writes to W&B, seen from outside: messages without waiting, answers with a limit."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
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
    """The other end of `writer`."""

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
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        os.set_blocking(self._input.fileno(), False)
        self._pending = bytearray()

    def send(self, kind: str, **message: Any) -> None:
        """Sends a message, or keeps it for later where the pipe is full.

        Raises:
            StorageError: The process ended, or does not read.
            ValueError: The message is no JSON; or TypeError.
        """
        self._pending += json.dumps({"kind": kind, **message}, default=float).encode() + b"\n"
        self._push()
        if len(self._pending) > PENDING_LIMIT:
            raise StorageError("its process does not read")

    def _push(self) -> None:
        try:
            while self._pending:
                sent = os.write(self._input.fileno(), self._pending[: 1 << 16])
                del self._pending[:sent]
        except BlockingIOError:
            return
        except BrokenPipeError as error:
            self._pending.clear()
            raise StorageError(self._reason()) from error

    def _drain(self, deadline: float) -> None:
        while self._pending and (left := deadline - time.monotonic()) > 0:
            select.select([], [self._input], [], left)
            self._push()

    def answer(self, timeout_s: float) -> str:
        """Returns the next word that the process says.

        Raises:
            StorageError: It says none in time, or ended.
        """
        deadline = time.monotonic() + timeout_s
        self._drain(deadline)
        word = b""
        while not word.endswith(b"\n"):
            ready, _, _ = select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise StorageError(f"no answer in {timeout_s:g} s")
            chunk = os.read(self._output.fileno(), 1)
            if not chunk:
                raise StorageError(self._reason())
            word += chunk
        return word.decode().strip()

    def close(self, timeout_s: float) -> bool:
        """Ends the messages and waits for the process; False if it is not ready in time: `abandon` it then.

        Raises:
            StorageError: It failed.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._drain(deadline)
            if not self._pending:
                self._input.close()
            code = self._process.wait(max(0.0, deadline - time.monotonic()))
            if code != 0:
                raise StorageError(self._reason())
        except subprocess.TimeoutExpired:
            return False
        except StorageError:
            self.abandon()
            raise
        self.abandon()
        return True

    def abandon(self, ended: Ended = lambda reason: None) -> None:
        """Lets the process go: a thread gives it what is pending, collects how it ended, and tells that."""
        threading.Thread(target=self._see_off, args=(ended,), daemon=True).start()

    def kill(self) -> None:
        """Ends the process at once; the service that it started sees that and ends, too."""
        self._process.kill()
        self.abandon()

    def _see_off(self, ended: Ended) -> None:
        if not self._input.closed:
            with suppress(OSError, StorageError):  # how it ended is told below
                self._drain(time.monotonic() + LINGER_S)
            self._input.close()
        try:
            code = self._process.wait(LINGER_S + _GRACE_S)
            reason = self._reason() if code else None
        except subprocess.TimeoutExpired:  # it is stopped, and cannot end itself
            self._process.kill()
            self._process.wait()
            reason = f"its process had not ended {LINGER_S + _GRACE_S:g} s later and was killed"
        self._output.close()
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
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode(errors="replace").split("\n")
        said = [line for line in lines if line and not line.startswith((" ", "wandb: "))]
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return said[-1] if said else f"its process ended with code {code}"


def _spawn(directory: Path, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: a folder `wandb` where the command runs must not hide the library.
        [sys.executable, "-P", "-m", "xferlab.tracking.writer", str(LINGER_S)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        bufsize=0,
        env=_environment(directory),
        start_new_session=True,  # Ctrl-C is for the trial
    )


def _environment(directory: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}
    paths = [str(Path(xferlab.__file__).parents[1]), *filter(None, [kept.get("PYTHONPATH")])]
    return {
        "WANDB_CACHE_DIR": str(directory / "cache"),
        "WANDB_DATA_DIR": str(directory / "cache"),
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "WANDB_ERROR_REPORTING": "false",
    }
