"""The log of attempts: `run.json`, `failure.json` and `logs/`, all that is no function of the spec."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

from xferlab.errors import InterruptedTrialError
from xferlab.records import codec, layout, reader, writer
from xferlab.records.logs import LogFile
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.trial.failure import described, now


class Attempt:
    """One attempt at a trial or a sample; its outcome is written however it ends, short of SIGKILL.

    Attributes:
        log: What it says for people.
    """

    def __init__(self, store: Store, trial_id: str, *, trained: bool = False):
        """Adds this attempt to those of `run.json`.

        An earlier one left as `running` was `killed`. So was one that is `complete` without a record: it died
        before it could write that. With a record of a training that is not whole (not `trained`), what the
        attempt gave was `lost` afterwards, such as its weights.
        """
        self._store, self._trial_id, self._trained = store, trial_id, trained
        self._started = time.monotonic()
        body = reader.read_run(store, trial_id)
        ended = "lost" if store.exists(layout.TrialFiles(trial_id).record) else "killed"
        relabelled = {"running": "killed"} if trained else {"running": "killed", "complete": ended}
        self._earlier = [
            {**attempt, "outcome": relabelled.get(attempt["outcome"], attempt["outcome"])}
            for attempt in body.pop("attempts", [])
        ]
        self.log = LogFile(store, trial_id, attempt=len(self._earlier) + 1)
        self._spent_s = float(body.pop("total_s", 0.0))
        self._facts: dict[str, Any] = body
        self._entry: dict[str, Any] = {
            "started": now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "outcome": "running",
        }

    def begin(self, first_epoch: int, *, continues: str | None = None) -> None:
        """Writes that work starts, and at which epoch; an earlier failure stays as an entry only.

        Args:
            first_epoch: From 1.
            continues: Id of the trial from whose kept state it starts, if it does.
        """
        self._entry["first_epoch"] = first_epoch
        self._entry |= {"continues": continues} if continues else {}
        self._write()
        self._store.delete(layout.TrialFiles(self._trial_id).failure)
        goal = "measures what is missing" if self._trained else f"trains from epoch {first_epoch} on"
        kept = f", after the training of trial {continues}" if continues else ""
        last = self._earlier[-1:]
        before = "".join(f"; the attempt before, on {entry['host']}: {entry['outcome']}" for entry in last)
        self.log.add(f"attempt {len(self._earlier) + 1} {goal}{kept}{before}")
        self.log.flush()

    def epoch(self, epoch: int, result: EpochResult | None = None) -> None:
        """Notes the last finished epoch; written with the outcome. The log tells its result."""
        self._entry["last_epoch"] = epoch
        self.log.add(f"epoch {epoch}{f': {_described(result)}' if result else ''}")
        self.log.flush()

    def evaluated(self, seconds: float) -> None:
        """Adds the time of evaluations; where that of earlier ones is not known, it stays so."""
        self.log.add(f"measured in {seconds:.1f} s")
        if not self._trained or "evaluation_s" in self._facts:
            self._facts["evaluation_s"] = float(self._facts.get("evaluation_s", 0.0)) + seconds

    def complete(self, **facts: Any) -> None:
        """Writes the outcome `complete` with facts of the run."""
        self._facts.update(facts)
        self._end("complete")

    def failed(self, error: BaseException) -> None:
        """Writes the outcome `failed` or `interrupted`, and the traceback."""
        if isinstance(error, InterruptedTrialError | KeyboardInterrupt | SystemExit):
            self._end("interrupted")
            return
        epoch = self._entry.get("last_epoch", self._entry.get("first_epoch", 1) - 1)
        self._entry["failure"] = described(error, epoch=epoch)
        codec.write_json(self._store, layout.TrialFiles(self._trial_id).failure, self._entry["failure"])
        self._end("failed")

    def _end(self, outcome: str) -> None:
        self._entry |= {"outcome": outcome, "ended": now()}
        if failure := self._entry.get("failure"):
            self.log.add(failure["traceback"].rstrip(), level="ERROR")
        else:
            self.log.add(outcome)
        self.log.flush(now=True)
        self._write()

    def _write(self) -> None:
        stored = reader.read_run(self._store, self._trial_id)
        later = stored.get("attempts", [])[len(self._earlier) :]
        others = [attempt for attempt in later if not self._is_this(attempt)]
        body = {**self._facts, "total_s": self._spent_s + time.monotonic() - self._started}
        if others and self._entry["outcome"] != "complete":  # taken over while this process stood still
            body |= stored
        ordered = sorted([self._entry, *others], key=lambda attempt: str(attempt["started"]))
        body |= {"version": 1, "attempts": [*self._earlier, *ordered]}
        writer.write_run(self._store, self._trial_id, body)

    def _is_this(self, attempt: dict[str, Any]) -> bool:
        return all(attempt.get(key) == self._entry[key] for key in ("host", "pid", "started"))


def _described(result: EpochResult) -> str:
    """Returns the numbers of an epoch for people."""
    best = " (best so far)" if result.improved and result.score is not None else ""
    score = "" if result.score is None else f"score {result.score:.4g}{best}, "
    values = ", ".join(f"{name} {value:.4g}" for name, value in result.values.items() if value is not None)
    return f"{score}{values}, {result.train_s + result.validation_s:.1f} s"
