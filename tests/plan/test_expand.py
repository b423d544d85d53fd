"""The graph of trials: which there are, what arms share, which cases they see."""

from __future__ import annotations

import re

import pytest

from tests.plan.studies import (
    PlanOf,
    evaluation_ids,
    evaluations,
    parts,
    phantom_cases,
    trial,
)

ARMS = """\
arms:
  baseline: {}
  scratch: {stages.general.starts_from: null}
  slow: {training.lr: 1e-4}
  late: {stages.portable.training.lr: 1e-4}
"""


def test_names_cover_every_arm_stage_and_repetition_and_each_id_has_one_identity(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    stages = ["donor/r01", *(f"{stage}/r0{n}" for stage in ("general", "portable") for n in (1, 2, 3))]
    assert set(plan.names) == {f"{arm}/{stage}" for arm in plan.loaded.arms for stage in stages}
    assert set(plan.names.values()) == set(plan.by_id)
    ids = [spec.trial_id for spec in plan.trials]
    assert len(set(ids)) == len(ids) == len({repr(spec.identity) for spec in plan.trials})
    assert all(re.fullmatch("[0-9a-f]{16}", some_id) for some_id in ids + evaluation_ids(plan))


def test_arms_share_the_trials_they_agree_on(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    assert trial(plan, "baseline/donor/r01").arms == ("baseline", "scratch", "late")
    assert trial(plan, "baseline/general/r02").arms == ("baseline", "late")
    assert trial(plan, "baseline/portable/r02").arms == ("baseline",)
    assert trial(plan, "slow/donor/r01").arms == ("slow",)
    assert len(plan.trials) == 2 + 3 * 3 + 4 * 3  # donors, general, portable
    selections = [{trial(plan, f"{arm}/general/r0{n}").selection for arm in plan.loaded.arms} for n in (1, 2)]
    assert [len(selected) for selected in selections] == [1, 1]
    assert selections[0] != selections[1]


def test_parents_come_first_and_repetitions_are_paired(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    seen: set[str] = set()
    for spec in plan.trials:
        assert set(spec.parents) <= seen
        seen.add(spec.trial_id)
    for repetition in (1, 2, 3):
        child = trial(plan, f"baseline/portable/r0{repetition}")
        assert child.parents == (plan.names[f"baseline/general/r0{repetition}"],)
        assert child.identity.to_json()["parent"] == {"trials": list(child.parents)}
        only_donor = (plan.names["baseline/donor/r01"],)
        assert trial(plan, f"baseline/general/r0{repetition}").parents == only_donor


def test_every_selection_is_in_the_plan_under_its_digest_and_all_have_one_hold_out(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    held_out = [item.selection for item in evaluations(plan) if item.part == "hold_out"]
    assert len(held_out) > 6
    assert len(set(held_out)) == 1
    for spec in (*plan.trials, *evaluations(plan)):
        assert plan.selections[spec.selection].identity() == spec.selection


@pytest.mark.parametrize(
    "arms",
    ["few: {data.fixed.where: {pathology: covid19}}, many: {}", "few: {}, many: {data.fixed.count: 120}"],
)
def test_a_filter_or_more_cases_of_an_arm_move_no_patient_to_another_part(plan_of: PlanOf, arms: str) -> None:
    plan = plan_of(f"arms: {{{arms}}}")
    for n in (1, 2, 3):
        assert parts(plan, f"few/general/r0{n}") < parts(plan, f"many/general/r0{n}")


def test_arms_that_share_a_trial_are_each_measured_on_their_own_cases(plan_of: PlanOf) -> None:
    arms = "arms: {baseline: {}, covid: {data.portable.where: {pathology: covid19}}}"
    plan = plan_of(arms, edits={"count: 40": "count: 120"})
    shared = trial(plan, "baseline/general/r01")
    assert shared.arms == ("baseline", "covid")
    assert [(evaluation.name, evaluation.arms) for evaluation in shared.evaluations] == [
        ("fixed.test", ("baseline", "covid")),
        ("portable.hold_out", ("baseline",)),
        ("portable.hold_out", ("covid",)),
    ]
    for evaluation in shared.evaluations:
        filtered = shared.data[evaluation.source or evaluation.section]["where"]
        pathologies = set(filtered.values()) or {"covid19", "normal", "pathological"}
        cases = plan.selections[evaluation.selection].cases()
        assert {case.pathology for case in cases} == pathologies


def test_an_arm_that_simulates_a_device_keeps_the_patients_parts(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, simulated: {data.fixed.simulate: portable}}")
    names = [f"{arm}/general/r01" for arm in plan.loaded.arms]
    assert len({plan.names[name] for name in names}) == 2
    sections = [study.data["fixed"] for study in plan.loaded.arms.values()]
    file_name = {case.digest: case.name for config in sections for case in phantom_cases("fixed", config)}
    real, simulated = ({(file_name[digest], part) for digest, part in parts(plan, name)} for name in names)
    assert real == simulated
