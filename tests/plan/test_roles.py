"""Roles in plans: several networks, masks and gates; who predicts for whom, and who must not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.plan.studies import PlanOf, evaluation, patients, text_digest, trial
from xferlab.cohort import Case
from xferlab.errors import StudyError
from xferlab.plan.changes import asked_names
from xferlab.plan.document import to_document
from xferlab.plan.identity import short_id
from xferlab.plan.plan import Plan
from xferlab.plan.spec import EvaluationSpec, PlannedTrial, TrialSpec

pytestmark = pytest.mark.usefixtures("added_tasks")

STUDY = """\
study: s
seed: 7
repetitions: 2
data:
  a: {source: phantom_cxr, count: 60, seed: 1, hold_out: 0.2}
  b: {source: phantom_cxr, count: 40, seed: 2}
stages:
  lungs: {data: a, model: {init_features: 4}}
  views: {data: b, task: labelled, classes: {column: finding}}
  whole:
    data: a
    task: duet
    evaluate_on: [a.test, a.train, b.test, a.hold_out]
    masks: {from: lungs, keep: outside, out_of_fold: true}
    gate: {from: views, keep: tb}
"""
SHARED = STUDY.replace("out_of_fold: true", "out_of_fold: false")
FINDINGS = ("normal", "tb", "viral")


def cases_of(name: str, config: Any) -> Sequence[Case]:
    """Two images a patient; a patient whose number divides by 5 has images in every section."""
    cases = []
    for number in range(config.count):
        is_shared = number // 2 % 5 == 0 and name != "alone"
        patient = f"p{number // 2}" if is_shared else f"{name}{number // 2}"
        site = "x" if name == "mine" else "xyz"[number // 4 % 3]
        columns = {"finding": FINDINGS[number // 2 % 3], "site": site}
        digest = text_digest(f"{name} {number} {config.seed} {bool(config.targets)}")
        cases.append(Case(digest, f"{name}{number}.png", patient, "all", columns=columns))
    return cases


@pytest.fixture
def planned(plan_of: PlanOf) -> Callable[..., Plan]:
    def planned(
        stages: str = "", *, base: str = STUDY, arms: str = "", edits: Mapping[str, str] | None = None
    ) -> Plan:
        return plan_of(arms, base=base + stages, index=cases_of, edits=edits)

    return planned


def patients_of(plan: Plan, spec: TrialSpec, *parts: str) -> set[str]:
    """The patients that a trial trains on, or on which it selects."""
    patient_of, rows = patients(plan), plan.selections[spec.selection].rows
    return {patient_of[row[0]] for row in rows if not parts or row[1] in parts}


def predictors(plan: Plan, spec: TrialSpec | EvaluationSpec, role: str) -> dict[str, str]:
    """Which trial predicts each case, by the case's digest; each case is predicted once."""
    found: dict[str, str] = {}
    for each in spec.predicted:
        digests = plan.selections[each.selection].digests if each.role == role else ()
        assert found.keys().isdisjoint(digests)
        found |= dict.fromkeys(digests, each.trial)
    return found


def test_a_trial_takes_from_the_repetition_of_its_number(planned: Callable[..., Plan]) -> None:
    plan = planned()
    spec = trial(plan, "baseline/whole/r02")
    masks, gate = spec.inputs
    folds = [plan.names[f"baseline/lungs/r02/f{fold}"] for fold in range(1, 6)]
    assert masks.role == "masks"
    assert masks.trials[0] == plan.names["baseline/lungs/r02"]
    assert sorted(masks.trials[1:]) == sorted(folds)
    assert (masks.names, masks.places, masks.threshold) == (("lung",), (0,), 0.5)
    assert (gate.role, gate.trials) == ("gate", (plan.names["baseline/views/r02"],))
    assert (gate.names, gate.places, gate.threshold) == (("tb",), (1,), None)
    assert set(spec.parents) == {*masks.trials, *gate.trials}
    ids = [each.trial_id for each in plan.trials]
    assert all(
        ids.index(parent) < ids.index(each.trial_id) for each in plan.trials for parent in each.parents
    )


def test_folds_are_predicted_by_those_who_did_not_train_on_them(planned: Callable[..., Plan]) -> None:
    plan = planned()
    for repetition in ("r01", "r02"):
        paired, whole = (trial(plan, f"baseline/{stage}/{repetition}") for stage in ("lungs", "whole"))
        folds = [trial(plan, f"baseline/lungs/{repetition}/f{fold}") for fold in range(1, 6)]
        trained = patients_of(plan, paired, "train")
        left_out = [trained - patients_of(plan, fold, "train") for fold in folds]
        assert set().union(*left_out) == trained
        assert sum(map(len, left_out)) == len(trained)
        assert max(map(len, left_out)) - min(map(len, left_out)) <= 1
        for fold in folds:
            assert patients_of(plan, fold, "validation") == patients_of(plan, paired, "validation")
            assert (fold.evaluations, fold.features, fold.stage) == ((), None, "lungs")
            assert fold.trial_id == short_id(fold.identity.to_json())
        assert len({spec.identity.seed for spec in (paired, *folds)}) == 6
        by_case = predictors(plan, whole, "masks")
        by_case |= predictors(plan, evaluation(whole, "a.train"), "masks")
        patient_of = patients(plan)
        for digest, predictor in by_case.items():
            number = next((n for n, units in enumerate(left_out) if patient_of[digest] in units), None)
            assert predictor == (paired if number is None else folds[number]).trial_id
        assert set(by_case.values()) == {spec.trial_id for spec in (paired, *folds)}


def test_every_case_is_predicted_in_each_role(planned: Callable[..., Plan]) -> None:
    plan = planned()
    spec = trial(plan, "baseline/whole/r01")
    for role in ("masks", "gate"):
        assert predictors(plan, spec, role).keys() == set(plan.selections[spec.selection].digests)
        for each in spec.evaluations:
            assert predictors(plan, each, role).keys() == set(plan.selections[each.selection].digests)


def by_votes(plan: Plan) -> str | None:
    gate: dict[str, str] = trial(plan, "baseline/whole/r01").identity.to_json()["gate"]
    return gate.get("by")


def test_a_gate_of_patches_is_told_from_one_that_takes_the_most_probable_class(
    planned: Callable[..., Plan],
) -> None:
    views = "views: {data: b, task: classification, model: {image_size: 64, %s}, classes: {column: finding}}"
    for patches, by in (("patches: {size_px: 32, number: 9}", "votes"), ("patches: null", None)):
        edits = {"views: {data: b, task: labelled, classes: {column: finding}}": views % patches}
        assert by_votes(planned(base=SHARED, edits=edits)) == by


def test_an_identity_holds_what_can_change_the_weights(planned: Callable[..., Plan]) -> None:
    plan = planned(base=SHARED)
    spec = trial(plan, "baseline/whole/r01")
    identity = spec.identity.to_json()
    (selection,) = {each.selection for each in spec.predicted}
    assert identity["masks"] == {
        "trials": {plan.names["baseline/lungs/r01"]: selection},
        "places": [0],
        "threshold": 0.5,
        "keep": "outside",
    }
    assert identity["gate"] == {"trials": {plan.names["baseline/views/r01"]: selection}, "places": [1]}
    assert identity["parent"] is None
    assert by_votes(plan) is None
    assert TrialSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    entry = next(e for e in to_document(plan)["trials"] if e["trial_id"] == spec.trial_id)
    stored = PlannedTrial.from_entry(json.loads(json.dumps(entry)))
    assert (stored.inputs, stored.evaluations) == (spec.inputs, spec.evaluations)
    assert not {"masks", "gate"} & trial(plan, "baseline/lungs/r01").identity.to_json().keys()


@pytest.mark.parametrize(
    ("old", "new", "trial_renewed", "evaluation_renewed"),
    [
        ("keep: outside", "keep: inside", True, True),
        ("keep: outside", "threshold: 0.7, keep: outside", True, True),
        ("keep: tb", "keep: [tb, viral]", True, True),
        ("out_of_fold: true", "out_of_fold: 4", True, True),
        ("lungs: {data: a, ", "lungs: {data: a, training: {lr: 0.5}, ", True, True),
        ("gate: {from: views, keep: tb}", "", True, True),
        ("keep: tb", "keep: tb2", False, False),  # with the class renamed
        ("out_of_fold: true", "out_of_fold: 5", False, False),
        ("evaluate_on: [a.test", "evaluate_on: [b.validation, a.test", False, False),
    ],
)
def test_only_what_changes_the_weights_renews(
    planned: Callable[..., Plan], old: str, new: str, trial_renewed: bool, evaluation_renewed: bool
) -> None:
    edits = {old: new}
    if "tb2" in new:
        names = "names: {normal: [normal], tb2: [tb], viral: [viral]}"
        edits["classes: {column: finding}"] = f"classes: {{column: finding, {names}}}"
    before, now = (
        trial(planned(edits=given), "baseline/whole/r01") for given in ({"seed: 7": "seed: 7"}, edits)
    )
    assert (before.trial_id != now.trial_id) == trial_renewed
    ids = [evaluation(spec, "b.test").evaluation_id for spec in (before, now)]
    assert (ids[0] != ids[1]) == evaluation_renewed


def test_consumers_and_arms_share_producers(planned: Callable[..., Plan]) -> None:
    other = "  other: {data: b, task: duet, masks: {from: lungs, out_of_fold: true}}\n"
    arms = """\
arms:
  baseline: {}
  inside: {stages.whole.masks.keep: inside}
  wide: {stages.lungs.model.init_features: 8}
  theirs: {stages.whole.masks.from: wide.lungs}
"""
    plan = planned(other, arms=arms)
    names = plan.names
    for name in ("lungs/r01", "lungs/r02/f5", "views/r02"):
        assert names[f"baseline/{name}"] == names[f"inside/{name}"] == names[f"theirs/{name}"]
    assert names["wide/lungs/r01"] != names["baseline/lungs/r01"]
    assert len({names[f"{arm}/whole/r01"] for arm in ("baseline", "inside", "wide", "theirs")}) == 3
    assert names["theirs/whole/r01"] == trial(plan, "wide/whole/r01").trial_id
    (masks,) = (given for given in trial(plan, "theirs/whole/r02").inputs if given.role == "masks")
    assert masks.trials[0] == names["wide/lungs/r02"]
    assert len(plan.trials) == len(set(names.values()))


def test_folds_that_only_one_arm_measures_by(planned: Callable[..., Plan]) -> None:
    edits = {
        "    data: a\n    task: duet": "    data: alone\n    task: duet",
        "evaluate_on: [a.test, a.train, b.test, a.hold_out]": "evaluate_on: [alone.test]",
        "stages:\n": "  alone: {source: phantom_cxr, count: 30, seed: 3}\nstages:\n",
    }
    alone = planned(edits=edits)
    assert not any("/f" in name for name in alone.names)  # nobody of `a` is there
    arms = "arms:\n  baseline: {}\n  measured: {stages.whole.evaluate_on: [a.train]}\n"
    plan = planned(arms=arms, edits=edits)
    assert plan.names["measured/whole/r01"] == plan.names["baseline/whole/r01"]
    spec = trial(plan, "baseline/whole/r01")
    assert set(spec.parents) >= {plan.names[f"measured/lungs/r01/f{fold}"] for fold in range(1, 6)}
    ids = [each.trial_id for each in plan.trials]
    for each in plan.trials:
        assert all(ids.index(parent) < ids.index(each.trial_id) for parent in each.parents)


def test_folds_are_in_the_plan_and_in_no_count(planned: Callable[..., Plan]) -> None:
    document = to_document(planned())
    folds = [entry for entry in document["trials"] if entry.get("fold")]
    assert [entry["names"] for entry in folds[:2]] == [["baseline/lungs/r01/f1"], ["baseline/lungs/r01/f2"]]
    assert len(folds) == 2 * 5
    without = to_document(planned(base=SHARED))
    stages = (each["arms"]["baseline"]["stages"]["lungs"] for each in (document, without))
    assert next(stages) == next(stages)
    assert document["arms"]["baseline"]["stages"]["whole"]["gate"] == {"from": "views", "keep": "tb"}


def test_without_its_data_a_study_asks_for_the_folds_of_its_last_plan(planned: Callable[..., Plan]) -> None:
    plan = planned()
    assert set(asked_names(plan.loaded, list(plan.names))) == set(plan.names)
    fewer = planned(edits={"repetitions: 2": "repetitions: 1"})
    assert set(asked_names(fewer.loaded, list(plan.names))) == set(fewer.names)


def test_several_networks_start_from_several_stages(planned: Callable[..., Plan]) -> None:
    more = """\
  first: {data: a, task: duet, model: {init_features: 4}}
  both: {data: a, task: duet, starts_from: {segmenter: lungs, second: first}}
  given: {data: a, task: duet, starts_from: {segmenter: buda}, model: {init_features: 32}}
  buda: {weights: buda2019}
"""
    plan = planned(
        more,
        base=SHARED,
        edits={
            "lungs: {": "lungs: {repetitions: 2, ",
            "a, task: duet, model: {init_features: 4}}": "a, task: duet}",
        },
    )
    spec = trial(plan, "baseline/both/r02")
    assert {given.role: given.trials for given in spec.origins} == {
        "starts_from.segmenter": (plan.names["baseline/lungs/r02"],),
        "starts_from.second": (plan.names["baseline/first/r01"],),
    }
    assert spec.identity.to_json()["parent"] == {
        "segmenter": {"trials": [plan.names["baseline/lungs/r02"]]},
        "second": {"trials": [plan.names["baseline/first/r01"]]},
    }
    (given,) = trial(plan, "baseline/given/r01").origins
    assert given.network == "segmenter"
    assert given.donor is not None
    assert given.donor.title == "buda2019"
    assert trial(plan, "baseline/given/r01").trial_id in plan.provisional


def test_the_order_in_which_roles_are_written_does_not_matter(planned: Callable[..., Plan]) -> None:
    more = "  first: {data: a, task: duet}\n"
    more += "  both: {data: a, task: duet, starts_from: {segmenter: lungs, second: first}}\n"
    arms = """\
arms:
  baseline: {stages.whole.gate.keep: [tb, normal]}
  other: {stages.both.starts_from: {second: first, segmenter: lungs}, stages.whole.gate.keep: [normal, tb]}
"""
    plan = planned(more, base=SHARED, arms=arms)
    for stage in ("both", "whole"):
        assert plan.names[f"other/{stage}/r01"] == plan.names[f"baseline/{stage}/r01"]
    roles = {given.role: given.trials for given in trial(plan, "baseline/both/r02").inputs}
    assert roles["starts_from.segmenter"] == (plan.names["baseline/lungs/r02"],)
    assert roles["starts_from.second"] == (plan.names["baseline/first/r01"],)


def test_a_stage_whose_predictions_are_taken_has_all_repetitions(planned: Callable[..., Plan]) -> None:
    plan = planned("  more: {data: b, starts_from: lungs, model: {init_features: 4}}\n", base=SHARED)
    assert trial(plan, "baseline/more/r02").parents == (plan.names["baseline/lungs/r02"],)


ROOT = {
    "lungs: {data: a,": "lungs: {data: a, starts_from: root,",
    "stages:\n": "stages:\n  root: {data: a, model: {init_features: 4}}\n",
}


@pytest.mark.parametrize(
    ("edits", "is_seen"),
    [
        (ROOT, True),
        # Some patients have images in both sections.
        ({**ROOT, "root: {data: a": "root: {data: b"}, True),
        # Only ancestors whose weights a fold goes back to have seen it.
        (
            {
                "lungs: {data: a,": "lungs: {data: a, gate: {from: kind, keep: tb},",
                "stages:\n": "stages:\n  kind: {data: a, task: labelled, classes: {column: finding}}\n",
            },
            False,
        ),
        # An ancestor of the trial of the repetition has seen its cases.
        (
            {
                "lungs: {data: a,": "lungs: {data: b, starts_from: root,",
                "whole:\n    data: a": "whole:\n    data: alone",
                "evaluate_on: [a.test, a.train, b.test, a.hold_out]": "evaluate_on: [alone.test]",
                "stages:\n": "  alone: {source: phantom_cxr, count: 40, seed: 3}\n"
                "stages:\n  root: {data: alone, model: {init_features: 4}}\n",
            },
            True,
        ),
    ],
)
def test_a_fold_that_a_parent_has_seen_is_reported(
    planned: Callable[..., Plan], edits: dict[str, str], is_seen: bool
) -> None:
    kinds = [warning.kind for warning in planned(edits=edits).warnings]
    assert kinds.count("folds that a parent has seen") == is_seen


def test_too_few_patients_for_the_folds(planned: Callable[..., Plan]) -> None:
    with pytest.raises(StudyError, match=r"stage 'lungs' trains on 14 patients in repetition 1, and another"):
        planned(edits={"out_of_fold: true": "out_of_fold: 16"})


def test_a_fold_that_leaves_one_image_at_the_smallest_size(planned: Callable[..., Plan]) -> None:
    few = "label_fraction: 0.07, stratified: false, model: {init_features: 4, image_size: 16}"
    edits = {
        "lungs: {data: a, model: {init_features: 4}}": f"lungs: {{data: a, {few}}}",
        "out_of_fold: true": "out_of_fold: 2",
    }
    with pytest.raises(StudyError, match=r"a fold of its training part leaves one image in repetition \d"):
        planned(base=STUDY + "split: {group_by: null}\n", edits=edits)


def test_a_class_that_only_the_data_name(planned: Callable[..., Plan]) -> None:
    what = "stage 'whole' takes 'tbc' of the gate from 'views', which learns normal, tb, viral. Did you mean"
    with pytest.raises(StudyError, match=what):
        planned(edits={"keep: tb": "keep: tbc"})


def test_a_class_that_an_arm_filters_away_is_told_of_this_arm(plan_of: PlanOf) -> None:
    def filtered(name: str, config: Any) -> Sequence[Case]:
        cases = cases_of(name, config)
        return [case for case in cases if not config.where or case.columns["finding"] != "tb"]

    arms = "arms:\n  x: {}\n  y: {data.b.where: {pathology: [normal]}}\n"
    what = r"study.yaml:18: .*arm 'y': stage 'whole' takes 'tb' of the gate from 'views'"
    with pytest.raises(StudyError, match=what):
        plan_of(arms, base=STUDY, index=filtered)


def test_deep_features_of_gated_stages_need_predictions_too(planned: Callable[..., Plan]) -> None:
    edits = {"lungs: {data: a,": "lungs: {data: a, gate: {from: views, keep: tb},"}
    plan = planned("features: {on: a.hold_out}\n", edits=edits)
    spec = trial(plan, "baseline/lungs/r01")
    assert spec.features is not None
    (predicted,) = spec.features.predicted
    assert (predicted.role, predicted.trial) == ("gate", plan.names["baseline/views/r01"])
    digests = plan.selections[spec.features.selection].digests
    assert set(plan.selections[predicted.selection].digests) == set(digests)
    assert TrialSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    for fold in range(1, 6):
        of_fold = trial(plan, f"baseline/lungs/r01/f{fold}")
        assert predictors(plan, of_fold, "gate").keys() == set(plan.selections[of_fold.selection].digests)


def test_two_numbers_of_folds_of_one_stage(planned: Callable[..., Plan]) -> None:
    more = "  other: {data: b, task: duet, masks: {from: lungs, out_of_fold: 3}}\n"
    what = (
        r"study.yaml:16: stage 'other' of arm 'baseline' asks for masks of "
        r"'lungs' out of 3 folds, and stage 'whole' of arm 'baseline' out of 5; give both the same number"
    )
    with pytest.raises(StudyError, match=what):
        planned(more)


def test_a_stage_without_a_producer_at_a_site_has_no_trial_there(planned: Callable[..., Plan]) -> None:
    only_x = "mine: {source: phantom_cxr, count: 20, seed: 4}"
    edits = {
        "repetitions: 2\n": "split: {by: site}\n",
        "stages:\n": f"  {only_x}\nstages:\n",
        "lungs: {data: a": "lungs: {evaluate_on: [a.hold_out], data: mine",
        "gate: {from: views, keep: tb}": "",
    }
    plan = planned(base=SHARED, edits=edits)
    assert {name for name in plan.names if "lungs" in name} == {"baseline/lungs/r02", "baseline/lungs/r03"}
    assert {name for name in plan.names if "whole" in name} == {"baseline/whole/r02", "baseline/whole/r03"}
    assert any("needs one that has no trial" in warning.what for warning in plan.warnings)
