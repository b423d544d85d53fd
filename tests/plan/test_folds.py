"""Plans of studies with folds: which trials there are, and who is in which part, by every rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.plan.studies import (
    NO_NUMBER,
    SITES,
    PlanOf,
    patients,
    phantom_cases,
    trial,
    who_tests,
)
from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.errors import StudyError
from xferlab.plan.document import to_document
from xferlab.plan.plan import Plan
from xferlab.plan.spec import PlannedTrial, TrialSpec


def test_folds_make_the_repetitions_of_every_stage_but_a_donor(plan_of: PlanOf) -> None:
    plan = plan_of("split: {folds: 4, repeats: 2}", base=NO_NUMBER)
    assert plan.loaded.base.repetitions == 8
    counts = Counter(spec.stage for spec in plan.trials)
    assert counts == {"donor": 1, "general": 8, "portable": 8}
    found = [trial(plan, f"baseline/general/r{n:02d}").coordinates for n in (1, 4, 5, 8)]
    assert found == [{"repeat": r, "fold": f} for r, f in ((1, 1), (1, 4), (2, 1), (2, 4))]
    child = trial(plan, "baseline/portable/r06")
    assert child.parents == (plan.names["baseline/general/r06"],)
    everybody = set(patients(plan).values())
    for repeat in (0, 4):
        folds = [who_tests(plan, f"baseline/general/r{repeat + n:02d}") for n in (1, 2, 3, 4)]
        assert set.union(*folds) < everybody
        assert sum(map(len, folds)) == len(set.union(*folds)) == 30


def test_coordinates_are_in_specs_and_plans_and_hold_outs_have_none(plan_of: PlanOf) -> None:
    spec = trial(plan_of("split: {folds: 3}", base=NO_NUMBER), "baseline/general/r02")
    assert spec.to_json()["coordinates"] == {"repeat": 1, "fold": 2}
    assert TrialSpec.from_json(spec.to_json()) == spec
    plan = plan_of("split: {folds: 3}", base=NO_NUMBER)
    document = to_document(plan)
    entries = {entry["names"][0]: entry for entry in document["trials"]}
    assert entries["baseline/portable/r03"]["coordinates"] == {"repeat": 1, "fold": 3}
    planned = PlannedTrial.from_entry(entries["baseline/portable/r03"])
    assert planned.coordinates == {"repeat": 1, "fold": 3}
    assert document["split"] == {"folds": 3, "repeats": 1, "group_by": "patient_id", "require_classes": []}
    usual = plan_of()
    assert "coordinates" not in trial(usual, "baseline/general/r02").to_json()
    assert not any("coordinates" in entry for entry in to_document(usual)["trials"])
    assert to_document(usual)["split"]["train"] == 0.6


def test_a_donor_that_tests_on_shared_patients_of_another_fold_has_seen_them(plan_of: PlanOf) -> None:
    """Its one training is of fold 1; the tests of other folds are on patients that it trained on."""
    plan = plan_of("split: {folds: 3}", base=NO_NUMBER, edits={"{data: mri}": "{data: fixed}"})
    seen = [
        evaluation.parent_may_have_seen
        for n in (1, 2, 3)
        for evaluation in trial(plan, f"baseline/general/r{n:02d}").evaluations
        if evaluation.part == "test"
    ]
    assert seen == [False, True, True]
    told = [warning.what for warning in plan.warnings if warning.where == "stages.general"]
    assert any(
        what.startswith("fixed.test enters no table in some repetitions (first: 2), ") for what in told
    )


def test_the_best_parent_of_all_folds_has_seen_who_tests(plan_of: PlanOf) -> None:
    edits = {"starts_from: general": "chaining: best, starts_from: general", "data: portable": "data: fixed"}
    edits["portable.test, "] = "fixed.test, "
    plan = plan_of("split: {folds: 3}", base=NO_NUMBER, edits=edits)
    child = trial(plan, "baseline/portable/r02")
    assert len(child.parents) == 3
    assert [e.parent_may_have_seen for e in child.evaluations] == [True, False]


def test_a_stage_may_run_the_first_repeats_only(plan_of: PlanOf) -> None:
    edits = {"starts_from: donor": "repetitions: 3, starts_from: donor"}
    edits["starts_from: general"] = "repetitions: 3, starts_from: general"
    plan = plan_of("split: {folds: 3, repeats: 2}", base=NO_NUMBER, edits=edits)
    assert Counter(spec.stage for spec in plan.trials) == {"donor": 1, "general": 3, "portable": 3}


def test_a_profile_may_divide_otherwise_and_an_arm_may_not(plan_of: PlanOf) -> None:
    text = "split: {folds: 5}\nprofiles: {quick: {split.folds: 3}, published: {split.group_by: null}}\n"
    assert plan_of(text, base=NO_NUMBER, profile="quick").loaded.base.repetitions == 3
    assert not plan_of(text, base=NO_NUMBER, profile="published").selector.cohort.by_patient
    told = problems_of(StudyError, plan_of, text + "arms: {a: {}, b: {split.folds: 3}}", base=NO_NUMBER)
    assert "arm 'b': an arm may not override 'split.folds': arms are compared repetition by " in told[0].what


def test_images_are_dealt_into_folds_where_a_study_asks_for_it(plan_of: PlanOf) -> None:
    plan = plan_of("split: {folds: 3, group_by: null}", base=NO_NUMBER)
    folds = [who_tests(plan, f"baseline/general/r{n:02d}") for n in (1, 2, 3)]
    assert sum(map(len, folds)) > len(set.union(*folds)), "no patient has images in two folds"
    assert any("split.group_by is null: in repetition 1, " in warning.what for warning in plan.warnings)


# --- every rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["{folds: 3}", "{folds: 5, repeats: 2}", "{by: site}", "{train: 0.6}"])
@pytest.mark.parametrize("seed", [7, 8, 9])
def test_nobody_is_trained_on_and_evaluated_in_one_repetition(plan_of: PlanOf, split: str, seed: int) -> None:
    """Over all stages of a chain, which share patients; the hold-out is the same in all repetitions."""
    edits = {"seed: 7": f"seed: {seed}", "donor: {data: mri}": "donor: {data: fixed, repetitions: NUMBER}"}
    edits["seed: 2, hold_out"] = "seed: 1, hold_out"  # both sections hold the same patients
    text = NO_NUMBER
    for old, new in edits.items():
        text = text.replace(old, new)
    number = {"{folds: 3}": 3, "{folds: 5, repeats: 2}": 10, "{by: site}": 3}.get(split, 25)
    plan = plan_of(f"split: {split}", base=text.replace("NUMBER", str(number)), index=sited_alike)
    patient_of, held_out = patients(plan), set[frozenset[str]]()
    for repetition in range(1, number + 1):
        specs = [spec for spec in plan.trials if spec.repetition == repetition]
        fitted = {patient_of[row[0]] for spec in specs for row in plan.selections[spec.selection].rows}
        assert fitted
        for evaluation in (evaluation for spec in specs for evaluation in spec.evaluations):
            measured = {patient_of[digest] for digest in plan.selections[evaluation.selection].digests}
            assert measured
            assert measured.isdisjoint(fitted)
            if evaluation.part == "hold_out":
                held_out.add(frozenset(measured))
    assert len(held_out) == 1
    assert not any(e.parent_may_have_seen for spec in plan.trials for e in spec.evaluations)


def sited_alike(name: str, config: Any) -> Sequence[Case]:
    """Every patient has a site, the same in all sections."""
    return [
        replace(case, columns={"site": SITES[int(case.patient.rpartition(" ")[2]) % 3]})
        for case in phantom_cases(name, config)
    ]


@pytest.mark.slow
def test_five_folds_of_public_images(planned_real: Callable[[str], Plan]) -> None:
    plan = planned_real(
        "study: s\nsplit: {folds: 5}\n"
        "data: {cxr: {source: manifest, root: '${XFERLAB_DATA}/montgomery-512'}}\n"
        "stages: {a: {data: cxr}}\n"
    )
    folds = [who_tests(plan, f"baseline/a/r0{n}") for n in (1, 2, 3, 4, 5)]
    everybody = {case.patient: case.pathology for case in plan.selector.cohort.sections["cxr"]}
    assert set.union(*folds) == set(everybody)
    assert sum(map(len, folds)) == len(everybody)
    for fold in folds:  # of 60 and 40 patients
        assert Counter(everybody[patient] for patient in fold) == {"normal": 12, "tuberculosis": 8}
