"""What a study declares to show: where it is written, what it means, and what cannot be."""

from __future__ import annotations

import pytest

from tests.plan.studies import PlanOf
from xferlab.errors import StudyError
from xferlab.metrics.claims import Claims, Place
from xferlab.plan.document import to_document

ARMS = """
arms:
  other: {stages.portable.training: {lr: 0.1}}
  baseline: {}
  twin: {}
  scratch: {stages.general.starts_from: null}
  general_only: {stages.portable.starts_from: null, stages.general.evaluate_on: [fixed.test]}
"""
PRIMARY = "primary: {metric: DICE, stage: portable, on: portable.hold_out}\n"


def place(text: str) -> Place:
    return Place(*text.split("."))


def test_declared_contrasts_are_planned_in_their_order(plan_of: PlanOf) -> None:
    contrasts = "contrasts: [[scratch, other], [baseline.portable, baseline.general]]\n"
    plan = plan_of(ARMS + PRIMARY + contrasts)
    assert plan.claims == Claims(
        metric="DICE",
        on="portable.hold_out",
        margin=0.01,  # the metric's own
        contrasts=(
            (place("scratch.portable"), place("other.portable")),
            (place("baseline.portable"), place("baseline.general")),
        ),
        declared=True,
    )
    assert [plan.claims.title(pair) for pair in plan.claims.contrasts] == [
        "scratch − other, portable",
        "baseline, portable − general",
    ]
    assert Claims.from_json(to_document(plan)["claims"]) == plan.claims


def test_all_arms_minus_the_baseline_unless_declared(plan_of: PlanOf) -> None:
    declared = plan_of(ARMS + PRIMARY.replace("hold_out}", "hold_out, margin: 0.2}")).claims
    undeclared = plan_of(ARMS).claims
    assert declared is not None
    assert undeclared is not None
    baseline = place("baseline.portable")
    arms = [place(f"{arm}.portable") for arm in ("other", "scratch", "general_only")]  # twin shares all
    assert declared.contrasts == undeclared.contrasts == tuple((arm, baseline) for arm in arms)
    assert (declared.declared, declared.margin) == (True, 0.2)
    assert (undeclared.declared, undeclared.metric, undeclared.on) == (False, "DICE", "portable.hold_out")


@pytest.mark.parametrize(
    ("evaluated", "on"),
    [
        ("fixed.hold_out, portable.test, portable.hold_out", "portable.hold_out"),
        ("portable.hold_out, portable.test, fixed.hold_out", "fixed.hold_out"),
        ("fixed.test, portable.test, portable.validation", "portable.test"),
        ("fixed.test, portable.validation, mri.test", "mri.test"),
    ],
)
def test_undeclared_is_the_last_hold_out_or_the_stages_own_test_part(
    plan_of: PlanOf, evaluated: str, on: str
) -> None:
    edits = {
        "count: 60, seed: 1}": "count: 60, seed: 1, hold_out: 0.3}",
        "{data: mri}": "{data: mri, repetitions: 3}",
        "[portable.test, portable.hold_out]": f"[{evaluated}]",
    }
    claims = plan_of(ARMS, edits=edits).claims
    assert claims is not None
    assert claims.on == on


def test_a_study_of_one_arm_claims_nothing_by_itself(plan_of: PlanOf) -> None:
    plan = plan_of()
    assert plan.claims is None
    assert "claims" not in to_document(plan)


def test_claims_are_in_no_identity(plan_of: PlanOf) -> None:
    assert plan_of(ARMS).names == plan_of(ARMS + PRIMARY).names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "contrasts: [[scratch, baseline]]",
            "contrasts are judged by a metric on a set of cases; declare them as `primary`",
        ),
        (PRIMARY + "contrasts: [[scratch, scratch]]", "contrasts: 'scratch' is compared with itself"),
        (
            PRIMARY + "contrasts: [[scratch, baseline], [baseline, scratch]]",
            "scratch and baseline are compared twice; name each pair once",
        ),
        (
            PRIMARY + "contrasts: [[scratc, baseline]]",
            "contrasts[0]: there is no arm 'scratc'; this study has other, baseline, twin, scratch, "
            "general_only. Did you mean 'scratch'?",
        ),
        (
            PRIMARY + "contrasts: [[scratch, baseline], [twin, baseline]]",
            "contrasts[1]: twin.portable and baseline.portable are the same trials",
        ),
        *(
            (
                PRIMARY + f"contrasts: [[scratch, baseline], {again}]",
                f"contrasts[1]: {names} are compared by contrasts[0] already: the same trials, also by ",
            )
            for again, names in {
                "[scratch.portable, baseline.portable]": "scratch.portable and baseline.portable",
                "[baseline.portable, scratch]": "baseline.portable and scratch.portable",
                "[scratch, twin]": "scratch.portable and twin.portable",
            }.items()
        ),
        (
            PRIMARY + "contrasts: [[baseline, general_only.general]]",
            "contrasts[0]: stage 'general' of arm 'general_only' is not measured on 'portable.hold_out', or "
            "an ancestor may have trained on it (it is on fixed.test); name another, or add it",
        ),
        (
            PRIMARY.replace("DICE", "DISE"),
            "primary.metric: stage 'portable' has no metric 'DISE' (it has ACC, AUC, DICE, ",
        ),
        (
            PRIMARY.replace("stage: portable", "stage: portabel"),
            "primary.stage: 'portabel' is no stage that is measured (there is donor, general, portable). Did",
        ),
        (
            PRIMARY.replace("portable.hold_out", "fixed.test"),
            "primary.on: stage 'portable' is not measured on 'fixed.test', or an ancestor may have trained "
            "on it (it is on portable.hold_out, portable.test)",
        ),
        (
            PRIMARY.replace("hold_out", "train"),
            "'portable.train' names the part train; a claim is about cases that no training saw",
        ),
        (PRIMARY.replace("hold_out}", "hold_out, margin: 0}"), "primary.margin is 0; it must be more than 0"),
    ],
)
def test_what_cannot_be_shown_is_refused(plan_of: PlanOf, text: str, message: str) -> None:
    with pytest.raises(StudyError) as refused:
        plan_of(f"{ARMS}{text}\n")
    (problem,) = refused.value.problems
    assert message in problem.what


def test_an_arm_declares_nothing(plan_of: PlanOf) -> None:
    with pytest.raises(StudyError, match="it belongs to the study as a whole"):
        plan_of(ARMS + "  late: {primary: {metric: DICE, stage: portable, on: portable.hold_out}}\n")
