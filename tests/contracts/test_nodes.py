"""Several nodes: each is asked before work begins, scratch files go away, and nodes may come at any time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import xferlab
from tests.contracts.runs import Lab
from tests.schedule import graphs
from tests.studies import TINY, recorded
from xferlab.errors import StorageError
from xferlab.plan.spec import Reservation, Settings, TrialSpec
from xferlab.records.samples import search_store
from xferlab.records.store import Store
from xferlab.schedule import nodes, ray_session, ray_tune
from xferlab.schedule.graph import State
from xferlab.trial.failure import Kind, kind_of, lost


@pytest.mark.component
@pytest.mark.parametrize(
    ("name", "content", "version", "problem"),
    [
        ("probe", "d", xferlab.__version__, ""),
        ("absent", "d", xferlab.__version__, "it does not see a file that was written there: the"),
        ("probe", "e", xferlab.__version__, "it reads another content there"),
        ("probe", "d", "0.0.0", f"it runs xferlab {xferlab.__version__}, and this is 0.0.0"),
    ],
)
def test_what_is_wrong_with_a_node_is_told(
    local: Store, name: str, content: str, version: str, problem: str
) -> None:
    local.write("probe", b"d")
    found = nodes.Mark(ray_session.Access.to(local), name, content, version).problem_here()
    assert problem in found
    assert bool(found) == bool(problem)


@pytest.mark.component
def test_a_node_looks_for_the_mark_of_a_search_where_its_records_are(local: Store) -> None:
    mark = nodes.Mark.write(search_store(local, "f643"), "tune/mark")
    assert mark.problem_here() == ""
    assert mark.name.endswith("f643/tune/mark")
    assert local.read("tune/mark") is None


@pytest.mark.component
def test_a_storage_that_fails_for_a_node_is_worth_another_try(local: Store, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    mark = nodes.Mark(ray_session.Access.to(local), "folder", "d")
    with pytest.raises(StorageError, match="/folder: cannot be read") as raised:
        mark.problem_here()
    assert kind_of(type(raised.value).__name__, str(raised.value)) is Kind.OTHER
    assert nodes._problem(mark) == str(raised.value)


@pytest.mark.component
@pytest.mark.parametrize(
    ("cpus", "gpus", "number"),
    [
        ([8], [4], 4),
        ([3, 3], [1, 1], 2),
        ([8, 1], [0, 4], 1),  # together they would hold four: GPUs without cores, and cores without GPUs
        ([1, 1, 1], [1, 1, 1], 1),  # nobody has two cores: one waits
    ],
)
def test_samples_have_room_where_one_node_has_all_that_they_ask_for(
    monkeypatch: pytest.MonkeyPatch, cpus: list[int], gpus: list[int], number: int
) -> None:
    found = [
        {"Alive": alive, "Resources": {"CPU": cores * 1.0} | ({"GPU": on * 1.0} if on else {})}
        for cores, on, alive in [*zip(cpus, gpus, [True] * len(cpus), strict=True), (64, 8, False)]
    ]
    monkeypatch.setattr(nodes.ray, "nodes", lambda: found)
    monkeypatch.setattr(nodes, "bundle", lambda trial: {"CPU": 2.0, "GPU": 1.0})
    assert nodes.num_slots(cast("TrialSpec", None)) == number


def test_an_attempt_elsewhere_reserves_what_another_node_has(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"small": 2.0, "large": 8.0, "middle": 4.0, "lost": 16.0}
    found = [
        {"NodeID": name, "Alive": name != "lost", "Resources": {"CPU": size}} for name, size in sizes.items()
    ]
    monkeypatch.setattr(nodes.ray, "nodes", lambda: found)
    trial = graphs.trial("t", settings=Settings(resources=Reservation(3)))
    memory = lost("out of memory")
    assert nodes.bundle(trial, memory) == {"CPU": 8.0}
    assert nodes.bundle(trial, memory, besides={"large"}) == {"CPU": 4.0}
    assert nodes.bundle(trial, besides={"large"}) == {"CPU": 3.0}
    for failed, other in [({"large"}, True), ({"small"}, True), ({"large", "middle"}, False)]:
        assert nodes.has_other(trial, failed) is other
        assert nodes.has_other(trial, failed, found[:1]) is False


Join = Callable[..., Any]


@pytest.fixture
def join(cache: Path) -> Iterator[Join]:
    """Starts a head with one core; the function that it yields adds nodes like it."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    join = lambda **options: made.add_node(num_cpus=1, **options)  # noqa: E731
    join.address = made.address  # type: ignore[attr-defined]
    try:
        yield join
    finally:
        made.shutdown()


@pytest.mark.slow
def test_a_node_that_sees_another_folder_is_told_before_work_begins(join: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    if (token := Path("~/.ray").expanduser()).exists():
        (home / ".ray").symlink_to(token)  # a cluster that asks for a token lets no node in without
    join(env_vars={"HOME": str(home)})
    here = Store.open(Path("~").expanduser() / f"xferlab-test-{os.getpid()}")
    each_its_own = Store(f"~/{Path(here.location).name}", here.filesystem, here.root)
    try:
        with ray_session.cluster(join.address):
            nodes.check_nodes(here)
            with pytest.raises(StorageError) as raised:
                nodes.check_nodes(each_its_own)
        assert list(Path(here.root).iterdir()) == []
    finally:
        here.delete_dir("")
    first, problem, remedy = str(raised.value).splitlines()
    assert first == f"1 of 2 nodes of the cluster cannot work on storage {each_its_own.shown}:"
    assert "): it does not see a file that was written there" in problem
    assert remedy.startswith("All need the same xferlab and the same storage")


@pytest.mark.slow
def test_a_node_joins_a_run_and_no_scratch_file_stays(join: Any, tmp_path: Path) -> None:
    lab = Lab(tmp_path, ray_tune.execute)
    training = {**TINY["training"], "max_epochs": 250, "patience": 250, "checkpoint_every_s": 60}
    session = lab.study(training=training, arms={"a": {}})  # long enough for a node to come
    left, foreign = (lab.storage / "tune" / name / "old" for name in ("tiny", "other"))
    for folder in (left, foreign):
        folder.mkdir(parents=True)
        (folder / "params.json").write_text("{}")
    seen: list[list[str]] = []

    def grow(trial: TrialSpec) -> None:
        if not seen:
            seen.append(sorted(path.name for path in (lab.storage / "tune" / "tiny").iterdir()))
            join()

    lab.heard.on_epoch = grow
    with ray_session.cluster(join.address):
        outcome = lab.run(session)
    assert set(lab.states(outcome).values()) == {State.COMPLETE}
    assert len(seen[0]) == 1
    assert seen[0] != ["old"]
    assert [path.name for path in (lab.storage / "tune").iterdir()] == ["other"]
    assert (foreign / "params.json").exists()
    running = most = 0
    for _, state, _ in lab.heard.events:
        running += 1 if state is State.RUNNING else -1
        most = max(most, running)
    assert most == 2  # one core a node: both worked
    assert recorded(lab.storage) == lab.recorded_in_process(training=training, arms={"a": {}})
