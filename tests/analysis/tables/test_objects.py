"""Variants of an evaluation: sets of their own beside the plain one, and what each object costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.conftest import StudyBuilder
from xferlab.analysis import StudyResults, aggregate, load, load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.selection import ChainPair, chain_pairs, evaluation_sets, main_pair
from xferlab.analysis.tables.rendering import write_table

COST = -0.05


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    variants = {"implant": COST, "original": 0.01}
    folder = tmp_path_factory.mktemp("variants")
    return StudyBuilder(folder, variants=variants, missing=set(), pixels=False).write()


@pytest.fixture(scope="module")
def results(storage: Path) -> StudyResults:
    return load_study(storage, "covid_lung")


@pytest.fixture(scope="module")
def contents(results: StudyResults) -> Contents:
    return Contents(results)


def test_a_variant_is_a_part_of_its_own(storage: Path) -> None:
    cases = load(storage, "covid_lung")
    parts = ["hold_out", "hold_out@implant", "hold_out@original", "test"]
    assert sorted(cases["part"].unique()) == parts
    plain, laid = (
        cases[(cases["part"] == part) & (cases["metric"] == "DICE")]["value"].mean() for part in parts[:2]
    )
    assert laid - plain == pytest.approx(COST)


def test_variants_of_the_hold_out_stand_behind_it_and_are_hold_outs(results: StudyResults) -> None:
    names = [one.part for one in evaluation_sets(results) if one.stage == "portable"]
    assert names == ["test", "hold_out", "hold_out@implant", "hold_out@original"]
    aggregated = aggregate(results.cases)
    spread = aggregated[(aggregated["metric"] == "DICE") & (aggregated["stage"] == "portable")]
    by_part = spread[spread["pathology"] == "all"].groupby("part")["sd_images"].first()
    assert by_part["hold_out@implant"] == pytest.approx(by_part["hold_out"])


def test_the_papers_numbers_stay_with_the_plain_sets(contents: Contents) -> None:
    tables = [*contents.metrics(hold_out=False), *contents.metrics(hold_out=True)]
    names = [table.name for table in tables if not table.name.endswith("_beyond")]
    assert [name for name in names if not name.startswith("tableS")] == [
        "table3_general_test",
        "table4_portable_test",
        "table5_general_portable_hold_out",
        "table6_portable_hold_out",
    ]
    assert not any("implant" in name for name in names)  # what it costs is a table of its own
    (original,) = (t for t in tables if t.name.endswith("_general_portable_hold_out-original_beyond"))
    assert any("at the images' original size" in sentence for sentence in original.caption)


def test_stages_pair_on_every_variant_and_the_main_pair_is_plain(results: StudyResults) -> None:
    pairs = chain_pairs(results, "baseline")
    assert [pair.part for pair in pairs] == ["hold_out", "hold_out@implant", "hold_out@original"]
    assert main_pair(results) == ChainPair("general", "portable", "portable")


def test_the_cost_of_an_object_by_hand(contents: Contents, tmp_path: Path) -> None:
    (table,) = contents.objects()
    pathologies = ("all", "covid19", "normal", "pathological")
    arms = ("baseline", "frozen")
    assert [group.labels[:3] for group in table.groups] == [
        (stage, arm, one) for stage in ("general", "portable") for arm in arms for one in pathologies
    ]
    for group in table.groups:
        (row,) = group.rows  # an object, and not the original size
        assert row.label == "implant"
        without, laid, difference = row.cells[:3]
        assert difference == "−0.0500"
        assert float(laid) - float(without) == pytest.approx(COST, abs=2e-4)
        assert row.cells[3:] == ("–", "n < 5 repetitions")  # the cost is the same on every image
    assert group.labels[3:] == ("4", "6", "6")
    write_table(table, tmp_path)


def test_the_csv_of_object_costs_has_every_metric(contents: Contents) -> None:
    table = next(iter(contents.objects()))
    assert {"DICE", "HD95_px", "NSD_2px"} <= set(table.data["metric"])
    assert set(table.data["part"]) == {"hold_out@implant"}


def test_without_objects_there_is_no_such_table(builder: StudyBuilder) -> None:
    builder.variants = {"original": 0.0}
    builder.pixels = False
    assert list(Contents(load_study(builder.write(), "covid_lung")).objects()) == []


def test_arms_of_another_image_size_are_warned_of_but_at_the_original_size(results: StudyResults) -> None:
    arms = results.plan["arms"]
    plan = {**results.plan, "arms": {**arms, "frozen": {**arms["frozen"], "image_size": "native"}}}
    tables = list(Contents(replace(results, plan=plan)).arms())
    warned = {
        table.title.split(" on ")[1].partition(",")[0] for table in tables if any(map(_warns, table.notes))
    }
    assert "portable.hold_out" in warned
    assert "portable.hold_out@original" not in warned
    assert not any(_warns(note) for table in Contents(results).arms() for note in table.notes)


def _warns(note: str) -> bool:
    return note.startswith("Images have another size in frozen: distances in px")
