"""Two GPUs that Ray believes in: fractions, whole ones and trials without any neither starve nor deadlock.

What Ray does: each waiting trial asks for a placement group of its own; one that does not fit yet reserves
nothing, so that smaller ones overtake it. A study is finite: it gets its turn when those that fit run out.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.runs import Heard
from tests.schedule.graphs import trial
from xferlab.plan.spec import Reservation, Settings, TrialSpec
from xferlab.records.store import Store
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.retry_policy import RetryPolicy
from xferlab.schedule.stop import StopRequest

pytestmark = pytest.mark.slow

NUM_CPUS, NUM_GPUS = 4, 2
RUNS_S = 0.3


def asking(name: str, *, parents: tuple[str, ...] = (), cpu: float = 1.0, gpu: float = 0.0) -> TrialSpec:
    """A trial that reserves resources; on CUDA if it asks for a GPU."""
    settings = Settings(resources=Reservation(cpu, gpu))
    return trial(name, parents=parents, settings=settings, device="cuda" if gpu else "cpu")


@pytest.fixture
def two_gpus() -> Iterator[str]:
    cluster = importlib.import_module("ray.cluster_utils").Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": NUM_CPUS, "num_gpus": NUM_GPUS, "include_dashboard": False},
    )
    yield cluster.address
    cluster.shutdown()


def run(trials: list[TrialSpec], folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> TrialGraph:
    """Runs trials whose work is to hold their resources for a while, on the real executor."""
    ray_tune: Any = importlib.import_module("xferlab.schedule.ray_tune")
    ray_session: Any = importlib.import_module("xferlab.schedule.ray_session")
    storage = str(folder)

    def hold(config: dict[str, Any], access: Any = None, train: Any = None, mark: Any = None) -> None:
        from ray import tune

        spec = json.loads(config["spec"])
        asked = spec["settings"]["resources"]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "") if asked["gpu"] else ""
        tune.report({"epoch": 0, "best_score": 0.0, "memory_peak_gib": 0.0})
        started = time.time()
        time.sleep(RUNS_S)
        told = {"gpus": visible, "asked": asked, "started": started, "ended": time.time()}
        Path(storage, spec["trial_id"]).write_text(json.dumps(told))

    def has_run(store: Store, spec: TrialSpec) -> bool:
        return store.exists(spec.trial_id)

    monkeypatch.setattr(ray_tune, "work", hold)
    graph = TrialGraph(trials, complete=set())
    policy = RetryPolicy(graph, Store.open(folder), Heard(), retries=0, is_complete=has_run)
    with ray_session.cluster(address), StopRequest() as stop:
        ray_tune.execute(policy, cache_dir=folder, stop=stop)
    return graph


def told(trials: list[TrialSpec], folder: Path) -> dict[str, dict[str, Any]]:
    return {one.trial_id: json.loads((folder / one.trial_id).read_text()) for one in trials}


def most_at_once(runs: list[dict[str, Any]], kind: str, gpu: str | None = None) -> float:
    """The largest sum of what trials held of a resource at one moment; of one GPU if it is named."""
    changes = []
    for one in runs:
        ids = [number for number in one["gpus"].split(",") if number]
        held = one["asked"][kind] if gpu is None else one["asked"]["gpu"] / max(len(ids), 1)
        if gpu is None or gpu in ids:
            changes += [(one["started"], held), (one["ended"], -held)]
    sums = [0.0]
    for _, change in sorted(changes):
        sums.append(sums[-1] + change)
    return max(sums)


def test_fractions_whole_gpus_and_none_share_a_machine(
    tmp_path: Path, two_gpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [asking(f"small{i}", gpu=0.25) for i in range(12)]
    both = [asking("both0", gpu=2), asking("both1", gpu=2, parents=("small0",))]
    whole = [asking(f"whole{i}", gpu=1, parents=(f"small{i}",)) for i in range(3)]
    plain = [asking(f"plain{i}", cpu=2) for i in range(4)]
    last = [asking("last", gpu=0.25, parents=("both1", "whole2"))]
    trials = [*both[:1], *small, *plain, *whole, *both[1:], *last]
    graph = run(trials, tmp_path, two_gpus, monkeypatch)
    assert set(graph.states.values()) == {State.COMPLETE}
    runs = told(trials, tmp_path)
    everyone = list(runs.values())
    assert most_at_once(everyone, "cpu") <= NUM_CPUS
    assert most_at_once(everyone, "gpu") <= NUM_GPUS
    packed = [most_at_once(everyone, "gpu", gpu=number) for number in ("0", "1")]
    assert 0.5 <= max(packed) <= 1.0  # several small ones shared a GPU, and none was given more than there is
    assert all(one["gpus"] in ("0", "1") for name, one in runs.items() if name.startswith(("small", "whole")))
    assert {runs[name]["gpus"] for name in ("both0", "both1")} <= {"0,1", "1,0"}
    order = sorted(runs, key=lambda name: float(runs[name]["started"]))
    print(" ".join(order))


def test_small_trials_do_not_keep_a_large_one_away_for_ever(
    tmp_path: Path, two_gpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chains = [
        asking(f"{chain}{step}", gpu=0.5, parents=(f"{chain}{step - 1}",) if step else ())
        for chain in "abcd"
        for step in range(5)
    ]
    large = asking("large", gpu=2, cpu=4)
    graph = run([*chains, large], tmp_path, two_gpus, monkeypatch)
    assert set(graph.states.values()) == {State.COMPLETE}
    runs = told([*chains, large], tmp_path)
    own = runs.pop("large")
    assert all(one["ended"] <= own["started"] or one["started"] >= own["ended"] for one in runs.values())
    order = sorted([*runs.values(), own], key=lambda one: float(one["started"]))
    print(f"the large one ran as number {order.index(own) + 1} of {len(order)}")
