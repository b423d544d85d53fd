"""What captions and cells say of intervals and p-values: no more than they hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.conftest import StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.inference import inference_notes, interval_cells
from xferlab.analysis.tables.model import Table

RECORD = {"low": -0.1, "high": 0.2, "p": 0.04, "no_p": ""}


def test_a_cell_has_the_p_or_the_reason_for_none() -> None:
    assert interval_cells(RECORD) == ("[−0.1000, +0.2000]", "0.040")
    withheld = {**RECORD, "p": float("nan"), "no_p": "n < 10 patients"}
    assert interval_cells(withheld) == ("[−0.1000, +0.2000]", "n < 10 patients")
    nothing = {**withheld, "low": float("nan"), "high": float("nan"), "no_p": "pairs missing"}
    assert interval_cells(nothing, "px") == ("–", "pairs missing")


def test_each_reason_is_explained_once() -> None:
    reasons = ["", "n < 10 patients", "unknown pool", "n < 10 patients"]
    notes = inference_notes(pd.DataFrame({"no_p": reasons, "num_unpaired": 3, "num_lost": [0, 2, 0, 0]}))
    assert [note.partition(":")[0] for note in notes[:2]] == ["unknown pool", "n < 10 patients"]
    assert "run the study again, which keeps all that is complete" in notes[0]
    assert notes[2:] == (
        "3 values exist on one side only and are left out.",
        "An image with an undefined value in any repetition is left out; the CSV counts them.",
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    folder = tmp_path_factory.mktemp("inference")
    builder = StudyBuilder(folder, repetitions=5, missing=set(), pixels=False, noise=0.05, epochs=2)
    contents = Contents(load_study(builder.write(), "covid_lung"))
    return [*contents.arms(), *contents.before_after()]


def on(tables: list[Table], part: str) -> list[Table]:
    return [table for table in tables if f".{part}" in table.title]


def test_hold_outs_mean_other_patients_and_test_parts_another_test_part(tables: list[Table]) -> None:
    hold_outs, test_parts = on(tables, "hold_out"), on(tables, "test")
    assert hold_outs
    assert test_parts
    assert len(hold_outs) + len(test_parts) == len(tables)
    for table in hold_outs:
        assert (
            "two-way t over repetitions and patients. They cover other patients like these,"
            in table.caption[1]
        )
        assert table.data["overlap"].to_numpy() == pytest.approx(2 / 3)  # f = 48 of 80
    for table in test_parts:
        assert "(Nadeau and Bengio 2003, test/train 0.30). They cover another test part," in table.caption[1]
        assert table.data["overlap"].to_numpy() == pytest.approx(18 / 60)
        assert (table.data["df"].dropna() == 4).all()
    for table in tables:
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


def test_a_plan_that_does_not_count_the_pool_claims_nothing_on_hold_outs(tmp_path: Path) -> None:
    builder = StudyBuilder(tmp_path, repetitions=5, missing=set(), pixels=False, images=12, noise=0.05)
    builder.train_patients, builder.epochs = None, 2
    contents = Contents(load_study(builder.write(), "covid_lung"))
    for table in contents.arms():
        hold_out = "hold_out" in table.title
        assert (table.data["no_p"] == "unknown pool").all() == hold_out
        assert any(note.startswith("unknown pool: no p, since") for note in table.notes) == hold_out
