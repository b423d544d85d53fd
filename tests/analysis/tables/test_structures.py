"""The table structure by structure: what stands in it, and that no other table counts a structure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.analysis.conftest import STUDY, Marking, contents_of
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.arms import arms_tables
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.structures import structures_tables
from xferlab.analysis.tables.subgroups import subgroups_tables
from xferlab.metrics.measuring import metrics_of

pytestmark = pytest.mark.component
NAMES = ("heart", "left_lung")


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    folder = tmp_path_factory.mktemp("several")
    return contents_of(folder, structures=NAMES, metrics=metrics_of(NAMES), compare_to=None)


def test_each_structure_has_its_lines_and_the_mean_the_last(several: Contents) -> None:
    tables = {table.title: table for table in structures_tables(several)}
    table = tables["stage portable on portable.hold_out, structure by structure"]
    assert table.columns[0] == "Dice"
    lines = {(group.labels[0], row.label): row.cells[0] for group in table.groups for row in group.rows}
    # 0.9 + 0.01 r + 0.001 i over repetitions 1 to 4 and images 0 to 17, less 0.05 times a structure's number.
    # The SD of 0, 0.001, ..., 0.017 is 0.0053.
    assert lines == {
        ("heart", "baseline"): "0.8835 ± 0.0129 (± 0.0053)",
        ("heart", "frozen"): "0.8635 ± 0.0129 (± 0.0053)",
        ("left_lung", "baseline"): "0.8335 ± 0.0129 (± 0.0053)",
        ("left_lung", "frozen"): "0.8135 ± 0.0129 (± 0.0053)",
        ("mean of all", "baseline"): "0.9335 ± 0.0129 (± 0.0053)",
        ("mean of all", "frozen"): "0.9135 ± 0.0129 (± 0.0053)",
    }
    assert {group.labels[1:] for group in table.groups} == {("4 of 4", "18")}
    assert any("means over those defined of heart, left_lung" in note for note in table.notes)
    assert set(table.data["of"]) == {*NAMES, "mean of all"}


def test_other_tables_have_the_means_alone_and_say_so(several: Contents) -> None:
    for table in (*metrics_tables(several, hold_out=True), *arms_tables(several)):
        assert not any("heart" in column for column in table.columns)
        assert any("means over those defined of heart, left_lung" in note for note in table.notes)
    assert not any("heart" in sentence for sentence in several.definitions())


def test_a_study_of_one_structure_has_no_such_table(tmp_path: Path) -> None:
    contents = contents_of(tmp_path, repetitions=1)
    assert list(structures_tables(contents)) == []
    assert not any("means over" in note for table in arms_tables(contents) for note in table.notes)


def test_stages_and_arms_that_learn_other_structures_are_not_compared(tmp_path: Path) -> None:
    contents = contents_of(tmp_path, structures=NAMES, metrics=metrics_of(NAMES))
    assert [(arm, pair.before) for arm, pair in contents.pairs()] == [
        ("baseline", "general"),
        ("frozen", "general"),
    ]
    (hold_out,) = [e for e in contents.plain_sets if e.is_hold_out and e.stage == "portable"]
    assert len(contents.against_baseline(hold_out)) == 1
    for trial in contents.results.plan["trials"]:
        if trial["arms"] == ["frozen"] and trial["stage"] == "portable":
            trial["targets"] = ["heart", "left_lung", "clavicles"]
    assert [arm for arm, _ in contents.pairs()] == ["baseline"]
    assert contents.against_baseline(hold_out) == []


LUNG = "lung (mean of left and right)"
ONE = "lungs (left and right as one)"
MARKS = f"portable marks {ONE} alone: there, values are of this."


@pytest.fixture(scope="module")
def marking(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    builder = Marking(tmp_path_factory.mktemp("marking"), missing=set(), pixels=False, compare_to=None)
    return Contents(load_study(builder.write(), STUDY))


def test_both_sides_have_lines_after_the_structures_and_before_their_mean(marking: Contents) -> None:
    tables = {table.title: table for table in structures_tables(marking)}
    table = tables["stage general on general.test, structure by structure"]
    lines = ["heart", "left_lung", "right_lung", LUNG, ONE, "mean of all"]
    assert [group.labels[0] for group in table.groups] == lines
    assert table.caption[-2:] == (
        "Last lines: mean of all structures of an image, averaged likewise.",
        "Lines of left and right together are no part of that mean.",
    )
    assert table.columns[0] == "Dice"
    assert not any("marks" in note for note in table.notes)
    assert set(table.data["of"]) == {*Marking.structures, "lung", "lungs", "mean of all"}


def test_a_set_has_lines_for_what_it_marks_and_says_what_that_is(marking: Contents) -> None:
    tables = {table.title: table for table in structures_tables(marking)}
    table = tables["stage portable on portable.hold_out, structure by structure"]
    assert [group.labels[0] for group in table.groups] == [ONE]
    assert [row.cells[0].partition(" (")[0] for group in table.groups for row in group.rows] == [
        "0.9335 ± 0.0129",
        "0.9135 ± 0.0129",
    ]
    assert MARKS in table.notes
    assert not any("mean of all" in sentence for sentence in table.caption)
    for other in metrics_tables(marking, hold_out=True):
        assert (MARKS in other.notes) == other.title.startswith("stage portable")
        # Where a set marks less, no sentence says that values are means over all.
        means = [note for note in other.notes if "values are means over those defined of heart" in note]
        assert bool(means) != (MARKS in other.notes)


def test_groups_have_lines_for_both_sides_too_and_one_where_a_set_marks_one_thing(marking: Contents) -> None:
    cases = marking.cases["case"].astype(str).unique()
    groups = {"sex": {"f": cases[::2].tolist(), "m": cases[1::2].tolist()}}
    marking.results.plan["subgroups"] = groups  # type: ignore[index]
    tables = {table.title: table for table in subgroups_tables(marking)}
    table = tables["stage portable on portable.hold_out, by sex"]
    assert [group.labels[0] for group in table.groups] == ["f", "m", "all images"]
    assert MARKS in table.notes
    table = tables["stage general on general.test, by sex"]
    assert [group.labels[-1] for group in table.groups][:7] == ["all", *Marking.structures, LUNG, ONE, "all"]
