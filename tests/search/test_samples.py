"""Samples as a graph: begun ones first, no more at once than slots; the worse stop, as Ray would do it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.records.test_samples import record
from tests.schedule.graphs import trial
from xferlab.errors import StudyError
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records import layout
from xferlab.records.samples import (
    SampleRecord,
    best_of,
    read_begun,
    read_samples,
    search_store,
    write_begun,
    write_sample,
)
from xferlab.records.store import Store
from xferlab.schedule.graph import State
from xferlab.search.samples import Halving, SampleGraph
from xferlab.study.space import Parameter, Space

SPACE = Space("space.yaml", (Parameter("p", "uniform", (0.0, 1.0), "p"),))


def sample(number: int, parameters: Any = None) -> SampleSpec:
    return SampleSpec(f"sample{number}", "search", number, parameters or {"p": 0.5}, (trial("general"),))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def graph_of(
    store: Store,
    num_samples: int,
    *,
    asha: dict[str, int] | None = None,
    sampler: str = "random",
    invalid: Collection[int] = (),
) -> SampleGraph:
    def valid_sample(number: int, parameters: Any) -> SampleSpec:
        if number in invalid:
            raise StudyError.at("space.yaml", "these do not go together")
        return sample(number, parameters)

    def invalid_record(number: int, parameters: Any, error: StudyError) -> SampleRecord:
        reason = error.problems[0].what
        return SampleRecord(
            f"sample{number}", "search", number, parameters, "invalid", 9, "lower", (), reason
        )

    tuning: Any = SimpleNamespace(
        tuning_id="search", space=SPACE, wanted=SimpleNamespace(search=sampler, seed=1), asha=asha,
        sample=valid_sample, invalid=invalid_record, selections={},
        to_json=lambda: {"tuning_id": "search", "version": 2},
    )  # fmt: skip
    return SampleGraph(tuning, store, num_samples)


def finish(graph: SampleGraph, finished: SampleRecord) -> None:
    write_sample(graph.store, finished)
    graph.complete(finished.sample_id)


def taken(graph: SampleGraph) -> Iterator[str]:
    while job := graph.take():
        yield job.name


def test_begun_samples_come_first_then_new_ones_as_far_as_there_are_slots(store: Store) -> None:
    search = search_store(store, "search")
    write_sample(search, record(1))
    for number in (3, 9):
        write_begun(search, sample(number))
    search.write(f"{layout.TrialFiles('sample1').checkpoint}/state", b"left by a kill")
    graph = graph_of(store, 5)
    assert not search.exists(layout.TrialFiles("sample1").checkpoint)
    assert (graph.num_finished, graph.num_samples, list(graph.trials)) == (1, 5, ["sample3"])
    graph.slots = lambda: 2
    assert list(taken(graph)) == ["sample 3", "sample 2"]
    assert [begun.number for begun in read_begun(store, "search")] == [2, 3, 9]
    finish(graph, record(2))
    assert list(taken(graph)) == ["sample 4"]
    assert not graph.exhausted
    graph.put_back("sample3")  # its worker was lost
    assert list(taken(graph)) == ["sample 3"]
    for number in (3, 4):
        finish(graph, record(number))
    assert list(taken(graph)) == ["sample 5"]
    assert graph.exhausted
    graph.fail("sample5")
    assert graph.counts() == {State.COMPLETE: 3, State.FAILED: 1}
    assert (graph.num_finished, graph_of(store, 5).num_finished) == (4, 4)


@pytest.mark.parametrize("sampler", ["random", pytest.param("optuna", marks=pytest.mark.component)])
def test_samples_whose_values_are_not_valid_together_are_noted_and_the_search_goes_on(
    store: Store, sampler: str
) -> None:
    done = {number: replace(record(number), parameters={"p": 0.1 * number}) for number in (2, 4)}
    graph = graph_of(store, 5, sampler=sampler, asha={"grace_epochs": 1, "reduction": 3}, invalid=(1, 3, 5))
    assert list(taken(graph)) == ["sample 2"]
    finish(graph, done[2])
    assert list(taken(graph)) == ["sample 4"]
    assert (graph.num_finished, graph.exhausted) == (3, False)
    finish(graph, done[4])
    assert list(taken(graph)) == []
    assert (graph.num_finished, graph.exhausted) == (5, True)
    records = read_samples(store, "search")
    assert [each.outcome for each in records] == ["invalid", "complete"] * 2 + ["invalid"]
    assert {each.reason for each in records} == {"", "these do not go together"}
    assert best_of(records) == done[2]
    assert max(records, key=SampleRecord.rank).number == 5
    again = graph_of(store, 5, sampler=sampler, asha={"grace_epochs": 1, "reduction": 3})
    assert (again.num_finished, again.exhausted) == (5, True)


def test_a_random_sample_does_not_depend_on_what_is_finished(store: Store, tmp_path: Path) -> None:
    def drawn(store: Store) -> dict[int, Any]:
        graph = graph_of(store, 4)
        graph.slots = lambda: 4
        list(taken(graph))
        return {begun.number: begun.parameters for begun in read_begun(store, "search")}

    first = drawn(store)
    write_sample(search_store(other := Store.open(tmp_path / "other"), "search"), record(2))
    assert drawn(other) == {number: values for number, values in first.items() if number != 2}


def test_a_sample_that_is_one_of_the_worse_is_recorded_with_what_it_has_reached(store: Store) -> None:
    write_sample(search_store(store, "search"), record(1, 0.5, 0.1))
    graph = graph_of(store, 3, asha={"grace_epochs": 1, "reduction": 3})
    graph.slots = lambda: 2
    assert list(taken(graph)) == ["sample 2", "sample 3"]
    assert not graph.stop_if_worse(record(2, 0.4, outcome="stopped"))
    assert graph.stop_if_worse(record(3, 0.6, outcome="stopped"))
    graph.complete("sample3")
    assert graph.records["sample3"] == record(3, 0.6, outcome="stopped")
    assert not graph_of(store, 3).stop_if_worse(record(2, 0.9))  # without halving nothing stops


@pytest.mark.component  # Ray is imported
@pytest.mark.parametrize("seed", range(5))
def test_halving_decides_as_rays_scheduler(seed: int) -> None:
    from ray.tune.schedulers.async_hyperband import _Bracket
    from ray.tune.schedulers.trial_scheduler import TrialScheduler

    draws = np.random.default_rng(seed)
    curves = {f"s{n}": np.minimum.accumulate(draws.uniform(0, 1, 30)).tolist() for n in range(12)}
    ray, ours = _Bracket(2, 2**31, 3, 0), Halving(grace_epochs=2, reduction=3)
    ray._stop_last_trials = False
    reached, running, stopped = dict.fromkeys(curves, 0), sorted(curves), set()
    while running:
        name = draws.choice(running)
        reached[name] += 1
        curve = curves[name][: reached[name]]
        action = ray.on_result(SimpleNamespace(trial_id=name), reached[name], -curve[-1])
        assert ours.stops(name, curve) == (action == TrialScheduler.STOP)
        if action == TrialScheduler.STOP:
            stopped.add(name)
        running = [one for one in running if one not in stopped and reached[one] < 30]
    assert 0 < len(stopped) < 12


def test_halving_of_a_resumed_sample_looks_at_all_rungs_that_it_has_passed() -> None:
    halving = Halving(grace_epochs=1, reduction=3)
    assert not halving.stops("a", [0.5, 0.4, 0.3])
    assert halving.stops("b", [0.4, 0.4, 0.4])
    assert not halving.stops("b", [0.4, 0.4, 0.4])  # its rungs are known by now
