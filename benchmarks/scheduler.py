"""What the scheduler costs a trial: trivial trials by both executors, beside plain Ray Tune and joblib.

    python benchmarks/scheduler.py                     # 1,000 trials each, about 8 minutes on two cores
    python benchmarks/scheduler.py --trials 100

A trivial trial trains a tiny network for one epoch, is measured, and is stored. Its own time is what its
record says, so the cost is the time from the first end of a worker to its last one, less its trials' own in
between, for each trial. Plain Tune and joblib run a function that returns at once, and store nothing of it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from machine import describe
from sklearn.utils.parallel import Parallel, delayed

from xferlab.cli.options import RunOptions
from xferlab.cli.session import Session
from xferlab.plan.spec import TrialSpec
from xferlab.schedule import in_process
from xferlab.schedule.graph import Listener, State
from xferlab.schedule.retry_policy import Ending
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import run_study

WANTED_MS = 20.0
STUDY: dict[str, Any] = {
    "study": "trivial", "seed": 1, "arms": {"baseline": {}}, "overlay_cases": 0,
    "data": {"chest": {"source": "phantom_cxr", "count": 24, "seed": 1, "size_px": 32}},
    "model": {"init_features": 2, "image_size": 32},
    "training": {"batch_size": 4, "max_epochs": 1, "patience": 1, "device": "cpu", "precision": "float32"},
    "resources": {"cpu": 1},
}  # fmt: skip


class Ends(Listener):
    """Notes when trials end."""

    def __init__(self) -> None:
        """Has seen none."""
        self.at: dict[str, float] = {}

    def changed(self, trial: TrialSpec, state: State, reason: str = "") -> None:
        """Notes the time."""
        if state is State.COMPLETE:
            self.at[trial.trial_id] = time.perf_counter()


def cost_ms(executor: str, *, trials: int, workers: int) -> float:
    """Returns milliseconds a trial beyond its own."""
    with tempfile.TemporaryDirectory() as folder, StopRequest() as stop:
        path = Path(folder) / "study.yaml"
        stage = {"data": "chest", "repetitions": trials}
        path.write_text(json.dumps({**STUDY, "repetitions": trials, "stages": {"chest": stage}}))
        session = Session.open(RunOptions(study=str(path), storage=str(Path(folder) / "results")))
        plan, ends = session.plan(), Ends()
        execute, cluster = _executor(executor, workers)
        with cluster:
            run = partial(execute, cache_dir=Path(folder) / "cache", stop=stop)
            run_study(plan, session.store, run, listener=ends, trials=plan.trials)
        records = {
            trial: json.loads((Path(folder) / "results" / "trials" / trial / "run.json").read_text())
            for trial in ends.at
        }
    # A worker's first trial imports PyTorch and decodes the images: at its end the worker's clock begins.
    of_worker = defaultdict[int, list[str]](list)
    for trial in sorted(ends.at, key=ends.at.__getitem__):
        of_worker[records[trial]["attempts"][-1]["pid"]].append(trial)
    idle_s = [
        ends.at[later[-1]] - ends.at[first] - sum(records[trial]["total_s"] for trial in later)
        for first, *later in of_worker.values()
        if later
    ]
    return 1e3 * sum(idle_s) / workers / (trials - len(of_worker))


def _executor(name: str, workers: int) -> tuple[Callable[..., Ending], AbstractContextManager[Any]]:
    if name == "in-process":
        return in_process.execute, nullcontext()
    from xferlab.schedule import ray_session, ray_tune

    return ray_tune.execute, ray_session.cluster(None, num_cpus=workers)


def plain_tune_ms(*, trials: int, workers: int) -> float:
    """Returns milliseconds a trial of Ray Tune with reused workers."""
    from ray import tune

    from xferlab.schedule import ray_session

    with (
        ray_session.cluster(None, num_cpus=workers),
        tempfile.TemporaryDirectory() as folder,
        ray_session.quiet(),
    ):
        at = list[float]()

        class Noting(tune.Callback):
            def on_trial_complete(self, *args: Any, **given: Any) -> None:
                at.append(time.perf_counter())

        tune.Tuner(
            tune.with_resources(nothing(), {"cpu": 1}),
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[Noting()]),
        ).fit()
    return 1e3 * (at[-1] - at[workers - 1]) / (trials - workers)


def nothing() -> Callable[[dict[str, Any]], dict[str, float]]:
    """Returns a function that returns at once; workers get it whole, and import nothing of this script."""

    def returns_at_once(config: dict[str, Any]) -> dict[str, float]:
        return {"score": 0.0}

    return returns_at_once


def joblib_ms(*, trials: int, workers: int) -> float:
    """Returns milliseconds a call of joblib's default way."""
    with Parallel(n_jobs=workers) as pool:
        work = nothing()
        pool(delayed(work)({}) for _ in range(workers))
        started = time.perf_counter()
        pool(delayed(work)({}) for _ in range(trials))
        return 1e3 * (time.perf_counter() - started) / trials


def main(words: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="of each way")
    parser.add_argument("--workers", type=int, default=2, help="of Ray, Tune and joblib")
    options = parser.parse_args(words)
    given = {"trials": options.trials, "workers": options.workers}
    for name, value in describe(1).items():
        print(f"{name:13} {value}")
    ways: dict[str, Callable[[], float]] = {
        "xferlab, Ray": partial(cost_ms, "ray", **given),
        "xferlab, in-process": partial(cost_ms, "in-process", trials=options.trials, workers=1),
        "plain Tune": partial(plain_tune_ms, **given),
        "joblib": partial(joblib_ms, **given),
    }
    for name, way in ways.items():
        wanted = f"; wanted: at most {WANTED_MS:g}" if name.startswith("xferlab") else ""
        print(f"{name:20} {way():7.2f} ms a trial{wanted}", flush=True)


if __name__ == "__main__":
    main()
