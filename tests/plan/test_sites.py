"""Plans of studies that leave sites out: which trials there are, and who is in which part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.plan.studies import (
    NO_NUMBER,
    SITES,
    STAGES,
    STUDY,
    PlanOf,
    parts,
    patients,
    phantom_cases,
    sited,
    trial,
    who_tests,
)
from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.errors import StudyError
from xferlab.plan.document import to_document
from xferlab.plan.plan import Plan


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


def test_a_warning_of_a_stage_stops_no_plan(plan_of: PlanOf) -> None:
    best = STAGES.replace("starts_from: donor", "starts_from: donor, chaining: best")
    arms = "arms: {baseline: {}, scratch: {stages.general.starts_from: null}}\n"
    plan = by_site(plan_of, arms, edits={STAGES: best})
    assert any("has `chaining: best` and starts from no trained stage" in str(each) for each in plan.warnings)


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


@pytest.mark.slow
def test_each_source_of_public_images_left_out(planned_real: Callable[[str], Plan]) -> None:
    """All images of portable devices are of one source; where it tests, there is no such stage."""
    plan = planned_real(
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
