"""What Ray costs a trial: many trivial trials over two workers, measured from the first start."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.runs import Heard, Lab
from tests.studies import TINY
from xferlab.schedule import ray_session, ray_tune
from xferlab.schedule.graph import State
from xferlab.schedule.study import Outcome

TRIALS, WORKERS, LIMIT_S = 50, 2, 0.1
MANY, FIRST = int(os.environ.get("XFERLAB_TEST_TRIALS", "2000")), 0.25
MANY_WITHIN_S = 1800.0
GROWTH_KIB = 16.0
"""Of the driver for each trial that has finished: Tune keeps the trial, without its spec and reports."""


class Watched(Heard):
    """Remembers when trials start and end, and how large this process is at each end."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[tuple[str, State], float] = {}
        self.sizes_kib: list[int] = []

    def changed(self, trial: Any, state: State, reason: str = "") -> None:
        self.at.setdefault((trial.name, state), time.monotonic())
        if state is State.COMPLETE:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.sizes_kib.append(pages * os.sysconf("SC_PAGE_SIZE") // 1024)


@pytest.fixture
def run_trivial(cache: Path, tmp_path: Path) -> Callable[[int], tuple[Watched, Outcome]]:
    """Runs a study of so many trials that do next to nothing."""

    def run_trivial(number: int) -> tuple[Watched, Outcome]:
        watched = Watched()
        lab = Lab(tmp_path, ray_tune.execute, heard=watched)
        session = lab.study(**trivial(number))
        with ray_session.cluster(None, num_cpus=WORKERS):
            outcome = lab.run(session)
        assert outcome.graph.counts() == {State.COMPLETE: number}
        return watched, outcome

    return run_trivial


def trivial(number: int) -> dict[str, Any]:
    """A study of so many trials that do next to nothing."""
    return {
        "stages": {"general": {"data": "general", "repetitions": number, "evaluate_on": ["general.test"]}},
        "training": {**TINY["training"], "max_epochs": 1, "patience": 1, "checkpoint_every_s": 60},
        "repetitions": number,
        "arms": {"a": {}},
    }


@pytest.mark.slow
def test_the_scheduler_costs_little(
    run_trivial: Callable[[int], tuple[Watched, Outcome]], tmp_path: Path
) -> None:
    heard, outcome = run_trivial(TRIALS)
    names = [trial.name for trial in outcome.graph.trials.values()]
    starts = sorted(heard.at[name, State.RUNNING] for name in names)
    ends = sorted(heard.at[name, State.COMPLETE] for name in names)
    # The first trial of each worker imports torch and fills the image cache: start-up.
    warm = names[WORKERS:]
    runs = {
        path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("results/trials/*/run.json")
    }
    work = {trial.name: runs[one]["total_s"] for one, trial in outcome.graph.trials.items()}
    begun = ends[WORKERS - 1]
    wall = ends[-1] - begun
    overhead = (wall - sum(work[name] for name in warm) / WORKERS) / len(warm)
    print(
        f"{TRIALS} trials over {WORKERS} workers: {ends[-1] - starts[0]:.2f} s from first start to last end; "
        f"after the first {WORKERS}: {wall:.2f} s, median trial {statistics.median(work.values()):.3f} s, "
        f"overhead {overhead:.3f} s a trial"
    )
    assert overhead <= LIMIT_S


@pytest.mark.slow
def test_the_driver_does_not_grow_with_finished_trials(
    run_trivial: Callable[[int], tuple[Watched, Outcome]],
) -> None:
    began = time.monotonic()
    heard, _ = run_trivial(MANY)
    took_s = time.monotonic() - began
    first = int(MANY * FIRST)
    growth = (heard.sizes_kib[-1] - heard.sizes_kib[first]) / (MANY - first)
    mib = [size / 1024 for size in (heard.sizes_kib[first], heard.sizes_kib[-1])]
    print(
        f"{MANY} trials over {WORKERS} workers in {took_s:.0f} s; the driver: {mib[0]:.0f} MiB after {first} "
        f"and {mib[1]:.0f} MiB after all: {growth:.1f} KiB a trial"
    )
    assert growth <= GROWTH_KIB
    assert took_s <= MANY_WITHIN_S
