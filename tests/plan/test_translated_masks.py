"""Masks that a translation predicts: images of its first domain as they are, all others by way of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.plan.studies import PlanOf, phantom_cases, trial
from xferlab.cohort import Case
from xferlab.errors import StudyError
from xferlab.plan.mask_sources import MaskSources
from xferlab.plan.plan import Plan
from xferlab.plan.spec import EvaluationSpec, FeaturesSpec, TrialSpec

STUDY = """\
study: s
repetitions: 2
data:
  a: {source: phantom_cxr, count: 60, seed: 1}
  b: {source: phantom_cxr, count: 72, seed: 2}
  c: {source: phantom_cxr, count: 36, seed: 3, hold_out: 0.5}
model: {image_size: 32}
stages:
  segment: {data: a, repetitions: 2}
  transfer:
    task: translation
    data: {a: a, b: b}
    starts_from: {segmenter: segment}
    model: {image_size: 32}
  both: {task: classification, data: [a, b], masks: {from: transfer}, evaluate_on: [a+b.test, c.test]}
  second: {task: classification, data: b, masks: {from: transfer}, evaluate_on: [b.test, a.test]}
  other: {task: classification, data: c, masks: {from: transfer}}
"""


@pytest.fixture(scope="module")
def plan(plan_of: PlanOf) -> Plan:
    return plan_of(base=STUDY, index=cases_of)


def cases_of(name: str, config: Any) -> list[Case]:
    return [replace(case, columns={"pathology": case.pathology}) for case in phantom_cases(name, config)]


def domains(plan: Plan, asks: TrialSpec | EvaluationSpec | FeaturesSpec) -> dict[str, set[str]]:
    """The cases that are predicted as each set."""
    found: dict[str, set[str]] = {}
    for each in asks.predicted:
        digests = set(plan.selections[each.selection].digests)
        assert not found.keys() & {each.set_name}
        found[each.set_name] = digests
    return found


def of_section(plan: Plan, name: str) -> set[str]:
    return {case.digest for case in phantom_cases(name, plan.loaded.base.data[name])}


def test_images_of_the_first_domain_are_predicted_as_such_and_all_others_translated(plan: Plan) -> None:
    both, a = trial(plan, "baseline/both/r01"), of_section(plan, "a")
    own = set(plan.selections[both.selection].digests)
    assert domains(plan, both) == {"": own - a, "a": own & a}
    test, other = both.evaluations
    measured = set(plan.selections[test.selection].digests)
    assert domains(plan, test) == {"": measured - a, "a": measured & a}
    assert domains(plan, other).keys() == {""}
    assert domains(plan, trial(plan, "baseline/other/r01")).keys() == {""}


def test_only_who_takes_masks_of_the_first_domain_says_so_in_its_identity(plan: Plan) -> None:
    transfer = plan.names["baseline/transfer/r01"]
    stages = {
        "both": {transfer, f"{transfer} as a"},
        "second": {transfer},
        "other": {transfer},
    }
    for stage, trials in stages.items():
        masks = trial(plan, f"baseline/{stage}/r01").identity.to_json()["masks"]
        assert masks["trials"].keys() == trials
    measured = {e.name: e for e in trial(plan, "baseline/second/r01").evaluations}
    assert domains(plan, measured["a.test"]).keys() == {"a"}
    assert domains(plan, measured["b.test"]).keys() == {""}


def test_a_translation_knows_the_patients_of_both_domains(plan: Plan) -> None:
    """Its masks of training images come from networks that trained on these patients, in either domain."""
    for stage in ("both", "second"):
        counts = MaskSources(plan).of(trial(plan, f"baseline/{stage}/r01"))["train"]
        for by_source in counts.values():
            assert by_source["trained"] > 0
            assert by_source["unseen"] == by_source["selected"] == 0


def test_plans_hand_over_as_what_cases_are_predicted(plan: Plan) -> None:
    both = trial(plan, "baseline/both/r01")
    assert TrialSpec.from_json(both.to_json()).predicted == both.predicted


def test_a_translation_gives_no_masks_out_of_fold(plan_of: PlanOf) -> None:
    what = (
        "study.yaml:15: stage 'both' asks for masks of 'transfer' out of fold, whose task 'translation' "
        "learns from several sets; leave out_of_fold out"
    )
    asks = STUDY.replace(
        "both: {task: classification, data: [a, b], masks: {from: transfer}",
        "both: {task: classification, data: [a, b], masks: {from: transfer, out_of_fold: 2}",
    )
    with pytest.raises(StudyError, match=what):
        plan_of(base=asks, index=cases_of)


def test_features_of_the_first_domain_are_of_its_own_masks(plan_of: PlanOf) -> None:
    found = {}
    for section in ("a", "b"):
        edits = {f"seed: {'ab'.index(section) + 1}}}": f"seed: {'ab'.index(section) + 1}, hold_out: 0.2}}"}
        more = f"features: {{on: {section}.hold_out, cases: 4}}\n"
        found[section] = trial(plan_of(more, base=STUDY, index=cases_of, edits=edits), "baseline/both/r01")
    for section, name in (("a", "a"), ("b", "")):
        features = found[section].features
        assert features is not None
        assert {each.set_name for each in features.predicted} == {name}
