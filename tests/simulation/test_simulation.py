"""Seeded faults on a virtual clock: whatever dies, running again gives what an undisturbed run gives.

A failing seed prints its number and events; `python -m tests.simulation.replay 123` plays it again.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.plan.studies import HERE, STUDY, phantom_cases
from tests.records.faults import without_pauses
from tests.simulation.cluster import Cluster, Weather
from tests.simulation.worker import loss_of, weights_of
from tests.tasks.labelled import added
from xferlab.cohort import Case
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan
from xferlab.records import layout, reader
from xferlab.records.complete import complete_trials
from xferlab.schedule.graph import State
from xferlab.schedule.retry_policy import SAME_ERRORS
from xferlab.study.load import load

pytestmark = pytest.mark.usefixtures("added_tasks")

FAST, ALL = 100, 10_000
ENDS = {State.COMPLETE, State.FAILED, State.BLOCKED}

SHAPES = {
    "paired": ("repetitions: 2", ""),
    "best": ("repetitions: 2", "chaining: best, "),
    "arms": ("repetitions: 1", ""),
    "wide": ("repetitions: 3", ""),
    "roles": ("repetitions: 2", ""),
}
ROLES = """\
study: s
seed: 7
repetitions: 3
data:
  mri: {source: phantom_mri, count: 20}
  fixed: {source: phantom_cxr, count: 60, seed: 1}
  portable: {source: phantom_cxr, count: 40, seed: 2, hold_out: 0.5}
stages:
  donor: {data: mri}
  lungs: {data: fixed, starts_from: donor}
  views: {data: portable, task: labelled, classes: {names: {well: [normal], ill: [covid19]}}}
  first: {data: fixed, task: duet, model: {init_features: 32}}
  general:
    data: fixed
    task: duet
    model: {init_features: 32}
    starts_from: {segmenter: lungs, second: first}
    chaining: best
    masks: {from: lungs, out_of_fold: 2}
    gate: {from: views, keep: well}
  portable:
    data: portable
    task: duet
    model: {init_features: 32}
    starts_from: general
    masks: {from: other.lungs}
    gate: {from: views, keep: [well, ill]}
arms:
  baseline: {}
  other: {stages.lungs.training: {lr: 0.5}}
"""
"""Trials with several parents: of two networks, of masks out of fold and from another arm, of gates."""
ARMS = """\
arms:
  baseline: {}
  scratch: {stages.general.starts_from: null}
  other: {stages.portable.training: {lr: 0.5}}
"""


@cache
def plan(shape: str) -> Plan:
    """A real plan over cases that exist in memory only."""
    repetitions, chaining = SHAPES[shape]
    text = (ROLES if shape == "roles" else STUDY).replace("repetitions: 3", repetitions)
    text = text.replace("starts_from: general,", f"starts_from: general, {chaining}")
    if shape == "arms":
        text += ARMS
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(text)
        return expand(load(path, environ={}), with_columns, HERE)


def with_columns(name: str, config: Any) -> list[Case]:
    """The cases of `phantom_cases` with the column that labels are read from."""
    return [replace(case, columns={"pathology": case.pathology}) for case in phantom_cases(name, config)]


def simulate(seed: int) -> Cluster:
    """One schedule: foul weather for some runs of the driver, then a fair one; checks all that must hold.

    Raises:
        AssertionError: With the seed, and what happened.
    """
    draws = random.Random(seed)
    study = plan(draws.choice(sorted(SHAPES)))
    numbers = Counter(trial.stage for trial in study.trials)
    # More trials that fail alike would stop a run before the others are done.
    weather = Weather.drawn(draws, sorted(stage for stage in numbers if numbers[stage] <= SAME_ERRORS))
    nodes = draws.randint(1, 3)
    lacking = draws.randint(0, nodes - 1) if draws.random() < 0.3 else 0
    cluster = Cluster(study, seed, weather, nodes=nodes, slots=draws.randint(1, 3), lacking=lacking)
    try:
        with without_pauses():
            for _ in range(draws.randint(1, 4)):
                if draws.random() < 0.2:
                    cluster.run_two_drivers()
                else:
                    cluster.run_driver()
            fair = Weather(hopeless=weather.hopeless)
            last = cluster.run_driver(fair)
            check(cluster, last)
            again = len(cluster.log.trained)
            assert cluster.run_driver(fair) == last
            if not weather.hopeless:
                assert len(cluster.log.trained) == again, "a complete study ran again"
    except BaseException:
        print(f"\nseed {seed}: {weather}", *cluster.log.text, sep="\n", file=sys.stderr)
        raise
    return cluster


def check(cluster: Cluster, last: dict[str, State] | None) -> None:
    """The invariants."""
    log, trials = cluster.log, cluster.plan.trials
    runs = [states for states in log.runs if states is not None]
    for states in runs:
        stopped = any(state in (State.READY, State.WAITING) for state in states.values())
        assert stopped <= (State.FAILED in states.values()), "a run ended early without a reason"
        assert State.RUNNING not in states.values()
    names = defaultdict[str, set[str]](set)
    for name, trial_id in cluster.plan.names.items():
        names[trial_id].add(name)
    for asked, states in zip(log.asked, log.runs, strict=True):
        cancelled = {trial_id for trial_id, state in (states or {}).items() if state is State.CANCELLED}
        assert all(names[trial_id] <= asked for trial_id in cancelled), "cancelled, and nobody asked for it"
    assert last is not None, "undisturbed, a run must end"
    expected = expected_weights(cluster)
    assert set(complete_trials(cluster.store, "unread", trials)) == set(expected)
    for trial in trials:
        record = reader.read_trial(cluster.store, trial.trial_id)
        if trial.trial_id not in expected:
            assert record is None
            assert last[trial.trial_id] is not State.COMPLETE
            continue
        assert last[trial.trial_id] is State.COMPLETE
        assert cluster.store.read(layout.TrialFiles(trial.trial_id).weights) == expected[trial.trial_id]
        assert record is not None
        assert record.weights_sha256 == hashlib.sha256(expected[trial.trial_id]).hexdigest()
        assert [one.epoch for one in reader.read_history(cluster.store, trial.trial_id)] == [1, 2, 3]
        starts = log.starts.get(trial.trial_id, set())
        assert len(starts) <= 1, "attempts at one trial started from different weights"
    assert all(number <= 1 for counted in log.counted for number in counted.values()), "counted twice"
    for trial_id, came in log.trained:
        assert came <= log.completed.get(trial_id, float("inf")), "what was finished ran again"


def expected_weights(cluster: Cluster) -> dict[str, bytes]:
    """What every trial that can be done must have, by arithmetic from the plan alone."""
    expected: dict[str, bytes] = {}
    for trial in cluster.plan.trials:
        if trial.stage in cluster.weather.hopeless or not set(trial.parents) <= set(expected):
            continue
        taken = b""
        for given in trial.inputs:
            parents = [cluster.plan.by_id[parent] for parent in given.trials]
            parents.sort(key=lambda parent: (loss_of(parent, 3), parent.trial_id))
            taken += b"".join(
                expected[parent.trial_id] for parent in parents[: 1 if "start" in given.role else None]
            )
        expected[trial.trial_id] = weights_of(trial, taken)
    return expected


@pytest.mark.parametrize("seed", range(0, FAST, 20))
def test_studies_survive_what_a_seed_brings(seed: int) -> None:
    for one in range(seed, seed + 20):
        simulate(one)


def test_nodes_that_come_and_go_cost_no_retry() -> None:
    attempts: Counter[str] = Counter()
    for seed in range(10):
        cluster = Cluster(plan("paired"), seed, Weather(preemption=0.005, node_death=0.005), slots=1)
        with without_pauses():
            states = cluster.run_driver()
        assert states is not None
        assert set(states.values()) == {State.COMPLETE}
        attempts |= Counter(trial_id for trial_id, _ in cluster.log.trained)
    assert max(attempts.values()) > 2 + 1  # more than the retries of the simulation's drivers allow


def test_nodes_that_lack_something_cost_no_trial() -> None:
    for seed in range(10):
        cluster = Cluster(plan("arms"), seed, Weather(), nodes=4, lacking=3)
        with without_pauses():
            states = cluster.run_driver()
        assert states is not None
        assert set(states.values()) == {State.COMPLETE}
        assert any("no images there; it is tried again, not on" in line for line in cluster.log.text)


def test_one_seed_always_tells_one_story() -> None:
    assert simulate(7).log.text == simulate(7).log.text


def span(first: int, last: int) -> tuple[int, int, int]:
    """Seeds in a process of its own; returns the number of drivers, attempts and disturbances."""
    drivers = attempts = blows = 0
    with added():
        logs = [simulate(seed).log for seed in range(first, last)]
    for log in logs:
        drivers, attempts = drivers + len(log.runs), attempts + len(log.trained)
        blows += sum(" is killed" in line or " dies" in line or "gives up" in line for line in log.text)
    return drivers, attempts, blows


@pytest.mark.slow
def test_ten_thousand_schedules() -> None:
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        starts = range(FAST, ALL, 100)
        sums = [sum(column) for column in zip(*pool.map(span, starts, spans_to(starts)), strict=True)]
    print(f"{ALL - FAST} schedules: {sums[0]} drivers, {sums[1]} attempts, {sums[2]} deaths")


def spans_to(starts: range) -> Iterator[int]:
    return (min(start + starts.step, starts.stop) for start in starts)


@pytest.mark.slow
def test_ten_thousand_trials() -> None:
    text = STUDY.replace("repetitions: 3", "repetitions: 2000")
    arms = "arms:\n  baseline: {}\n  other: {stages.portable.training: {lr: 0.5}}\n"
    arms += (
        "  third: {stages.portable.training: {lr: 0.25}}\n  fourth: {stages.portable.training: {lr: 0.125}}\n"
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(text + arms)
        large = expand(load(path, environ={}), phantom_cases, HERE)
    assert len(large.trials) >= 10_000
    cluster = Cluster(large, 1, Weather(worker_death=0.001, suspected=0.01), nodes=32, slots=4)
    started = time.monotonic()
    with without_pauses():
        states = cluster.run_driver()
    assert states is not None
    assert set(states.values()) <= ENDS
    assert sum(state is State.COMPLETE for state in states.values()) > 9_900
    print(f"{len(states)} trials, {len(cluster.log.trained)} attempts in {time.monotonic() - started:.0f} s")
