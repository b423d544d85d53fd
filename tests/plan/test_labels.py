"""Labels in plans: who takes part, which trials a corrected label renews, what is refused."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.plan.studies import PlanOf, evaluations, text_digest, trial
from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.errors import StudyError
from xferlab.plan.document import to_document
from xferlab.plan.plan import Plan

pytestmark = pytest.mark.usefixtures("added_tasks")

FINDINGS = ("normal", "tb", "viral")
DATA = """\
study: s
seed: 7
repetitions: 3
data:
  a: {source: phantom_cxr, count: 60, seed: 1}
  b: {source: phantom_cxr, count: 48, seed: 2}
  c: {source: phantom_cxr, count: 30, seed: 3, hold_out: 0.5}
"""
LEARN = "task: labelled, classes: {column: finding}"
STUDY = f"""{DATA}stages:
  first: {{data: a, {LEARN}, repetitions: 3}}
  second: {{data: b, {LEARN}, starts_from: first, evaluate_on: [b.test, c.hold_out]}}
  masks: {{data: a}}
"""
GROUPED = "names: {well: [normal], sick: [tb, viral]}"
Edit = Mapping[str, Mapping[str, Any]]


def cases_of(name: str, config: Any, edits: Edit | None = None) -> Sequence[Case]:
    """Two images a patient, whose strata say nothing of the finding; `edits` change `section/number`."""
    cases = []
    for number in range(config.count):
        finding = FINDINGS[(number // 2 + config.seed) % 3]
        columns = {"patient_id": f"{name}{number // 2}", "finding": finding, "site": "xy"[number % 2]}
        edit = dict((edits or {}).get(f"{name}/{number}", {}))
        digest = text_digest(f"{name} {number} {edit.pop('mask', '') if config.targets else ''}")
        patient, columns = columns["patient_id"], columns | edit
        cases.append(Case(digest, f"{number}.png", patient, "all", columns=columns))
    return cases


@pytest.fixture
def planned(plan_of: PlanOf) -> Callable[..., Plan]:
    """A plan of the study, with edits of cases and of the text."""

    def planned(cases: Edit | None = None, *, base: str = STUDY, **edits: str) -> Plan:
        for old, new in edits.items():
            assert old in base
            base = base.replace(old, new)
        return plan_of(base=base, index=lambda name, config: cases_of(name, config, cases))

    return planned


def renewed(before: Plan, after: Plan) -> set[str]:
    """The trials whose ids differ."""
    assert before.names.keys() == after.names.keys()
    return {name for name, trial_id in before.names.items() if after.names[name] != trial_id}


def remeasured(before: Plan, after: Plan) -> set[tuple[str, str]]:
    """Trials that stay, and the sets on which they are measured anew."""
    changed = set()
    for name in before.names.keys() - renewed(before, after):
        old, new = (
            {e.name: e.evaluation_id for e in trial(plan, name).evaluations} for plan in (before, after)
        )
        changed |= {(name, each) for each in old if new[each] != old[each]}
    return changed


def reading(plan: Plan, number: str, parts: Sequence[str]) -> set[str]:
    """The trials that train or validate on a case, or on weights that did."""
    section, _, row = number.partition("/")
    digests = {
        case.digest
        for name, case, _ in plan.selector.listed()
        if (name, case.name) == (section, f"{row}.png")
    }
    found: set[str] = set()
    for name in plan.names:
        spec = trial(plan, name)
        rows = plan.selections[spec.selection].rows
        learns = any(row[0] in digests and row[1] in parts for row in rows)
        if learns or any(plan.by_id[parent].name in found for parent in spec.parents):
            found.add(name)
    return found


LEARNERS = ("first", "second")


def of_labels(names: set[str]) -> set[str]:
    return {name for name in names if name.split("/")[1] in LEARNERS}


@pytest.mark.parametrize("seed", range(6))
def test_a_corrected_label_renews_exactly_the_trials_that_learn_it(
    planned: Callable[..., Plan], seed: int
) -> None:
    before = planned()
    case = random.Random(seed).choice([f"a/{n}" for n in range(60)] + [f"b/{n}" for n in range(48)])
    section, _, number = case.partition("/")
    old = cases_of(section, before.loaded.base.data[section])[int(number)].columns["finding"]
    new = next(finding for finding in FINDINGS if finding != old)
    after = planned({case: {"finding": new}})
    expected = of_labels(reading(before, case, ("train", "validation")))
    assert renewed(before, after) == expected
    tested = {
        (name, f"{section}.test")
        for name in before.names
        for evaluation in trial(before, name).evaluations
        if name.split("/")[1] in LEARNERS
        if text_digest(f"{section} {number} ") in before.selections[evaluation.selection].digests
    }
    assert remeasured(before, after) == {pair for pair in tested if pair[0] not in expected}
    assert expected or tested


def test_a_corrected_mask_renews_exactly_those_that_read_it(planned: Callable[..., Plan]) -> None:
    before, after = planned(), planned({"a/0": {"mask": "corrected"}})
    masks = {name for name in before.names if "/masks/" in name}
    learn = {name for name in masks if name in reading(before, "a/0", ("train", "validation"))}
    assert renewed(before, after) == learn
    assert {name for name, _ in remeasured(before, after)} == masks - learn
    assert learn


def test_a_corrected_label_of_a_held_out_case_renews_evaluations_only(planned: Callable[..., Plan]) -> None:
    before = planned()
    held_out = before.selector.cohort.held_out()
    number = next(n for n in range(30) if f"c{n // 2}" in held_out)
    other = FINDINGS[(number // 2 + 3 + 1) % 3]
    after = planned({f"c/{number}": {"finding": other}})
    assert renewed(before, after) == set()
    assert remeasured(before, after) == {(name, "c.hold_out") for name in before.names if "/second/" in name}


def test_a_renamed_class_renews_no_trial(planned: Callable[..., Plan]) -> None:
    grouped = {"column: finding": f"column: finding, {GROUPED}"}
    before = planned(**grouped)
    after = planned(**{"column: finding": f"column: finding, {GROUPED.replace('sick', 'ill')}"})
    assert renewed(before, after) == set()
    labelled = {name for name in before.names if "/masks/" not in name}
    assert {name for name, _ in remeasured(before, after)} == labelled
    assert trial(after, "baseline/first/r01").targets == ("well", "ill")
    swapped = planned(**{"column: finding": "column: finding, names: {sick: [tb, viral], well: [normal]}"})
    assert renewed(before, swapped) == labelled


def test_labels_are_the_numbers_of_classes(planned: Callable[..., Plan]) -> None:
    plan = planned()
    spec = trial(plan, "baseline/first/r01")
    assert spec.targets == FINDINGS
    assert spec.identity.num_classes == 3
    labels = {case.digest: FINDINGS.index(case.columns["finding"]) for _, case, _ in plan.selector.listed()}
    for selection in (spec.selection, *(evaluation.selection for evaluation in spec.evaluations)):
        chosen = plan.selections[selection]
        assert chosen.labels == tuple(labels[digest] for digest in chosen.digests)
    unread = trial(plan, "baseline/masks/r01")
    assert plan.selections[unread.selection].labels == ()
    assert "num_classes" not in unread.identity.to_json()


def test_what_is_in_no_class_takes_no_part_and_is_counted(planned: Callable[..., Plan]) -> None:
    plan = planned(
        {"a/0": {"finding": ""}, "c/0": {"finding": "odd"}},
        **{"column: finding": "column: finding, names: {well: [normal], sick: [tb]}"},
    )
    assert [str(counts) for counts in plan.classes] == [
        "stage first, data.a, finding: well 20, sick 19; in no class: empty 1, 'viral' 20",
        "stage second, data.b, finding: well 16, sick 16; in no class: 'viral' 16",
        "stage second, data.c, finding: well 9, sick 10; in no class: 'odd' 1, 'viral' 10",
    ]
    warnings = [str(w) for w in plan.warnings if w.kind == "images that are in no class of a stage"]
    assert warnings[0] == (
        "data.a: warning: stage 'first' leaves out 21 images that are in no class, by finding: empty 1, "
        "'viral' 20"
    )
    assert len(warnings) == 3
    taking_part = {
        case.digest for _, case, _ in plan.selector.listed() if case.columns["finding"] in ("normal", "tb")
    }
    read = {
        digest
        for name in plan.names
        if "/masks/" not in name
        for selection in (trial(plan, name).selection, *(e.selection for e in trial(plan, name).evaluations))
        for digest in plan.selections[selection].digests
    }
    assert read <= taking_part
    assert to_document(plan)["classes"][0] == {
        "stage": "first", "section": "a", "column": "finding",
        "classes": {"well": 20, "sick": 19}, "others": {"": 1, "viral": 20},
    }  # fmt: skip


def test_counts_that_hold_in_some_arms_name_them(planned: Callable[..., Plan]) -> None:
    names = "{well: [normal], ill: [tb]}"
    arms = f"arms:\n  x: {{}}\n  y: {{}}\n  z: {{stages.first.classes.names: {names}}}\n"
    plan = planned(base=STUDY.replace(", starts_from: first", "") + arms)
    first = [counts for counts in plan.classes if counts.stage == "first"]
    assert [counts.arms for counts in first] == [("x", "y"), ("z",)]
    assert str(first[0]).startswith("arms 'x', 'y': stage first, data.a, finding: normal 20")
    assert first[1].warning().what.startswith("arm 'z': stage 'first' leaves out 20 images")
    assert {counts.arms for counts in plan.classes if counts.stage == "second"} == {()}
    assert next(entry["arms"] for entry in to_document(plan)["classes"]) == ("x", "y")


def test_images_of_several_classes(planned: Callable[..., Plan]) -> None:
    several = "{column: finding, separator: '|', names: {tb: [tb], viral: [viral]}}"
    old = "data: b, task: labelled, classes: {column: finding}, starts_from: first"
    cases = {f"b/{number}": {"finding": "tb|viral"} for number in range(20)} | {"b/47": {"finding": ""}}
    plan = planned(cases, **{old: f"data: b, task: labelled, classes: {several}"})
    counts = next(counts for counts in plan.classes if (counts.stage, counts.section) == ("second", "b"))
    cells = {case.digest: case.columns["finding"] for name, case, _ in plan.selector.listed() if name == "b"}
    assert counts.classes == {
        name: sum(name in cell.split("|") for cell in cells.values()) for name in ("tb", "viral")
    }
    assert counts.others == {"": 1}
    spec = trial(plan, "baseline/second/r01")
    selection = plan.selections[spec.selection]
    numbers = {"tb": 1, "viral": 2, "tb|viral": 3, "normal": 0}
    assert set(selection.labels) == {0, 1, 2, 3}
    assert list(selection.labels) == [numbers[cells[digest]] for digest in selection.digests]
    assert spec.targets == ("tb", "viral")


def test_no_gate_by_a_stage_of_several_classes(planned: Callable[..., Plan]) -> None:
    names = "names: {tb: [tb], viral: [viral]}"
    several = f"task: labelled, repetitions: 3, classes: {{column: finding, separator: '|', {names}}}"
    first = f"first: {{data: a, {LEARN}, repetitions: 3}}"
    gate = "masks: {data: a, gate: {from: first, keep: tb}}"
    edits = {first: f"first: {{data: a, {several}}}", ", starts_from: first": "", "masks: {data: a}": gate}
    with pytest.raises(StudyError, match="whose images may be of several classes"):
        planned(**edits)


def test_a_class_that_an_arm_takes_out_of_a_set_is_told_of_this_arm(plan_of: PlanOf) -> None:
    def filtered(name: str, config: Any) -> Sequence[Case]:
        cases = cases_of(name, config)
        return [case for case in cases if not config.where or case.columns["finding"] == "normal"]

    where = "where: {pathology: [normal]}"
    arms = f"arms: {{all: {{}}, y: {{data.a.{where}, data.b.{where}}}}}\n"
    learn = f"task: labelled, classes: {{column: finding, {GROUPED}}}"
    what = "study.yaml:10: arm 'y': stage 'first': no image of data.a[+]b is in class 'sick'"
    with pytest.raises(StudyError, match=what):
        plan_of(arms, base=f"{DATA}stages:\n  first: {{data: [a, b], {learn}}}\n", index=filtered)


def test_parts_do_not_depend_on_labels(planned: Callable[..., Plan]) -> None:
    plan = planned()
    labelled, masks = (
        {row[:2] for row in plan.selections[trial(plan, f"baseline/{stage}/r02").selection].rows}
        for stage in ("first", "masks")
    )
    named = {case.digest: case.name for _, case, _ in plan.selector.listed()}
    assert {(named[digest], part) for digest, part in labelled} == {
        (named[digest], part) for digest, part in masks
    }


def test_three_binary_tasks_share_their_images(planned: Callable[..., Plan]) -> None:
    each = ""
    for name in FINDINGS:
        rest = ", ".join(other for other in FINDINGS if other != name)
        each += f"  {name}: {{data: a, {LEARN[:-1]}, names: {{not: [{rest}], {name}: [{name}]}}}}}}\n"
    plan = planned(base=DATA + "stages:\n" + each)
    digests = {plan.selections[trial(plan, f"baseline/{name}/r01").selection].digests for name in FINDINGS}
    assert len(digests) == 1
    assert len({trial(plan, f"baseline/{name}/r01").trial_id for name in FINDINGS}) == 3
    assert len({str(trial(plan, f"baseline/{name}/r01").data) for name in FINDINGS}) == 1


def test_a_class_must_be_in_every_training_part(planned: Callable[..., Plan]) -> None:
    """That of one patient is not in it where the patient tests or selects."""
    plan = planned()
    trained = [
        set(plan.selections[trial(plan, f"baseline/first/r0{number}").selection].part("train").digests)
        for number in (1, 2, 3)
    ]
    number = next(n for n in range(0, 60, 2) if not all(text_digest(f"a {n} ") in part for part in trained))
    absent = [text_digest(f"a {number} ") in part for part in trained].index(False) + 1
    rare = {f"a/{number}": {"finding": "rare"}, f"a/{number + 1}": {"finding": "rare"}}
    refused = problems_of(StudyError, planned, rare, **{", starts_from: first": ""})
    assert [problem.what for problem in refused] == [
        f"stage 'first': class 'rare' is in no train case of section 'a' in repetition {absent}; add "
        "patients of it, join it with another class (`classes`), or change `split`"
    ]


@pytest.mark.parametrize(
    ("cases", "edits", "what"),
    [
        (
            None, {"finding": "findings"},
            "stage 'first': data.a has no column 'findings' (columns of classes: finding, site). Did you "
            "mean 'finding'?",
        ),
        (
            None, {"finding": "patient_id"},
            "stage 'first': column 'patient_id' of data.a names people or files, and records would hold "
            "these names (columns of classes: finding, site).",
        ),
        (
            {f"a/{n}": {"finding": "one"} for n in range(60)}, {},
            "stage 'first': column 'finding' has 1 value in data.a; to tell classes takes two",
        ),
        (
            {f"a/{n}": {"finding": str(n)} for n in range(60)}, {},
            "stage 'first': column 'finding' has 60 values for 60 images; group them (`names`), or give a "
            "column of classes",
        ),
        (
            None, {"finding": "finding, names: {well: [normal], sick: [tbc]}"},
            "stage 'first': no image of data.a is in class 'sick'; column 'finding' has 'normal', 'tb', "
            "'viral'. Did you mean 'tb'?",
        ),
        (
            {"a/0": {"finding": "1"}},
            {"finding": "finding, names: {well: [normal, 1], sick: [tb, 1.0]}"},
            "stage 'first': the value '1' is in the classes well and sick",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_data_is_refused(
    planned: Callable[..., Plan], cases: Edit | None, edits: dict[str, str], what: str
) -> None:
    column = {f"column: {old}": f"column: {new}" for old, new in edits.items()}
    assert problems_of(StudyError, planned, cases, **column)[0].what == what


def test_arms_name_what_one_training_learns_alike(planned: Callable[..., Plan]) -> None:
    grouped = f"{LEARN[:-1]}, {GROUPED}}}"
    base = STUDY.replace(LEARN, grouped)
    arm = "arms:\n  x: {}\n  y: {stages.first.classes.names: {well: [normal], ill: [tb, viral]}}\n"
    with pytest.raises(StudyError, match=r"learns 'well, sick' and 'well, ill' in one and the same training"):
        planned(base=base + arm)


def test_classes_of_one_value_are_those_of_what_is_trained_on(planned: Callable[..., Plan]) -> None:
    """A value that only another section has makes no class."""
    plan = planned({f"c/{n}": {"finding": "odd"} for n in range(10)})
    assert trial(plan, "baseline/second/r01").targets == FINDINGS
    (counts,) = [counts for counts in plan.classes if counts.section == "c"]
    assert counts.others == {"odd": 10}
    assert Counter(e.section for e in evaluations(plan))["c"] == 3
    assert replace(counts, classes={}, others={"": 2}).warning().what.endswith("by finding: empty 2")


def test_classes_in_another_order_than_those_of_the_parent_are_told(planned: Callable[..., Plan]) -> None:
    names = "column: finding, names: {%s: [normal], %s: [tb, viral]}"
    first, second = (f"data: {section}, task: labelled, classes: {{column: finding}}" for section in "ab")
    edits = {
        first: first.replace("column: finding", names % ("well", "sick")),
        second: second.replace(
            "column: finding", "column: finding, names: {sick: [tb, viral], well: [normal]}"
        ),
    }
    assert [warning.what for warning in planned(**edits).loaded.warnings] == [
        "stage 'second' learns sick, well, and 'first', which it starts from, well, sick: each output starts "
        "as that of another one; name the same classes in the same order"
    ]
    assert planned().loaded.warnings == ()


@pytest.mark.parametrize("names", [GROUPED, "names: {normal: [normal], tb: [tb]}"])
def test_another_number_of_classes_than_the_parent_has_is_refused_by_the_plan(
    planned: Callable[..., Plan], names: str
) -> None:
    """The parent's classes are the values of its column, which only the data tell."""
    second = "data: b, task: labelled, classes: {column: finding"
    (problem,) = problems_of(StudyError, planned, **{second: f"{second}, {names}"})
    assert "its last layer does not fit; let both learn as many classes" in str(problem)
    assert problem.where.endswith(":10")
    assert ", and 'first', which it starts from, normal, tb, viral: " in problem.what


def test_values_of_the_data_may_make_other_classes_than_those_of_the_parent(
    planned: Callable[..., Plan],
) -> None:
    edits = {f"b/{number}": {"finding": "other"} for number in range(48) if number // 2 % 3 == 0}
    (warning,) = planned(edits).loaded.warnings
    assert "learns normal, other, tb, and 'first', which it starts from, normal, tb, viral" in warning.what


def test_sources_of_masks_count_an_image_in_each_of_its_classes(plan_of: PlanOf) -> None:
    cells = ("tb|viral", "viral", "healthy", "tb")
    cases = {f"a/{number}": {"finding": cells[number // 2 % 4]} for number in range(60)}
    several = "{column: finding, separator: '|', names: {tb: [tb], viral: [viral]}}"
    find = (
        f"find: {{task: classification, data: a, classes: {several}, masks: {{from: lungs, keep: inside}}, "
        "model: {name: resnet18, image_size: 32, outputs: independent}}"
    )
    plan = plan_of(
        base=f"{DATA}stages:\n  lungs: {{data: a}}\n  {find}\n",
        index=lambda name, config: cases_of(name, config, cases),
    )
    spec = trial(plan, "baseline/find/r01")
    of_part = Counter(
        name
        for row in plan.selections[spec.selection].part("train").rows
        for name in {"0": ["none"], "1": ["tb"], "2": ["viral"], "3": ["tb", "viral"]}[row[2]]
    )
    (entry,) = (each for each in to_document(plan)["trials"] if each["trial_id"] == spec.trial_id)
    sources = entry["mask_sources"]["train"]
    assert {name: sum(numbers.values()) for name, numbers in sources.items()} == of_part
    assert set(of_part) == {"tb", "viral", "none"}
