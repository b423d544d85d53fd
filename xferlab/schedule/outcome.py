"""What an executor makes of an attempt: the record decides, not the message that a worker sends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from xferlab.errors import DataError, DonorError, StorageError, TrainingError
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.complete import is_complete
from xferlab.records.store import Store
from xferlab.schedule.listener import Listener
from xferlab.schedule.ready import Board, State

HOPELESS = (TrainingError, DataError, DonorError)
"""Failures that the same spec meets again: not retried."""


class Court:
    """Moves a trial on the board by what its records say, and tells the listener."""

    def __init__(self, board: Board, store: Store, listener: Listener):
        """Takes the board of a run, the storage of its records, and who watches."""
        self.board, self._store, self._listener = board, store, listener

    def started(self, trial: TrialSpec) -> None:
        """Tells that a trial runs."""
        self._listener.changed(trial, State.RUNNING)

    def settle(self, trial: TrialSpec, fallback: str = "its worker ended without a record") -> None:
        """Calls a trial complete if its records are, else failed; blocks its descendants then."""
        if is_complete(self._store, trial):
            self.board.complete(trial.trial_id)
            self._listener.changed(trial, State.COMPLETE)
            return
        before = dict(self.board.states)
        self.board.fail(trial.trial_id)
        failure = reader.read_failure(self._store, trial.trial_id) or self._lost(trial, fallback)
        self._listener.changed(trial, State.FAILED, f"{failure['type']}: {failure['message']}")
        for other, state in self.board.states.items():
            if state is State.BLOCKED and before[other] is not State.BLOCKED:
                blocked = self.board.trials[other]
                self._listener.changed(blocked, State.BLOCKED, f"{trial.name} failed")

    def _lost(self, trial: TrialSpec, reason: str) -> dict[str, Any]:
        """Writes the failure of a worker that could not write its own."""
        tries = reader.read_run(self._store, trial.trial_id).get("attempts", [])
        failure = {
            "type": "WorkerLost",
            "message": reason,
            "traceback": "",
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "host": tries[-1]["host"] if tries else "an unknown host",
            "epoch": self._last_epoch(trial),
        }
        codec.write_json(self._store, layout.failure_path(trial.trial_id), failure)
        return failure

    def _last_epoch(self, trial: TrialSpec) -> int:
        try:
            history = reader.read_history(self._store, trial.trial_id)
        except StorageError:
            return 0
        return history[-1].epoch if history else 0
