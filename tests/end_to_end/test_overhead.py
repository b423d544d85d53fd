"""What Ray costs a trial: many trivial trials over two workers, measured from the first start."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.runs import Heard, Lab
from tests.studies import TINY
from xferlab.schedule import ray_session, ray_tune
from xferlab.schedule.ready import State

TRIALS, WORKERS, LIMIT_S = 50, 2, 0.1


class Timed(Heard):
    """Remembers when trials start and end."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[tuple[str, State], float] = {}

    def changed(self, trial: Any, state: State, reason: str = "") -> None:
        super().changed(trial, state, reason)
        self.at.setdefault((trial.name, state), time.monotonic())


@pytest.mark.slow
def test_the_scheduler_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    heard = Timed()
    lab = Lab(tmp_path, ray_tune.execute, heard=heard)
    stages = {"general": {"data": "general", "repetitions": TRIALS, "evaluate_on": ["general.test"]}}
    training = {**TINY["training"], "max_epochs": 1, "patience": 1, "checkpoint_every_s": 60}
    session = lab.study(stages=stages, arms={"a": {}}, repetitions=TRIALS, training=training)
    with ray_session.cluster(None, num_cpus=WORKERS):
        outcome = lab.run(session)
    assert outcome.board.counts() == {State.COMPLETE: TRIALS}
    names = [trial.name for trial in outcome.board.trials.values()]
    starts = sorted(heard.at[name, State.RUNNING] for name in names)
    ends = sorted(heard.at[name, State.COMPLETE] for name in names)
    # The first trial of each worker imports torch and fills the image cache: start-up.
    warm = names[WORKERS:]
    runs = {path.parent.name: json.loads(path.read_text()) for path in lab.storage.glob("trials/*/run.json")}
    work = {trial.name: runs[one]["total_s"] for one, trial in outcome.board.trials.items()}
    begun = ends[WORKERS - 1]
    wall = ends[-1] - begun
    overhead = (wall - sum(work[name] for name in warm) / WORKERS) / len(warm)
    print(
        f"{TRIALS} trials over {WORKERS} workers: {ends[-1] - starts[0]:.2f} s from first start to last end; "
        f"after the first {WORKERS}: {wall:.2f} s, median trial {statistics.median(work.values()):.3f} s, "
        f"overhead {overhead:.3f} s a trial"
    )
    assert overhead <= LIMIT_S
