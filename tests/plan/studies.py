"""A small study with cases that exist in memory only, and functions that look things up in its plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from xferlab.cohort import Case
from xferlab.plan.plan import Plan, Setting
from xferlab.plan.selection import Index
from xferlab.plan.spec import EvaluationSpec, TrialSpec

HERE = Setting(device="cpu", bfloat16=False)
PATHOLOGIES = ("covid19", "normal", "pathological")
DATA = """\
data:
  mri: {source: phantom_mri, count: 20}
  fixed: {source: phantom_cxr, count: 60, seed: 1}
  portable: {source: phantom_cxr, count: 40, seed: 2, hold_out: 0.5}
"""
STAGES = """\
stages:
  donor: {data: mri}
  general: {data: fixed, starts_from: donor, evaluate_on: [fixed.test, portable.hold_out]}
  portable: {data: portable, starts_from: general, evaluate_on: [portable.test, portable.hold_out]}
"""
STUDY = "study: s\nseed: 7\nrepetitions: 3\n" + DATA + STAGES
NO_NUMBER = STUDY.replace("repetitions: 3\n", "")
SITES = ("north", "south", "west")
NO_MRI = STUDY.replace("  mri: {source: phantom_mri, count: 20}\n", "")
GIVEN = NO_MRI.replace("donor: {data: mri}", "donor: {weights: buda2019}")

PlanOf = Callable[..., Plan]


def text_digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def phantom_cases(name: str, config: Any) -> Sequence[Case]:
    """Two images a patient; a section's `where` filters by pathology, `simulate` changes the pixels."""
    cases = []
    for number in range(config.count):
        origin = f"{config.source} {config.seed} {number // 2}"
        pathology = "tumour" if config.source == "phantom_mri" else PATHOLOGIES[number // 2 % 3]
        simulated = config.simulate or ""
        digest = text_digest(f"{origin} {number} {simulated}")
        case = Case(digest, f"{number}.png", f"patient {origin}", pathology, simulated)
        if config.where.get("pathology", pathology) == pathology:
            cases.append(case)
    return cases


def with_case(index: Index, case_name: str, **changed: str) -> Index:
    """The same cases, but for the one that is called `section/file name`."""

    def changed_index(name: str, config: Any) -> Sequence[Case]:
        cases = index(name, config)
        return [replace(case, **changed) if f"{name}/{case.name}" == case_name else case for case in cases]

    return changed_index


def trial(plan: Plan, name: str) -> TrialSpec:
    """The trial of `arm/stage/rNN`."""
    return plan.by_id[plan.names[name]]


def evaluation(spec: TrialSpec, name: str) -> EvaluationSpec:
    """That of `section.part`."""
    return next(evaluation for evaluation in spec.evaluations if evaluation.name == name)


def evaluation_ids(plan: Plan) -> list[str]:
    return [evaluation.evaluation_id for evaluation in evaluations(plan)]


def evaluations(plan: Plan) -> list[EvaluationSpec]:
    return [evaluation for spec in plan.trials for evaluation in spec.evaluations]


def parts(plan: Plan, name: str, part: str = "") -> set[tuple[str, str]]:
    """Digest and part of the cases that a trial trains on; of one part only, if it is given."""
    rows = plan.selections[trial(plan, name).selection].rows
    return {row for row in rows if part in ("", row[1])}


def patients(plan: Plan) -> dict[str, str]:
    """The patient of each case of the study's own sections, by the case's digest."""
    return {case.digest: case.patient for cases in plan.selector.cohort.sections.values() for case in cases}


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
