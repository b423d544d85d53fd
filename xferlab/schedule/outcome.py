"""What an executor makes of an attempt: the record decides, not the message that a worker sends."""

from __future__ import annotations

from xferlab.errors import DataError, DonorError, TrainingError
from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
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
        failure = reader.read_failure(self._store, trial.trial_id)
        reason = f"{failure['type']}: {failure['message']}" if failure else fallback
        self._listener.changed(trial, State.FAILED, reason)
        for other, state in self.board.states.items():
            if state is State.BLOCKED and before[other] is not State.BLOCKED:
                blocked = self.board.trials[other]
                self._listener.changed(blocked, State.BLOCKED, f"{trial.name} failed")
