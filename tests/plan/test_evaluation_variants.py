"""Evaluations of the same cases in another way: ids of their own, and nothing else renewed."""

from __future__ import annotations

from dataclasses import replace

from tests.plan.studies import HERE, PlanOf, trial
from xferlab.plan.document import to_document, totals
from xferlab.plan.plan import Plan
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.study.evaluated import OBJECTS, VARIANTS

PLAIN = "portable: {data: portable, starts_from: general, evaluate_on: [portable.test, portable.hold_out]}"
MANY = PLAIN.replace(
    "hold_out]", ", ".join(["hold_out", *(f"portable.hold_out@{v}" for v in VARIANTS)]) + "]"
)
NAME = "baseline/portable/r01"
ARMS = "arms: {baseline: {}, native: {model.image_size: native}}"


def evaluations(plan: Plan, name: str) -> dict[str, EvaluationSpec]:
    return {evaluation.name: evaluation for evaluation in trial(plan, name).evaluations}


def test_variants_renew_no_trial_and_no_other_evaluation(plan_of: PlanOf) -> None:
    some, more = plan_of(ARMS), plan_of(ARMS, edits={PLAIN: MANY})
    assert some.names == more.names
    for name in some.names:
        assert evaluations(some, name).items() <= evaluations(more, name).items()


def test_variants_are_the_same_cases_under_ids_of_their_own(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS, edits={PLAIN: MANY})
    held_out = [item for item in evaluations(plan, NAME).values() if item.part == "hold_out"]
    assert [evaluation.variant for evaluation in held_out] == ["", *VARIANTS]
    assert len({evaluation.evaluation_id for evaluation in held_out}) == len(held_out)
    assert len({evaluation.selection for evaluation in held_out}) == 1
    spec = trial(plan, NAME)
    assert TrialSpec.from_json(spec.to_json()) == spec
    (planned,) = (item for item in to_document(plan)["trials"] if item["trial_id"] == spec.trial_id)
    assert [evaluation["variant"] for evaluation in planned["evaluations"]] == ["", "", *VARIANTS]


def test_at_native_size_the_original_size_is_the_plain_evaluation(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS, edits={PLAIN: MANY})
    by_name = evaluations(plan, "native/portable/r01")
    plain, original = by_name["portable.hold_out"], by_name["portable.hold_out@original"]
    assert plain.evaluation_id == original.evaluation_id
    number = len({evaluation.evaluation_id for evaluation in by_name.values()})
    assert number == len(by_name) - 1
    assert totals([trial(plan, "native/portable/r01")], plan)["evaluations"] == number


def test_another_version_of_the_objects_renews_evaluations_with_objects(plan_of: PlanOf) -> None:
    first, second = (
        evaluations(plan_of(ARMS, edits={PLAIN: MANY}, setting=replace(HERE, objects_version=version)), NAME)
        for version in (1, 2)
    )
    assert {before.variant for name, before in first.items() if second[name] != before} == set(OBJECTS)


def test_each_trial_gives_the_size_at_which_it_takes_images(plan_of: PlanOf) -> None:
    trials = to_document(plan_of(ARMS))["trials"]
    sizes = {arm: trial["image_size"] for trial in trials for arm in trial["arms"]}
    assert sizes["native"] == "native"
    assert isinstance(sizes["baseline"], int)
