"""The graph of trials: which there are, what arms share, which cases they see."""

from __future__ import annotations

import re

from tests.plan.studies import (
    STUDY,
    PlanOf,
    evaluation_ids,
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


def test_names_cover_every_arm_stage_and_repetition(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    expected = {f"{arm}/donor/r01" for arm in ("baseline", "scratch", "slow", "late")}
    for arm in ("baseline", "scratch", "slow", "late"):
        for stage in ("general", "portable"):
            expected |= {f"{arm}/{stage}/r{repetition:02d}" for repetition in (1, 2, 3)}
    assert set(plan.names) == expected
    assert set(plan.names.values()) == set(plan.by_id)


def test_ids_are_16_hex_digits_and_belong_to_one_identity(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    ids = [spec.trial_id for spec in plan.trials]
    assert len(set(ids)) == len(ids) == len({repr(spec.identity) for spec in plan.trials})
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids + evaluation_ids(plan))


def test_arms_share_the_trials_they_agree_on(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    assert trial(plan, "baseline/donor/r01").arms == ("baseline", "scratch", "late")
    assert trial(plan, "baseline/general/r02").arms == ("baseline", "late")
    assert trial(plan, "baseline/portable/r02").arms == ("baseline",)
    assert trial(plan, "slow/donor/r01").arms == ("slow",)
    assert len(plan.trials) == 2 + 3 * 3 + 4 * 3  # donors, general, portable


def test_parents_come_first_and_repetitions_are_paired(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    seen: set[str] = set()
    for spec in plan.trials:
        assert set(spec.parents) <= seen
        seen.add(spec.trial_id)
    for repetition in (1, 2, 3):
        child = trial(plan, f"baseline/portable/r{repetition:02d}")
        assert child.parents == (plan.names[f"baseline/general/r{repetition:02d}"],)
        assert child.identity.to_json()["parent"] == {"trials": list(child.parents)}


def test_all_repetitions_start_from_a_donor_of_one_repetition(plan_of: PlanOf) -> None:
    plan = plan_of()
    donor = plan.names["baseline/donor/r01"]
    assert [spec.parents for spec in plan.trials if spec.stage == "general"] == [(donor,)] * 3


def test_the_order_of_stages_in_the_file_does_not_matter(plan_of: PlanOf) -> None:
    head, _, stages = STUDY.partition("stages:\n")
    backwards = head + "stages:\n" + "".join(reversed(stages.splitlines(keepends=True)))
    assert plan_of(base=backwards).names == plan_of().names


def test_arms_train_on_the_same_patients(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    for repetition in (1, 2, 3):
        selections = {
            trial(plan, f"{arm}/general/r{repetition:02d}").selection
            for arm in ("baseline", "scratch", "slow")
        }
        assert len(selections) == 1
    assert trial(plan, "slow/general/r01").selection != trial(plan, "slow/general/r02").selection


def test_nobody_is_trained_on_and_evaluated_in_one_repetition(plan_of: PlanOf) -> None:
    plan = plan_of()
    patient_of = {c.digest: c.patient for cases in plan.cohort.sections.values() for c in cases}
    for repetition in (1, 2, 3):
        trained, evaluated = set(), set()
        for spec in plan.trials:
            if spec.repetition == repetition:
                trained |= {patient_of[digest] for digest in plan.selections[spec.selection].digests}
                for one in spec.evaluations:
                    evaluated |= {patient_of[digest] for digest in plan.selections[one.selection].digests}
        assert trained
        assert evaluated
        assert trained.isdisjoint(evaluated)


def test_the_hold_out_is_one_selection_for_all_repetitions(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    found = [one.selection for spec in plan.trials for one in spec.evaluations if one.part == "hold_out"]
    assert len(found) > 6
    assert len(set(found)) == 1


def test_every_selection_of_a_trial_is_in_the_plan_under_its_digest(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS)
    for spec in plan.trials:
        for digest in (spec.selection, *(one.selection for one in spec.evaluations)):
            assert plan.selections[digest].identity() == digest


def test_an_evaluation_asked_for_twice_is_done_once(plan_of: PlanOf) -> None:
    once = plan_of()
    twice = plan_of(edits={"[fixed.test, portable": "[fixed.test, fixed.test, portable"})
    assert evaluation_ids(twice) == evaluation_ids(once)


def test_a_filter_of_an_arm_takes_a_subset_of_each_part(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, covid: {data.fixed.where: {pathology: covid19}}}")
    for n in (1, 2, 3):
        all_rows, rows = (
            set(plan.selections[trial(plan, f"{arm}/general/r0{n}").selection].rows)
            for arm in ("baseline", "covid")
        )
        assert rows < all_rows


def test_what_an_arm_adds_moves_nobody(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, more: {data.fixed.count: 120}}")
    for n in (1, 2, 3):
        some, more = (
            set(plan.selections[trial(plan, f"{arm}/general/r0{n}").selection].rows)
            for arm in ("baseline", "more")
        )
        assert some < more


def test_arms_that_share_a_trial_are_each_measured_on_their_own_cases(plan_of: PlanOf) -> None:
    arms = "arms: {baseline: {}, covid: {data.portable.where: {pathology: covid19}}}"
    plan = plan_of(arms, edits={"count: 40": "count: 120"})
    shared = trial(plan, "baseline/general/r01")
    assert shared.arms == ("baseline", "covid")
    asked = [(one.name, one.arms) for one in shared.evaluations]
    assert asked == [
        ("fixed.test", ("baseline", "covid")),
        ("portable.hold_out", ("baseline",)),
        ("portable.hold_out", ("covid",)),
    ]
    for one in shared.evaluations:
        config = shared.data[one.source or one.section]
        wanted = config["where"].get("pathology")
        cases = plan.selections[one.selection].cases()
        assert cases
        assert {case.pathology for case in cases} == (
            {wanted} if wanted else {"covid19", "normal", "pathological"}
        )


def test_an_arm_that_simulates_a_device_keeps_the_patients_parts(plan_of: PlanOf) -> None:
    plan = plan_of("arms: {baseline: {}, simulated: {data.fixed.simulate: portable}}")
    real, simulated = (trial(plan, f"{arm}/general/r01") for arm in ("baseline", "simulated"))
    assert real.trial_id != simulated.trial_id
    by_name = {c.digest: c.name for c in phantom_cases("fixed", plan.loaded.arms["baseline"].data["fixed"])}
    by_name |= {c.digest: c.name for c in phantom_cases("fixed", plan.loaded.arms["simulated"].data["fixed"])}
    one, other = (
        {(by_name[digest], part) for digest, part in plan.selections[spec.selection].rows}
        for spec in (real, simulated)
    )
    assert one == other
