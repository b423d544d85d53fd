"""Tables of metrics and times: shape, counts, the paper's rows, and what stands in place of a deviation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.conftest import contents_of
from xferlab.analysis import StudyResults, aggregate
from xferlab.analysis.contents import Contents
from xferlab.analysis.selection import seen_by_parents
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.overview import pooled, times, times_tables
from xferlab.metrics.measuring import METRICS


def named(contents: Contents, name: str) -> Table:
    tables = (table for hold_out in (False, True) for table in metrics_tables(contents, hold_out=hold_out))
    return next(table for table in tables if table.name == name)


def cells(table: Table, arm: str, pathology: str, label: str) -> tuple[str, ...]:
    (group,) = [group for group in table.groups if group.labels[:2] == (pathology, arm)]
    (row,) = [row for row in group.rows if row.label == label]
    return row.cells


def arms(table: Table) -> list[str]:
    return [group.labels[1] for group in table.groups]


def test_a_hold_out_by_hand_beside_the_paper(contents: Contents) -> None:
    table = named(contents, "portable_hold_out")
    assert table.columns == ("ACC", "AUC", "DICE", "JACC", "PREC", "RECA", "F1", "SENS", "SPEC")
    assert set(cells(table, "baseline", "all", "Mean")) == {"0.9285"}  # 0.9 + 0.02 + 0.0085
    assert set(cells(table, "baseline", "all", "SD over repetitions")) == {"0.0100"}
    assert cells(table, "vidal2021, Table 6", "covid19", "SD (over what is not said)")[2] == "0.0241"
    assert "baseline/portable/r04" in " ".join(table.notes)
    (group,) = [group for group in table.groups if group.labels[:2] == ("all", "baseline")]
    assert group.labels[2:] == ("3 of 4", "18", "18")


def test_the_papers_row_stands_with_its_note_beside_a_test_part(contents: Contents) -> None:
    table = named(contents, "general_test")
    assert cells(table, "vidal2021, Table 3", "all", "SD (25 repetitions)")[7] == "0.2528"
    assert "no single confusion matrix" in " ".join(table.notes)


def test_shared_trials_stand_once_under_all_their_arms(contents: Contents) -> None:
    table = named(contents, "donor_mri_test")
    assert arms(table) == ["baseline, frozen"]
    assert table.groups[0].rows[1].label == "SD over repetitions (1 repetition)"
    assert sorted(table.data["arm"].unique()) == ["baseline", "frozen"]


def test_undefined_values_have_a_row_and_metrics_without_values_a_sentence(contents: Contents) -> None:
    table = named(contents, "portable_hold_out_further")
    undefined = cells(table, "frozen", "all", "undefined, of 72")
    assert undefined[table.columns.index("Bridges")] == "36"
    assert "HD95 (mm)" not in table.columns
    assert "undefined for every image: HD95 (mm)" in " ".join(table.notes)


@pytest.mark.component
def test_few_patients_get_a_word_in_place_of_a_deviation(tmp_path: Path) -> None:
    notes = {"note": "Study note", "section_notes": {"portable": "Pathology is confounded with source"}}
    contents = contents_of(tmp_path, images=12, repetitions=2, simulated="portable", **notes)
    table = named(contents, "general_portable_hold_out")
    assert cells(table, "baseline", "normal", "SD: n < 5 patients") == ("–",) * 9
    assert cells(table, "baseline", "all", "SD over repetitions") != ("–",) * 9
    few = table.data[table.data["num_patients"] < 5]
    assert few[["sd_repetitions", "sd_images"]].isna().all(axis=None)
    assert set(few["deviation_withheld"]) == {"n < 5 patients"}
    said = " ".join(table.notes)
    assert "portable: Pathology is confounded with source. " in said
    assert "29 of 29 evaluated images are simulated (portable)." in said
    assert "Study note." in said


@pytest.mark.component
def test_what_is_done_to_images_is_said(tmp_path: Path) -> None:
    contents = contents_of(tmp_path, images=6, repetitions=1)
    steps = {"crop_black_band": True, "degrade_to": 128, "equalise": True, "gamma": 0.5}
    contents.results.plan["data"]["portable"] |= steps
    contents.results.plan["arms"]["frozen"]["steps"] = {"portable": {"degrade_to": 64, "gamma": 0.5}}
    said = " ".join(named(contents, "general_portable_hold_out").notes)
    assert "portable: black bands at the borders of images are cut off (arm frozen: not so)." in said
    reduced = "px where they are larger, as a control"
    assert f"portable: images are reduced to 128 {reduced} (arm frozen: not so)." in said
    assert f"portable, arm frozen: images are reduced to 64 {reduced}." in said
    assert "portable: the histogram of each image is equalised, then gamma 0.5 (arm frozen: not so). " in said
    assert "portable, arm frozen: gamma 0.5." in said


@pytest.mark.component
def test_sets_that_a_parent_may_have_seen_enter_no_table(tmp_path: Path) -> None:
    contents = contents_of(tmp_path, repetitions=2, seen={"frozen/portable/portable.test"})
    cases = contents.results.cases
    assert cases["parent_may_have_seen"].sum() == 2 * 18 * len(METRICS)
    assert arms(named(contents, "portable_test")) == ["baseline", "vidal2021, Table 4"]
    assert seen_by_parents(contents.results) == ("frozen/portable on portable.test: 2 of 2 repetitions",)
    assert len(aggregate(cases)) > len(contents.aggregated)


@pytest.mark.component
def test_arms_that_share_a_trial_and_measure_it_apart_stand_apart(tmp_path: Path) -> None:
    contents = contents_of(tmp_path, own_evaluations=True, repetitions=1, images=6)
    donor = contents.results.cases.query("stage == 'donor'")
    assert donor.groupby("arm", observed=True).size().to_dict() == dict.fromkeys(
        ("baseline", "frozen"), 6 * len(METRICS)
    )
    assert arms(named(contents, "donor_mri_test")) == ["baseline", "frozen"]


# --- times -------------------------------------------------------------------------------------------------


def test_epochs_are_pooled_over_repetitions(results: StudyResults) -> None:
    frame = times(results).set_index(["arm", "stage", "quantity"])
    pool = [1e3 * (1 + 0.1 * e) for last in (5, 6, 5) for e in range(1, last + 1)]
    row = frame.loc[("baseline", "portable", "train_epoch")]
    assert row[["mean_ms", "sd_ms", "n"]].tolist() == pytest.approx([np.mean(pool), np.std(pool, ddof=1), 16])
    total = frame.loc[("baseline", "portable", "repetition")]
    assert total[["mean_ms", "sd_ms", "n"]].tolist() == [20_000, 10_000, 3]


def test_pooled_deviation_is_that_of_all_images() -> None:
    random = np.random.default_rng(0)
    groups = [random.normal(4 + g, 1 + g, size=10 + g) for g in range(3)]
    stats = pd.DataFrame([(len(g), g.mean(), g.std(ddof=1)) for g in groups], columns=["n", "mean", "sd"])
    together = np.concatenate(groups)
    expected = (together.mean(), together.std(ddof=1), 33)
    assert pooled(stats["n"], stats["mean"], stats["sd"]) == pytest.approx(expected)


def test_the_table_of_times_states_units_counts_machine_and_the_paper(contents: Contents) -> None:
    (table,) = times_tables(contents)
    assert table.columns == (
        *("Training epoch (ms)", "Validation epoch (ms)", "Whole repetition (s)", "Network, per image (ms)"),
    )
    groups = {group.labels: {row.label: row.cells for row in group.rows} for group in table.groups}
    assert groups["portable", "baseline"]["n"] == ("16 epochs", "16 epochs", "3 repetitions", "60 images")
    paper = "vidal2021, Table 7 and Section 4.3"
    assert groups["general", paper]["Mean"] == ("35,413.3", "3,910.1", "2,332.8", "–")
    assert groups["portable", paper]["SD"][-1] == "0.286"
    assert "Measured on: Test CPU <1>." in table.notes
    named = [contents.numbered(replace(table, name=name)).name for name in ("times", "Times", "other")]
    assert named == ["table7_times", "table7_Times_2", "table7_other"]
