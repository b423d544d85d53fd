"""Values of an image, values of all validation images, thresholds, and shares of heat."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_curve

from xferlab.tasks.classification.heat import over, share_inside, stretched
from xferlab.tasks.classification.measures import NO_THRESHOLD, Measures, thresholds_of

EXCLUSIVE, INDEPENDENT = Measures(True), Measures(False)


def drawn(
    seed: int, *, number: int = 40, classes: int = 3, ties: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of exclusive classes, and labels."""
    rng = np.random.default_rng(seed)
    raw = rng.random((number, classes))
    raw = np.round(raw * 4 + 1) if ties else raw
    return (raw / raw.sum(axis=1, keepdims=True)).astype(np.float32), rng.integers(0, classes, number)


def test_labels_become_classes() -> None:
    assert EXCLUSIVE.truth(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert INDEPENDENT.truth(np.array([0b101, 0, 0b010]), 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_values_of_all_are_those_of_scikit_learn(seed: int) -> None:
    probability, labels = drawn(seed)
    values = EXCLUSIVE.of_all(EXCLUSIVE.counts(probability, EXCLUSIVE.truth(labels, 3)), len(labels))
    called = probability.argmax(axis=1)
    assert values["accuracy"] == pytest.approx(accuracy_score(labels, called))
    assert values["mean_f1"] == pytest.approx(f1_score(labels, called, average="macro"))
    truth = INDEPENDENT.truth(labels, 3)
    values = INDEPENDENT.of_all(INDEPENDENT.counts(probability, truth), len(labels))
    assert values["accuracy"] == pytest.approx(((probability > 0.5) == (truth == 1)).mean())
    assert values["mean_f1"] == pytest.approx(
        f1_score(truth, probability > 0.5, average="macro", zero_division=0)
    )


@pytest.mark.parametrize("seed", range(3))
def test_values_of_a_case(seed: int) -> None:
    probability, labels = drawn(seed)
    truth, thresholds = EXCLUSIVE.truth(labels, 3), np.array([[0.2, 0.4, 0.3], [0.1, 2.0, 0.9]])
    values = [
        EXCLUSIVE.of_case(p, t, ("a", "b", "c"), thresholds) for p, t in zip(probability, truth, strict=True)
    ]
    assert np.mean([v["LOG_LOSS"] for v in values]) == pytest.approx(log_loss(labels, probability), rel=1e-5)
    assert np.mean([v["BRIER_SCORE"] for v in values]) == pytest.approx(
        ((probability - truth) ** 2).sum(axis=1).mean()
    )
    for number, value in enumerate(values):
        assert value["LABEL"] == labels[number] == np.argmax([value[f"IS_{name}"] for name in "abc"])
        assert value["CALLED"] == probability[number].argmax()
        assert [value[f"P_{name}"] for name in "abc"] == probability[number].astype(float).tolist()
        above = (probability[number] >= thresholds).astype(float)
        assert [value[f"CALLED_YOUDEN_{name}"] for name in "abc"] == above[0].tolist()
        assert [value[f"CALLED_SENSITIVE_{name}"] for name in "ac"] == above[1, [0, 2]].tolist()
        assert math.isnan(value["CALLED_SENSITIVE_b"])  # no threshold


def test_a_case_of_several_classes() -> None:
    p, truth = np.array([0.9, 0.5, 0.6], np.float32), np.array([1, 0, 1], np.float32)
    value = INDEPENDENT.of_case(p, truth, ("a", "b", "c"), np.full((2, 3), 0.5))
    assert math.isnan(value["LABEL"])
    assert value["ACCURACY"] == 1.0
    expected = -(math.log(0.9) + math.log(0.5) + math.log(0.6))
    assert value["LOG_LOSS"] == pytest.approx(expected, rel=1e-6)
    assert value["CALLED_b"] == 0  # not above


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("ties", [False, True])
def test_thresholds_are_those_of_the_curve(seed: int, ties: bool) -> None:
    probability, labels = drawn(seed, ties=ties)
    truth = EXCLUSIVE.truth(labels, 3)
    thresholds = thresholds_of(probability, truth, sensitivity=0.8)
    for k in range(3):
        p, positive = probability[:, k], truth[:, k] == 1
        false_positives, true_positives, _ = roc_curve(positive, p, drop_intermediate=False)

        def at(threshold: float) -> tuple[float, float]:
            called = p >= np.float32(threshold)  # noqa: B023
            return called[positive].mean(), called[~positive].mean()  # noqa: B023

        hit, false = at(thresholds[0, k])
        assert hit - false == pytest.approx((true_positives - false_positives).max())
        reached, _ = at(thresholds[1, k])
        assert reached >= 0.8
        higher = np.unique(p[p > thresholds[1, k]])
        assert not len(higher) or at(float(higher[0]))[0] < 0.8  # the next higher one does not reach it


def test_thresholds_without_images_of_both_kinds() -> None:
    probability = np.array([[0.9, 0.1], [0.7, 0.3]], np.float32)
    truth = np.array([[1, 0], [1, 0]], np.float32)
    chosen = thresholds_of(probability, truth, sensitivity=0.9)
    assert chosen.tolist() == [[NO_THRESHOLD] * 2, [pytest.approx(0.7), NO_THRESHOLD]]


def test_the_share_of_heat_inside_of_a_mask() -> None:
    heat = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
    inside = np.zeros((8, 8), bool)
    assert math.isnan(share_inside(heat, None))
    assert math.isnan(share_inside(np.zeros((2, 2), np.float32), ~inside))
    assert share_inside(heat, inside) == 0.0
    assert share_inside(heat, ~inside) == pytest.approx(1.0)
    inside[:, :4] = True
    whole = stretched(heat, width=8, height=8).astype(float)
    assert share_inside(heat, inside) == pytest.approx(whole[:, :4].sum() / whole.sum())
    assert 0.5 < share_inside(heat, inside) < 1.0


def test_heat_over_an_image_leaves_cold_pixels_as_they_are() -> None:
    image = np.full((16, 16), 100, np.uint8)
    heat = np.zeros((2, 2), np.float32)
    heat[0, 0] = 1.0
    drawn_over = over(image, heat)
    assert drawn_over[-1, -1].tolist() == [100, 100, 100]
    assert drawn_over[0, 0].tolist() == [round(0.3 * 100 + 0.7 * value) for value in (252, 255, 164)]
