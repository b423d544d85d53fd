"""Plans of studies with folds, or that leave sites out: which trials there are, and who is in which part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.plan.studies import HERE, STUDY, PlanOf, parts, patients, phantom_cases, trial
from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.errors import StudyError
from xferlab.leakage.index import StudyIndex
from xferlab.plan.document import to_document
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan
from xferlab.plan.spec import PlannedTrial, TrialSpec
from xferlab.study.load import load

NO_NUMBER = STUDY.replace("repetitions: 3\n", "")
SITES = ("north", "south", "west")


def sited(name: str, config: Any) -> Sequence[Case]:
    """Chest X-rays have a site by patient; those of `portable` are of the first two only."""
    cases = phantom_cases(name, config)
    if config.source == "phantom_mri":
        return cases
    number_of = {case.patient: number for number, case in enumerate(cases[::2])}
    sites = 2 if name == "portable" else 3
    return [replace(case, columns={"site": SITES[number_of[case.patient] % sites]}) for case in cases]


def who_tests(plan: Plan, name: str) -> set[str]:
    """The patients of the test part that a trial is evaluated on."""
    (selection,) = (e.selection for e in trial(plan, name).evaluations if e.part == "test")
    return {patients(plan)[digest] for digest in plan.selections[selection].digests}


# --- folds -----------------------------------------------------------------------------------------


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


# --- sites -----------------------------------------------------------------------------------------


def by_site(plan_of: PlanOf, more: str = "", **options: Any) -> Plan:
    options = {"base": NO_NUMBER, "index": sited, **options}
    return plan_of(f"split: {{by: site}}\n{more}", **options)


def test_each_site_tests_in_a_repetition_of_its_own(plan_of: PlanOf) -> None:
    plan = by_site(plan_of)
    assert plan.loaded.base.repetitions == 3
    site_of = {
        case.patient: case.columns["site"]
        for name in ("fixed", "portable")
        for case in plan.selector.cohort.sections[name]
    }
    for number, site in enumerate(SITES, start=1):
        name = f"baseline/general/r{number:02d}"
        assert trial(plan, name).coordinates == {"site": site}
        assert {site_of[patient] for patient in who_tests(plan, name)} == {site}
        fitted = {site_of[patients(plan)[digest]] for digest, _ in parts(plan, name)}
        assert fitted == {*SITES} - {site}
    document = to_document(plan)
    assert document["split"]["by"] == "site"
    assert document["repetitions"] == 3


def test_a_stage_without_cases_has_no_trial_there_nor_have_its_children(plan_of: PlanOf) -> None:
    """All of `portable` is of one site, so that nobody is left to train on where that site tests."""

    def north_only(name: str, config: Any) -> Sequence[Case]:
        cases = sited(name, config)
        return [replace(case, columns={"site": "north"}) for case in cases] if name == "portable" else cases

    stages = NO_NUMBER + "  child: {data: fixed, starts_from: portable, evaluate_on: [fixed.test]}\n"
    stages = stages.replace("evaluate_on: [portable.test, portable.hold_out]", "evaluate_on: [portable.test]")
    with pytest.raises(StudyError, match=r"is evaluated on portable\.test, which has no case in any"):
        by_site(plan_of, base=stages, index=north_only)
    stages = stages.replace("[portable.test]", "[portable.hold_out]")
    plan = by_site(plan_of, base=stages, index=north_only)
    assert sorted(name for name in plan.names if "general" not in name) == [
        "baseline/child/r02",
        "baseline/child/r03",
        "baseline/donor/r01",
        "baseline/portable/r02",
        "baseline/portable/r03",
    ]
    told = [(warning.where, warning.what) for warning in plan.warnings if "left out" in warning.what]
    whys = {"portable": "has no case to train on", "child": "needs one that has no trial"}
    assert told == [
        (f"stages.{stage}", f"where 'north' is left out, the stage {why}; it has no trial there")
        for stage, why in whys.items()
    ]
    stages_of_arm = to_document(plan)["arms"]["baseline"]["stages"]
    assert stages_of_arm["portable"]["pool_patients"] > 0


def test_an_evaluation_without_cases_of_a_site_is_left_out_and_told(plan_of: PlanOf) -> None:
    plan = by_site(plan_of)
    measured = [[e.name for e in trial(plan, f"baseline/portable/r0{n}").evaluations] for n in (1, 2, 3)]
    both = ["portable.test", "portable.hold_out"]
    assert measured == [both, both, both[1:]]
    told = [warning.what for warning in plan.warnings if warning.where == "stages.portable"]
    assert "where 'west' is left out, portable.test has no case; nothing is measured there" in told


def test_a_section_without_the_column_keeps_the_usual_shares(plan_of: PlanOf) -> None:
    plan = by_site(plan_of)
    counts = Counter(part for _, part in parts(plan, "baseline/donor/r01"))
    assert counts == {"train": 12, "validation": 4}  # of 20 images of 10 patients
    assert [evaluation.name for evaluation in trial(plan, "baseline/donor/r01").evaluations] == ["mri.test"]


def test_a_patient_of_several_sites_is_told_of_and_trains_in_neither(plan_of: PlanOf) -> None:
    def moved(name: str, config: Any) -> Sequence[Case]:
        cases = list(sited(name, config))
        if name == "fixed":  # the second image of the first patient
            cases[1] = replace(cases[1], columns={"site": "west"})
        return cases

    plan = by_site(plan_of, index=moved)
    patient = plan.selector.cohort.sections["fixed"][0].patient
    assert [patient in who_tests(plan, f"baseline/general/r0{n}") for n in (1, 2, 3)] == [True, False, True]
    assert any(
        warning.what.startswith("patients with images of several values of 'site': 1; each tests, with all ")
        for warning in plan.warnings
    )


def test_another_order_of_cases_gives_the_same_plan(plan_of: PlanOf) -> None:
    def reversed_order(name: str, config: Any) -> Sequence[Case]:
        return sited(name, config)[::-1]

    assert by_site(plan_of, index=reversed_order).names == by_site(plan_of).names


def test_a_column_that_nobody_filters_by_is_in_no_identity(plan_of: PlanOf) -> None:
    assert plan_of(index=sited).names == plan_of().names


@pytest.mark.parametrize(
    ("column", "index", "message"),
    [
        (
            "sit",
            sited,
            r"study\.yaml:11: split\.by: no data section has a column 'sit' \(columns: site\)\. Did",
        ),
        ("site", phantom_cases, r"no data section has a column 'site' \(columns: none\)\."),
        (
            "site",
            lambda *of: [replace(case, columns={"site": "north"}) for case in phantom_cases(*of)],
            r"split\.by: column 'site' has 1 value, 'north'; to leave one out takes two",
        ),
        (
            "site",
            lambda *of: [replace(case, columns={"site": case.patient}) for case in phantom_cases(*of)],
            r"column 'site' has \d+ values for \d+ patients; a site has several patients\. Divide single ",
        ),
        (
            "site",
            lambda *of: [
                replace(case, columns={**case.columns, "site": ""}) if case.name == "4.png" else case
                for case in sited(*of)
            ],
            r"column 'site' is empty for 1 of 60 cases of data\.fixed, such as 4\.png; fill it in, or leave",
        ),
    ],
)
def test_a_column_that_gives_no_sites_is_refused(
    plan_of: PlanOf, column: str, index: Any, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        plan_of(f"split: {{by: {column}}}", base=NO_NUMBER, index=index)


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        (
            {"seed: 7": "seed: 7\nrepetitions: 25"},
            ["3: repetitions is 25, and the split has 3 (values of 'site'); leave repetitions out"],
        ),
        (
            {"starts_from: donor": "repetitions: 4, starts_from: donor"},
            [
                "9: stage 'general' has 4 repetitions, and the split has 3 (values of 'site'); give at most ",
                "10: stage 'portable' has 3 repetitions and starts from 'general', which has 4; give both ",
            ],
        ),
        (
            {"starts_from: donor": "repetitions: 2, starts_from: donor"},
            ["10: stage 'portable' has 3 repetitions and starts from 'general', which has 2; give both "],
        ),
    ],
)
def test_numbers_of_repetitions_that_the_data_contradict_are_refused_at_their_lines(
    plan_of: PlanOf, edits: dict[str, str], told: list[str]
) -> None:
    found = problems_of(StudyError, by_site, plan_of, edits=edits)
    assert len(found) == len(told)
    for problem, start in zip(found, told, strict=True):
        assert str(problem).partition("study.yaml:")[2].startswith(start)


def test_a_study_may_say_how_many_sites_there_are(plan_of: PlanOf) -> None:
    assert by_site(plan_of, base=STUDY).names == by_site(plan_of).names


def test_patients_that_only_an_arm_has_are_refused(plan_of: PlanOf) -> None:
    """A file has no part for them, and sites are those of the study's own images."""
    arms = "arms: {baseline: {}, more: {data.fixed.count: 80}, fewer: {data.fixed.count: 40}}"
    (told,) = problems_of(StudyError, by_site, plan_of, arms)
    assert str(told).partition("study.yaml:")[2] == (
        "12: arm 'more': the arm adds 10 patients to data section 'fixed'; a split by a column or from a "
        "file divides the study's own patients only: declare them in the study's own data"
    )


# --- public images ---------------------------------------------------------------------------------


@pytest.fixture
def planned(real_data: Path, tmp_path: Path) -> Callable[[str], Plan]:
    """The plan of a study on real images."""

    def planned(text: str) -> Plan:
        (tmp_path / "study.yaml").write_text(text)
        loaded = load(tmp_path / "study.yaml", environ={"XFERLAB_DATA": str(real_data)})
        index = StudyIndex(loaded.base.data, memo_dir=tmp_path / "memo")
        return expand(loaded, index, HERE)

    return planned


@pytest.mark.slow
def test_five_folds_of_public_images(planned: Callable[[str], Plan]) -> None:
    plan = planned(
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


@pytest.mark.slow
def test_each_source_of_public_images_left_out(planned: Callable[[str], Plan]) -> None:
    """All images of portable devices are of one source; where it tests, there is no such stage."""
    plan = planned(
        "study: s\nsplit: {by: source}\ndata:\n"
        "  fixed: {source: manifest, root: '${XFERLAB_DATA}/covid-lung-512', where: {device: fixed}, "
        "labels: {lung: [255], ignore: [127]}}\n"
        "  portable: {source: manifest, root: '${XFERLAB_DATA}/covid-lung-512', where: {device: portable}, "
        "labels: {lung: [255], ignore: [127]}}\n"
        "stages:\n  fixed: {data: fixed, repetitions: 2}\n"
        "  portable: {data: portable, starts_from: fixed, evaluate_on: [fixed.test]}\n"
    )
    assert set(plan.names) == {"baseline/fixed/r01", "baseline/fixed/r02", "baseline/portable/r02"}
    sites = {r: dict(trial(plan, f"baseline/fixed/r0{r}").coordinates) for r in (1, 2)}
    assert sites == {1: {"site": "cohen"}, 2: {"site": "kermany"}}
    assert any(
        warning.what == "where 'cohen' is left out, the stage has no case to train on; it has no trial there"
        for warning in plan.warnings
    )
    source_of = {
        case.digest: case.columns["source"]
        for cases in plan.selector.cohort.sections.values()
        for case in cases
    }
    for number, site in ((1, "cohen"), (2, "kermany")):
        spec = trial(plan, f"baseline/fixed/r0{number}")
        assert site not in {source_of[digest] for digest in plan.selections[spec.selection].digests}
        (evaluation,) = spec.evaluations
        assert site in {source_of[digest] for digest in plan.selections[evaluation.selection].digests}
