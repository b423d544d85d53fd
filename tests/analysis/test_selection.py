"""Which results belong together."""

from __future__ import annotations

from typing import Any

import pandas as pd

from xferlab.analysis import StudyResults
from xferlab.analysis.results import Metrics
from xferlab.analysis.selection import (
    ChainPair,
    adaptation_pairs,
    chain_pairs,
    ordered_pathologies,
)
from xferlab.metrics.measuring import METRICS
from xferlab.records.store import Store

HOLD_OUT = ("portable", "hold_out")


def study(
    tmp_path,
    arms: dict[str, dict[str, str | None]],
    *,
    measured: tuple[str, ...],
    also: dict[str, list[tuple[str, str]]] | None = None,
) -> StudyResults:
    """A study of arms as {stage: parent}; the `measured` stages see the hold-out, and `also` more."""
    trials: list[dict[str, Any]] = []
    for arm, stages in arms.items():
        for stage in stages:
            sets = [(stage, "test"), *([HOLD_OUT] if stage in measured else []), *(also or {}).get(stage, [])]
            evaluations = [
                {
                    "evaluation_id": f"{arm}{stage}{s}{p}",
                    "section": s,
                    "part": p,
                    "variant": "",
                    "arms": [arm],
                    "parent_may_have_seen": False,
                }
                for s, p in sets
            ]
            trial_id = str(len(trials))
            trial = {"trial_id": trial_id, "arms": [arm], "stage": stage, "repetition": 1}
            trials.append({**trial, "evaluations": evaluations})
    plan = {
        "stages": ["donor", "general", "bridge", "portable"],
        "arms": {
            arm: {
                "stages": {stage: {"starts_from": parent, "data": stage} for stage, parent in stages.items()}
            }
            for arm, stages in arms.items()
        },
        "trials": trials,
    }
    rows = [(t["arms"][0], t["stage"], t["trial_id"]) for t in trials]
    frame = pd.DataFrame(rows, columns=["arm", "stage", "trial_id"])
    empty = pd.DataFrame()
    return StudyResults("s", plan, Store.open(tmp_path), frame, empty, empty, empty)


CHAIN = {"donor": None, "general": "donor", "bridge": "general", "portable": "bridge"}


def test_a_stage_pairs_with_its_nearest_measured_ancestor(tmp_path) -> None:
    results = study(tmp_path, {"baseline": CHAIN}, measured=("general", "portable"))
    assert chain_pairs(results, "baseline") == (ChainPair("general", "portable", "portable"),)
    results = study(tmp_path, {"baseline": CHAIN}, measured=("general", "bridge", "portable"))
    assert [(p.before, p.after) for p in chain_pairs(results, "baseline")] == [
        ("general", "bridge"),
        ("bridge", "portable"),
    ]


def test_an_arm_that_skips_a_stage_has_no_pair(tmp_path) -> None:
    skip = {"donor": None, "portable": "donor"}
    results = study(tmp_path, {"baseline": CHAIN, "skip": skip}, measured=("general", "portable"))
    assert chain_pairs(results, "skip") == ()
    assert chain_pairs(results, "baseline") == (ChainPair("general", "portable", "portable"),)


def test_adaptation_is_seen_where_an_ancestor_was_trained(tmp_path) -> None:
    also = {"portable": [("general", "test"), ("other", "test")], "bridge": [("other", "test")]}
    results = study(tmp_path, {"baseline": CHAIN}, measured=("general", "portable"), also=also)
    # Of `other` both are measured, and nobody was trained on it.
    assert adaptation_pairs(results, "baseline") == (ChainPair("general", "portable", "general", "test"),)
    assert chain_pairs(results, "baseline") == (ChainPair("general", "portable", "portable"),)


def test_pathologies_stand_by_name_behind_all() -> None:
    assert ordered_pathologies(["zoster", "normal", "all", "asthma"]) == ("all", "asthma", "normal", "zoster")


def test_metrics_stand_in_the_plans_order_and_unknown_ones_last() -> None:
    metrics = Metrics({"metrics": [metric.to_json() for metric in METRICS]})
    assert [m.name for m in metrics.ordered(["NEW", "HD95_px", "DICE", "ACC"])] == [
        "ACC",
        "DICE",
        "HD95_px",
        "NEW",
    ]
    assert [m.name for m in metrics.main(["HD95_px", "ACC", "DICE"])] == ["DICE", "HD95_px"]
    assert metrics.named("NEW").better is None
    assert metrics.named("DICE").to_json() in [metric.to_json() for metric in METRICS]
