"""Evaluations of the same cases in another way: ids of their own, and nothing else renewed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.plan.studies import HERE, PlanOf
from xferlab.plan.document import to_document, totals
from xferlab.plan.expand import Plan
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.study.evaluated import OBJECTS, VARIANTS

PLAIN = "portable: {data: portable, starts_from: general, evaluate_on: [portable.test, portable.hold_out]}"
MANY = PLAIN.replace(
    "hold_out]", ", ".join(["hold_out", *(f"portable.hold_out@{v}" for v in VARIANTS)]) + "]"
)
NAME = "baseline/portable/r01"
ARMS = "arms: {baseline: {}, native: {model.image_size: native}}"


def evaluations(plan: Plan, name: str) -> dict[str, EvaluationSpec]:
    return {one.name: one for one in plan.by_id[plan.names[name]].evaluations}


def test_variants_renew_no_trial_and_no_other_evaluation(plan_of: PlanOf) -> None:
    some, more = plan_of(ARMS), plan_of(ARMS, edits={PLAIN: MANY})
    assert some.names == more.names
    for name in some.names:
        before, after = evaluations(some, name), evaluations(more, name)
        assert {one: after[one].evaluation_id for one in before} == {
            one: before[one].evaluation_id for one in before
        }


def test_variants_are_the_same_cases_under_ids_of_their_own(plan_of: PlanOf) -> None:
    found = evaluations(plan_of(ARMS, edits={PLAIN: MANY}), NAME)
    held = {name: one for name, one in found.items() if one.part == "hold_out"}
    assert set(held) == {"portable.hold_out", *(f"portable.hold_out@{one}" for one in VARIANTS)}
    assert len({one.evaluation_id for one in held.values()}) == len(held)
    assert len({one.selection for one in held.values()}) == 1


def test_at_native_size_the_original_size_is_the_plain_evaluation(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS, edits={PLAIN: MANY})
    found = evaluations(plan, "native/portable/r01")
    plain, original = found["portable.hold_out"], found["portable.hold_out@original"]
    assert plain.evaluation_id == original.evaluation_id
    assert len({one.evaluation_id for one in found.values()}) == len(found) - 1
    trial = plan.by_id[plan.names["native/portable/r01"]]
    assert totals([trial], plan)["evaluations"] == len(found) - 1


@pytest.mark.parametrize("renewed", [1, 2])
def test_another_version_of_the_objects_renews_evaluations_with_objects(
    plan_of: PlanOf, renewed: int
) -> None:
    first = evaluations(plan_of(ARMS, edits={PLAIN: MANY}), NAME)
    setting = replace(HERE, objects_version=renewed)
    second = evaluations(plan_of(ARMS, edits={PLAIN: MANY}, setting=setting), NAME)
    changed = {one.variant for name, one in first.items() if second[name] != one}
    assert changed == (set() if renewed == HERE.objects_version else set(OBJECTS))


def test_the_document_and_the_spec_tell_the_variant(plan_of: PlanOf) -> None:
    plan = plan_of(ARMS, edits={PLAIN: MANY})
    spec = plan.by_id[plan.names[NAME]]
    assert TrialSpec.from_json(spec.to_json()) == spec
    (told,) = (one for one in to_document(plan)["trials"] if one["trial_id"] == spec.trial_id)
    assert [one["variant"] for one in told["evaluations"]] == ["", "", *VARIANTS]


def test_a_spec_of_before_variants_is_read(plan_of: PlanOf) -> None:
    value = plan_of().trials[0].to_json()
    for one in value["evaluations"]:
        del one["variant"]
    assert TrialSpec.from_json(value).evaluations[0].variant == ""


def test_an_arm_tells_its_image_size_where_it_is_another(plan_of: PlanOf) -> None:
    arms = to_document(plan_of(ARMS))["arms"]
    assert arms["native"]["image_size"] == "native"
    assert "image_size" not in arms["baseline"]
