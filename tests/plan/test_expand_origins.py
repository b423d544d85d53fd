"""What trials start from: given weights, and parents, paired or the best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.plan.studies import GIVEN, HERE, STUDY, PlanOf, evaluations, trial
from xferlab.errors import StudyError
from xferlab.plan.spec import Donor

STORED = replace(HERE, donors={"buda2019": "a" * 64, "/d/w.pt": "a" * 64})


def test_ids_are_provisional_until_the_donor_is_there(plan_of: PlanOf) -> None:
    absent = plan_of(base=GIVEN)
    assert absent.provisional == set(absent.by_id)
    there = plan_of(base=GIVEN, setting=STORED)
    assert not there.provisional
    spec = trial(there, "baseline/general/r01")
    assert spec.donors == (Donor("donor", name="buda2019", sha256="a" * 64),)
    assert spec.parents == ()
    assert spec.identity.to_json()["parent"] == {"weights": "a" * 64}
    assert set(absent.by_id).isdisjoint(there.by_id)


def test_weights_enter_by_their_digest_which_the_study_may_give_before_the_file_is_there(
    plan_of: PlanOf,
) -> None:
    there = plan_of(base=GIVEN, setting=STORED)
    local = GIVEN.replace("weights: buda2019", "weights: {path: /d/w.pt}")
    assert plan_of(base=local, setting=STORED).names == there.names
    digest = GIVEN.replace("weights: buda2019", f"weights: {{name: buda2019, sha256: {'a' * 64}}}")
    assert plan_of(base=digest).names == there.names


def test_arms_may_give_one_stage_different_weights(plan_of: PlanOf) -> None:
    arms = "arms: {baseline: {}, other: {stages.donor.weights: {path: /d/w.pt}}}"
    digests = {"buda2019": "a" * 64, "/d/w.pt": "b" * 64}
    plan = plan_of(arms, base=GIVEN, setting=replace(HERE, donors=digests))
    names = [f"{arm}/general/r01" for arm in ("baseline", "other")]
    assert [trial(plan, name).identity.to_json()["parent"] for name in names] == [
        {"weights": "a" * 64},
        {"weights": "b" * 64},
    ]
    provisional = plan_of(arms, base=GIVEN)
    assert len({provisional.names[name] for name in names}) == 2


BEST = {"starts_from: general,": "starts_from: general, chaining: best,"}


def test_best_feeds_all_children_from_all_parents(plan_of: PlanOf) -> None:
    plan = plan_of(edits=BEST)
    parents = tuple(sorted(plan.names[f"baseline/general/r0{n}"] for n in (1, 2, 3)))
    children = [spec for spec in plan.trials if spec.stage == "portable"]
    assert [child.parents for child in children] == [parents] * 3
    assert len({child.trial_id for child in children}) == 3


def test_more_parents_renew_the_children_of_the_best(plan_of: PlanOf) -> None:
    before, after = plan_of(edits=BEST), plan_of(edits={**BEST, "repetitions: 3": "repetitions: 4"})
    for n in (1, 2, 3):
        assert before.names[f"baseline/general/r0{n}"] == after.names[f"baseline/general/r0{n}"]
        assert before.names[f"baseline/portable/r0{n}"] != after.names[f"baseline/portable/r0{n}"]
    assert any("another number of repetitions renews" in warning.what for warning in after.warnings)
    assert not any("another number of repetitions renews" in warning.what for warning in plan_of().warnings)


TRANSLATED = """\
study: s
repetitions: 2
data: {a: {source: phantom_cxr, count: 40, seed: 1}, b: {source: phantom_cxr, count: 50, seed: 2}}
stages:
  first: {task: translation, data: {a: a, b: b}, repetitions: 2}
  second: {task: translation, data: {a: a, b: b}, repetitions: 2, starts_from: first, chaining: best}
"""


def test_nothing_starts_from_the_best_of_what_has_no_score(plan_of: PlanOf) -> None:
    what = "study.yaml:6: stage 'second' starts from the best repetition of 'first', which has no score"
    with pytest.raises(StudyError, match=what):
        plan_of(base=TRANSLATED)
    paired = plan_of(base=TRANSLATED.replace("best", "paired"))
    assert trial(paired, "baseline/second/r02").parents == (paired.names["baseline/first/r02"],)
    plan_of(base=TRANSLATED.replace("repetitions: 2}", "repetitions: 1}"))


def test_what_has_no_effect_on_a_translation_renews_none(plan_of: PlanOf) -> None:
    base = TRANSLATED.replace("best", "paired")
    for device in ("cpu", "cuda"):
        plain, asked = (
            plan_of(f"training: {{device: {device}, precision: bfloat16{more}}}", base=base)
            for more in ("", ", compile: true, cuda_graph: true, validation_precision: same")
        )
        assert asked.names == plain.names


SAME = STUDY.replace(
    "portable: {source: phantom_cxr, count: 40, seed: 2,",
    "portable: {source: phantom_cxr, count: 60, seed: 1,",
).replace("count: 60, seed: 1}", "count: 60, seed: 1, hold_out: 0.5}")


def test_what_a_parent_of_another_repetition_trained_on_is_marked(plan_of: PlanOf) -> None:
    """Both stages have the same patients; a paired parent saw none that is tested, the best one may have."""
    best = plan_of(base=SAME, edits=BEST)
    for n in (1, 2, 3):
        portable = trial(best, f"baseline/portable/r0{n}").evaluations
        marks = {evaluation.name: evaluation.parent_may_have_seen for evaluation in portable}
        assert marks == {"portable.test": True, "portable.hold_out": False}


@pytest.mark.parametrize(
    ("base", "edits"),
    [
        pytest.param(SAME, {}, id="paired"),
        pytest.param(SAME, {"[portable.test,": "[portable.train,"}, id="evaluated on a training part"),
        pytest.param(STUDY, BEST, id="other patients"),
    ],
)
def test_nothing_else_is_marked(plan_of: PlanOf, base: str, edits: dict[str, str]) -> None:
    plan = plan_of(base=base, edits=edits)
    assert not any(evaluation.parent_may_have_seen for evaluation in evaluations(plan))


def test_a_grandparent_may_have_seen_them_too(plan_of: PlanOf) -> None:
    donor_on_same = SAME.replace("donor: {data: mri}", "donor: {data: fixed}").replace(
        "  mri: {source: phantom_mri, count: 20}\n", ""
    )
    plan = plan_of(base=donor_on_same)  # the donor has one repetition, its descendants have three
    marks = {
        spec.repetition: [evaluation.parent_may_have_seen for evaluation in spec.evaluations]
        for spec in plan.trials
        if spec.stage == "portable"
    }
    assert marks == {1: [False, False], 2: [True, False], 3: [True, False]}
