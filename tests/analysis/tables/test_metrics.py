"""Tables 3 to 6: shape, counts, the paper's rows, and what stands in place of a deviation."""

from __future__ import annotations

import pytest

from xferlab.analysis import aggregate, load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.model import Table


def by_name(tables) -> dict[str, Table]:
    return {table.name: table for table in tables}


def cells(table: Table, arm: str, pathology: str, label: str) -> tuple[str, ...]:
    (group,) = [group for group in table.groups if group.labels[:2] == (pathology, arm)]
    (row,) = [row for row in group.rows if row.label == label]
    return row.cells


@pytest.fixture(scope="module")
def contents(results) -> Contents:
    return Contents(results)


def test_tables_carry_the_papers_numbers(contents) -> None:
    names = list(by_name([*contents.metrics(hold_out=False), *contents.metrics(hold_out=True)]))
    assert [name for name in names if not name.endswith("_beyond")] == [
        "tableS1_donor_mri_test",
        "table3_general_test",
        "table4_portable_test",
        "table5_general_portable_hold_out",
        "table6_portable_hold_out",
    ]


def test_table_6_by_hand_beside_the_paper(contents) -> None:
    table = by_name(contents.metrics(hold_out=True))["table6_portable_hold_out"]
    assert table.columns == ("ACC", "AUC", "DICE", "JACC", "PREC", "RECA", "F1", "SENS", "SPEC")
    assert set(cells(table, "baseline", "all", "Mean")) == {"0.9285"}  # 0.9 + 0.02 + 0.0085
    assert set(cells(table, "baseline", "all", "SD over repetitions")) == {"0.0100"}
    paper = cells(table, "vidal2021, Table 6", "covid19", "SD (over what is not said)")
    assert paper[2] == "0.0241"
    assert "baseline/portable/r04" in " ".join(table.notes)
    (group,) = [group for group in table.groups if group.labels[:2] == ("all", "baseline")]
    assert group.labels[2:] == ("3 of 4", "18", "18")


def test_table_3_says_that_the_papers_row_contradicts_itself(contents) -> None:
    table = by_name(contents.metrics(hold_out=False))["table3_general_test"]
    assert cells(table, "vidal2021, Table 3", "all", "SD (25 repetitions)")[7] == "0.2528"
    assert "no single confusion matrix" in " ".join(table.notes)


def test_shared_trials_stand_once_under_all_their_arms(contents) -> None:
    table = by_name(contents.metrics(hold_out=False))["tableS1_donor_mri_test"]
    assert [group.labels[1] for group in table.groups] == ["baseline, frozen"]
    assert table.groups[0].rows[1].label == "SD over repetitions (1 repetition)"
    assert sorted(table.data["arm"].unique()) == ["baseline", "frozen"]


def test_undefined_values_have_a_row_and_hopeless_metrics_a_sentence(contents) -> None:
    table = by_name(contents.metrics(hold_out=True))["table6_portable_hold_out_beyond"]
    undefined = cells(table, "frozen", "all", "undefined, of 72")
    assert undefined[table.columns.index("Bridges")] == "36"
    assert "HD95 (mm)" not in table.columns
    assert "undefined for every image: HD95 (mm)" in " ".join(table.notes)


@pytest.mark.component
def test_few_patients_get_a_word_in_place_of_a_deviation(builder) -> None:
    builder.images, builder.repetitions, builder.pixels = 12, 2, False
    builder.note, builder.section_notes = "Study note", {"portable": "Pathology is confounded with source"}
    builder.simulated = "portable"
    contents = Contents(load_study(builder.write(), "covid_lung"))
    table = by_name(contents.metrics(hold_out=True))["table5_general_portable_hold_out"]
    assert cells(table, "baseline", "normal", "SD: n < 5 patients") == ("–",) * 9
    assert cells(table, "baseline", "all", "SD over repetitions") != ("–",) * 9
    few = table.data[table.data["num_patients"] < 5]
    assert few["sd_repetitions"].isna().all()
    assert few["sd_images"].isna().all()
    assert set(few["deviation_withheld"]) == {"n < 5 patients"}
    notes = " ".join(table.notes)
    assert "portable: Pathology is confounded with source. " in notes
    assert "29 of 29 evaluated images are simulated (portable)." in notes
    assert "Study note." in notes


@pytest.mark.component
def test_sets_that_a_parent_may_have_seen_enter_no_table(builder) -> None:
    builder.repetitions, builder.pixels = 2, False
    builder.seen = {"frozen/portable/portable.test"}
    results = load_study(builder.write(), "covid_lung")
    assert results.cases["parent_may_have_seen"].sum() == 2 * 18 * 18
    contents = Contents(results)
    table = by_name(contents.metrics(hold_out=False))["table4_portable_test"]
    assert [group.labels[1] for group in table.groups] == ["baseline", "vidal2021, Table 4"]
    assert len(aggregate(results.cases)) > len(contents.aggregated)


@pytest.mark.component
def test_without_the_papers_stages_the_chain_gives_the_numbers(builder) -> None:
    builder.hold_out, builder.repetitions, builder.pixels, builder.compare_to = "general", 2, False, None
    contents = Contents(load_study(builder.write(), "covid_lung"))
    names = by_name([*contents.metrics(hold_out=False), *contents.metrics(hold_out=True)])
    assert "table6_portable_general_hold_out" in names
    assert not any("vidal" in label for t in names.values() for g in t.groups for label in g.labels)


@pytest.mark.component
def test_arms_that_share_a_trial_and_measure_it_apart_stand_apart(builder) -> None:
    builder.own_evaluations, builder.repetitions, builder.pixels, builder.images = True, 1, False, 6
    results = load_study(builder.write(), "covid_lung")
    donor = results.cases[results.cases["stage"] == "donor"]
    assert donor.groupby("arm", observed=True).size().to_dict() == {"baseline": 6 * 18, "frozen": 6 * 18}
    table = by_name(Contents(results).metrics(hold_out=False))["tableS1_donor_mri_test"]
    assert [group.labels[1] for group in table.groups] == ["baseline", "frozen"]
