"""Papers are data: the shipped values are the paper's, and its numbers go to what shows the same."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.conftest import contents_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.losses import loss_pictures
from xferlab.analysis.published import FOLDER, papers
from xferlab.analysis.published.paper import Paper, PublishedTable, read_paper
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ordered_pathologies
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.model import Table
from xferlab.errors import UsageError
from xferlab.tasks.registry import declared_metrics


@pytest.fixture(scope="module")
def vidal() -> Paper:
    return read_paper("vidal2021")


def test_the_papers_are_the_folders() -> None:
    assert papers() == ("arias-garzon2021", "oh2020", "oliveira2018", "vidal2021")
    assert {path.parent.name for path in FOLDER.glob("*/*.csv")} == set(papers())


@pytest.mark.component
def test_their_names_are_known_without_loading_the_kit() -> None:
    code = (
        "import sys; from xferlab.analysis.published import papers; print(papers(), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{papers()} False\n"


def test_an_unknown_paper_names_the_known_one() -> None:
    with pytest.raises(UsageError, match=r"accepted: .*, vidal2021.*Did you mean 'vidal2021'"):
        read_paper("vidal2012")


LEARNT = (
    ("segmentation", ("heart", "left_lung", "right_lung")),
    ("classification", ("covid19", "normal", "bacterial", "tuberculosis", "viral")),
)
KNOWN = [metric.name for metric in declared_metrics(LEARNT)]
"""Names of all metrics of both tasks, in the order of tables."""


@pytest.mark.parametrize("name", papers())
def test_layout_and_values_agree(name: str) -> None:
    paper = read_paper(name)
    assert {*paper.values["metric"], *paper.significance["metric"]} <= set(KNOWN)
    assert list(paper.metrics) == sorted(paper.metrics, key=KNOWN.index)
    times = {number for number, table in paper.tables.items() if table.shows.get("kind") == "times"}
    assert set(paper.values["table"]) == set(paper.tables) - times
    assert set(paper.significance["table"]) <= set(paper.tables)
    for number, rows in paper.values.groupby("table"):
        sets = rows[["stage", "section", "part"]].drop_duplicates()
        shows = paper.tables[str(number)].shows
        subjects = [
            {"kind": shows.get("kind"), "metrics": "headline", **row} for row in sets.to_dict("records")
        ]
        assert (str(number) in [paper.number("table", subject) for subject in subjects]) == bool(shows)
        assert sum(len(EvaluationSet(**row).rows(rows)) for row in sets.to_dict("records")) == len(rows)


def test_tables_are_complete_and_in_our_order(vidal: Paper) -> None:
    assert list(vidal.metrics) == list(vidal.values["metric"].unique())
    assert vidal.values.groupby("table").size().to_dict() == {"3": 9, "4": 9, "5": 27, "6": 27}
    pathologies = vidal.values[vidal.values["table"] == "5"]["pathology"].unique()
    assert list(pathologies) == list(ordered_pathologies(pathologies))


@pytest.mark.parametrize(
    ("stage", "part", "pathology", "metric", "mean", "sd"),
    [
        ("general", "test", "all", "SENS", 0.6703, 0.2528),
        ("portable", "test", "all", "DICE", 0.9436, 0.0243),
        ("general", "hold_out", "pathological", "JACC", 0.7551, 0.1293),
        ("portable", "hold_out", "covid19", "F1", 0.9644, 0.0145),
    ],
)
def test_values_as_printed(
    vidal: Paper, stage: str, part: str, pathology: str, metric: str, mean: float, sd: float
) -> None:
    evaluated = EvaluationSet(stage, "portable" if part == "hold_out" else stage, part)
    rows = evaluated.rows(vidal.values)
    (row,) = rows[(rows["pathology"] == pathology) & (rows["metric"] == metric)].to_dict("records")
    assert (row["mean"], row["sd"]) == (mean, sd)


def test_repetitions_stand_only_where_the_paper_prints_them(vidal: Paper) -> None:
    told = {number: table.repetitions for number, table in vidal.tables.items()}
    assert told == {"3": "25", "4": "25", "5": "–", "6": "–", "7": "25"}


def test_table_3_is_printed_as_it_is_and_marked(vidal: Paper) -> None:
    evaluated = EvaluationSet("general", "general", "test")
    rows = evaluated.rows(vidal.values).set_index("metric")["mean"]
    bound = 2 * rows["SENS"] / (1 + rows["SENS"])
    assert rows["DICE"] > bound
    assert f"{bound:.3f}" in vidal.words(["3"])[-1]
    for number in "3456":
        assert vidal.words([number])[1].startswith(
            "The cohorts differ: the paper used 6,302 general and 600 portable chest X-rays"
        )


# --- a paper with arms ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arias() -> Paper:
    return read_paper("arias-garzon2021")


def value(paper: Paper, table: int, arm: str, part: str, metric: str) -> float:
    rows = paper.values
    rows = rows[(rows["table"] == str(table)) & (rows["arm"] == arm) & (rows["part"] == part)]
    (mean,) = rows.loc[rows["metric"] == metric, "mean"]
    return float(mean)


def test_values_of_each_arm_as_printed(arias: Paper) -> None:
    assert arias.values.groupby("table").size().to_dict() == {
        **dict.fromkeys(["1", "3", "4", "5", "7", "8", "9", "11", "12", "13"], 6),
        **dict.fromkeys(["2", "6", "10", "14", "15", "16"], 12),
    }
    assert value(arias, 1, "vgg16", "test", "ACCURACY") == 0.9687
    assert value(arias, 2, "unet2", "validation", "JACC") == 0.9322
    assert value(arias, 5, "outside", "test", "ACCURACY") == 0.9538
    assert value(arias, 11, "vgg16_whole", "validation", "ACCURACY") == 0.8385
    assert value(arias, 14, "baseline", "test", "SPECIFICITY_covid19") == 0.956
    assert value(arias, 16, "", "test", "PRECISION") == 0.9907


def test_its_contradictions_are_in_its_values_and_in_its_notes(arias: Paper) -> None:
    rows = {n: arias.values[arias.values["table"] == n]["mean"].tolist() for n in ("8", "9")}
    assert rows["8"] == rows["9"]
    assert (arias.values.query("table == '9'")["ambiguous"] == "yes").all()
    of_d = [value(arias, table, "baseline", "test", "ACCURACY") for table in (4, 8, 12)]
    assert sum(of_d) / 3 == pytest.approx(0.9273, abs=1e-4)
    assert "92.72 %" in " ".join(arias.words(["8"]))
    dice = value(arias, 2, "baseline", "validation", "DICE_PIXELWISE")
    assert f"{dice / (2 - dice):.3f}" in " ".join(arias.words(["2"]))


def test_what_it_quotes_from_others_has_no_repetitions_of_its_own(arias: Paper) -> None:
    lines = arias.lines(EvaluationSet("kermany", "positives+kermany", "test").rows(arias.values))
    repetitions = {line.arm: line.repetitions for line in lines if line.numbers == ("16",)}
    assert repetitions == {"": "1", "CoroNet": "–", "VGG19 of Apostolopoulos": "–"}


@pytest.mark.parametrize(("table", "negatives"), [(6, 1228), (10, 895), (14, 1401), (15, 270 + 777)])
def test_an_accuracy_is_marked_where_it_is_not_that_of_its_own_line(
    arias: Paper, table: int, negatives: int
) -> None:
    positives = 96 if table == 15 else 3454
    for arm in ("whole", "baseline", "outside"):
        sensitivity, specificity, accuracy, f1 = (
            value(arias, table, arm, "test", metric)
            for metric in ("SENSITIVITY_covid19", "SPECIFICITY_covid19", "ACCURACY", "F1_SCORE_covid19")
        )
        implied = (sensitivity * positives + specificity * negatives) / (positives + negatives)
        line = arias.values[(arias.values["table"] == str(table)) & (arias.values["arm"] == arm)]
        line = line.set_index("metric")
        assert (line["ambiguous"]["ACCURACY"] == "yes") == (abs(implied - accuracy) > 5e-4)
        false = (1 - specificity) * negatives, (1 - sensitivity) * positives
        implied = 2 * sensitivity * positives / (2 * sensitivity * positives + sum(false))
        assert (line["ambiguous"]["F1_SCORE_covid19"] == "yes") == (abs(implied - f1) > 5e-3)


def with_arms(paper: Paper) -> Paper:
    """A paper whose rows of a set are of two tables and three arms, one of which no study has."""
    rows = pd.DataFrame(
        [("3", "frozen", 0.5, ""), ("4", "frozen", 0.6, "yes"), ("4", "another", 0.7, "")],
        columns=["table", "arm", "mean", "ambiguous"],
    ).assign(stage="general", section="general", part="test", pathology="all", metric="DICE", sd=float("nan"))
    tables = {
        "3": PublishedTable("First", "1", shows=paper.tables["3"].shows),
        "4": PublishedTable("Second", "1"),
    }
    return replace(paper, tables=tables, values=rows)


def test_lines_of_a_paper_with_arms_name_table_and_arm(tmp_path: Path, vidal: Paper) -> None:
    contents = contents_of(tmp_path, repetitions=1, images=6)
    contents.paper = with_arms(vidal)
    table = next(
        table for table in metrics_tables(contents, hold_out=False) if "stage general" in table.title
    )
    at = table.columns.index("DICE")
    lines = {group.labels[1]: [row.cells[at] for row in group.rows] for group in table.groups}
    of_paper = {name: cells for name, cells in lines.items() if "Table" in name}
    assert of_paper == {
        "vidal2021, Table 3, frozen": ["0.5000"],
        "vidal2021, Table 4, frozen": ["0.6000 (?)"],
        "vidal2021, Table 4, another": ["0.7000"],
    }
    assert contents.numbered(table).title.startswith("Table 3: ")
    assert [note for note in table.notes if note.startswith("vidal2021, Table")] == [
        "vidal2021, Table 3: First.",
        "vidal2021, Table 4: Second.",
    ]
    assert any(note.startswith("(?): ") for note in table.notes)
    data = table.data[table.data["paper_mean"].notna()]
    assert list(zip(data["arm"], data["paper_table"], data["paper_mean"], strict=True)) == [
        ("frozen", "3", 0.5),
        ("frozen", "4", 0.6),
        ("another", "4", 0.7),
    ]
    assert not table.data.duplicated(["arm", "pathology", "metric", "paper_table"]).any()


def test_a_figure_of_one_arm_has_the_values_of_this_arm_alone(tmp_path: Path, vidal: Paper) -> None:
    contents = contents_of(tmp_path, repetitions=1, images=6)
    contents.paper = with_arms(vidal)
    evaluated = EvaluationSet("general", "general", "test")
    assert contents.published(evaluated, arm="another")["mean"].tolist() == [0.7]
    assert contents.published(evaluated, arm="baseline").empty


def numbers(contents: Contents) -> list[str]:
    tables = [*metrics_tables(contents, hold_out=False), *metrics_tables(contents, hold_out=True)]
    numbered: list[Table] = [contents.numbered(table) for table in tables]
    assert all(
        table.title.startswith(f"Table {table.name[5:].partition('_')[0]}: stage") for table in numbered
    )
    return [table.name for table in numbered]


def test_a_study_that_compares_to_a_paper_has_its_numbers(contents: Contents) -> None:
    assert numbers(contents) == [
        "tableS1_donor_mri_test",
        "tableS2_donor_mri_test_further",
        "table3_general_test",
        "tableS3_general_test_further",
        "table4_portable_test",
        "tableS4_portable_test_further",
        "table5_general_portable_hold_out",
        "tableS5_general_portable_hold_out_further",
        "table6_portable_hold_out",
        "tableS6_portable_hold_out_further",
    ]


@pytest.mark.component  # draws
def test_every_other_study_has_running_numbers_and_plain_headings(tmp_path: Path) -> None:
    plain = contents_of(tmp_path, compare_to=None, repetitions=1, images=6)
    assert numbers(plain)[:3] == [
        "table1_donor_mri_test",
        "table2_donor_mri_test_further",
        "table3_general_test",
    ]
    pictures = [plain.numbered(picture).title.partition(":")[0] for picture in loss_pictures(plain)]
    assert pictures == [f"Figure {number}" for number in range(1, 6)]
    table = next(metrics_tables(plain, hold_out=False))
    assert table.columns == ("Dice", "Jaccard", "Sensitivity", "Specificity", "HD95 (px)", "NSD at 2 px")
    assert "vidal2021" not in str(table)
