"""Aggregation against hand arithmetic: the value is base + 0.01 repetition + 0.001 image."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from xferlab import analysis

IMAGES = 0.001 * np.arange(18)
REPETITIONS = 0.01 * np.arange(1, 5)


@pytest.fixture(scope="module")
def aggregated(results) -> pd.DataFrame:
    return analysis.aggregate(results.cases).set_index(
        ["arm", "stage", "section", "part", "pathology", "metric"]
    )


def test_hold_out_by_hand(aggregated) -> None:
    row = aggregated.loc[("baseline", "general", "portable", "hold_out", "all", "DICE")]
    assert row["mean"] == pytest.approx(0.8 + 0.025 + 0.0085)
    assert row["sd_repetitions"] == pytest.approx(np.std(REPETITIONS, ddof=1))
    assert row["sd_images"] == pytest.approx(np.std(IMAGES, ddof=1))
    assert (row["num_repetitions"], row["num_planned"]) == (4, 4)
    assert (row["num_images"], row["num_patients"], row["num_values"], row["num_undefined"]) == (
        18,
        18,
        72,
        0,
    )


def test_one_pathology_by_hand(aggregated) -> None:
    row = aggregated.loc[("baseline", "general", "portable", "hold_out", "normal", "DICE")]
    assert row["mean"] == pytest.approx(0.8 + 0.025 + IMAGES[1::3].mean())
    assert row["num_images"] == 6


def test_a_failed_repetition_is_counted_and_never_zero(aggregated) -> None:
    row = aggregated.loc[("baseline", "portable", "portable", "hold_out", "all", "DICE")]
    assert row["mean"] == pytest.approx(0.9 + 0.02 + 0.0085)
    assert (row["num_repetitions"], row["num_planned"]) == (3, 4)


def test_test_parts_average_the_deviation_within_repetitions(aggregated) -> None:
    row = aggregated.loc[("frozen", "portable", "portable", "test", "all", "DICE")]
    assert row["sd_images"] == pytest.approx(np.std(IMAGES, ddof=1))
    assert row["images_per_repetition"] == 18
    assert row["num_images"] == 18 + 3 * 5  # each repetition moves on by five images


def test_undefined_values_are_left_out_and_counted(aggregated) -> None:
    bridges = aggregated.loc[("baseline", "general", "portable", "hold_out", "all", "BRIDGES")]
    even = [[(image + r) % 3 for image in range(0, 18, 2)] for r in range(1, 5)]
    assert bridges["mean"] == pytest.approx(np.mean(np.mean(even, axis=1)))
    assert (bridges["num_values"], bridges["num_undefined"]) == (72, 36)
    never = aggregated.loc[("baseline", "general", "portable", "hold_out", "all", "HD95_mm")]
    assert np.isnan(never["mean"])
    assert never["num_undefined"] == never["num_values"]


def test_one_repetition_has_no_deviation(aggregated) -> None:
    row = aggregated.loc[("baseline", "donor", "mri", "test", "all", "DICE")]
    assert np.isnan(row["sd_repetitions"])
    assert row["sd_images"] > 0


def test_the_order_of_rows_does_not_matter(results) -> None:
    shuffled = results.cases.sample(frac=1, random_state=1)
    keys = ["arm", "stage", "section", "part", "pathology", "metric"]
    one, other = (
        analysis.aggregate(frame, planned=results.planned()).sort_values(keys, ignore_index=True)
        for frame in (results.cases, shuffled)
    )
    pd.testing.assert_frame_equal(one, other)


def test_cases_without_pathologies_have_one_row(results) -> None:
    whole = analysis.aggregate(results.cases)
    alone = analysis.aggregate(results.cases.assign(pathology="all"), planned=results.planned())
    keys = ["arm", "stage", "section", "part", "pathology", "metric"]
    assert not alone.duplicated(keys).any()
    expected = whole[whole["pathology"] == "all"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, expected, check_dtype=False)


def test_unequal_repetitions_weigh_the_same() -> None:
    cases = pd.DataFrame(
        {
            "arm": "a",
            "stage": "s",
            "repetition": [1, 1, 1, 2],
            "section": "d",
            "part": "test",
            "case": list("wxyz"),
            "patient": list("wxyz"),
            "pathology": "p",
            "metric": "DICE",
            "value": [0.0, 0.0, 0.0, 1.0],
        }
    )
    row = analysis.aggregate(cases).iloc[0]
    assert row["mean"] == 0.5
    assert pd.isna(row["num_planned"])


def test_a_set_may_be_planned_in_fewer_repetitions_than_its_stage(results) -> None:
    """As where a split leaves sites out."""
    planned = {**results.planned(), ("baseline", "general", "general", "test"): 2}
    frame = analysis.aggregate(results.cases, planned=planned)
    frame = frame[(frame["arm"] == "baseline") & (frame["stage"] == "general")]
    counts = frame.groupby(["section", "part"])["num_planned"].agg(set).to_dict()
    assert counts.pop(("general", "test")) == {2}
    assert set.union(*counts.values()) == {results.planned()["baseline", "general"]}
