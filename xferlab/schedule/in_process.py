"""One trial after another in this process: for debugging and small machines."""

from __future__ import annotations

from pathlib import Path

from xferlab.errors import InterruptedTrialError
from xferlab.plan.spec import TrialSpec
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.schedule.listener import Listener
from xferlab.schedule.outcome import HOPELESS, Court
from xferlab.schedule.ready import Board
from xferlab.schedule.stop import StopRequest
from xferlab.trial.run import Hooks, run_trial


def execute(board: Board, store: Store, *, cache_dir: Path, retries: int, listener: Listener) -> bool:
    """Runs all that may run. Returns False if Ctrl-C or SIGTERM ended it early.

    A failure is retried up to `retries` times unless the same spec must meet it again.
    """
    court = Court(board, store, listener)
    with StopRequest() as stop:
        while (trial := board.take()) is not None:
            if stop.asked():
                board.put_back(trial.trial_id)
                return False
            court.started(trial)
            try:
                _attempts(
                    trial, store, cache_dir=cache_dir, retries=retries, hooks=_hooks(trial, listener, stop)
                )
            except InterruptedTrialError:
                board.put_back(trial.trial_id)
                return False
            court.settle(trial)
    return True


def _attempts(trial: TrialSpec, store: Store, *, cache_dir: Path, retries: int, hooks: Hooks) -> None:
    for attempt in range(retries + 1):
        try:
            run_trial(trial, store, cache_dir=cache_dir, hooks=hooks)
        except InterruptedTrialError:
            raise
        except Exception as error:  # noqa: BLE001 - run_trial stored it as failure.json; the next trial must run
            if isinstance(error, HOPELESS) or attempt == retries:
                return
        else:
            return


def _hooks(trial: TrialSpec, listener: Listener, stop: StopRequest) -> Hooks:
    def on_epoch(result: EpochResult, best_loss: float) -> None:
        listener.epoch(trial, result.epoch, best_loss)

    return Hooks(stop=stop.asked, on_epoch=on_epoch)
