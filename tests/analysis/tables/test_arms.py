"""All arms on a hold-out: the numbers of the other tables, marks, and what may not be concluded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import STUDY, StudyBuilder, contents_of
from xferlab.analysis import StudyResults, load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.estimates import holm
from xferlab.analysis.tables.arms import arms_tables
from xferlab.analysis.tables.model import Table, interval, p_value
from xferlab.analysis.tables.overview import training_table
from xferlab.analysis.tables.rendering import write_table
from xferlab.records import codec, layout
from xferlab.records.store import Store

ARMS = ("baseline", "frozen", "few", "other")
LOST = {f"frozen/{stage}/r{repetition:02d}" for stage in ("general", "portable") for repetition in (1, 2)}


def study(folder: Path, **changes: Any) -> StudyResults:
    results = contents_of(folder, **{"arms": ARMS, "noise": 0.05, **changes}).results
    trials = results.trials
    trials["train_patients"] = 50 + trials["repetition"]
    few = (trials["stage"] == "portable") & (trials["arm"] == "few")
    trials.loc[few, "num_train"] = 5 + trials["repetition"]
    trials.loc[few, "train_patients"] = 4
    return results


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return Contents(study(tmp_path_factory.mktemp("arms"), repetitions=5))


def portable(contents: Contents) -> Table:
    (table,) = (table for table in arms_tables(contents) if "stage portable" in table.title)
    return table


def labels(table: Table) -> list[tuple[str, str]]:
    return [(group.labels[0], group.labels[2]) for group in table.groups]


def test_every_arm_and_pathology_has_a_line(contents: Contents, tmp_path: Path) -> None:
    table = portable(contents)
    assert [name for name, _ in labels(table)] == ["baseline", "frozen", "few (13 % of the labels)", "other"]
    for group in table.groups:
        assert [row.label for row in group.rows] == ["all", "covid19", "normal", "pathological"]
    assert table.groups[0].rows[0].cells[3:] == ("–",) * 3
    write_table(table, tmp_path)


def test_a_line_says_what_the_other_tables_say(contents: Contents) -> None:
    a = contents.aggregated
    own = a[(a["arm"] == "frozen") & (a["stage"] == "portable") & (a["part"] == "hold_out")]
    row = own[(own["metric"] == "DICE") & (own["pathology"] == "normal")].iloc[0]
    cells = portable(contents).groups[1].rows[2].cells
    assert cells[0] == "6 (6)"
    assert cells[1] == f"{row['mean']:.4f} ± {row['sd_repetitions']:.4f} (± {row['sd_images']:.4f})"


def test_p_is_adjusted_over_the_arms(contents: Contents) -> None:
    table = portable(contents)
    own = table.data[(table.data["metric"] == "DICE") & (table.data["pathology"] == "all")].iloc[1:]
    assert list(own["arm"]) == ["frozen", "few", "other"]
    assert list(own["p_holm_arms"]) == pytest.approx(holm(list(own["p"])))
    frozen = (interval(*own.iloc[0][["low", "high"]]), p_value(own.iloc[0]["p_holm_arms"]))
    assert table.groups[1].rows[0].cells[4:] == frozen


def test_arms_that_share_all_trials_are_adjusted_for_once(tmp_path: Path) -> None:
    before = portable(contents_of(tmp_path, arms=ARMS, noise=0.05, repetitions=5)).data
    store, name = Store.open(tmp_path), layout.StudyFiles(STUDY).plan
    plan = codec.read_json(store, name)
    assert plan is not None
    plan["arms"]["twin"] = plan["arms"]["other"]
    for trial in plan["trials"]:
        for arms in (trial["arms"], *(evaluation["arms"] for evaluation in trial["evaluations"])):
            arms += ["twin"] if "other" in arms else []
        trial["names"] += [n.replace("other/", "twin/") for n in trial["names"] if n.startswith("other/")]
    codec.write_json(store, name, plan)
    after = portable(Contents(load_study(tmp_path, STUDY))).data
    adjusted = [data.set_index(["arm", "pathology", "metric"])["p_holm_arms"] for data in (before, after)]
    pd.testing.assert_series_equal(adjusted[1].drop("twin", level="arm"), adjusted[0])
    assert adjusted[1]["other", "all", "DICE"] == adjusted[1]["twin", "all", "DICE"]


def test_what_arms_were_trained_on_is_counted(contents: Contents) -> None:
    trained = [group.labels[1] for group in portable(contents).groups]
    assert trained[::2] == ["53.0 [51–55] (60)", "4 (8.0 [6–10])"]
    table = training_table(contents.results)
    (stage,) = (group for group in table.groups if group.labels == ("portable",))
    assert [(row.label, *row.cells) for row in stage.rows] == [
        ("baseline, frozen, other", "5 of 5", "53.0 [51–55]", "60", "20", "5 of 5"),
        ("few", "5 of 5", "4", "8.0 [6–10]", "20", "5 of 5"),
    ]
    few = table.data[(table.data["arm"] == "few") & (table.data["stage"] == "portable")].iloc[0]
    assert (few["images_mean"], few["images_min"], few["images_max"]) == (8, 6, 10)


@pytest.mark.component
def test_few_repetitions_and_patients_carry_no_test_and_no_claim(tmp_path: Path) -> None:
    table = portable(Contents(study(tmp_path, repetitions=3, images=12)))
    notes = " ".join(table.notes)
    assert "n < 5 repetitions: no p, since at least 5 paired repetitions are needed, and those" in notes
    assert "Of 3 intervals about 0.15 miss by chance alone" in notes
    everyone, one = table.groups[1].rows[0].cells, table.groups[1].rows[1].cells
    assert everyone[4].startswith("[")
    assert everyone[5] == one[5] == "n < 5 repetitions"
    assert one[1].endswith("(n < 5 patients)")
    by_few = table.data[table.data["num_patients"] < 5]
    assert by_few[["sd_images", "p", "p_holm_arms"]].isna().all(axis=None)
    assert not np.isnan(table.data["difference"]).all()


def test_an_incomplete_study_claims_nothing(tmp_path: Path) -> None:
    table = portable(Contents(study(tmp_path, repetitions=5, missing={"frozen/portable/r02"})))
    frozen, few = (group.rows[0].cells for group in table.groups[1:3])
    assert frozen[3] != "–"
    assert frozen[4:] == ("–", "pairs missing")
    assert few[4].startswith("[")
    (note,) = (note for note in table.notes if note.startswith("pairs missing"))
    assert note.endswith("no p, since fewer than 90 % of the planned pairs of repetitions are complete.")


def test_caption_and_cells_say_what_may_be_concluded(contents: Contents) -> None:
    caption = " ".join(portable(contents).caption)
    assert "other patients like these, another sample of training patients from the same pool, and" in caption
    assert "Patients in the pool: general 80, portable 80; nothing is said of other pools." in caption
    assert "Where both sides start from one donor for all repetitions (stage donor), another donor" in caption
    assert "Exploratory" in caption
    few = portable(contents).groups[1].rows[1].cells  # a pathology of few patients
    assert few[4].startswith("[")
    assert few[5] == "n < 10 patients"


def test_an_arm_without_a_result_has_a_line_that_says_so(tmp_path: Path) -> None:
    table = portable(Contents(study(tmp_path, repetitions=2, missing=LOST | {"other/portable/r01"})))
    few = ("few (11 % of the labels)", "2 of 2")
    assert labels(table) == [("baseline", "2 of 2"), ("frozen (failed)", "0 of 2"), few, ("other", "1 of 2")]
    lost = table.groups[1]
    assert lost.labels[1] == "–"
    assert [(row.label, *row.cells) for row in lost.rows] == [("all", *["–"] * len(table.columns))]
    own = table.data[table.data["arm"] == "frozen"]
    assert list(own["metric"]) == ["DICE", "HD95_px"]
    assert own[["num_repetitions", "num_planned"]].drop_duplicates().to_numpy().tolist() == [[0, 2]]
    assert own[["mean", "sd_images", "difference"]].isna().all(axis=None)
    assert table.data["num_images"].dtype == "int64"
    write_table(table, tmp_path / "tables")


def test_states_of_an_arm_without_a_result_are_all_named(tmp_path: Path) -> None:
    folder = StudyBuilder(tmp_path, arms=ARMS, missing=LOST, pixels=False, repetitions=2).write()
    plan = load_study(folder, STUDY).plan["trials"]
    (last,) = (trial["trial_id"] for trial in plan if trial["names"] == ["frozen/portable/r02"])
    Store.open(folder).delete(layout.TrialFiles(last).failure)
    table = portable(Contents(load_study(folder, STUDY)))
    assert labels(table)[1] == ("frozen (failed, not complete)", "0 of 2")


def test_a_lost_baseline_has_a_line_too(tmp_path: Path) -> None:
    lost = {name.replace("frozen", "baseline") for name in LOST}
    table = portable(Contents(study(tmp_path, repetitions=2, missing=lost)))
    assert labels(table)[0] == ("baseline (failed)", "0 of 2")
    assert all(row.cells[3:] == ("–",) * 3 for group in table.groups for row in group.rows)


def test_arms_that_are_not_measured_here_have_no_line(tmp_path: Path) -> None:
    seen = {"few/portable/portable.hold_out"}
    results = study(tmp_path, repetitions=2, missing=LOST, own_evaluations=True, seen=seen)
    for trial in results.plan["trials"]:
        if trial["stage"] == "portable" and trial["arms"] == ["other"]:
            trial["evaluations"] = [one for one in trial["evaluations"] if one["part"] != "hold_out"]
    results = replace(results, cases=results.cases[results.cases["arm"] != "other"])
    assert [name for name, _ in labels(portable(Contents(results)))] == ["baseline", "frozen (failed)"]
