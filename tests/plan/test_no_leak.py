"""Random studies whose stages take from each other: no test patient is seen by a network on the way."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import yaml

from tests.plan.studies import PlanOf, text_digest
from xferlab.cohort import Case
from xferlab.plan.plan import Plan

pytestmark = pytest.mark.usefixtures("added_tasks")

FINDINGS = ("normal", "tb", "viral")
SEEDS = range(150)


@pytest.mark.parametrize("start", range(0, SEEDS.stop, 15))
def test_a_test_patients_mask_comes_from_no_network_that_trained_on_that_patient(
    plan_of: PlanOf, start: int
) -> None:
    checked = 0
    for seed in range(start, start + 15):
        study = random_study(random.Random(seed))
        plan = plan_of(base=yaml.safe_dump(study, sort_keys=False), index=joined)
        checked += no_leak(plan)
    assert checked > 100


def joined(name: str, config: Any) -> Sequence[Case]:
    """Cases whose patients now and then are those of another section, each under one id for good."""
    pool = random.Random(config.seed * 1000 + config.count)
    cases = []
    for number in range(config.count):
        unit = pool.randrange(config.count // 2)
        patient = f"p{unit}" if pool.random() < 0.3 else f"{name}{unit}"
        columns = {"finding": FINDINGS[number % 3], "site": "xyz"[unit % 3]}
        digest = text_digest(f"{name} {number} {config.seed} {bool(config.targets)}")
        cases.append(Case(digest, f"{name}{number}.png", patient, "xy"[unit % 2], columns=columns))
    return cases


def random_study(draws: random.Random) -> dict[str, Any]:
    """A study with stages of every kind, each of which takes from some before it."""
    sections = {
        name: {"source": "phantom_cxr", "count": draws.choice([60, 80]), "seed": seed}
        for seed, name in enumerate("abc")
    }
    if draws.random() < 0.5:
        sections["a"]["hold_out"] = 0.2
    folds = draws.choice([True, 2, False])
    split = draws.choice([{}, {"folds": 3}, {"by": "site"}, {"group_by": None}, {"folds": 4, "repeats": 2}])
    stages: dict[str, Any] = {}
    kinds = {name: draws.choice(["segmentation", "labelled", "duet"]) for name in ("q", "r", "s", "t")}
    for name, task in {"lungs": "segmentation", "views": "labelled", **kinds, "last": "duet"}.items():
        stages[name] = _stage(draws, name, task, stages, folds)
    for name in needed_for_predictions(stages):
        stages[name]["training"] = {"max_epochs": 5, "patience": 5}
    return {
        "study": "s",
        "seed": draws.randrange(100),
        **({} if {"folds", "by"} & split.keys() else {"repetitions": draws.choice([1, 2, 3])}),
        "data": sections,
        "split": split,
        "stages": stages,
        "arms": {"baseline": {}, "fewer": {"stages.last.label_fraction": 0.5}},
    }


def needed_for_predictions(stages: Mapping[str, Any]) -> set[str]:
    return {stage[role]["from"] for stage in stages.values() for role in ("masks", "gate") if role in stage}


def _stage(
    draws: random.Random, name: str, task: str, before: Mapping[str, Any], folds: bool | int
) -> dict[str, Any]:
    def of(kind: str) -> list[str]:
        return [other for other, stage in before.items() if stage["task"] == kind]

    section = draws.choice("abc")
    stage: dict[str, Any] = {"task": task, "data": section}
    if task == "labelled":
        stage["classes"] = {"column": "finding"}
    elif draws.random() < 0.3:
        stage["label_fraction"] = draws.choice([0.5, 0.8])
    stage["evaluate_on"] = [f"{other}.{draws.choice(['test', 'validation'])}" for other in "abc"]
    parents = of(task)
    if parents and draws.random() < 0.5:
        stage["starts_from"] = draws.choice(parents)
        stage["chaining"] = draws.choice(["paired", "best"])
    if task == "duet" and (name == "last" or draws.random() < 0.7):
        stage["masks"] = {"from": draws.choice(of("segmentation")), "out_of_fold": folds}
    if of("labelled") and draws.random() < 0.4:
        stage["gate"] = {"from": draws.choice(of("labelled")), "keep": draws.choice(FINDINGS)}
    return stage


def no_leak(plan: Plan) -> int:
    """Asserts it of every evaluation that enters tables; returns how many predicted cases were looked at."""
    unit = {case.digest: plan.selector.cohort.unit(case) for _, case, _ in plan.selector.listed()}
    trained = {
        spec.trial_id: {unit[digest] for digest in plan.selections[spec.selection].digests}
        for spec in plan.trials
    }

    def descends(trial_id: str) -> set[str]:
        return {trial_id}.union(*map(descends, plan.by_id[trial_id].parents))

    checked = 0
    for spec in plan.trials:
        for each in spec.evaluations:
            if each.part != "test" or each.parent_may_have_seen:
                continue
            for predicted in each.predicted:
                units = {unit[digest] for digest in plan.selections[predicted.selection].digests}
                for network in descends(predicted.trial):
                    assert units.isdisjoint(trained[network]), (
                        spec.name,
                        each.name,
                        plan.by_id[network].name,
                    )
                checked += len(units)
            everybody = set().union(*(trained[network] for network in descends(spec.trial_id)))
            assert everybody.isdisjoint(unit[digest] for digest in plan.selections[each.selection].digests)
    return checked
