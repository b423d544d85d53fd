"""The values of oliveira2018, against its tables as they were read, and what its deviations are over."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.analysis.conftest import contents_of
from xferlab.analysis.figures.reached import reached_pictures
from xferlab.analysis.published import papers
from xferlab.analysis.published.paper import Paper, read_paper
from xferlab.analysis.results import EvaluationSet

Cell = tuple[object, ...]
Rows = Callable[[int], list[dict[str, str]]]
NETWORKS = {"FCN": "fcn8s", "SegNet": "segnet"}
STAGES = {"translation": "transfer", "fine-tuning": "fine_tune", "scratch": "scratch"}


@pytest.fixture(scope="module")
def paper() -> Paper:
    return read_paper("oliveira2018")


@pytest.fixture(scope="module")
def read(real_data: Path) -> Rows:
    """Returns the rows of one of the paper's tables as they were read."""
    folder = real_data.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"{folder}, with the paper's tables as they were read, is not there")

    def rows(number: int) -> list[dict[str, str]]:
        with (folder / f"oliveira2018_table{number}.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    return rows


def share(percent: str) -> float | None:
    return round(float(percent) / 100, 6) if percent else None


def of_networks(row: dict[str, str]) -> Cell:
    task, method = row["task"], row["method"]
    structure = "lung" if task == "lungs" else task
    is_own = method == "U-Net" or method in NETWORKS
    arm = f"{NETWORKS[method]}_{structure}" if method in NETWORKS else f"{method} ({task})"
    if method == "U-Net":
        arm = "baseline" if task == "lungs" else task
    stage = "segment_a" if task == "lungs" and method not in NETWORKS else "segment_other"
    metric = {"jaccard": "JACC", "dice": "DICE"}[row["metric"]]
    return ("I", stage, "jsrt", arm, metric, share(row["mean"]), share(row["std"]), not is_own)


def of_fractions(row: dict[str, str]) -> Cell:
    percent, stage = row["label_percent"], STAGES[row["method"]]
    arm = "baseline" if percent == "0" else f"labels_{percent.replace('.', '_')}"
    stage = "segment_a" if (percent, stage) == ("0", "fine_tune") else stage
    values = (share(row["jaccard_mean"]), share(row["jaccard_std"]))
    return ("II", stage, "montgomery", arm, "JACC", *values, False)


def test_values_are_those_that_were_read_cell_by_cell(read: Rows, paper: Paper) -> None:
    cells = [*map(of_networks, read(1)), *map(of_fractions, read(2))]
    columns = ["table", "stage", "section", "arm", "metric", "mean", "sd"]
    values = paper.values[columns].astype(object).where(paper.values[columns].notna(), None)
    quoted = [row[3] in paper.tables[row[0]].quoted for row in values.itertuples(index=False, name=None)]
    stored = [(*row, of) for row, of in zip(values.itertuples(index=False, name=None), quoted, strict=True)]
    assert set(stored) == set(cells)
    assert len(stored) == len(cells) == len(set(cells)) == 60


def test_each_deviation_says_what_it_is_over(paper: Paper) -> None:
    labels: dict[str, tuple[str, str]] = {}
    for stage, section in (("segment_other", "jsrt"), ("transfer", "montgomery")):
        rows = EvaluationSet(stage, section, "test").rows(paper.values)
        labels |= {line.arm: (line.label_of_cells, line.repetitions) for line in paper.lines(rows)}
    assert labels["heart"] == ("oliveira2018, Table I, heart (± SD over folds)", "5")
    assert labels["labels_5"] == ("oliveira2018, Table II, labels_5 (± SD over images)", "1")
    assert labels["SCAN (heart)"] == (
        "oliveira2018, Table I, SCAN (heart) (± SD, as quoted (over what is not said))", "–",
    )  # fmt: skip
    assert labels["InvertedNet (heart)"] == ("oliveira2018, Table I, InvertedNet (heart)", "–")


def test_the_cell_that_its_source_contradicts_is_marked(paper: Paper) -> None:
    marked = paper.values[paper.values["ambiguous"] != ""]
    assert list(marked["arm"]) == ["Hybrid Voting (heart)"]
    assert marked["sd"].item() == pytest.approx(0.056 / 10)
    assert "its source has 0.860 ± 0.056" in " ".join(paper.words(["I"]))


@pytest.mark.parametrize("stage", ["transfer", "fine_tune", "scratch"])
def test_each_method_is_a_column_of_its_second_table_and_a_line_of_its_eighth_figure(
    paper: Paper, stage: str
) -> None:
    subject = {"kind": "label fractions", "stage": stage, "section": "montgomery", "part": "test"}
    assert (paper.number("table", subject), paper.number("figure", subject)) == ("II", "8")


@pytest.mark.parametrize(
    ("stage", "number"), [("segment_a", "I"), ("segment_other", "I"), ("transfer", None)]
)
def test_its_first_table_is_of_networks_of_jsrt_alone(paper: Paper, stage: str, number: str | None) -> None:
    subject = {"kind": "metrics", "metrics": "headline", "stage": stage, "section": "jsrt", "part": "test"}
    assert paper.number("table", subject) == number


@pytest.mark.parametrize("name", papers())
def test_a_table_of_metrics_that_takes_a_number_has_values_of_the_paper(name: str) -> None:
    """A stage that the paper does not measure on a set gets no number of it."""
    paper = read_paper(name)
    for number, table in paper.tables.items():
        if table.shows.get("kind") in ("metrics", "classes", "structures"):
            stages = table.shows["stage"]
            rows = paper.values[paper.values["table"] == number]
            assert set(stages if isinstance(stages, list) else [stages]) == set(rows["stage"]), number


def test_its_seventh_figure_has_the_intervals_of_the_means_of_repetitions(
    tmp_path: Path, paper: Paper
) -> None:
    contents = contents_of(tmp_path, repetitions=3, images=12)
    assert paper.figures["7"]["stage"] == paper.tables["I"].shows["stage"]
    shows = {**paper.figures["7"], "metric": "DICE", "stage": ["general", "other"], "section": "general"}
    contents.paper = replace(paper, figures={"7": shows})
    (picture,) = reached_pictures(contents)
    assert contents.numbered(picture).title == "Figure 7: Dice of each arm on general.test"
    cases = contents.cases[(contents.cases["metric"] == "DICE") & (contents.cases["arm"] == "baseline")]
    rows = EvaluationSet("general", "general", "test").rows(cases)
    means = rows.groupby("repetition")["value"].mean()
    interval = stats.t.interval(0.95, len(means) - 1, loc=means.mean(), scale=stats.sem(means))
    axes = picture.figure.axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    line = next(at for at, name in enumerate(names) if name.startswith("general: baseline"))
    assert np.asarray(axes.lines[line].get_xdata()) == pytest.approx(np.asarray(interval))
