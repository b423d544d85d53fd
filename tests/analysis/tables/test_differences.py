"""Paired differences: what captions claim, and variants of an evaluation with what each object costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.conftest import contents_of
from xferlab.analysis import StudyResults, aggregate
from xferlab.analysis.contents import Contents
from xferlab.analysis.selection import chain_pairs, evaluation_sets
from xferlab.analysis.tables.differences import (
    arms_against_baseline_tables,
    before_after_tables,
    object_tables,
)
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.notes import difference_cells, inference_notes

COST = -0.05
RECORD = {"difference": 0.05, "low": -0.1, "high": 0.2, "p": 0.04, "no_p": ""}


def test_a_cell_has_the_p_or_the_reason_for_none() -> None:
    assert list(difference_cells(RECORD).values()) == ["+0.0500", "[−0.1000, +0.2000]", "0.040"]
    withheld = {**RECORD, "p": float("nan"), "no_p": "n < 10 patients"}
    assert list(difference_cells(withheld).values())[1:] == ["[−0.1000, +0.2000]", "n < 10 patients"]
    nothing = {**withheld, "low": float("nan"), "high": float("nan"), "no_p": "pairs missing"}
    assert list(difference_cells(nothing, "px").values()) == ["+0.05", "–", "pairs missing"]


def test_each_reason_is_explained_once() -> None:
    reasons = ["", "n < 10 patients", "pairs missing", "n < 10 patients"]
    notes = inference_notes(pd.DataFrame({"no_p": reasons, "num_unpaired": 3, "num_lost": [0, 2, 0, 0]}))
    assert [note.partition(":")[0] for note in notes[:2]] == ["pairs missing", "n < 10 patients"]
    assert notes[2:] == (
        "3 values, of all metrics together, exist on one side only and are left out.",
        "An image with an undefined value in any repetition is left out; the CSV counts them.",
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    contents = contents_of(tmp_path_factory.mktemp("inference"), repetitions=5, noise=0.05, epochs=2)
    return [*arms_against_baseline_tables(contents), *before_after_tables(contents)]


@pytest.mark.parametrize(
    ("part", "method", "overlap"),
    [
        # f = 48 of 80
        ("hold_out", "two-way t over repetitions and patients. They cover other patients like these,", 2 / 3),
        ("test", "(Nadeau and Bengio 2003, test/train 0.30). They cover another test part,", 18 / 60),
    ],
)
def test_hold_outs_mean_other_patients_and_test_parts_another_test_part(
    tables: list[Table], part: str, method: str, overlap: float
) -> None:
    own = [table for table in tables if f".{part}" in table.title]
    assert 0 < len(own) < len(tables)
    for table in own:
        assert method in table.caption[1]
        assert table.data["overlap"].to_numpy() == pytest.approx(overlap)
        assert part != "test" or (table.data["df"].dropna() == 4).all()
        assert "another sample of training patients from the same pool, and other seeds." in table.caption[1]
        assert any("nothing is said of other pools" in sentence for sentence in table.caption)


def test_one_interval_and_one_p_a_contrast(tables: list[Table]) -> None:
    for table in tables:
        assert table.columns[-3:] == ("Difference", "95 % CI", "p")
        assert [name for name in table.data if name.startswith("p")] == ["part", "pathology", "p"]
        tested = table.data["p"].notna()
        assert (tested == (table.data["no_p"] == "")).all()
        excludes = (table.data["low"] > 0) | (table.data["high"] < 0)
        assert (excludes == (table.data["p"] < 0.05))[tested].all()


# --- variants ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return contents_of(tmp_path_factory.mktemp("variants"), variants={"implant": COST, "original": 0.01})


@pytest.fixture
def results(contents: Contents) -> StudyResults:
    return contents.results


def test_a_variant_is_a_part_of_its_own_and_a_hold_out(results: StudyResults) -> None:
    names = [evaluated.part for evaluated in evaluation_sets(results) if evaluated.stage == "portable"]
    assert names == ["test", "hold_out", "hold_out@implant", "hold_out@original"]
    assert set(results.cases["part"].unique()) == set(names)
    aggregated = aggregate(results.cases).query("metric == 'DICE' and stage == 'portable'")
    by_part = aggregated[aggregated["pathology"] == "all"].groupby("part")[["mean", "sd_images"]].first()
    plain, implant = by_part.loc["hold_out"], by_part.loc["hold_out@implant"]
    assert implant["mean"] - plain["mean"] == pytest.approx(COST)
    assert implant["sd_images"] == pytest.approx(plain["sd_images"])


def test_tables_of_metrics_have_the_original_size_and_no_object(contents: Contents) -> None:
    tables = {table.name: table for table in metrics_tables(contents, hold_out=True)}
    assert not any("implant" in name for name in tables)  # what it costs is a table of its own
    caption = tables["general_portable_hold_out-original_further"].caption
    assert any("at the images' original size" in sentence for sentence in caption)
    assert contents.numbered(tables["portable_hold_out"]).name == "table6_portable_hold_out"


def test_stages_pair_on_every_variant(results: StudyResults) -> None:
    pairs = chain_pairs(results, "baseline")
    assert [pair.part for pair in pairs] == ["hold_out", "hold_out@implant", "hold_out@original"]


def test_the_cost_of_an_object_by_hand(contents: Contents) -> None:
    (table,) = object_tables(contents)
    pathologies = ("all", "covid19", "normal", "pathological")
    assert [group.labels for group in table.groups] == [
        (stage, arm, pathology, "4", *(["18"] * 2 if pathology == "all" else ["6"] * 2))
        for stage in ("general", "portable")
        for arm in ("baseline", "frozen")
        for pathology in pathologies
    ]
    for group in table.groups:
        (row,) = group.rows  # an object, and not the original size
        assert row.label == "implant"
        without, laid, difference = row.cells[:3]
        assert difference == "−0.0500"
        assert float(laid) - float(without) == pytest.approx(COST, abs=2e-4)
        assert row.cells[3:] == ("–", "n < 5 repetitions")  # the cost is the same on every image
    assert {"DICE", "HD95_px", "NSD_2px"} <= set(table.data["metric"])
    assert set(table.data["part"]) == {"hold_out@implant"}


def test_without_objects_there_is_no_such_table(tmp_path: Path) -> None:
    assert list(object_tables(contents_of(tmp_path, variants={"original": 0.0}, images=3))) == []


def sets_warned_of(contents: Contents) -> set[str]:
    """Sets whose tables warn of another image size."""
    warning = "Images have another size in frozen: distances in px"
    return {
        table.title.split(" on ")[1].partition(",")[0]
        for table in arms_against_baseline_tables(contents)
        if any(note.startswith(warning) for note in table.notes)
    }


def test_arms_of_another_image_size_are_warned_of_but_at_the_original_size(contents: Contents) -> None:
    results = contents.results
    trials = [
        {**trial, "image_size": "native"} if "frozen" in trial["arms"] else trial
        for trial in results.plan["trials"]
    ]
    plan = {**results.plan, "trials": trials}
    warned = sets_warned_of(Contents(replace(results, plan=plan)))
    assert "portable.hold_out" in warned
    assert "portable.hold_out@original" not in warned
    assert sets_warned_of(contents) == set()
