"""The log of attempts: `run.json` and `failure.json`, all that is no function of the spec."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from xferlab.errors import InterruptedTrialError
from xferlab.records import codec, layout, reader, writer
from xferlab.records.store import Store
from xferlab.trial.failure import described, now


class Attempt:
    """One attempt at a trial; its outcome is written however it ends, short of SIGKILL."""

    def __init__(self, store: Store, trial_id: str, *, trained: bool = False):
        """Appends this attempt to `run.json`.

        An earlier one left as `running` was killed, and so was one that says `complete` unless the training's
        record exists (`trained`): it died before it could write that.
        """
        self._store, self._trial_id = store, trial_id
        self._started = time.monotonic()
        body = reader.read_run(store, trial_id)
        self._earlier = [_closed(one, trained=trained) for one in body.get("attempts", [])]
        self._spent_s = float(body.get("total_s", 0.0))
        self.facts: dict[str, Any] = {
            k: v for k, v in body.items() if k not in ("attempts", "total_s", "version")
        }
        self._own: dict[str, Any] = {
            "started": now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "outcome": "running",
        }

    def begin(self, first_epoch: int) -> None:
        """Writes that work starts, and at which epoch; an earlier failure stays as an entry only."""
        self._own["first_epoch"] = first_epoch
        self._write()
        self._store.delete(layout.TrialFiles(self._trial_id).failure)

    def epoch(self, epoch: int) -> None:
        """Notes the last finished epoch; written with the outcome."""
        self._own["last_epoch"] = epoch

    def complete(self, **facts: Any) -> None:
        """Writes the outcome `complete` with facts of the run."""
        self.facts.update(facts)
        self._end("complete")

    def failed(self, error: BaseException) -> None:
        """Writes the outcome `failed` or `interrupted`, and the traceback."""
        if isinstance(error, InterruptedTrialError | KeyboardInterrupt | SystemExit):
            self._end("interrupted")
            return
        epoch = self._own.get("last_epoch", self._own.get("first_epoch", 1) - 1)
        failure = described(error, epoch=epoch)
        self._own["failure"] = failure
        codec.write_json(self._store, layout.TrialFiles(self._trial_id).failure, failure)
        self._end("failed")

    def _end(self, outcome: str) -> None:
        self._own["outcome"], self._own["ended"] = outcome, now()
        self._write()

    def _write(self) -> None:
        found = reader.read_run(self._store, self._trial_id)
        others = [one for one in found.get("attempts", [])[len(self._earlier) :] if not self._is_own(one)]
        body = {**self.facts, "total_s": self._spent_s + time.monotonic() - self._started}
        if others and self._own["outcome"] != "complete":  # taken over while this process stood still
            body |= found
        attempts = [*self._earlier, *sorted([self._own, *others], key=lambda one: str(one["started"]))]
        writer.write_run(self._store, self._trial_id, {**body, "version": 1, "attempts": attempts})

    def _is_own(self, attempt: dict[str, Any]) -> bool:
        return all(attempt.get(key) == self._own[key] for key in ("host", "pid", "started"))


def _closed(attempt: dict[str, Any], *, trained: bool) -> dict[str, Any]:
    ended = attempt["outcome"] != "running" and (trained or attempt["outcome"] != "complete")
    return attempt if ended else {**attempt, "outcome": "killed"}
