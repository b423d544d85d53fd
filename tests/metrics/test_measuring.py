from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from xferlab.errors import DataError
from xferlab.metrics.measuring import METRICS, measure, metrics_of, over_structures
from xferlab.metrics.metric import Metric
from xferlab.metrics.pairs import means_of, unions_of

MASKED_OUT = np.zeros((8, 8), dtype=bool)


def test_values_come_in_the_order_of_the_metrics(scored):
    assert list(measure(*scored)) == [metric.name for metric in METRICS]


def test_every_metric_has_a_name_of_its_own_and_a_documented_function():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.function.__doc__
        assert metric.definition
        assert metric.undefined


def test_overlap_and_boundary_are_the_main_metrics():
    assert [metric.name for metric in METRICS if metric.prominence == "main"] == ["DICE", "HD95_px"]


def test_a_perfect_output_is_best_in_every_metric(scored):
    _, target = scored
    values = measure(target.astype(np.float32), target, spacing_mm=(0.5, 0.25))
    best = {"higher": 1.0, "lower": 0.0}
    assert {m.name: values[m.name] for m in METRICS if m.better} == {
        m.name: best[m.better] for m in METRICS if m.better
    }


def test_what_is_ignored_changes_nothing(scored, ignored):
    output, target = scored
    expected = measure(output, target, ignore=ignored, spacing_mm=(1.0, 2.0))
    scrambled, inverted = np.where(ignored, 1 - output, output), target ^ ignored
    assert measure(scrambled, inverted, ignore=ignored, spacing_mm=(1.0, 2.0)) == expected
    assert measure(output, target, spacing_mm=(1.0, 2.0)) != expected


def test_ignoring_nothing_is_no_ignore(scored):
    output, target = scored
    nothing = np.zeros_like(target)
    np.testing.assert_equal(measure(output, target, ignore=nothing), measure(output, target))


def test_all_ignored_leaves_every_metric_undefined(scored):
    values = measure(*scored, ignore=np.ones((40, 56), dtype=bool), spacing_mm=(1.0, 1.0))
    assert all(math.isnan(value) for value in values.values())
    assert len(values) == len(METRICS)


@pytest.mark.parametrize("turn", [lambda a: a[::-1], lambda a: a[:, ::-1], np.transpose])
def test_mirrored_images_have_equal_metrics(scored, turn):
    output, target = scored
    assert measure(turn(output), turn(target)) == pytest.approx(
        measure(output, target), nan_ok=True, rel=1e-12
    )


def test_only_calibration_soft_values_and_auc_see_more_than_the_mask(scored):
    output, target = scored
    hard = (output > 0.5).astype(np.float32)
    before, after = measure(output, target), measure(hard, target)
    changed = {name for name in before if not math.isnan(before[name]) and before[name] != after[name]}
    assert changed == {"AUC", "SOFT_DICE", "DICE_PIXELWISE", "BRIER", "ECE"}


def test_a_pixel_at_the_threshold_is_background():
    output = np.array([[0.25, 0.5, 0.75]], dtype=np.float32)
    target = np.array([[False, False, True]])
    assert measure(output, target)["ACC"] == 1.0
    assert measure(output, target, predicted=output > 0.25)["ACC"] == pytest.approx(2 / 3)


def test_non_contiguous_arrays_are_read_as_they_are(scored):
    output, target = scored
    wide = np.repeat(output, 2, axis=1)[:, ::2]
    assert measure(wide, np.asfortranarray(target)) == pytest.approx(measure(output, target), nan_ok=True)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"probability": np.zeros((8, 8), dtype=np.uint8)}, r"probability: found uint8 \(8, 8\)"),
        ({"probability": np.zeros((1, 8, 8), dtype=np.float32)}, r"probability: found float32 \(1, 8, 8\)"),
        ({"probability": np.full((8, 8), 1.5, dtype=np.float32)}, r"found 1.5 to 1.5; accepted: \[0, 1\]"),
        ({"probability": np.full((8, 8), np.nan, dtype=np.float32)}, "nan"),
        ({"target": np.zeros((8, 8), dtype=np.uint8)}, r"target: found uint8 \(8, 8\); accepted: bool"),
        ({"target": np.zeros((8, 9), dtype=bool)}, r"target: found bool \(8, 9\)"),
        ({"ignore": np.zeros((4, 8), dtype=bool)}, r"ignore: found bool \(4, 8\)"),
        ({"spacing_mm": (0.1, 0.0)}, r"spacing_mm: found \(0.1, 0.0\); accepted: two positive"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(replaced, message):
    arguments = {"probability": np.zeros((8, 8), dtype=np.float32), "target": MASKED_OUT} | replaced
    with pytest.raises(DataError, match=message):
        measure(arguments.pop("probability"), arguments.pop("target"), **arguments)


@pytest.mark.component
def test_declarations_are_read_without_scipy_or_torch():
    code = "import sys, xferlab.metrics.measuring; print({'scipy', 'torch', 'sklearn'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"


def test_of_several_structures_a_mean_is_over_those_that_are_defined(scored):
    output, target = scored
    absent = measure(output, target, ignore=np.ones_like(target))
    found, other = measure(output, target), measure(output, ~target)
    joined = over_structures({"heart": found, "lung": absent, "spine": other})
    declared = metrics_of(("heart", "lung", "spine"))
    assert list(joined) == [metric.name for metric in declared]
    assert {metric.whole for metric in declared} == {metric.name for metric in METRICS}
    for metric in declared:
        own = {"heart": found, "lung": absent, "spine": other}.get(metric.of)
        both = [value for value in (found[metric.whole], other[metric.whole]) if not math.isnan(value)]
        expected = own[metric.whole] if own else np.mean(both) if both else math.nan
        assert joined[metric.name] == pytest.approx(expected, nan_ok=True)
    assert over_structures({"heart": found}) == pytest.approx(found, nan_ok=True)
    assert metrics_of(("heart",)) == METRICS
    for metric in declared:
        assert Metric.from_json(metric.to_json()).to_json() == metric.to_json()


SIDES = ("heart", "left_lung", "right_lung")


def test_of_two_sides_there_is_the_mean_and_both_as_one_and_neither_enters_the_mean_of_all(scored):
    output, target = scored
    heart, left, right = (measure(np.roll(output, step, axis=1), target) for step in (0, 2, 5))
    both = measure(output, ~target)
    joined = over_structures(dict(zip(SIDES, (heart, left, right), strict=True)), as_one={"lungs": both})
    declared = metrics_of(SIDES)
    assert list(joined) == [metric.name for metric in declared]
    assert list(dict.fromkeys(metric.of for metric in declared)) == ["", *SIDES, "lung", "lungs"]
    for name in heart:
        values = heart[name], left[name], right[name]
        assert joined[f"{name}_lung"] == pytest.approx(np.mean(values[1:]), nan_ok=True)
        assert joined[f"{name}_lungs"] == pytest.approx(both[name], nan_ok=True)
        assert joined[name] == pytest.approx(np.mean(values), nan_ok=True) or math.isnan(sum(values))
    absent = over_structures(
        {"heart": heart, "left_lung": left, "right_lung": dict.fromkeys(heart, math.nan)}
    )
    assert math.isnan(absent["DICE_lung"])
    assert math.isnan(absent["DICE_lungs"])
    assert absent["DICE"] == pytest.approx((heart["DICE"] + left["DICE"]) / 2)


def test_where_both_sides_are_marked_as_one_that_is_all_there_is(scored):
    both = measure(*scored)
    joined = over_structures({"lungs": both}, learnt=SIDES)
    assert list(joined) == [metric.name for metric in metrics_of(SIDES)]
    defined = {name: value for name, value in joined.items() if not math.isnan(value)}
    known = {name: value for name, value in both.items() if not math.isnan(value)}
    assert defined == {**known, **{f"{name}_lungs": value for name, value in known.items()}}


def test_sides_have_no_name_together_that_a_structure_has():
    sides = ("left_lung", "right_lung")
    assert (means_of(SIDES), unions_of(SIDES)) == ({"lung": sides}, {"lungs": sides})
    assert (means_of((*SIDES, "lung")), unions_of((*SIDES, "lung"))) == ({}, {"lungs": sides})
    assert (means_of((*SIDES, "lungs")), unions_of((*SIDES, "lungs"))) == ({"lung": sides}, {})
    assert means_of(("left_lung", "right_kidney")) == unions_of(("left_lung", "lungs")) == {}
    labels = {metric.name: (metric.label, metric.of_label) for metric in metrics_of(SIDES)}
    assert labels["JACC_lung"] == (
        "Jaccard, lung (mean of left and right)",
        "lung (mean of left and right)",
    )
    assert labels["JACC_lungs"][1] == "lungs (left and right as one)"
    assert labels["JACC_heart"] == ("Jaccard, heart", "heart")
