"""What is public: the names of the package, their short texts, and figures that are those of the report."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

import xferlab
from tests.analysis.conftest import STUDY, StudyBuilder
from xferlab.analysis import StudyResults, load_study
from xferlab.errors import UsageError
from xferlab.metrics.metric import Metric

DICE = Metric(name="DICE", label="DICE", better=None, source="", definition="", undefined="")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> StudyResults:
    folder = tmp_path_factory.mktemp("public")
    StudyBuilder(folder, compare_to=None).write()
    return load_study(folder, STUDY)


def drawn(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def test_the_package_lists_what_is_public() -> None:
    assert {"load_study", "tables", "plots", "predictor", "StudyResults", "Predictor"} <= set(dir(xferlab))
    assert all(getattr(xferlab, name).__doc__ for name in dir(xferlab) if not name.startswith("_"))
    with pytest.raises(AttributeError, match="module 'xferlab' has no attribute 'lod_study'"):
        _ = xferlab.lod_study


@pytest.mark.component
def test_the_package_is_imported_without_its_libraries() -> None:
    code = "import sys; before = set(sys.modules); import xferlab; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['xferlab']\n"


def test_a_name_that_is_not_where_the_package_says_is_no_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(xferlab._MODULES, "lost", "analysis.loading:lost")
    with pytest.raises(AttributeError, match=r"module 'xferlab\.analysis\.loading' has no attribute 'lost'"):
        _ = xferlab.lost
    with pytest.raises(ImportError, match="cannot import name 'lost'"):
        exec("from xferlab import lost")


def test_all_that_is_public_is_imported_by_a_star() -> None:
    names: dict[str, object] = {}
    exec("from xferlab import *", names)
    assert names.keys() - {"__builtins__"} == set(dir(xferlab))
    assert names["plots"] is sys.modules["xferlab.analysis.plots"]


def test_texts_of_values_are_short(results: StudyResults) -> None:
    assert repr(results).startswith(f"StudyResults({STUDY!r} in ")
    assert len(repr(results)) < 300
    assert repr(results.store) == f"Store({results.store.location!r})"


@pytest.mark.slow
def test_tables_are_those_of_the_report(results: StudyResults, tmp_path: Path) -> None:
    tables = xferlab.tables(results)
    xferlab.write_report(results.store.location, STUDY, tmp_path)
    written = {path.stem: path for path in (tmp_path / "tables").glob("*.csv")}
    assert tables.keys() == written.keys()
    for name, table in tables.items():
        assert list(pd.read_csv(written[name]).columns) == list(table.columns)
    assert {"cohorts", "training"} < tables.keys()


def test_figures_are_those_of_the_report(results: StudyResults) -> None:
    report = {picture.name.partition("_")[2]: picture for picture in xferlab.plots.report(results)}
    arm, stage = results.arms[0], results.stages[-1]
    losses = xferlab.plots.losses(results.histories, arm=arm, stage=stage, runs=results.runs)
    assert drawn(losses) == drawn(report[f"loss_{stage}_{arm}"].figure)
    all_arms = next(name for name in report if name.startswith("arms_"))
    tables = xferlab.tables(results)
    (table,) = [tables[name] for name in tables if name.endswith(f"_all_{all_arms}")]
    metric = results.metrics.main(table["metric"])[0]
    assert drawn(xferlab.plots.arms(table, metric=metric)) == drawn(report[all_arms].figure)


def test_a_figure_says_how_many_repetitions_were_planned_or_that_this_is_not_known(
    results: StudyResults, tmp_path: Path
) -> None:
    arm, stage, histories = results.arms[0], results.stages[-1], results.histories
    planned = results.planned()[arm, stage]
    one = histories[histories["repetition"] == 1]

    def foot(histories: pd.DataFrame, **given: int) -> tuple[list[float], str]:
        axes = xferlab.plots.losses(histories, arm=arm, stage=stage, **given).axes[-1]
        return [float(tick) for tick in axes.get_yticks()], axes.get_xlabel()

    assert planned > 1
    one.to_parquet(tmp_path / "histories.parquet")
    assert foot(pd.read_parquet(tmp_path / "histories.parquet")) == ([0, planned], "Epoch")
    other = one.assign(arm="other")
    other.attrs["planned"] = {f"other/{stage}": 3}
    assert foot(pd.concat([one, other])) == ([0, 1], "Epoch (planned repetitions unknown)")
    assert foot(one, planned=7) == ([0, 7], "Epoch")


def test_what_a_table_lacks_is_refused(results: StudyResults) -> None:
    with pytest.raises(UsageError, match="histories: there is no row with arm 'bse'; it has "):
        xferlab.plots.losses(results.histories, arm="bse", stage="general")
    with pytest.raises(UsageError, match="histories: there is no 'f1' in stage"):
        xferlab.plots.losses_of_arms(results.histories, stage=results.stages[0], value="f1")
    with pytest.raises(UsageError, match="trial: found 'baseline/r01'; accepted: arm/stage/rNN of the study"):
        xferlab.predictor(results, "baseline/r01")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: xferlab.aggregate(r), "cases: found a value of type StudyResults; accepted: what `load`"),
        (
            lambda r: xferlab.aggregate(r.runs),
            "cases: the table has no column section, part, pathology, metric",
        ),
        (lambda r: xferlab.tables("x"), "results: found a value of type str; accepted: what `load_study`"),
        (lambda r: next(xferlab.plots.report("x")), "results: found a value of type str; accepted: what"),
        (lambda r: xferlab.predictor("x", "a/b/r01"), "results: found a value of type str; accepted: what"),
        (lambda r: losses(r.cases), "histories: the table has no column epoch, score; accepted: `histories`"),
        (lambda r: losses(r.runs), "histories: the table has no column epoch, score; accepted: `histories`"),
        (lambda r: losses(r.histories, runs=r.cases), "runs: the table has no column best_epoch; accepted"),
        (
            lambda r: xferlab.plots.losses_of_arms(r.cases, stage="general"),
            "histories: the table has no column epoch, score",
        ),
        (
            lambda r: arms(r.cases),
            "table: the table has no column mean, sd_repetitions, sd_images, num_patients",
        ),
        (
            lambda r: arms(xferlab.aggregate(r.cases)),
            r"table: the rows are of more than one stage \(",
        ),
        (
            lambda r: arms(xferlab.aggregate(r.cases), metric="DICE"),
            "metric: found 'DICE'; accepted: a declared",
        ),
        (lambda r: stages(r.cases, ["DICE"]), "reached: the table has no column mean"),
        (
            lambda r: stages(xferlab.aggregate(r.cases), r.metrics.main(["DICE"])),
            r"reached: the rows are of more than one arm \(.*accepted: rows of `aggregate` of one arm, set",
        ),
        (
            lambda r: stages(same_images(r), []),
            "metrics: found none that `reached` has; it has ACC",
        ),
        (lambda r: stages(same_images(r), ["DICE"]), "metrics: found 'DICE'; accepted: a declared metric"),
    ],
)
def test_what_no_function_can_use_is_refused_at_its_door(
    results: StudyResults, call: Callable[[StudyResults], object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        call(results)


def losses(histories: pd.DataFrame, **given: pd.DataFrame) -> Figure:
    return xferlab.plots.losses(histories, arm="baseline", stage="general", **given)


def arms(table: pd.DataFrame, metric: object = DICE) -> Figure:
    return xferlab.plots.arms(table, metric=metric)


def stages(reached: pd.DataFrame, metrics: Sequence[object]) -> Figure:
    return xferlab.plots.stages(reached, metrics, before="general", after="portable")


def same_images(results: StudyResults) -> pd.DataFrame:
    rows = xferlab.aggregate(results.cases)
    return rows.query(f"arm == '{results.arms[0]}' and part == 'hold_out' and pathology == 'all'")


@pytest.mark.component
@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99", ""])
def test_a_device_that_is_not_here_is_refused(results: StudyResults, device: str) -> None:
    trial = next(iter(results.trial_names))
    with pytest.raises(UsageError, match=f"device: found '{device}', on which PyTorch cannot compute here"):
        xferlab.predictor(results, trial, device=device)
