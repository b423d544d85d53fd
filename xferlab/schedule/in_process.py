"""One trial after another in this process: for debugging and small machines."""

from __future__ import annotations

import gc
from pathlib import Path

from xferlab.errors import InterruptedTrialError
from xferlab.plan.spec import TrialSpec
from xferlab.records.schema import EpochResult
from xferlab.schedule.retry_policy import Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.trial.failure import Failure, described
from xferlab.trial.run import Hooks, run_trial


def execute(policy: RetryPolicy, *, cache_dir: Path, stop: StopRequest) -> Ending:
    """Runs all that may run, and says what ended it early.

    Args:
        policy: Of the graph to run.
        cache_dir: Folder of decoded images and of the mirror's files on this machine.
        stop: Signals that end it early.
    """
    while policy.repeated is None and (trial := policy.take()) is not None:
        try:
            if stop.asked():
                raise InterruptedTrialError(trial.name)
            policy.started(trial)
            failure = _attempt(trial, policy, cache_dir=cache_dir, stop=stop)
        except InterruptedTrialError:
            if stop.asked():
                policy.graph.put_back(trial.trial_id)
                return Ending(signal=stop.signal)
            failure = None  # it is cancelled
        policy.ended(trial, failure)
    return Ending(repeated=policy.repeated)


def _attempt(trial: TrialSpec, policy: RetryPolicy, *, cache_dir: Path, stop: StopRequest) -> Failure | None:
    """Runs a trial. Returns its failure, None if it ended well; memory that it held is free again."""

    def on_epoch(result: EpochResult, best_score: float | None) -> None:
        policy.listener.epoch(trial, result.epoch, best_score)

    def stops() -> bool:
        return stop.asked() or trial.trial_id in policy.stops()

    hooks = Hooks(stop=stops, on_epoch=on_epoch, on_resume=on_epoch)
    failure = None
    try:
        run_trial(trial, policy.store, cache_dir=cache_dir, hooks=hooks)
    except InterruptedTrialError:
        raise
    except Exception as error:  # noqa: BLE001 - run_trial stored it as failure.json; the next trial must run
        failure = described(error, epoch=0)
    if failure is not None:
        gc.collect()  # the frames of the error held tensors
    return failure
