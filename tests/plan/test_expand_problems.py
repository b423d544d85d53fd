"""What is refused or warned of while a study is planned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest

from tests.plan.studies import PlanOf, phantom_cases
from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.errors import StudyError

ONE_IMAGE = "split: {group_by: null, train: 0.34, validation: 0.33, test: 0.33}\nmodel: {image_size: 16}"


@pytest.mark.parametrize(
    ("more", "edits", "text", "number"),
    [
        (
            "",
            {"count: 60": "count: 2"},
            r"study\.yaml:10: stage 'general': the (train|validation) part of section 'fixed' is empty in "
            r"repetition 1; add",
            2,
        ),
        (
            "",
            {"count: 40": "count: 4"},
            r"evaluated on portable\.test, which has no case in repetition \d; add patients",
            2,
        ),
        (
            "arms:\n  all: {}\n  few: {data.fixed.where: {pathology: nothing}}",
            {},
            r"study\.yaml:14: arm 'few': stage 'general': the \w+ part .* is empty",
            3,
        ),
        (
            "split: {require_classes: [covid-19]}",
            {},
            r"'covid-19', which no case has .*Did you mean 'covid19'\?",
            1,
        ),
        (
            ONE_IMAGE,
            {"count: 20": "count: 3"},
            r"study\.yaml:9: stage 'donor' would train on a single image at a time \(its training part is "
            r"one image in repetition 1\), and at 16 px its bottleneck is one pixel: .*; add patients, or",
            1,
        ),
        (
            "training: {precision: tf32}",
            {},
            r"study\.yaml:12: stage 'donor' trains in tf32 on the CPU, which only CUDA devices have; set",
            1,
        ),
    ],
)
def test_what_cannot_be_planned_is_refused_once_at_its_line(
    plan_of: PlanOf, more: str, edits: dict[str, str], text: str, number: int
) -> None:
    assert len(problems_of(StudyError, plan_of, more, edits=edits, match=text)) == number


def test_what_is_refused_elsewhere_may_be_planned(plan_of: PlanOf) -> None:
    plan_of(ONE_IMAGE.replace("16", "32"), edits={"count: 20": "count: 3"})
    assert plan_of("training: {precision: tf32, device: cuda}").trials[0].identity.to_json()["execution"] == {
        "device": "cuda", "precision": "tf32", "compile": False, "deterministic": True, "float32": "ieee",
    }  # fmt: skip
    execution = (
        plan_of("training: {precision: bfloat16, validation_precision: same}").trials[0].identity.execution
    )
    assert execution.validation == "bfloat16"
    assert plan_of("split: {require_classes: [normal]}").names == plan_of().names


def test_all_empty_parts_are_reported_at_once(plan_of: PlanOf) -> None:
    whole = str(problems_of(StudyError, plan_of, edits={"count: 60": "count: 2", "count: 20": "count: 2"}))
    assert "section 'fixed'" in whole
    assert "section 'mri'" in whole


FEW = {"count: 40": "count: 14"}  # 7 patients, of whom 3 or 4 are held out


def test_a_class_that_a_part_lacks_is_a_warning_and_an_error_where_required(plan_of: PlanOf) -> None:
    plan = plan_of(edits=FEW)
    lacking = [warning for warning in plan.warnings if "'portable'" in warning.what]
    assert {(warning.severity, warning.where) for warning in lacking} == {("warning", "data.portable")}
    with pytest.raises(StudyError, match=r"'covid19' is in no \w+ case of section 'portable' .* asks for it"):
        plan_of("split: {require_classes: [covid19]}", edits=FEW)
    with pytest.raises(StudyError, match=r"is in no test case of section 'portable' in repetition"):
        plan_of("split: {require_classes: [covid19, normal, pathological]}", edits=FEW)


def test_a_warning_that_holds_for_some_arms_names_them(plan_of: PlanOf) -> None:
    few = "{stages.general.label_fraction: 0.01, stages.general.stratified: false}"
    arms = "".join(f"  {name}: {few if name != 'all' else '{}'}\n" for name in ("all", "few", "fewer"))
    lacking = [
        warning.what
        for warning in plan_of(f"arms:\n{arms}").warnings
        if "is in no train case" in warning.what
    ]
    assert lacking
    assert all(what.startswith("arms 'few', 'fewer': pathology '") for what in lacking)
    one = "".join(f"  {name}: {few if name == 'few' else '{}'}\n" for name in ("all", "few"))
    lacking = [
        warning.what for warning in plan_of(f"arms:\n{one}").warnings if "is in no train case" in warning.what
    ]
    assert all(what.startswith("arm 'few': ") for what in lacking)


def test_splitting_images_is_reported_with_the_number_of_patients(plan_of: PlanOf) -> None:
    plan = plan_of("split: {group_by: null}")
    warnings = {warning.where: warning.what for warning in plan.warnings if "group_by" in warning.what}
    assert warnings.keys() == {"data.mri", "data.fixed", "data.portable"}
    cohort = plan.selector.cohort
    parts, unit, cases = cohort.parts(1), cohort.unit, cohort.sections["fixed"]
    pairs = zip(cases[::2], cases[1::2], strict=True)
    straddling = sum(parts[unit(first)] != parts[unit(second)] for first, second in pairs)
    assert f"{straddling} of 30 patients have images in more than one part" in warnings["data.fixed"]
    assert not [warning for warning in plan_of().warnings if "group_by" in warning.what]

    def of_one_image(name: str, config: Any) -> list[Case]:
        return [replace(case, patient=case.name) for case in phantom_cases(name, config)]

    one_each = plan_of("split: {group_by: null}", index=of_one_image)
    assert not [warning for warning in one_each.warnings if "group_by" in warning.what]


def test_arms_share_the_work_of_choosing_cases(plan_of: PlanOf) -> None:
    """What keeps ten thousand trials quick: cases are divided once a repetition, not once a trial."""
    index = Mock(wraps=phantom_cases)
    arms = "arms:\n" + "".join(f"  a{n}: {{training.lr: {n + 1}e-6}}\n" for n in range(20))
    plan = plan_of(arms, index=index)
    assert len(plan.trials) == 20 * (1 + 3 + 3)
    assert index.call_count == 3
    assert len(plan.selections) == 2 + 2 * 3 + 2 * 3 + 1  # donor and stages: to fit, to test; the hold-out


TRANSFER = """\
study: s
repetitions: 1
split: {group_by: null, train: 0.34, validation: 0.33, test: 0.33}
data: {a: {source: phantom_cxr, count: 40, seed: 1}, b: {source: phantom_cxr, count: 50, seed: 2}}
model: {name: fc_densenet56, in_channels: 1, image_size: 32}
stages:
  segment: {data: a, repetitions: 1}
  transfer:
    task: translation
    data: {a: a, b: b}
    starts_from: {segmenter: segment}
    model: {image_size: 32}
    label_fraction: {b: 0.01}
    stratified: false
    training: {batch_size: 4}
"""


def test_a_segmenter_needs_two_values_of_each_channel_of_what_has_labels(plan_of: PlanOf) -> None:
    (problem,) = problems_of(StudyError, plan_of, base=TRANSFER)
    assert problem.where.endswith("study.yaml:10")
    assert problem.what == (
        "the segmenter of stage 'transfer' would train on a single image at a time (one image of b has "
        "labels in repetition 1), and at 32 px its bottleneck is one pixel: batch norm needs two values of "
        "each channel; add patients, raise label_fraction, or set model.image_size of both stages to 64 or "
        "more"
    )
    more = TRANSFER.replace("0.01", "0.2")
    (problem,) = problems_of(StudyError, plan_of, base=more.replace("size: 4", "size: 1"))
    assert problem.where.endswith("study.yaml:15")
    assert "a single image at a time (batch_size is 1)" in problem.what
    for enough in (more, TRANSFER.replace("32", "64"), TRANSFER.replace("fc_densenet56", "segnet")):
        plan_of(base=enough)


def test_a_first_domain_of_one_image_fills_a_batch(plan_of: PlanOf) -> None:
    one = TRANSFER.replace("0.01", "0.2").replace("count: 40", "count: 3")
    plan_of(base=one.replace("{data: a, repetitions: 1}", "{data: b, repetitions: 1}"))
