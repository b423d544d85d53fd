"""Several data sections as one set of cases, in plans."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.plan.studies import PlanOf, text_digest, trial
from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.errors import StudyError
from xferlab.plan.plan import Plan
from xferlab.study.load import load

pytestmark = pytest.mark.usefixtures("added_tasks")

STUDY = """\
study: s
seed: 7
repetitions: 3
data:
  a: {source: phantom_cxr, count: 40, seed: 1}
  b: {source: phantom_cxr, count: 50, seed: 2, shareable: true}
  c: {source: phantom_cxr, count: 30, seed: 3, hold_out: 0.5}
stages:
  one: {data: a}
  two: {data: b}
  both: {data: [a, b]}
  all: {data: [b, a, c], evaluate_on: [b+a+c.test, b+c.hold_out, c.hold_out, a.test]}
"""


class People:
    """Cases of sections that share patients, and some images, at random."""

    def __init__(self, seed: int, shared_images: int = 0):
        self.rng = random.Random(seed)
        self.cases: dict[str, list[Case]] = {}
        self.shared = shared_images

    def __call__(self, name: str, config: Any) -> Sequence[Case]:
        if name not in self.cases:
            self.cases[name] = [self.case(name, number) for number in range(config.count)]
        return self.cases[name]

    def case(self, name: str, number: int) -> Case:
        origin = "shared" if number < self.shared else name
        patient = f"p{number}" if number < self.shared else f"p{self.rng.randrange(60)}"
        finding = ("x", "y")[number % 2]
        return Case(
            text_digest(f"{origin} {number}"), f"{name}-{number}.png", patient, "xyz"[number % 3],
            columns={"finding": finding},
        )  # fmt: skip


def chosen(plan: Plan, name: str) -> dict[str, str]:
    """Part of each case that a trial trains on, by digest."""
    rows = plan.selections[trial(plan, name).selection].rows
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1] for row in rows}


@pytest.mark.parametrize("seed", range(8))
def test_a_set_has_the_cases_of_its_sections_in_their_parts(plan_of: PlanOf, seed: int) -> None:
    people = People(seed, shared_images=seed)
    plan = plan_of(base=STUDY, index=people)
    assert plan.selections[trial(plan, "baseline/both/r01").selection].section == "a+b"
    for number in (1, 2, 3):
        one, two, both = (chosen(plan, f"baseline/{stage}/r0{number}") for stage in ("one", "two", "both"))
        assert both == one | two
        assert all(one[digest] == two[digest] for digest in one.keys() & two.keys())
        assert len(one.keys() & two.keys()) <= seed


@pytest.mark.parametrize("seed", range(8))
def test_patients_of_several_sections_are_whole(plan_of: PlanOf, seed: int) -> None:
    people = People(seed, shared_images=3)
    plan = plan_of(base=STUDY, index=people)
    patient_of = {case.digest: case.patient for cases in people.cases.values() for case in cases}
    for number in (1, 2, 3):
        spec = trial(plan, f"baseline/all/r0{number}")
        parts: dict[str, set[str]] = {}
        for digest, part in chosen(plan, spec.name).items():
            parts.setdefault(patient_of[digest], set()).add(part)
        assert [e.name for e in spec.evaluations] == ["b+a+c.test", "b+c.hold_out", "c.hold_out", "a.test"]
        for evaluation in spec.evaluations:
            for digest in plan.selections[evaluation.selection].digests:
                parts.setdefault(patient_of[digest], set()).add(evaluation.part)
        assert {len(several) for several in parts.values()} == {1}
        digests = {e.name: set(plan.selections[e.selection].digests) for e in spec.evaluations}
        assert digests["a.test"] < digests["b+a+c.test"]
        assert digests["b+a+c.test"].isdisjoint(digests["b+c.hold_out"])
        assert digests["c.hold_out"] < digests["b+c.hold_out"]


def test_configurations_are_those_of_single_sections(plan_of: PlanOf) -> None:
    plan = plan_of(base=STUDY, index=People(1))
    spec = trial(plan, "baseline/both/r02")
    assert (spec.section, [e.name for e in spec.evaluations]) == ("a+b", ["a+b.test"])
    assert list(spec.data) == ["a", "b"]
    assert list(trial(plan, "baseline/all/r01").data) == ["a", "b", "c"]


def test_a_set_does_not_name_whom_a_private_section_hides(plan_of: PlanOf) -> None:
    people = People(2, shared_images=6)
    plan = plan_of(base=STUDY, index=people)
    (evaluation,) = trial(plan, "baseline/both/r01").evaluations
    private = {case.digest for case in people.cases["a"]}
    cases = plan.selections[evaluation.selection].cases()
    assert {case.digest in private for case in cases} == {True, False}
    for case in cases:
        assert case.patient.startswith("p-" if case.digest in private else "p")
        assert case.name.startswith("case-" if case.digest in private else "b-")


def test_an_arm_may_have_other_cases_in_one_section_of_a_set(plan_of: PlanOf) -> None:
    """A trial that arms share then knows both configurations."""
    arms = "arms: {x: {}, y: {data.b.simulate: portable}}\n"
    base = STUDY.replace("both: {data: [a, b]}", "both: {data: a, evaluate_on: [a+b.test]}")

    def index(name: str, config: Any) -> Sequence[Case]:
        suffix = config.simulate or ""
        return [
            Case(text_digest(f"{name} {n} {suffix}"), f"{n}.png", f"{name}{n}", "x", suffix)
            for n in range(config.count)
        ]

    spec = trial(plan_of(base=base + arms, index=index), "x/both/r01")
    assert [(e.arms, e.source) for e in spec.evaluations] == [(("x",), ""), (("y",), "a+b@y")]
    assert spec.data["b@y"] == {**spec.data["b"], "simulate": "portable"}
    assert spec.data.keys() == {"a", "b", "b@y"}


LEARN = "task: labelled, classes: {column: finding}"


def with_finding(people: People, name: str, number: int, finding: str) -> People:
    case = people.cases[name][number]
    people.cases[name][number] = Case(
        case.digest, case.name, case.patient, case.pathology, columns={"finding": finding}
    )
    return people


def test_one_image_has_one_class(plan_of: PlanOf) -> None:
    base = STUDY.replace("both: {data: [a, b]}", f"both: {{data: [a, b], {LEARN}}}")
    people = People(1, shared_images=4)
    plan = plan_of(base=base, index=people)
    assert trial(plan, "baseline/both/r01").targets == ("x", "y")
    what = (
        r"1 images stand in several sections under different classes, such as 'x' in data\.a, 'y' in "
        r"data\.b; give each image one class"
    )
    with pytest.raises(StudyError, match=what):
        plan_of(base=base, index=with_finding(people, "b", 2, "y"))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("[a, b]", "[a, d]", "stage 'both' trains on 'd', which is no data section (there is a, b, c)."),
        ("[a, b]", "[a, a]", "stages.both: data names a section twice: a, a"),
        ("[a, b]", "[]", "stages.both.data is a list; it must be at least 1 entry long."),
        (
            "b+c.hold_out", "a+d.hold_out",
            "'a+d.hold_out' names no data section of this study ('d') (there is a, b, c).",
        ),
        (
            "c.hold_out, a.test", "c.hold_out, a+b.hold_out@marker",
            "'a+b.hold_out@marker' is empty: set data.a.hold_out to the share of patients to hold out",
        ),
        (
            "c: {source: phantom_cxr", "c: {source: phantom_mri",
            "stage 'all' joins sections whose images have different numbers of channels (b: 1, a: 1, c: 3); "
            "one set of cases has one",
        ),
        (
            "count: 50, seed: 2", "count: 50, read: [heart]",
            "stage 'both' joins sections of which it reads different structures (a: lung, b: heart); name "
            "those that all have in its `structures`",
        ),
        (
            "repetitions: 3", "repetitions: 3\nfeatures: {on: a+c.hold_out}",
            "features.on names several sections; deep features are compared on the cases of one",
        ),
        (
            "  a: {", "  a+b: {", "the name 'a+b' in data must be letters, digits, `-` and `_`, the first a ",
        ),
    ],
)  # fmt: skip
def test_what_is_no_set_is_refused(tmp_path: Any, old: str, new: str, what: str) -> None:
    assert old in STUDY
    path = tmp_path / "s.yaml"
    path.write_text(STUDY.replace(old, new, 1))
    whats = [problem.what for problem in problems_of(StudyError, load, path, environ={})]
    assert any(each.startswith(what) for each in whats), whats


def test_a_set_may_be_a_set_of_one(plan_of: PlanOf) -> None:
    index: Mapping[str, Any] = {"index": People(3)}
    plan = plan_of(base=STUDY.replace("one: {data: a}", "one: {data: [a]}"), **index)
    assert trial(plan, "baseline/one/r01").section == "a"
    assert plan.names == plan_of(base=STUDY, **index).names
