"""Papers are data: the shipped values are the paper's, and its numbers go to what shows the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.analysis.conftest import contents_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.losses import loss_pictures
from xferlab.analysis.published import FOLDER, papers
from xferlab.analysis.published.paper import Paper, read_paper
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ordered_pathologies
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.model import Table
from xferlab.errors import UsageError
from xferlab.metrics.measuring import METRICS


@pytest.fixture(scope="module")
def vidal() -> Paper:
    return read_paper("vidal2021")


def test_the_papers_are_the_folders() -> None:
    assert papers() == ("vidal2021",)
    assert {path.parent.name for path in FOLDER.glob("*/*.csv")} == set(papers())


@pytest.mark.component
def test_their_names_are_known_without_loading_the_kit() -> None:
    code = (
        "import sys; from xferlab.analysis.published import papers; print(papers(), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "('vidal2021',) False\n"


def test_an_unknown_paper_names_the_known_one() -> None:
    with pytest.raises(UsageError, match=r"accepted: vidal2021.*Did you mean 'vidal2021'"):
        read_paper("vidal2012")


@pytest.mark.parametrize("name", papers())
def test_layout_and_values_agree(name: str) -> None:
    paper = read_paper(name)
    assert list(paper.metrics) == list(paper.values["metric"].unique())
    assert list(paper.metrics) == [metric.name for metric in METRICS if metric.name in paper.metrics]
    for number, rows in paper.values.groupby("table"):
        assert len(rows) % len(paper.metrics) == 0
        first = rows.iloc[0]
        place = {key: first[key] for key in ("stage", "section", "part")}
        assert paper.number("table", {"kind": "metrics", "metrics": "headline", **place}) == number
        assert len(EvaluationSet(**place).rows(paper.values)) == len(rows)


def test_tables_are_complete_and_in_our_order(vidal: Paper) -> None:
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


def test_table_3_is_printed_as_it_is_and_marked(vidal: Paper) -> None:
    evaluated = EvaluationSet("general", "general", "test")
    rows = evaluated.rows(vidal.values).set_index("metric")["mean"]
    bound = 2 * rows["SENS"] / (1 + rows["SENS"])
    assert rows["DICE"] > bound
    assert f"{bound:.3f}" in vidal.words("3")[-1]
    for number in "3456":
        assert vidal.words(number)[1].startswith(
            "The cohorts differ: the paper used 6,302 general and 600 portable chest X-rays"
        )


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
