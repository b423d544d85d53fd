"""Two stages and many arms beside their paper: its lines, shares of the labels, and the test that it uses."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.analysis.conftest import STUDY
from tests.analysis.staged import ARMS, SHARES, Staged, share_of
from xferlab.analysis import load_study
from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.fractions import fractions_pictures
from xferlab.analysis.figures.losses import loss_pictures
from xferlab.analysis.fractions import series_by_set
from xferlab.analysis.tables.fractions import fractions_tables
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.signed_rank import signed_rank, signed_rank_tables
from xferlab.analysis.tables.structures import classes_tables, structures_tables

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    folder = tmp_path_factory.mktemp("staged")
    return Contents(load_study(Staged(folder, pixels=False, missing=set(), images=12).write(), STUDY))


def only(tables: Iterable[Table], number: str, contents: Contents) -> Table:
    """The table that has a number of the paper."""
    (table,) = (t for t in map(contents.numbered, tables) if t.title.startswith(f"Table {number}: "))
    return table


def lines_of_paper(table: Table) -> list[tuple[str, ...]]:
    """Labels and cells of the lines that are the paper's."""
    return [
        (*group.labels, row.label, *row.cells)
        for group in table.groups
        for row in group.rows
        if "oh2020, Table" in " ".join((*group.labels, row.label, *row.cells))
    ]


def test_lines_of_structures_and_classes_stand_below_ours_with_their_deviations(contents: Contents) -> None:
    structures = only(structures_tables(contents), "V", contents)
    assert [(line[0], *line[3:]) for line in lines_of_paper(structures)] == [
        ("heart", "oh2020, Table V, baseline (± SD over images)", "0.8890 (± 0.0540)"),
        ("lung", "oh2020, Tables V, XIII, baseline (± SD over images)", "0.9550 (± 0.0150)"),
        ("lung", "oh2020, Table XIII, unet (± SD over images)", "0.9550 (± 0.0140)"),
    ]
    montgomery = only(structures_tables(contents), "XIII", contents)
    assert [line[0] for line in lines_of_paper(montgomery)] == ["lungs"] * 9
    classes = only(classes_tables(contents), "XI", contents)
    of_bacterial = [line[3:5] for line in lines_of_paper(classes) if line[0] == "bacterial"]
    assert of_bacterial == [
        ("oh2020, Table XI, global", "0.3000"),
        ("oh2020, Table XI, baseline", "0.8000"),
    ]
    metrics = lines_of_paper(only(metrics_tables(contents, hold_out=False), "X", contents))
    assert [line[1] for line in metrics][:2] == [
        "oh2020, Table X, global",
        "oh2020, Tables X, XIV, XVI, XVII, baseline",
    ]


def test_a_share_of_the_labels_of_one_set_makes_the_same_series(contents: Contents) -> None:
    """It is written as `label_fraction: {b: 0.1}`."""
    results = contents.results
    plan = {
        **results.plan,
        "arms": {
            arm: {
                **entry,
                "description": {
                    path: {"b": value} if path.endswith(".label_fraction") else value
                    for path, value in entry["description"].items()
                },
            }
            for arm, entry in results.plan["arms"].items()
        },
    }
    of_one_set = Contents(replace(results, plan=plan))
    assert list(series_by_set(of_one_set)) == list(series_by_set(contents))


def test_shares_of_a_tuned_arm_have_no_interval_on_test_parts(contents: Contents) -> None:
    search = {
        "stage": "segment",
        "search": "random",
        "num_samples": 20,
        "same_hold_outs": ["montgomery"],
        "validated_on": [{"repetition": 1, "patients": 16, "section": "jsrt"}],
    }
    plan = contents.results.plan
    arms = {**plan["arms"], "half": {**plan["arms"]["half"], "tuned": [search]}}
    tuned = Contents(replace(contents.results, plan={**plan, "arms": arms}))
    tables = {table.name: table for table in fractions_tables(tuned) if "stage segment" in table.title}
    for table in tables.values():
        rows = table.data[table.data["arm"] == "half"]
        is_test = "jsrt.test" in table.title
        assert ("tuned on these" in set(rows["no_p"].dropna())) == is_test
        assert any(note.startswith("Arm half was tuned in stage segment") for note in table.notes)
    assert any("jsrt.test" in table.title for table in tables.values())


def test_series_are_arms_that_differ_in_nothing_else_that_matters_to_the_stage(contents: Contents) -> None:
    known = {evaluated.name: [dict(s.arms) for s in series] for evaluated, series in series_by_set(contents)}
    whole, fewer = {1.0: "baseline"}, {share: name for name, share in SHARES.items()}
    assert known == {
        "jsrt.test": [whole | fewer],  # those without equalisation have the same results there
        "montgomery.hold_out": [
            whole | fewer,
            {1.0: "original", **{share: f"{name}_original" for share, name in fewer.items()}},
        ],
        "triage.test": [
            whole | {share: f"patches_{name}" for share, name in fewer.items()},
            {1.0: "global", **{share: f"global_{name}" for share, name in fewer.items()}},
        ],
    }


def test_the_table_of_shares_has_ours_and_the_papers_line_by_line(contents: Contents) -> None:
    table = only(fractions_tables(contents), "XV", contents)
    assert [group.labels[0] for group in table.groups] == ["baseline", "original"]
    assert [row.label for row in table.groups[0].rows] == [f"{n} %" for n in (100, 100, 50, 50, 10, 10)]
    assert table.columns[3:5] == ("Jaccard (+1), lungs", "Dice")
    (line,) = (line for line in lines_of_paper(table) if "XV, tenth_original" in line[2])
    assert (line[1], line[5]) == ("10 %", "0.8510 (± 0.0580)")
    data = table.data[table.data["metric"] == "JACC_SMOOTH_lungs"].set_index("arm")
    reached = measured(contents, "segment", "JACC_SMOOTH_lungs").query("part == 'hold_out'")
    means = (
        reached.groupby(["arm", "repetition"], observed=True)["value"].mean().groupby("arm", observed=True)
    )
    for arm in ("half", "tenth_original"):
        first = "original" if "original" in arm else "baseline"
        assert data.loc[arm, "mean"] == pytest.approx(means.mean()[arm])
        assert data.loc[arm, "sd_repetitions"] == pytest.approx(means.std()[arm])
        assert data.loc[arm, "relative"] == pytest.approx(means.mean()[arm] / means.mean()[first])
        assert data.loc[arm, "relative_low"] < data.loc[arm, "relative"] < data.loc[arm, "relative_high"] < 1
    assert data.loc[["baseline", "original"], "relative"].isna().all()


def measured(contents: Contents, stage: str, metric: str) -> pd.DataFrame:
    cases = contents.results.cases
    return cases[(cases["stage"] == stage) & (cases["metric"] == metric)]


def test_the_figure_of_shares_draws_what_the_table_says(contents: Contents) -> None:
    pictures = [contents.numbered(picture) for picture in fractions_pictures(contents)]
    (picture,) = (picture for picture in pictures if picture.title.startswith("Figure 12: Accuracy"))
    left, right = picture.figure.axes
    (table,) = (t for t in fractions_tables(contents) if "stage triage" in t.title)
    for axes, column in ((left, "mean"), (right, "relative")):
        drawn = [line for line in axes.lines if line.get_marker() in "os"]
        for line, name in zip(drawn, ("baseline", "global"), strict=True):
            rows = table.data[(table.data["series"] == name) & (table.data["metric"] == "ACCURACY")]
            assert list(line.get_ydata()) == pytest.approx(rows[column].fillna(1.0).tolist())
            assert list(line.get_xdata()) == pytest.approx(rows["share"].tolist(), rel=0.1)
    assert [text.get_text() for text in left.get_xticklabels()] == ["10", "50", "100"]
    assert left.get_xscale() == "symlog"


def test_shares_without_a_result_have_lines_and_no_difference(tmp_path: Path) -> None:
    places = product(ARMS, ("segment", "triage"))
    missing = {f"{arm}/{stage}/r01" for arm, stage in places if share_of(arm, stage) < 1}
    builder = Staged(tmp_path, pixels=False, images=8, repetitions=1, missing=missing)
    contents = Contents(load_study(builder.write(), STUDY))
    table = only(fractions_tables(contents), "XV", contents)
    lines = {row.cells[0]: row.cells for group in table.groups for row in group.rows}
    assert [lines[arm][2] for arm in ("baseline", "half", "original", "tenth_original")] == [
        "1 of 1",
        "0 of 1",
        "1 of 1",
        "0 of 1",
    ]
    assert table.data["difference"].isna().all()
    assert list(fractions_pictures(contents)) == []


def test_the_papers_test_is_that_of_scipy_with_its_marks_beside(contents: Contents) -> None:
    tables = {table.title: table for table in signed_rank_tables(contents)}
    assert list(tables) == [
        f"arms against baseline as oh2020 tests, stage segment on {name}"
        for name in ("jsrt.test", "montgomery.hold_out")
    ]
    table = tables["arms against baseline as oh2020 tests, stage segment on montgomery.hold_out"]
    rows = table.data.set_index("arms")
    assert set(table.data["metric"]) == {"JACC_SMOOTH_lungs"}
    wide = (
        measured(contents, "segment", "JACC_SMOOTH_lungs")
        .query("part == 'hold_out'")
        .pivot_table(index="case", columns="arm", values="value", observed=True)
    )
    p = {arm: stats.wilcoxon(wide[arm], wide["baseline"]).pvalue for arm in ("unet", "half", "original")}
    for arm, value in p.items():
        assert rows.loc[arm, "p"] == pytest.approx(value)
        assert rows.loc[arm, "p_holm"] >= value
    assert rows.loc[["original", "unet", "tenth"], "published"].tolist() == [
        "V: ***; XV: *** (?)",
        "XIII: p > 0.05",
        "XV: ***",
    ]
    assert "no verdict" in table.notes[0]
    repetitions = table.columns.index("Repetitions")
    assert {row.cells[repetitions] for group in table.groups for row in group.rows} == {"3 of 3"}


def test_a_test_needs_pairs_and_differences() -> None:
    side = pd.DataFrame(
        {"repetition": [1, 1], "case": ["a", "b"], "name": ["a.png", "b.png"], "patient": ["p", "q"]}
    ).assign(value=[0.5, 0.7])
    assert signed_rank(side, side.assign(repetition=2)) is None
    equal = signed_rank(side, side)
    assert equal is not None
    assert (equal["num_images"], equal["median"]) == (2, 0.0)
    otherwise_read = side.assign(case=["c", "d"])
    assert signed_rank(side, otherwise_read) == pytest.approx(equal, nan_ok=True)
    assert np.isnan(equal["p"])
    number = np.arange(12)
    images = pd.DataFrame({"repetition": 1, "case": number, "name": number, "value": 0.05 * number})
    for num_patients, is_tested in ((MIN_PATIENTS, True), (MIN_PATIENTS - 1, False)):
        first = images.assign(patient=number % num_patients)
        found = signed_rank(first, first.assign(value=first["value"] ** 2))
        assert found is not None
        assert (found["num_patients"], bool(found["p"] < 0.05)) == (num_patients, is_tested)
        assert np.isnan(found["p"]) != is_tested


@pytest.mark.parametrize(
    ("size", "decimals", "method"),
    [(50, 9, "exact"), (51, 9, "asymptotic"), (13, 0, "by hand"), (14, 0, "asymptotic")],
)
def test_the_signed_rank_test_is_exact_for_as_few_images_as_the_caption_says(
    size: int, decimals: int, method: str
) -> None:
    values = np.random.default_rng(2).normal(0.4, 1.5, size).round(decimals)
    number = np.arange(size)
    first = pd.DataFrame({"repetition": 1, "case": number, "name": number, "patient": number, "value": 0.0})
    found = signed_rank(first, first.assign(value=values))
    assert found is not None
    if method == "by hand":  # all signs of the ranks
        ranks = stats.rankdata(np.abs(values[values != 0]))
        sums = np.array(list(product([0, 1], repeat=len(ranks)))) @ ranks
        apart = np.abs(ranks @ (values[values != 0] > 0) - ranks.sum() / 2)
        expected = np.mean(np.abs(sums - ranks.sum() / 2) >= apart - 1e-9)
    else:
        expected = stats.wilcoxon(values, method=method, correction=False).pvalue
    assert found["p"] == pytest.approx(expected, rel=1e-9)


def test_curves_have_all_that_both_parts_have(contents: Contents) -> None:
    pictures = {picture.name: contents.numbered(picture) for picture in loss_pictures(contents)}
    picture = pictures["loss_triage_global"]
    assert picture.title == (
        "Figure 10: training and validation loss, accuracy and mean F1, stage triage, arm global"
    )
    labels = [axes.get_ylabel() for axes in picture.figure.axes]
    assert labels == ["Loss", "Accuracy", "Mean F1", "Still\ntraining"]
    lines = {line.get_label(): line.get_ydata() for line in picture.figure.axes[1].lines}
    assert lines["Training"][0] == pytest.approx(0.4 + 0.02)  # mean over repetitions 1 to 3
    assert lines["Validation"][0] == pytest.approx(0.35 + 0.02)
    assert {"losses_triage", "accuracy_triage", "mean_f1_triage"} < set(pictures)
    assert "accuracy_segment" not in pictures
