"""A study file beside its last plan: what differs, in words of the file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.plan.studies import HERE, NO_NUMBER, STAGES, PlanOf, phantom_cases
from xferlab.cohort import Case
from xferlab.plan.changes import asked_names, changed_fields, changes, renamed_arms
from xferlab.plan.document import to_document
from xferlab.plan.plan import Plan
from xferlab.plan.spec import PlannedTrial

ARMS = """\
arms:
  baseline: {}
  scratch: {stages.general.starts_from: null}
"""
BY_SITE = "split: {by: site}\n"
ELSEWHERE = NO_NUMBER.replace("portable.test, ", "")


def two_sites(name: str, config: Any) -> Sequence[Case]:
    """`fixed` has two sites, and `portable` one of them."""
    cases = phantom_cases(name, config)
    sites = {"mri": "", "fixed": "north south", "portable": "north"}[name].split() or [""]
    by_patient = ((case, sites[number // 2 % len(sites)]) for number, case in enumerate(cases))
    return [replace(case, columns={"site": site} if site else {}) for case, site in by_patient]


def differing(last: Plan, now: Plan, *, with_data: bool = True) -> list[str]:
    specs = last.by_id
    return changes(
        now.loaded, document(last), now if with_data else None,
        fields=lambda before, after: changed_fields(
            specs[before].identity.to_json(), now.by_id[after].identity.to_json()
        ),
    )  # fmt: skip


def document(plan: Plan) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(to_document(plan)))
    return value


@pytest.mark.parametrize("with_data", [True, False])
def test_the_same_file_differs_in_nothing(plan_of: PlanOf, with_data: bool) -> None:
    assert differing(plan_of(ARMS), plan_of(ARMS), with_data=with_data) == []


@pytest.mark.parametrize("with_data", [True, False])
def test_arms_repetitions_and_stages_that_come_and_go(plan_of: PlanOf, with_data: bool) -> None:
    few, many = plan_of(), plan_of(ARMS, edits={"repetitions: 3": "repetitions: 5"})
    added = differing(few, many, with_data=with_data)
    removed = differing(many, few, with_data=with_data)
    parts = "(arm scratch, baseline/general r04 to r05, baseline/portable r04 to r05)"
    new = len(many.by_id.keys() - few.by_id.keys())
    assert new == 14  # scratch shares its donor with baseline, which only the data tell
    assert added[0] == f"{new if with_data else 15} trials added {parts}"
    assert removed[0] == f"{new} trials removed {parts}"
    shorter = plan_of(edits={STAGES.splitlines()[-1]: ""})
    assert differing(plan_of(), shorter, with_data=with_data) == ["3 trials removed (stage portable)"]


@pytest.mark.parametrize("with_data", [True, False])
def test_an_arm_with_another_name_is_the_same(plan_of: PlanOf, with_data: bool) -> None:
    last, now = plan_of(ARMS), plan_of(ARMS.replace("scratch", "from_scratch"))
    assert differing(last, now, with_data=with_data) == ["arm scratch is called from_scratch now"]


def test_an_arm_that_changes_something_else_is_another() -> None:
    before = {"baseline": {}, "a": {"training.lr": 0.1}, "b": {"training.lr": 0.1}, "c": {"seed": 1}}
    assert renamed_arms(before, {"baseline": {}, "d": {"training.lr": 0.1}, "e": {"seed": 1}}) == {"c": "e"}
    assert renamed_arms(before, {"baseline": {}, "d": {"training.lr": 0.2}}) == {}
    assert renamed_arms({"c": {}}, {"d": {}, "e": {}}) == {}


def test_trials_that_arms_share_are_counted_once(plan_of: PlanOf) -> None:
    more = plan_of(ARMS, edits={"donor: {data: mri}": "donor: {data: mri, repetitions: 3}"})
    assert differing(plan_of(ARMS), more)[0] == (
        "2 trials added (baseline/donor r02 to r03, scratch/donor r02 to r03)"
    )


def test_a_setting_that_renews_trials_is_named_and_what_follows_from_it_is_not(plan_of: PlanOf) -> None:
    now = plan_of("training: {lr: 0.5}\n", edits={"repetitions: 3": "repetitions: 1"})
    last = plan_of(edits={"repetitions: 3": "repetitions: 1"})
    assert differing(last, now) == [
        "3 trials changed (baseline/donor, baseline/general, baseline/portable: training.lr 0.001 -> 0.5)"
    ]


def test_another_measurement_renews_no_trial(plan_of: PlanOf) -> None:
    now = plan_of(edits={"evaluate_on: [fixed.test, portable.hold_out]": "evaluate_on: [fixed.test]"})
    assert differing(plan_of(), now) == ["3 trials evaluated on other cases or otherwise (baseline/general)"]


def test_other_features_are_told(plan_of: PlanOf) -> None:
    features = "features: {{on: portable.hold_out, cases: {}}}\n"
    few, more = plan_of(features.format(4)), plan_of(features.format(8))
    for last, now in ((plan_of(), few), (few, more), (more, plan_of())):
        assert differing(last, now) == ["features changed"]
    assert differing(few, few) == []


def test_the_machine_is_named_where_it_decides(plan_of: PlanOf) -> None:
    [phrase] = differing(plan_of(), plan_of(setting=replace(HERE, device="cuda")))
    assert "execution.device cpu -> cuda" in phrase


def test_without_data_the_seed_and_the_arms_are_compared(plan_of: PlanOf) -> None:
    now = plan_of(ARMS.replace("null", "donor"), edits={"seed: 7": "seed: 8"})
    assert differing(plan_of(ARMS), now, with_data=False) == [
        "seed 7 -> 8",
        "arm scratch overrides other values",
    ]


def test_the_trials_of_a_document_are_those_of_the_plan(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS + "features: {on: portable.hold_out}\n")
    assert set(asked_names(plan.loaded)) == set(plan.names)
    fields = [field.name for field in dataclasses.fields(PlannedTrial)]
    for entry, trial in zip(document(plan)["trials"], plan.trials, strict=True):
        planned = PlannedTrial.from_entry(entry)
        assert {name: getattr(planned, name) for name in fields} == {
            name: getattr(trial, name) for name in fields
        }


@pytest.mark.parametrize("with_data", [True, False])
def test_sites_without_a_trial_are_no_difference(plan_of: PlanOf, with_data: bool) -> None:
    """Only the data tell how many sites there are, and where a stage has a trial."""
    last, now = (plan_of(ARMS + BY_SITE, base=ELSEWHERE, index=two_sites) for _ in range(2))
    assert len([name for name in last.names if "baseline/portable" in name]) == 1
    assert differing(last, now, with_data=with_data) == []


@pytest.mark.parametrize("with_data", [True, False])
def test_what_comes_and_goes_is_known_for_sites_too(plan_of: PlanOf, with_data: bool) -> None:
    last = plan_of(BY_SITE, base=ELSEWHERE, index=two_sites)
    now = plan_of(ARMS + BY_SITE, base=ELSEWHERE, index=two_sites)
    new = len(now.by_id.keys() - last.by_id.keys())
    assert differing(now, last, with_data=with_data) == [f"{new} trials removed (arm scratch)"]
    # Without the data, every stage of the new arm may have a trial for each site.
    number = new if with_data else 5
    assert differing(last, now, with_data=with_data) == [f"{number} trials added (arm scratch)"]
