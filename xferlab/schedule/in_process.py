"""One trial after another in this process: for debugging and small machines."""

from __future__ import annotations

import gc
from pathlib import Path

from xferlab.errors import InterruptedTrialError
from xferlab.plan.spec import TrialSpec
from xferlab.records.schema import EpochResult
from xferlab.schedule.outcome import Court, Ending
from xferlab.schedule.stop import StopRequest
from xferlab.trial.failure import Failure, described
from xferlab.trial.run import Hooks, run_trial


def execute(court: Court, *, cache_dir: Path, stop: StopRequest) -> Ending:
    """Runs all that may run, and says what ended it early.

    Args:
        court: Of the board to run.
        cache_dir: Folder of decoded images and of the mirror's files on this machine.
        stop: Signals that end it early.
    """
    board = court.board
    while court.repeated is None and (trial := board.take()) is not None:
        if stop.asked():
            board.put_back(trial.trial_id)
            return Ending(signal=stop.signal)
        court.started(trial)
        try:
            told = _attempt(trial, court, cache_dir=cache_dir, stop=stop)
        except InterruptedTrialError:
            board.put_back(trial.trial_id)
            return Ending(signal=stop.signal)
        court.ended(trial, told)
    return Ending(repeated=court.repeated)


def _attempt(trial: TrialSpec, court: Court, *, cache_dir: Path, stop: StopRequest) -> Failure | None:
    """Returns what ended an attempt other than its end; memory that it held is free again then."""

    def on_epoch(result: EpochResult, best_loss: float) -> None:
        court.listener.epoch(trial, result.epoch, best_loss)

    hooks = Hooks(stop=stop.asked, on_epoch=on_epoch, on_resume=on_epoch)
    try:
        run_trial(trial, court.store, cache_dir=cache_dir, hooks=hooks)
    except InterruptedTrialError:
        raise
    except Exception as error:  # noqa: BLE001 - run_trial stored it as failure.json; the next trial must run
        told = described(error, epoch=0)
    else:
        return None
    gc.collect()  # the frames of the error held tensors
    return told
