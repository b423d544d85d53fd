"""Metrics of sets of cases against scikit-learn, a jackknife with loops, and the tables of a report."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab import analysis
from xferlab.analysis.comparison import Comparison, compare
from xferlab.analysis.design import Design, Side
from xferlab.analysis.estimates import overlap_of
from xferlab.analysis.results import EvaluationSet
from xferlab.errors import UsageError
from xferlab.metrics.measuring import METRICS
from xferlab.metrics.metric import Metric
from xferlab.metrics.sets import MACRO

AUC = Metric(
    name="AUC_SICK",
    label="AUC",
    better="higher",
    source="Bradley 1997",
    prominence="main",
    definition="Area under the ROC curve.",
    undefined="NaN without cases of both classes.",
    computed_by="roc_auc",
    made_of=("SICK", "P_SICK"),
)
DICE = next(metric for metric in METRICS if metric.name == "DICE")
JOINED = ("arm", "stage", "section", "part", "pathology", "metric")


COLUMNS = (*JOINED, "repetition", "case", "name", "patient", "value")


def cases(*, repetitions: int = 6, sick: float = 0.5, part: str = "hold_out") -> pd.DataFrame:
    """Two stages, two images a patient; the second tells the sick from the healthy better."""
    random, images = np.random.default_rng(4), 60
    truth = (np.arange(images) // 2 < sick * images / 2).astype(float)
    rows = []
    for (number, stage), repetition in product(enumerate(("one", "two"), start=1), range(1, repetitions + 1)):
        scores = random.normal(number * truth, 1.5).round(1)
        for image, values in enumerate(zip(truth, scores, strict=True)):
            place, case = (
                ("a", stage, "d", part, "xy"[image % 2]),
                (f"c{image}", f"{image}.png", f"p{image // 2}"),
            )
            for name, value in zip(AUC.made_of, values, strict=True):
                rows.append((*place, name, repetition, *case, value))
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame.attrs["sets"] = [AUC.to_json()]
    return frame


def scores(frame: pd.DataFrame, stage: str, repetition: int) -> pd.DataFrame:
    rows = frame[(frame["stage"] == stage) & (frame["repetition"] == repetition)]
    return rows.pivot(index=["case", "patient"], columns="metric", values="value").reset_index()


def area(rows: pd.DataFrame) -> float:
    return float(roc_auc_score(rows["SICK"], rows["P_SICK"]))


def comparison(part: str = "hold_out") -> Comparison:
    first, second = (Side("a", EvaluationSet(stage, "d", part)) for stage in ("one", "two"))
    return Comparison(first, second, Design(planned=6, share=0.6, num_train=60))


def row_of(frame: pd.DataFrame, part: str = "hold_out") -> pd.Series:
    rows = compare(frame, comparison(part), sets=(AUC,))
    assert set(rows["metric"]) == {"AUC_SICK"}
    return rows[rows["pathology"] == "all"].iloc[0]


def test_a_repetition_gives_one_value_and_images_have_no_deviation() -> None:
    frame = cases()
    table = analysis.aggregate(frame, planned={("a", "one"): 6, ("a", "two"): 6})
    assert set(table["metric"]) == {"AUC_SICK"}
    row = table[(table["stage"] == "two") & (table["pathology"] == "all")].iloc[0]
    values = [area(scores(frame, "two", repetition)) for repetition in range(1, 7)]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["sd_repetitions"] == pytest.approx(np.std(values, ddof=1))
    assert np.isnan(row["sd_images"])
    counts = ("num_repetitions", "num_planned", "num_images", "num_patients", "num_values", "num_undefined")
    assert [row[name] for name in counts] == [6, 6, 60, 30, 360, 0]


def test_a_case_without_one_of_the_parts_is_left_out_and_counted() -> None:
    frame = cases(repetitions=2)
    gone = (frame["case"] == "c3") & (frame["metric"] == "P_SICK") & (frame["stage"] == "one")
    changed = frame.assign(value=frame["value"].mask(gone))
    row = analysis.aggregate(changed).query("stage == 'one' and pathology == 'all'").iloc[0]
    left = frame[frame["case"] != "c3"]
    assert row["mean"] == pytest.approx(np.mean([area(scores(left, "one", j)) for j in (1, 2)]))
    assert (row["num_values"], row["num_undefined"]) == (120, 2)


def test_metrics_of_cases_are_as_without_metrics_of_sets() -> None:
    frame = cases()
    dice = frame[frame["metric"] == "P_SICK"].assign(metric="DICE")
    both = pd.concat([frame, dice], ignore_index=True)
    both.attrs["sets"] = [AUC.to_json()]
    alone, table = (analysis.aggregate(rows).set_index(list(JOINED)) for rows in (dice, both))
    pd.testing.assert_frame_equal(table.query("metric == 'DICE'"), alone, check_like=True)


def test_a_parquet_file_keeps_what_aggregate_needs_and_without_it_rows_are_refused(tmp_path: Path) -> None:
    area, frame = replace(AUC, made_of=("IS_SICK", "P_SICK")), cases(repetitions=2)
    frame = frame.replace({"metric": {"SICK": "IS_SICK"}})  # as `metrics.classes` names it
    frame.attrs["sets"] = [area.to_json()]
    frame.attrs["planned"] = {"a/one": 3, "a/two/d/hold_out": 4}
    table = analysis.aggregate(frame)
    assert dict(zip(table["stage"], table["num_planned"], strict=True)) == {"one": 3, "two": 4}
    frame.to_parquet(tmp_path / "cases.parquet")
    pd.testing.assert_frame_equal(analysis.aggregate(pd.read_parquet(tmp_path / "cases.parquet")), table)
    frame.to_csv(tmp_path / "cases.csv", index=False)
    bare = pd.read_csv(tmp_path / "cases.csv")
    with pytest.raises(UsageError, match=r"are made of \(IS_SICK\), .* Give sets=results\.metrics\.of_sets"):
        analysis.aggregate(bare)
    given = {"sets": [area], "planned": {("a", "one"): 3, ("a", "two"): 4}}
    pd.testing.assert_frame_equal(analysis.aggregate(bare, **given), table)
    assert set(analysis.aggregate(bare, sets=())["metric"]) == set(area.made_of)


def test_the_difference_on_a_hold_out_is_a_jackknife_written_with_loops() -> None:
    frame = cases()
    row = row_of(frame)
    patients = sorted(frame["patient"].unique())

    def difference(rows: pd.DataFrame) -> list[float]:
        return [area(scores(rows, "two", j)) - area(scores(rows, "one", j)) for j in range(1, 7)]

    by_repetition = difference(frame)
    d, num = np.mean(by_repetition), len(patients)
    pseudo = [num * d - (num - 1) * np.mean(difference(frame[frame["patient"] != p])) for p in patients]
    v_r = np.var(by_repetition, ddof=1) * (1 / 6 + overlap_of(0.6))
    v_p = np.var(pseudo, ddof=1) / num
    df = (v_r + v_p) ** 2 / (v_r**2 / 5 + v_p**2 / (num - 1))
    assert row["difference"] == pytest.approx(d)
    assert row["df"] == pytest.approx(df)
    assert row["p"] == pytest.approx(2 * stats.t.sf(d / (v_r + v_p) ** 0.5, df))
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, df, d, (v_r + v_p) ** 0.5))
    assert (row["num_images"], row["num_patients"], row["no_p"]) == (60, 30, "")


def test_test_parts_take_the_corrected_t_over_repetitions() -> None:
    frame = cases(part="test")
    frame["case"] += " of repetition " + frame["repetition"].astype(str)
    row = row_of(frame, "test")
    values = [area(scores(frame, "two", j)) - area(scores(frame, "one", j)) for j in range(1, 7)]
    error = (np.var(values, ddof=1) * (1 / 6 + 60 / 60)) ** 0.5
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(np.mean(values)) / error, 5))


def test_fewer_than_ten_patients_of_a_class_give_no_p() -> None:
    assert row_of(cases(sick=0.3))["no_p"] == "n < 10 patients"  # 9 of 30
    assert row_of(cases(sick=1 / 3))["no_p"] == ""


def test_a_patient_with_many_of_the_images_makes_patients_few_as_in_metrics_of_cases() -> None:
    frame = cases()
    number = frame["case"].str.removeprefix("c").astype(int)
    one = frame.assign(patient=frame["patient"].mask((number < 12) | (number >= 48), "p0"))
    row = row_of(one)  # 10 patients of each class
    assert row["counted_patients"] == pytest.approx(60**2 / (24**2 + 18 * 2**2))
    assert row["no_p"] == "n < 10 patients"


def test_a_class_that_one_patient_holds_leaves_no_interval() -> None:
    row = row_of(cases(sick=1 / 30))
    assert np.isnan(row[["low", "high", "p"]].astype(float)).all()
    assert row["no_p"] == "undefined"


def test_patients_of_a_class_are_counted_over_all_test_parts() -> None:
    """Each repetition tests other images: the first one has few patients of the class."""
    frame = cases(part="test")
    number = frame["case"].str.removeprefix("c").astype(int)
    tested = (number // 2) % 3 == frame["repetition"] % 3
    assert row_of(frame[tested], "test")["no_p"] == ""
    few = frame[tested & ((number >= 30) | (number < 18))]  # 9 patients of the class over all repetitions
    assert row_of(few, "test")["no_p"] == "n < 10 patients"


def without_sick(frame: pd.DataFrame, *repetitions: int) -> pd.DataFrame:
    """The cases where the sick ones of some repetitions have another truth, so that there is one kind."""
    changed = frame["repetition"].isin(repetitions) & (frame["metric"] == "SICK") & (frame["stage"] == "two")
    return frame.assign(value=frame["value"].mask(changed, 0.0))


def test_a_repetition_without_a_value_is_counted_as_undefined_and_is_no_pair() -> None:
    frame = without_sick(cases(repetitions=10), 4)
    table = analysis.aggregate(frame).query("stage == 'two' and pathology == 'all'").iloc[0]
    others = [area(scores(frame, "two", j)) for j in range(1, 11) if j != 4]
    assert table["mean"] == pytest.approx(np.mean(others))
    assert (table["num_values"], table["num_undefined"]) == (600, 60)
    sides = comparison()
    ten = Comparison(sides.first, sides.second, Design(planned=10, share=0.6, num_train=60))
    row = compare(frame, ten, sets=(AUC,)).query("pathology == 'all'").iloc[0]
    assert (row["num_repetitions"], row["no_p"]) == (9, "")
    pairs = [j for j in range(1, 11) if j != 4]
    assert row["difference"] == pytest.approx(
        np.mean([area(scores(frame, "two", j)) - area(scores(frame, "one", j)) for j in pairs])
    )
    row = compare(without_sick(frame, 5), ten, sets=(AUC,)).query("pathology == 'all'").iloc[0]
    assert (row["num_repetitions"], row["no_p"]) == (8, "undefined")
    assert np.isnan(row[["low", "high", "p"]].astype(float)).all()


def test_a_metric_whose_values_are_all_undefined_allows_no_claim() -> None:
    frame = cases()
    gone = frame["metric"] == "P_SICK"
    row = row_of(frame.assign(value=frame["value"].mask(gone)))
    assert (row["num_repetitions"], row["num_lost"], row["no_p"]) == (0, 60, "images lost")
    assert np.isnan(row["difference"])
    table = analysis.aggregate(frame.assign(value=frame["value"].mask(gone))).query("pathology == 'all'")
    assert table["mean"].isna().all()
    assert (table["num_undefined"] == 360).all()


def test_a_metric_over_classes_is_the_mean_of_their_differences() -> None:
    well = replace(AUC, name="AUC_well", made_of=("WELL", "P_WELL"), of="well")
    sick = replace(AUC, name="AUC_sick", of="sick")
    macro = replace(AUC, name="AUC", computed_by=MACRO, made_of=())
    frame = cases()
    names = {"SICK": "WELL", "P_SICK": "P_WELL"}
    noise = np.random.default_rng(2).normal(0, 1, len(frame))
    other = frame.assign(metric=frame["metric"].map(names))
    other["value"] = np.where(other["metric"] == "WELL", 1 - frame["value"], noise - frame["value"])
    rows = compare(pd.concat([frame, other]), comparison(), sets=(macro, well, sick))
    rows = rows[rows["pathology"] == "all"].set_index("metric")
    single = rows.loc[["AUC_well", "AUC_sick"]]
    assert rows.loc["AUC", "difference"] == pytest.approx(single["difference"].mean())
    assert rows.loc["AUC", "low"] > single["low"].min()
    alone = compare(frame, comparison(), sets=(macro, well, sick)).query("pathology == 'all'")
    assert set(alone["metric"]) == {"AUC", "AUC_sick"}
    twice = alone.set_index("metric")
    assert twice.loc["AUC", "p"] == twice.loc["AUC_sick", "p"]


class Diagnosis(StudyBuilder):
    """A study whose images are sick or healthy; portable networks tell them apart better."""

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        if metric == "SICK":
            return float(image % 4 == 0)
        if metric == "P_SICK":
            noise = np.random.default_rng([image, repetition, len(stage), len(arm)]).normal()
            return float((image % 4 == 0) + (0.2 if stage == "portable" else 1.0) * noise)
        return super().value(arm=arm, stage=stage, repetition=repetition, image=image, metric=metric)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    built = Diagnosis(tmp_path / "storage", pixels=False, images=48, compare_to=None, metrics=(AUC, DICE))
    return built.write()


def test_a_report_shows_the_metric_and_not_what_it_is_made_of(storage: Path, tmp_path: Path) -> None:
    analysis.write_report(storage, STUDY, tmp_path)
    texts = [path.read_text() for path in (tmp_path / "tables").glob("*.csv")]
    assert any("AUC_SICK" in text for text in texts)
    assert not any("P_SICK" in text for text in texts)
