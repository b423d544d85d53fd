"""Paired comparisons against scipy's tests and hand arithmetic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from xferlab.analysis.comparison import Comparison, Side, compare, holm, patient_interval, repetition_interval

BEFORE_AFTER = Comparison(Side("a", "one"), Side("a", "two"), "d", "hold_out")


def cases(*, repetitions: int = 4, images: int = 12, seed: int = 0, gain: float = 0.1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = []
    for stage in ("one", "two"):
        for repetition in range(1, repetitions + 1):
            for image in range(images):
                value = random.normal(0.7, 0.05) + (gain if stage == "two" else 0)
                place = ("a", stage, repetition, "d", "hold_out", f"c{image}", f"p{image // 2}")
                rows.append((*place, ("x", "y")[image % 2], "DICE", value))
    columns = [
        "arm",
        "stage",
        "repetition",
        "section",
        "part",
        "case",
        "patient",
        "pathology",
        "metric",
        "value",
    ]
    return pd.DataFrame(rows, columns=columns)


def overall(frame: pd.DataFrame) -> pd.Series:
    return frame[frame["pathology"] == "all"].iloc[0]


def test_repetition_interval_is_the_paired_t_test() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 6))
    expected = stats.ttest_rel(second, first)
    found = repetition_interval(second - first)
    assert found.p == pytest.approx(expected.pvalue)
    assert found[:2] == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_overlapping_training_sets_widen_the_interval() -> None:
    differences = np.array([0.1, 0.2, 0.4, 0.3])
    plain, widened = (repetition_interval(differences, test_to_train=r) for r in (0.0, 1 / 3))
    ratio = (widened.high - widened.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(np.sqrt((1 / 4 + 1 / 3) / (1 / 4)))
    assert widened.p > plain.p


def test_too_few_repetitions_are_not_tested() -> None:
    assert all(np.isnan(repetition_interval(np.array([0.1, 0.2]))))
    row = overall(compare(cases(repetitions=2), BEFORE_AFTER, seed=1))
    assert np.isnan(row["repetition_low"])
    assert not np.isnan(row["patient_low"])


def test_below_five_repetitions_there_is_an_interval_and_no_p() -> None:
    four, five = (overall(compare(cases(repetitions=n), BEFORE_AFTER, seed=1)) for n in (4, 5))
    assert not np.isnan(four["repetition_low"])
    assert np.isnan(four["repetition_p"])
    assert not np.isnan(five["repetition_p"])


def test_differences_that_do_not_vary_have_no_p() -> None:
    found = repetition_interval(np.full(5, 0.1 + 0.2) - 0.2)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert np.isnan(found.p)


def test_patient_p_is_the_sign_flip_permutation() -> None:
    sums = np.random.default_rng(3).normal(0.5, 1, size=(8, 1))
    (found,) = patient_interval(sums, np.ones_like(sums), seed=1)
    exact = stats.permutation_test(
        (sums[:, 0],), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert found.p == pytest.approx(exact.pvalue, abs=0.02)


def test_patient_interval_is_the_bootstrap_of_scipy() -> None:
    values = np.random.default_rng(4).normal(1, 2, size=(40, 1))
    (found,) = patient_interval(values, np.ones_like(values), seed=1)
    expected = stats.bootstrap((values[:, 0],), np.mean, method="percentile", rng=np.random.default_rng(1))
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.05)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.05)


def test_whole_patients_are_resampled() -> None:
    # Ten images of one patient say no more than one: duplicated rows leave the interval as it is.
    sums = np.random.default_rng(5).normal(size=(12, 1))
    (one,) = patient_interval(sums, np.ones_like(sums), seed=1)
    (ten,) = patient_interval(10 * sums, np.full_like(sums, 10), seed=1)
    assert one == pytest.approx(ten)


def test_fewer_than_five_patients_give_no_interval() -> None:
    assert np.isnan(overall(compare(cases(images=8), BEFORE_AFTER, seed=1))["patient_low"])
    assert not np.isnan(overall(compare(cases(images=10), BEFORE_AFTER, seed=1))["patient_low"])


def test_swapped_sides_negate_the_difference() -> None:
    frame = cases(repetitions=5)
    there = overall(compare(frame, BEFORE_AFTER, seed=1))
    swapped = Comparison(BEFORE_AFTER.second, BEFORE_AFTER.first, "d", "hold_out")
    back = overall(compare(frame, swapped, seed=1))
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["patient_low"] == pytest.approx(-back["patient_high"])
    assert there["repetition_p"] == pytest.approx(back["repetition_p"])
    assert there["patient_p"] == back["patient_p"]


def test_the_same_seed_gives_the_same_result() -> None:
    one, other = (compare(cases(), BEFORE_AFTER, seed=7) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)


def test_missing_repetitions_and_undefined_values_leave_pairs_only() -> None:
    frame = cases()
    frame = frame[~((frame["stage"] == "two") & (frame["repetition"] == 4))]
    undefined = (frame["stage"] == "one") & (frame["case"] == "c0") & (frame["repetition"] == 1)
    frame.loc[undefined, "value"] = np.nan
    row = overall(compare(frame, BEFORE_AFTER, seed=1))
    assert (row["num_repetitions"], row["num_unpaired"], row["num_undefined"]) == (3, 12, 1)
    both = (
        frame[(frame["repetition"] < 4)]
        .pivot(index=["repetition", "case"], columns="stage", values="value")
        .dropna()
    )
    expected = (both["two"] - both["one"]).groupby("repetition").mean().mean()
    assert row["difference"] == pytest.approx(expected)
    assert row["second_mean"] - row["first_mean"] == pytest.approx(expected)


def test_nothing_in_common_gives_no_rows() -> None:
    nowhere = Comparison(Side("a", "one"), Side("b", "one"), "d", "hold_out")
    assert len(compare(cases(), nowhere, seed=1)) == 0


@pytest.mark.component
def test_no_effect_is_rarely_significant() -> None:
    frames = [
        compare(cases(seed=s, gain=0.0, images=16, repetitions=5), BEFORE_AFTER, seed=s) for s in range(20)
    ]
    found = pd.DataFrame([overall(frame) for frame in frames])
    assert (found["repetition_p"] < 0.05).sum() <= 4
    assert (found["patient_p"] < 0.05).sum() <= 4


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.5, float("nan"), 0.9])
    assert adjusted[0] == 1.0
    assert np.isnan(adjusted[1])
    assert holm([]) == []
