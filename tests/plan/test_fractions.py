"""Shares of labels that are nearly the same arm."""

from __future__ import annotations

from tests.plan.studies import PlanOf

ARMS = """
arms:
  baseline: {}
  labels_05: {stages.portable.label_fraction: 0.05}
  labels_10: {stages.portable.label_fraction: 0.1}
"""
KIND = "shares of labels that are nearly equal"


def told(plan_of: PlanOf, text: str) -> list[str]:
    return [warning.what for warning in plan_of(text).warnings if warning.kind == KIND]


def test_two_shares_that_keep_one_patient_a_stratum_are_nearly_the_same(plan_of: PlanOf) -> None:
    (what,) = told(plan_of, ARMS)
    assert what.startswith(
        "arms 'labels_05' (0.05 of the labels) and 'labels_10' (0.1) train stage 'portable' on nearly as "
        "many patients a repetition, "
    )
    assert "unless `stratified` is false" in what


def test_shares_that_differ_are_not_told(plan_of: PlanOf) -> None:
    assert told(plan_of, ARMS.replace("0.05", "0.9")) == []
