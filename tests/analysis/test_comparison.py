"""Paired comparisons against SciPy, hand arithmetic, and the formulas written another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from xferlab.analysis.comparison import NO_CLAIM, NO_P, Comparison, compare
from xferlab.analysis.design import Design, Side
from xferlab.analysis.estimates import (
    Measured,
    by_split,
    corrected_t,
    counted_patients,
    holm,
    measured_of_samples,
    overlap_of,
    supportable,
    two_way_t,
)
from xferlab.analysis.results import EvaluationSet

DESIGN = Design(planned=6, share=0.6, num_train=60)


def before_after(part: str = "hold_out", **design: float) -> Comparison:
    first, second = (Side("a", EvaluationSet(stage, "d", part)) for stage in ("one", "two"))
    return Comparison(first, second, replace(DESIGN, **design))


BEFORE_AFTER = before_after()


def cases(
    *,
    repetitions: int = 6,
    images: int = 24,
    seed: int = 0,
    gain: float = 0.1,
    part: str = "hold_out",
    moves: int = 0,
) -> pd.DataFrame:
    """Two stages, two images a patient; the part moves on by some images a repetition."""
    columns = ["stage", "repetition", "image"]
    index = pd.MultiIndex.from_product(
        [("one", "two"), range(1, repetitions + 1), range(images)], names=columns
    )
    frame = index.to_frame(index=False).assign(arm="a", section="d", part=part, metric="DICE")
    frame["image"] += moves * frame["repetition"]
    frame["case"] = "c" + frame["image"].astype(str)
    frame["name"] = frame["case"] + ".png"
    frame["patient"] = "p" + (frame["image"] // 2).astype(str)
    frame["pathology"] = np.where(frame.pop("image") % 2, "y", "x")
    values = np.random.default_rng(seed).normal(0.7, 0.05, len(frame))
    return frame.assign(value=values + gain * (frame["stage"] == "two"))


def test_images_that_one_side_reads_otherwise_are_paired_by_their_names() -> None:
    frame = cases()
    other = frame.assign(case=frame["case"].mask(frame["stage"] == "two", "other " + frame["case"]))
    pd.testing.assert_frame_equal(compare(other, BEFORE_AFTER), compare(frame, BEFORE_AFTER))
    unnamed = compare(other.assign(name="x.png"), BEFORE_AFTER)
    assert not len(unnamed)


def overall(frame: pd.DataFrame) -> pd.Series:
    return frame[frame["pathology"] == "all"].iloc[0]


def undefined(frame: pd.DataFrame, case: str, *, stage: str = "one", repetition: int = 1) -> pd.DataFrame:
    rows = (frame["stage"] == stage) & (frame["case"] == case) & (frame["repetition"] == repetition)
    return frame.assign(value=frame["value"].mask(rows))


def test_r_by_hand() -> None:
    assert overlap_of(0.6) == pytest.approx(2 / 3)  # 4/9 * 0.6 / 0.4
    assert overlap_of(0.9) == pytest.approx(4)
    assert overlap_of(0.06) == 0.1
    assert np.isnan(overlap_of(1.0))


def test_two_way_t_by_hand() -> None:
    # Means of repetitions 1 and 3, of images 1 and 3: d = 2, s2 = 2, V_R = 2 (1/2 + 1/2) = 2;
    # V_P = 2/1 (1 + 1) / 4 = 1; V = 3, df = 9 / (4/1 + 1/1) = 1.8.
    found = two_way_t(np.array([[0.0, 2.0], [2.0, 4.0]]), np.array([0, 1]), overlap=0.5)
    assert found.df == pytest.approx(1.8)
    assert found.p == pytest.approx(2 * stats.t.sf(2 / np.sqrt(3), 1.8))
    half = stats.t.ppf(0.975, 1.8) * np.sqrt(3)
    assert found[:2] == pytest.approx((2 - half, 2 + half))


def test_two_way_t_is_the_formula_written_with_loops() -> None:
    random = np.random.default_rng(1)
    sizes = [1, 5, 2, 2, 9, 1, 3]
    owners = [p for p, size in enumerate(sizes) for _ in range(size)]
    values = random.normal(0.2, 1, size=(4, len(owners))) + random.normal(size=len(sizes))[owners]
    order = random.permutation(len(owners))
    found = two_way_t(values[:, order], np.array(owners)[order], overlap=0.7)

    repetitions, images, patients = len(values), len(owners), len(sizes)
    means = [sum(row) / images for row in values.tolist()]
    d = sum(means) / repetitions
    s2 = sum((mean - d) ** 2 for mean in means) / (repetitions - 1)
    v_r = s2 / repetitions + s2 * 0.7
    squares = 0.0
    for patient in range(patients):
        own = [i for i in range(images) if owners[i] == patient]
        squares += sum(sum(values[j, i] for j in range(repetitions)) / repetitions - d for i in own) ** 2
    v_p = squares * patients / (patients - 1) / images**2
    counted = images**2 / sum(size**2 for size in sizes)
    df = (v_r + v_p) ** 2 / (v_r**2 / (repetitions - 1) + v_p**2 / (counted - 1))
    assert found.df == pytest.approx(df)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(d) / (v_r + v_p) ** 0.5, df))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, df, d, (v_r + v_p) ** 0.5))


def test_patients_of_equal_size_and_equal_repetitions_give_the_t_test_over_patients() -> None:
    # Where all repetitions agree, V_R = 0 and what is left is the one-sample t test of patients' means.
    means = np.random.default_rng(2).normal(0.5, 1, size=12)
    found = two_way_t(np.tile(np.repeat(means, 3), (5, 1)), np.repeat(np.arange(12), 3), overlap=0.7)
    expected = stats.ttest_1samp(means, 0)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_corrected_t_is_the_paired_t_test_with_a_wider_interval() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 6))
    expected = stats.ttest_rel(second, first)
    plain, wider = (corrected_t(second - first, overlap=ratio) for ratio in (0.0, 1 / 3))
    assert plain.p == pytest.approx(expected.pvalue)
    assert plain[:2] == pytest.approx(tuple(expected.confidence_interval(0.95)))
    ratio = (wider.high - wider.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(np.sqrt((1 / 6 + 1 / 3) / (1 / 6)))
    assert wider.p > plain.p


@pytest.mark.parametrize(("sizes", "counted"), [([7] * 10, 10), ([3, 1], 16 / 10), ([], 0)])
def test_patients_are_counted_by_their_images(sizes: list[int], counted: float) -> None:
    patients = np.repeat(np.arange(len(sizes)), np.array(sizes, dtype=np.int64))
    assert counted_patients(patients) == pytest.approx(counted)


@pytest.mark.parametrize(
    "values",
    [
        np.ones((1, 4)),  # one repetition
        np.full((3, 4), 0.1 + 0.2) - 0.2,  # nothing varies but by rounding
    ],
)
def test_where_nothing_varies_nothing_is_estimated(values: np.ndarray) -> None:
    assert np.isnan(two_way_t(values, np.arange(4), overlap=0.5)).all()
    assert np.isnan(corrected_t(values.mean(axis=1), overlap=0.5)).all()


def test_one_patient_gives_no_estimate() -> None:
    values = np.random.default_rng(0).normal(size=(5, 100))
    assert np.isnan(two_way_t(values, np.zeros(100, dtype=np.int64), overlap=0.5)).all()
    assert np.isnan(two_way_t(values, np.arange(100) // 99, overlap=0.5)).all()  # 99 images and 1


def test_a_hold_out_is_compared_over_repetitions_and_patients() -> None:
    frame = cases()
    row = overall(compare(frame, BEFORE_AFTER))
    wide = frame.pivot(index=["repetition", "case"], columns="stage", values="value")
    matrix = (wide["two"] - wide["one"]).unstack("case")
    patients = pd.factorize(matrix.columns.str[1:].astype(int) // 2)[0]
    expected = two_way_t(matrix.to_numpy(), patients, overlap=2 / 3)
    assert (row["low"], row["high"], row["p"], row["df"]) == pytest.approx(tuple(expected[:4]))
    assert (row["num_planned"], row["overlap"], row["no_p"]) == (6, pytest.approx(2 / 3), "")
    assert (row["num_repetitions"], row["num_images"], row["num_patients"]) == (6, 24, 12)
    assert row["counted_patients"] == 12


def test_a_test_part_is_compared_over_repetitions_with_the_correction() -> None:
    rows = compare(cases(part="test", moves=4), before_after("test"))
    assert set(rows["pathology"]) == {"all", "x", "y"}
    assert rows["overlap"].unique() == pytest.approx([24 / 60])  # of all pathologies
    row, frame = overall(rows), cases(part="test", moves=4).groupby(["stage", "repetition"])["value"].mean()
    expected = corrected_t((frame["two"] - frame["one"]).to_numpy(), overlap=24 / 60)
    assert (row["low"], row["high"], row["p"], row["df"]) == pytest.approx(tuple(expected[:4]))


def test_a_test_part_of_the_same_images_is_compared_as_a_hold_out() -> None:
    held, same = cases(), cases().assign(part="test")  # as a split file may have it
    columns = ["pathology", "difference", "low", "high", "p", "df", "overlap", "fixed_images"]
    found = compare(same, before_after("test"))
    pd.testing.assert_frame_equal(found[columns], compare(held, BEFORE_AFTER)[columns])
    assert found["fixed_images"].all()
    assert not compare(cases(part="test", moves=4), before_after("test"))["fixed_images"].any()


@pytest.mark.parametrize("part", ["hold_out", "test"])
def test_below_ten_counted_patients_there_is_an_interval_and_no_p(part: str) -> None:
    nine, ten = (overall(compare(cases(images=n, part=part), before_after(part))) for n in (18, 20))
    assert (nine["no_p"], ten["no_p"]) == ("n < 10 patients", "")
    assert np.isnan(nine["p"])
    assert nine["low"] < nine["high"]
    # Ten patients, one of them with most of the images, count less.
    many = cases(images=60, part=part)
    many["patient"] = "p" + many["case"].str[1:].astype(int).clip(upper=9).astype(str)
    row = overall(compare(many, before_after(part)))
    assert (row["num_patients"], row["no_p"]) == (10, "n < 10 patients")
    assert row["counted_patients"] == pytest.approx(60**2 / (9 + 51**2))


@pytest.mark.parametrize(
    ("part", "repetitions", "design", "reason", "has_interval"),
    [
        ("hold_out", 6, {"share": 1.0}, "same patients", False),
        ("hold_out", 6, {"planned": 7}, "pairs missing", False),  # 6 of 7 are 86 %
        ("train", 6, {}, "trained on these", False),
        ("validation", 6, {}, "trained on these", False),
        ("train@original", 6, {}, "trained on these", False),
        # Its training patients are the whole pool that the plan knows.
        ("hold_out", 1, {"planned": 1, "share": 1.0}, "n < 5 repetitions", False),
        ("hold_out", 4, {"planned": 4}, "n < 5 repetitions", True),
        ("hold_out", 6, {"donors_differ": True}, "different donors", True),
        ("hold_out", 6, {"divides_patients": True}, "patients also train", True),
        ("hold_out", 5, {"planned": 5}, "", True),
        ("hold_out", 9, {"planned": 10}, "", True),  # nine of ten planned pairs are enough
    ],
)
def test_what_forbids_a_claim_takes_p_or_the_interval_too(
    part: str, repetitions: int, design: dict[str, float], reason: str, has_interval: bool
) -> None:
    frame = cases(part=part, repetitions=repetitions)
    row = overall(compare(frame, before_after(part, **design)))
    assert (row["no_p"], np.isnan(row["p"])) == (reason, reason != "")
    assert (
        row[["low", "high", "df"]].notna().all() == row[["low", "high", "df"]].notna().any() == has_interval
    )
    assert row["difference"] == pytest.approx(0.1, abs=0.05)
    if reason in ("different donors", "patients also train"):
        plain = overall(compare(frame, BEFORE_AFTER))
        assert (row["low"], row["high"]) == (plain["low"], plain["high"])


def test_every_reason_has_a_sentence() -> None:
    assert len(NO_CLAIM) + len(NO_P) == 12
    assert NO_CLAIM.keys().isdisjoint(NO_P)


@pytest.mark.parametrize("part", ["hold_out", "test"])
def test_an_image_undefined_in_one_repetition_leaves_all_of_them(part: str) -> None:
    frame = cases(part=part)
    row = overall(compare(undefined(frame, "c0", stage="two", repetition=3), before_after(part)))
    expected = overall(compare(frame[frame["case"] != "c0"], before_after(part)))
    assert (row["num_lost"], row["num_images"], expected["num_lost"]) == (1, 23, 0)
    assert row["difference"] == pytest.approx(expected["difference"])
    assert row["second_mean"] - row["first_mean"] == pytest.approx(row["difference"])
    if part == "hold_out":  # on test parts the share of test images counts the one that is lost
        assert (row["low"], row["p"]) == pytest.approx((expected["low"], expected["p"]))


def test_more_than_five_percent_of_the_images_lost_allow_no_claim() -> None:
    frame = cases(images=40)
    two = undefined(undefined(frame, "c0"), "c1", repetition=2)
    assert overall(compare(two, BEFORE_AFTER))["no_p"] == ""
    three = overall(compare(undefined(two, "c9"), BEFORE_AFTER))
    assert (three["no_p"], three["num_lost"], np.isnan(three["low"])) == ("images lost", 3, True)


@pytest.mark.parametrize(("part", "lost"), [("hold_out", 1), ("test", 0)])
def test_an_image_that_lacks_a_repetition_leaves_a_hold_out_but_not_test_parts(part: str, lost: int) -> None:
    frame = cases(part=part)
    frame = frame[(frame["case"] != "c0") | (frame["repetition"] < 6)]
    row = overall(compare(frame, before_after(part)))
    assert (row["num_lost"], row["num_images"]) == (lost, 24 - lost)


def test_images_that_are_undefined_everywhere_give_a_row_without_a_difference() -> None:
    row = overall(compare(cases().assign(value=np.nan), BEFORE_AFTER))
    assert (row["num_images"], row["num_lost"], row["no_p"]) == (0, 24, "images lost")
    assert np.isnan(row["difference"])


def test_values_of_one_side_only_are_counted() -> None:
    frame = cases(repetitions=10)
    frame = frame[~((frame["stage"] == "two") & (frame["repetition"] == 4))]
    row = overall(compare(frame, before_after(planned=10)))
    assert (row["num_repetitions"], row["num_unpaired"], row["no_p"]) == (9, 24, "")


def test_swapped_sides_negate_the_difference() -> None:
    there = overall(compare(cases(), BEFORE_AFTER))
    swapped = replace(BEFORE_AFTER, first=BEFORE_AFTER.second, second=BEFORE_AFTER.first)
    back = overall(compare(cases(), swapped))
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["low"] == pytest.approx(-back["high"])
    assert there["p"] == pytest.approx(back["p"])


def test_the_order_of_rows_changes_nothing() -> None:
    frame = cases()
    shuffled = frame.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(compare(frame, BEFORE_AFTER), compare(shuffled, BEFORE_AFTER))


def test_nothing_in_common_gives_no_rows() -> None:
    nowhere = replace(BEFORE_AFTER, second=replace(BEFORE_AFTER.second, arm="b"))
    assert len(compare(cases(), nowhere)) == 0


def test_a_pathology_called_all_does_not_stand_for_all_images() -> None:
    frame = cases(images=30)
    usual = compare(frame, BEFORE_AFTER).set_index("pathology")
    # As where a section has no pathologies, beside one that has.
    renamed = compare(frame.replace({"pathology": {"y": "all"}}), BEFORE_AFTER).set_index("pathology")
    pd.testing.assert_frame_equal(renamed, usual.loc[["all", "x"]])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    # A comparison that allows no claim counts: 3 times the smallest, 2 times the next.
    adjusted = holm([0.5, float("nan"), 0.01])
    assert adjusted[::2] == pytest.approx([1.0, 0.03])
    assert np.isnan(adjusted[1])
    assert holm([]) == []


def test_seeds_nested_in_splits_are_averaged_and_their_noise_is_measured() -> None:
    random, splits = np.random.default_rng(4), np.repeat(np.arange(6), 4)
    of_samples, noise = random.normal(0, 1.0, 6), random.normal(0, 3.0, 24)
    differences = of_samples[splits] + noise
    means = differences.reshape(6, 4).mean(axis=1)
    assert by_split(differences, splits) == pytest.approx(means)
    s2_seed = differences.reshape(6, 4).var(axis=1, ddof=1).mean()
    expected = max(4 / 9, 1 - s2_seed / (4 * means.var(ddof=1)))
    assert measured_of_samples(differences, splits) == pytest.approx(expected)
    assert measured_of_samples(of_samples[splits], splits) == pytest.approx(1.0)  # nothing is due to seeds
    assert measured_of_samples(noise, splits) >= 4 / 9
    assert measured_of_samples(differences, np.arange(24)) == 4 / 9  # a seed a split: the calibrated part


def test_a_comparison_of_splits_with_seeds_is_one_of_their_means() -> None:
    frame = cases(repetitions=12)
    row = compare(frame, before_after(planned=12, seeds=2)).iloc[0]
    one, two = (
        frame[frame["stage"] == stage].pivot_table(index="repetition", columns="case", values="value")
        for stage in ("one", "two")
    )
    owners = frame.drop_duplicates("case").set_index("case")["patient"]
    patients = pd.factorize(owners[one.columns], sort=True)[0]
    differences, splits = (two - one).to_numpy(), np.repeat(np.arange(6), 2)
    overlap = 1.5 * measured_of_samples(differences.mean(axis=1), splits)
    expected = two_way_t(by_split(differences, splits), patients, overlap=overlap)
    assert (row["low"], row["high"], row["p"]) == pytest.approx(tuple(expected[:3]))
    assert (row["num_repetitions"], row["overlap"]) == (12, pytest.approx(overlap))
    few = compare(frame[frame["repetition"] <= 8], before_after(planned=8, seeds=2))
    assert set(few["no_p"]) == {"n < 5 repetitions"}  # four splits
    assert "those that share a split count as one" in NO_P["n < 5 repetitions"]  # since eight are paired


@pytest.mark.parametrize("part", ["hold_out", "test"])
def test_a_split_that_lacks_a_seed_counts_like_the_others(part: str) -> None:
    frame = cases(repetitions=20, part=part, moves=5 if part == "test" else 0)
    frame["value"] += 0.4 * (frame["repetition"] == 19) * (frame["stage"] == "two")
    lacking = frame[frame["repetition"] != 20]
    row = compare(lacking, before_after(part, planned=20, seeds=2)).iloc[0]
    means = lacking.pivot_table(index="repetition", columns="stage", values="value")
    of_splits = means.groupby((means.index - 1) // 2).mean()
    assert (row["first_mean"], row["second_mean"]) == pytest.approx((*of_splits.mean(),))
    assert row["difference"] == pytest.approx(of_splits["two"].mean() - of_splits["one"].mean())
    assert row["difference"] == pytest.approx((row["low"] + row["high"]) / 2)
    assert row["num_repetitions"] == 19


@pytest.mark.parametrize(("over_patients", "contrasts"), [(0.0, 1), (0.4, 1), (0.4, 3)])
def test_the_smallest_supportable_difference_is_supported_four_times_in_five(
    over_patients: float, contrasts: int
) -> None:
    known = Measured(over_repetitions=1.0, over_patients=over_patients, overlap=0.5, patients=200.0)
    smallest = supportable(known, repetitions=20, contrasts=contrasts)
    random = np.random.default_rng(6)
    sample = random.chisquare(19, 20_000) / 19
    variance = sample * (1 / 20 + 0.5) + over_patients
    df = variance**2 / ((variance - over_patients) ** 2 / 19 + over_patients**2 / 199)
    means = smallest + random.normal(0, np.sqrt(0.55 + over_patients), 20_000)
    supported = means > stats.t.ppf(1 - 0.025 / contrasts, df) * np.sqrt(variance)
    assert supported.mean() == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(("repetitions", "contrasts", "power"), [(5, 1, 0.79), (5, 3, 0.76), (25, 3, 0.796)])
def test_with_few_repetitions_it_is_supported_a_little_less_often(
    repetitions: int, contrasts: int, power: float
) -> None:
    known = Measured(over_repetitions=1.0, over_patients=0.0, overlap=0.5, patients=200.0)
    smallest = supportable(known, repetitions=repetitions, contrasts=contrasts)
    df, error = repetitions - 1, np.sqrt(1 / repetitions + 0.5)
    beyond = stats.nct.sf(stats.t.ppf(1 - 0.025 / contrasts, df), df, smallest / error)
    assert beyond == pytest.approx(power, abs=0.005)


def test_what_is_supportable_is_unknown_without_repetitions_or_variation() -> None:
    assert np.isnan(supportable(Measured(1.0, 0.0, 0.5, 9.0), repetitions=1))
    assert np.isnan(supportable(Measured(0.0, 0.0, 0.5, 9.0), repetitions=5))
