"""What is told of classes in a report: tables of each class, confusion matrices, and curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
    multilabel_confusion_matrix,
    recall_score,
    roc_auc_score,
)

from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.classes import class_pictures, draw_reliability
from xferlab.analysis.figures.comparisons import arms_picture
from xferlab.analysis.published.paper import PublishedTable, read_paper
from xferlab.analysis.tables.arms import compared_arms
from xferlab.analysis.tables.confusion import confusion_tables
from xferlab.analysis.tables.differences import arms_against_baseline_tables
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.structures import classes_tables, structures_tables
from xferlab.analysis.told import Told, told
from xferlab.metrics.classes import NAMED_THRESHOLDS, metrics_of_classes, values_of_classes
from xferlab.metrics.curves import reliability

pytestmark = pytest.mark.component
NAMES = ("well", "ill", "worse")
LAST = "portable on portable.hold_out"
LIMITS = dict.fromkeys(NAMED_THRESHOLDS, (0.3, 0.3, 0.2))


class Classes(StudyBuilder):
    """A study whose stages tell three classes, the later the better."""

    exclusive = True

    def value(self, *, arm: str, stage: str, repetition: int, image: int, metric: str) -> float:
        seed = (image, repetition, len(stage), len(arm))
        return _values(seed, is_last=stage == "portable", exclusive=self.exclusive)[metric]


@cache
def _values(seed: tuple[int, ...], *, is_last: bool, exclusive: bool) -> Mapping[str, float]:
    truth = np.arange(3) == seed[0] % 3
    if not exclusive:
        truth |= np.arange(3) == seed[0] % 4
    scores = np.random.default_rng(seed).normal(truth * (1.5 if is_last else 0.5), 1.0)
    given = np.exp(scores) / np.exp(scores).sum() if exclusive else 1 / (1 + np.exp(-scores))
    return values_of_classes(NAMES, truth, given, exclusive=exclusive, thresholds=LIMITS)


class Findings(Classes):
    """Classes that do not exclude each other."""

    exclusive = False


def contents_of(kind: type[Classes], folder: Path, **changes: Any) -> Contents:
    declared = metrics_of_classes(NAMES, thresholds=NAMED_THRESHOLDS)
    fields = {"pixels": False, "images": 36, "compare_to": None, "missing": set[str](), "metrics": declared}
    kind(folder, structures=NAMES, **fields | changes).write()
    return Contents(load_study(folder, STUDY))


@pytest.fixture(scope="module", params=[Classes, Findings], ids=["exclusive", "independent"])
def contents(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return contents_of(request.param, tmp_path_factory.mktemp("classes"))


def repetitions(contents: Contents, arm: str = "baseline") -> Iterator[pd.DataFrame]:
    """The values of the cases of each repetition on the hold-out, after the last stage, a column each."""
    cases = contents.results.cases
    rows = cases[(cases["stage"] == "portable") & (cases["part"] == "hold_out") & (cases["arm"] == arm)]
    for _, each in rows.groupby("repetition"):
        yield each.pivot_table(index="case", columns="metric", values="value", observed=True)


def test_each_class_has_lines_of_what_scikit_learn_computes(contents: Contents) -> None:
    tables = {table.title: table for table in classes_tables(contents)}
    data = tables["stage portable on portable.hold_out, class by class"].data.set_index(
        ["metric", "of", "arm"]
    )
    wide = list(repetitions(contents))
    means = [np.mean([roc_auc_score(w[f"IS_{name}"], w[f"P_{name}"]) for w in wide]) for name in NAMES]
    for name, mean in zip(NAMES, means, strict=True):
        rows = data.loc[("AUROC", name, "baseline")].query("pathology == 'all'")
        assert rows["mean"].item() == pytest.approx(mean)
    rows = data.loc[("AUROC", "all classes", "baseline")].query("pathology == 'all'")
    assert rows["mean"].item() == pytest.approx(np.mean(means))
    further = tables["stage portable on portable.hold_out, class by class, further metrics"].data
    rows = further.query("pathology == 'all' and arm == 'baseline' and of == 'ill'").set_index("metric")
    expected = [f1_score(w["IS_ill"], w["P_ill"] >= 0.3) for w in wide]
    assert rows.loc["F1_SCORE_AT_YOUDEN", "mean"] == pytest.approx(np.mean(expected))
    assert list(structures_tables(contents)) == []


def test_a_papers_values_of_a_class_stand_below_those_of_the_class(tmp_path: Path) -> None:
    contents = contents_of(Classes, tmp_path, repetitions=1)
    rows = [("6", "frozen", "SENSITIVITY_ill", 0.7), ("6", "frozen", "F1_SCORE_ill", 0.6)]
    values = pd.DataFrame(rows, columns=["table", "arm", "metric", "mean"]).assign(
        stage="portable", section="portable", part="hold_out", pathology="all", ambiguous=""
    )
    shows = {"kind": "classes", "metrics": "headline", "stage": "portable", "part": "hold_out"}
    contents.paper = replace(
        read_paper("arias-garzon2021"),
        tables={"6": PublishedTable("Of ill", "1", shows=shows)},
        values=values,
    )
    numbered = map(contents.numbered, classes_tables(contents))
    table = next(table for table in numbered if table.title.startswith("Table 6: stage portable"))
    of_paper = [(g.labels, row) for g in table.groups for row in g.rows if "Table" in row.label]
    ((labels, line),) = of_paper
    assert (labels[0], line.label) == ("ill", "arias-garzon2021, Table 6, frozen")
    cells = dict(zip(table.columns, line.cells, strict=True))
    assert (cells["SENSITIVITY"], cells["F1_SCORE"], cells["AUROC"]) == ("0.7000", "0.6000", "–")
    assert "arias-garzon2021, Table 6: Of ill." in table.notes


def test_tables_of_all_have_no_single_class_and_differences_have_them(contents: Contents) -> None:
    for table in metrics_tables(contents, hold_out=True):
        assert not any(name in column for name in NAMES for column in table.columns)
        assert not any("means over those defined" in note for note in table.notes)
    table = next(t for t in arms_against_baseline_tables(contents) if LAST in t.title)
    lines = [row.label for group in table.groups for row in group.rows]
    assert {"AUC (macro)", "AUC, ill", "Sensitivity, worse"} <= set(lines)


def test_confusion_matrices_are_those_of_scikit_learn(contents: Contents) -> None:
    table = next(table for table in confusion_tables(contents) if LAST in table.title)
    data = table.data[table.data["arm"] == "baseline"]
    found = data["count"].to_numpy()
    wide = list(repetitions(contents))
    exclusive = "LABEL" in wide[0]
    if exclusive:
        expected = [confusion_matrix(w["LABEL"], w["CALLED"]) for w in wide]
        shares = [confusion_matrix(w["LABEL"], w["CALLED"], normalize="true") for w in wide]
        assert data["share_sd"].to_numpy() == pytest.approx(np.std(shares, axis=0, ddof=1).ravel())
    else:
        columns = [[f"{kind}_{name}" for name in NAMES] for kind in ("IS", "CALLED")]
        expected = [multilabel_confusion_matrix(*(w[names].astype(int) for names in columns)) for w in wide]
        assert list(dict.fromkeys(data["class"])) == list(NAMES)
        assert table.columns == ("Called no", "Called yes")
    assert found == pytest.approx(np.mean(expected, axis=0).ravel())
    assert data["count"].sum() == pytest.approx(36 * (1 if exclusive else 3))


def test_a_class_that_a_repetition_lacks_has_its_shares_of_the_others(tmp_path: Path) -> None:
    class Rare(Classes):
        def value(self, *, image: int, repetition: int, **what: Any) -> float:
            rare = image % 3 == 2 and repetition == 2
            return super().value(image=image - 2 * rare, repetition=repetition, **what)

    contents = contents_of(Rare, tmp_path, arms=("baseline",), repetitions=3)
    data = next(table for table in confusion_tables(contents) if LAST in table.title).data
    wide = list(repetitions(contents))
    with_class = {name: [w for w in wide if (w["LABEL"] == n).any()] for n, name in enumerate(NAMES)}
    assert {name: len(of_class) for name, of_class in with_class.items()} == {"well": 3, "ill": 3, "worse": 2}
    for number, (name, of_class) in enumerate(with_class.items()):
        row = data[(data["true"] == name) & (data["called"] == name)].iloc[0]
        recalls = [recall_score(w["LABEL"], w["CALLED"], labels=[number], average=None) for w in of_class]
        assert row["share"] == pytest.approx(np.mean(recalls))
        assert row["share_sd"] == pytest.approx(np.std(recalls, ddof=1))
        assert (row["num_with_class"], row["num_repetitions"]) == (len(of_class), 3)
    pictures = {picture.name: picture for picture in class_pictures(contents)}
    (axes,) = pictures["confusion_portable_on_portable_hold_out"].figure.axes
    drawn = [text.get_text().partition("\n")[0] for text in axes.texts]
    assert drawn == [f"{share:.2f}" for share in data["share"]]


def test_curves_and_matrices_are_drawn_with_their_numbers(contents: Contents) -> None:
    pictures = {picture.name: picture for picture in class_pictures(contents)}
    roc = pictures["roc_portable_on_portable_hold_out"]
    assert "baseline: 4 of 4 repetitions, 36 images of 36 patients" in " ".join(roc.caption)
    assert [axes.get_title("left") for axes in roc.figure.axes] == list(NAMES)
    texts = [text.get_text() for text in roc.figure.axes[1].texts]
    areas = [roc_auc_score(wide["IS_ill"], wide["P_ill"]) for wide in repetitions(contents)]
    assert texts[0] == f"AUC {np.mean(areas):.3f} ± {np.std(areas, ddof=1):.3f}"
    assert {"precision_recall_general_on_portable_hold_out", "confusion_general_on_general_test"} <= set(
        pictures
    )


def test_a_figure_names_no_deviation_over_images_of_a_metric_that_has_none(contents: Contents) -> None:
    for judged, expected in (("AUROC", False), ("ACCURACY", True)):
        arms = next(arms for arms in compared_arms(contents, judged=judged))
        picture = arms_picture(arms)
        assert picture is not None
        names = [text.get_text() for text in picture.figure.legends[0].get_texts()]
        assert ("SD over images" in names, "SD over images" in picture.caption[0]) == (expected, expected)


def test_reliability_is_drawn_where_bins_hold_images(contents: Contents) -> None:
    pictures = {picture.name: picture for picture in class_pictures(contents)}
    axes, bins, errors = pictures["reliability_portable_on_portable_hold_out"].figure.axes[1], [], []
    for wide in repetitions(contents):
        truth, score = wide["IS_ill"].to_numpy(), wide["P_ill"].to_numpy()
        bins.append(reliability(truth, score))
        weights = np.histogram(score, 15, (0, 1))[0] / len(score)
        errors.append(np.nansum(weights * np.abs(np.subtract(*bins[-1]))))
    points = np.ma.masked_invalid(bins).mean(axis=0)
    drawn = next(line for line in axes.lines if line.get_marker() == "o")
    assert drawn.get_xydata() == pytest.approx(points.T.compressed().reshape(-1, 2))
    assert axes.texts[0].get_text() == f"ECE {np.mean(errors):.3f} ± {np.std(errors, ddof=1):.3f}"


@pytest.mark.parametrize(("power", "side"), [(4.0, "left"), (0.25, "right")])
def test_the_errors_of_a_reliability_curve_do_not_cover_it(power: float, side: str) -> None:
    score = np.tile(np.linspace(0.02, 0.98, 2000), (2, 1))
    truth = (np.random.default_rng(0).random(score.shape) < score**power).astype(float)
    arm = Told(("a",), ("ill",), {"IS_ill": truth, "P_ill": score}, num_planned=2, num_patients=2000)
    (axes,) = draw_reliability([arm, replace(arm, arms=("b",))], of="structure").axes
    assert [text.get_ha() for text in axes.texts] == [side] * 2
    box = [(*text.get_position(), text.get_ha()) for text in axes.texts]
    assert len({y for _, y, _ in box}) == 2
    for x, y, _ in box:
        assert 0 < x < 1
        assert (y > 0.8) == (side == "left")
        assert box[0][1] > box[1][1]


def test_few_patients_have_no_bands_and_no_deviations(tmp_path: Path) -> None:
    contents = contents_of(Classes, tmp_path, images=4)
    roc = next(picture for picture in class_pictures(contents) if picture.name.endswith("portable_hold_out"))
    assert "n < 5 patients: no deviations are drawn." in roc.caption
    assert not any(axes.collections for axes in roc.figure.axes)
    assert not any("±" in text.get_text() for axes in roc.figure.axes for text in axes.texts)
    table = next(table for table in confusion_tables(contents) if LAST in table.title)
    assert not any("±" in cell for group in table.groups for row in group.rows for cell in row.cells)
    assert table.data[["count_sd", "share_sd"]].isna().all(axis=None)


def test_stages_without_classes_have_neither(tmp_path: Path) -> None:
    StudyBuilder(tmp_path, pixels=False, repetitions=1, missing=set()).write()
    contents = Contents(load_study(tmp_path, STUDY))
    assert list(class_pictures(contents)) == []
    assert list(confusion_tables(contents)) == []
    assert list(classes_tables(contents)) == []


def test_stages_of_other_classes_have_macro_metrics_of_their_own(tmp_path: Path) -> None:
    """One name stands for the mean over the classes that a stage has, also where another has more."""

    class Fewer(Classes):
        def _write_evaluation(self, store: Any, trial: Any, evaluation: Any) -> None:
            names = NAMES[:2] if trial["stage"] == "donor" else NAMES
            self.metrics = metrics_of_classes(names, thresholds=NAMED_THRESHOLDS)
            super()._write_evaluation(store, trial, evaluation)

    contents = contents_of(Fewer, tmp_path, repetitions=2)
    rows = contents.of_targets.query("stage == 'donor' and pathology == 'all' and part == 'test'")
    single = rows[rows["metric"].str.startswith("AUROC_")]
    assert set(single["metric"]) == {"AUROC_well", "AUROC_ill"}
    whole = contents.aggregated.query("stage == 'donor' and metric == 'AUROC' and pathology == 'all'")
    assert whole["mean"].iloc[0] == pytest.approx(single.query("arm == 'baseline'")["mean"].mean())
    assert told(contents, contents.plain_sets[0]) == []


def test_a_class_that_is_never_called_says_that_it_has_no_precision(
    tmp_path: Path,
) -> None:
    class Silent(Classes):
        def value(self, **what: Any) -> float:
            called = what["metric"] in ("CALLED", "CALLED_ill") and what["repetition"] in (1, 2, 3)
            return 0.0 if called else super().value(**what)

    contents = contents_of(Silent, tmp_path, arms=("baseline",))
    table = next(table for table in classes_tables(contents) if LAST in table.title)
    column = table.columns.index("Precision")
    lines = {group.labels[0]: group.rows[0].cells[column] for group in table.groups}
    assert lines["ill"].endswith(" (75 % undefined)")
    assert "undefined" not in lines["well"]
    assert lines["all classes"].endswith(" (75 % undefined)")
    assert table.columns[0] == "AUC"
