from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from sklearn import metrics as sklearn_metrics

from xferlab.metrics.measuring import measure

OVERLAP = ("ACC", "DICE", "JACC", "PREC", "RECA", "F1", "SENS", "SPEC", "SOFT_DICE")


def by_scikit_learn(prediction, target):
    pair = {"y_true": target.ravel(), "y_pred": prediction.ravel()}
    return {
        "ACC": sklearn_metrics.accuracy_score(**pair),
        "DICE": sklearn_metrics.f1_score(**pair),
        "JACC": sklearn_metrics.jaccard_score(**pair),
        "PREC": sklearn_metrics.precision_score(**pair, average="macro"),
        "RECA": sklearn_metrics.recall_score(**pair, average="macro"),
        "F1": sklearn_metrics.f1_score(**pair, average="macro"),
        "SENS": sklearn_metrics.recall_score(**pair),
        "SPEC": sklearn_metrics.recall_score(**pair, pos_label=False),
    }


def values_of(output, target, **options):
    values = measure(output, target, **options)
    return {name: values[name] for name in OVERLAP}


@pytest.mark.parametrize("ignores", [False, True])
def test_agrees_with_scikit_learn_on_what_is_not_ignored(scored, ignored, ignores):
    (output, target), ignore = scored, ignored & ignores
    expected = by_scikit_learn((output > 0.5)[~ignore], target[~ignore])
    values = values_of(output, target, ignore=ignore)
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_by_hand():
    output = np.array([[0.9, 0.8, 0.2, 0.1]], dtype=np.float32)
    target = np.array([[True, False, True, False]])
    third, half = 1 / 3, 1 / 2
    assert values_of(output, target) == pytest.approx(
        {"ACC": half, "DICE": half, "JACC": third, "PREC": half, "RECA": half, "F1": half, "SENS": half}
        | {"SPEC": half, "SOFT_DICE": 2 * 1.1 / (2.0 + 2)},
        rel=1e-7,
    )


EMPTY, FULL = np.zeros((4, 4), dtype=bool), np.ones((4, 4), dtype=bool)


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [
        # ACC, DICE, JACC, PREC, RECA, F1, SENS, SPEC, SOFT_DICE
        (EMPTY, EMPTY, (1, 1, 1, 1, 1, 1, 1, 1, 1)),
        (FULL, FULL, (1, 1, 1, 1, 1, 1, 1, 1, 1)),
        (FULL, EMPTY, (0, 0, 0, 0, 0, 0, 0, 0, 0)),
        (EMPTY, FULL, (0, 0, 0, 0, 0, 0, 0, 0, 0)),
    ],
)
def test_empty_policy(prediction, target, expected):
    values = values_of(prediction.astype(np.float32), target)
    assert tuple(values.values()) == expected


def test_a_false_alarm_on_an_empty_target_costs_the_lung_class_only():
    output = np.zeros((4, 4), dtype=np.float32)
    output[0] = 1
    values = values_of(output, EMPTY)
    assert (values["DICE"], values["SENS"], values["SPEC"]) == (0, 0, 0.75)
    assert (values["PREC"], values["RECA"]) == ((0 + 1) / 2, (0 + 0.75) / 2)


@settings(deadline=None)  # loaded machines, late imports
@given(arrays(np.bool_, (5, 7)), arrays(np.bool_, (5, 7)))
def test_identities_hold_for_every_pair_of_masks(prediction, target):
    values = values_of(prediction.astype(np.float32), target)
    assert values["DICE"] == pytest.approx(2 * values["JACC"] / (1 + values["JACC"]))
    assert values["RECA"] == (values["SENS"] + values["SPEC"]) / 2
    assert values["DICE"] <= 2 * values["SENS"] / (1 + values["SENS"]) + 1e-12
    assert values["SOFT_DICE"] == pytest.approx(values["DICE"])
    assert all(0 <= value <= 1 for value in values.values())


def test_dice_by_pixel_by_hand():
    """Pixel by pixel: (2 p t + 1) / (p^2 + t^2 + 1)."""
    output = np.array([[0.5, 0.5, 0.0, 1.0, 1.0, 0.0]], dtype=np.float32)
    target = np.array([[True, False, True, False, True, False]])
    by_pixel = [2 / 2.25, 1 / 1.25, 1 / 2, 1 / 2, 1.0, 1.0]
    assert measure(output, target)["DICE_PIXELWISE"] == pytest.approx(sum(by_pixel) / 6, rel=1e-12)
    ignore = np.array([[False, True, True, True, True, True]])
    assert measure(output, target, ignore=ignore)["DICE_PIXELWISE"] == pytest.approx(8 / 9, rel=1e-12)


@pytest.mark.parametrize(
    ("prediction", "target", "expected"),
    [(EMPTY, EMPTY, 1), (FULL, FULL, 1), (FULL, EMPTY, 0.5), (EMPTY, FULL, 0.5)],
)
def test_dice_by_pixel_has_a_value_for_empty_masks(prediction, target, expected):
    assert measure(prediction.astype(np.float32), target)["DICE_PIXELWISE"] == expected


def test_dice_by_pixel_counts_the_background():
    """A missed structure of one pixel in a hundred: Dice 0, and by pixel 0.995."""
    target = np.zeros((10, 10), dtype=bool)
    target[3, 4] = True
    values = measure(np.zeros((10, 10), dtype=np.float32), target)
    assert (values["DICE"], values["DICE_PIXELWISE"]) == (0, pytest.approx(0.995))


@settings(deadline=None)  # loaded machines, late imports
@given(
    arrays(np.float32, (4, 6), elements={"min_value": 0, "max_value": 1}),
    arrays(np.bool_, (4, 6)),
)
def test_dice_by_pixel_is_the_mean_of_one_dice_a_pixel(output, target):
    expected = [
        (2 * float(p) * t + 1) / (float(p) ** 2 + t**2 + 1)
        for p, t in zip(output.ravel(), target.ravel(), strict=True)
    ]
    value = measure(output, target)["DICE_PIXELWISE"]
    assert value == pytest.approx(sum(expected) / 24, rel=1e-12)
    assert 0.5 <= value <= 1


@pytest.mark.parametrize(
    ("prediction", "target", "smooth", "ratio", "is_under"),
    [
        (EMPTY, EMPTY, 1, math.nan, math.nan),
        (FULL, EMPTY, 1 / 17, math.nan, math.nan),
        (EMPTY, FULL, 1 / 17, 0, 1),
        (FULL, FULL, 1, 1, 0),
        (np.arange(16).reshape(4, 4) < 12, FULL, 13 / 17, 0.75, 0),
        (np.arange(16).reshape(4, 4) < 11, FULL, 12 / 17, 11 / 16, 1),
        (FULL, np.arange(16).reshape(4, 4) < 4, 5 / 17, 4, 0),
    ],
)
def test_jaccard_as_published_and_the_share_of_the_area(prediction, target, smooth, ratio, is_under):
    values = measure(prediction.astype(np.float32), target)
    found = [values[name] for name in ("JACC_SMOOTH", "AREA_RATIO", "UNDERSEGMENTED")]
    assert found == pytest.approx([smooth, ratio, is_under], rel=1e-12, nan_ok=True)
