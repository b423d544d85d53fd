"""The figures of reports, drawn from tables: each function returns a matplotlib figure.

A figure is saved by `figure.savefig("name.png", dpi=300)`. As the last value of a cell, a notebook with
`%matplotlib inline` shows it. Nothing here touches pyplot or its settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from matplotlib.figure import Figure

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.before_after import draw_stages, panels_of
from xferlab.analysis.figures.comparisons import draw_arms
from xferlab.analysis.figures.losses import draw_losses, draw_losses_of_arms, drawn_columns
from xferlab.analysis.figures.style import Picture, value_label
from xferlab.analysis.given import check_results, check_single, check_table
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ALL
from xferlab.errors import UsageError
from xferlab.metrics.metric import Metric

_REACHED = ("arm", "metric", "pathology", "mean", "sd_repetitions", "sd_images", "num_patients")
_ALL_ARMS = "a table `..._all_arms_...` of `tables`, which is of one stage and one set of cases"
_OF_AN_ARM = "rows of `aggregate` of one arm, set of cases and pathology"

__all__ = ["arms", "losses", "losses_of_arms", "report", "stages"]


def losses(
    histories: pd.DataFrame,
    *,
    arm: str,
    stage: str,
    runs: pd.DataFrame | None = None,
    planned: int | None = None,
) -> Figure:
    """Draws the learning curves of an arm's stage: means and deviations over the repetitions left.

    Args:
        histories: `StudyResults.histories`.
        arm: Name of the arm.
        stage: Name of the stage.
        runs: `StudyResults.runs`, for ticks at the epochs whose weights were kept; None for no ticks.
        planned: Number of planned repetitions; default: what `load_study` noted in `histories.attrs`. Where
            that is lost, as where `pandas.concat` joins studies, the figure says that it is not known.

    Raises:
        UsageError: It is another table, or there is no epoch of this arm and stage.
    """
    history = _of(_histories(histories), "histories", arm=arm, stage=stage)
    kept = list[int]()
    if runs is not None:
        check_table(runs, "runs", ("arm", "stage", "best_epoch"), "`runs` of what `load_study` returns")
        kept = list(_of(runs, "runs", arm=arm, stage=stage)["best_epoch"].dropna().astype(int))
    if planned is None:
        planned = histories.attrs.get("planned", {}).get(f"{arm}/{stage}")
    return draw_losses(history, drawn_columns(history), kept, planned)


def losses_of_arms(histories: pd.DataFrame, *, stage: str, value: str = "loss") -> Figure:
    """Draws the learning curves of all arms that have a stage, a small panel for each.

    Args:
        histories: `StudyResults.histories`.
        stage: Name of the stage.
        value: What of the epochs: `loss`, or another value that the histories have of both parts, such as
            `f1` of the columns `train_f1` and `validation_f1`.

    Raises:
        UsageError: It is another table, or there is no epoch of this stage, or no such value.
    """
    history = _of(_histories(histories), "histories", stage=stage)
    columns = drawn_columns(history)
    if value not in columns:
        raise UsageError(f"histories: there is no {value!r} in stage {stage!r} ({', '.join(columns)})")
    arms = {str(arm): rows for arm, rows in history.groupby("arm", sort=False)}
    return draw_losses_of_arms(arms, value, columns[value])


def arms(table: pd.DataFrame, *, metric: Metric, pathology: str = ALL) -> Figure:
    """Draws what each arm reaches on a hold-out, and its difference to the baseline with its interval.

    Args:
        table: A table `..._all_arms_...` of `tables`.
        metric: The metric, of which the table has differences, such as `results.metrics.named("DICE")`.
        pathology: Of the cases; `all` for all together.

    Raises:
        UsageError: The table has no such row, or it is of more than one stage or set of cases.
    """
    check_table(table, "table", _REACHED, _ALL_ARMS)
    _check_metrics([metric], "metric")
    rows = _of(table, "table", metric=metric.name, pathology=pathology)
    check_single(rows, "table", ("stage", "section", "part"), _ALL_ARMS)
    rows = rows.drop_duplicates("arm")
    lines = [
        (str(row["arm"]), row, None if pd.isna(row.get("difference")) else row)
        for row in rows.to_dict("records")
    ]
    names = (metric.label, f"{metric.label}, difference to {lines[0][0]}")
    return draw_arms(lines, [value_label(name, metric.unit) for name in names])


def stages(
    reached: pd.DataFrame, metrics: Sequence[Metric], *, before: str, after: str, title: str = ""
) -> Figure:
    """Draws what two stages of an arm reach on the same cases, a line for each metric.

    Args:
        reached: Rows of `aggregate` of one arm, set of cases and pathology, of both stages.
        metrics: What is drawn, such as `results.metrics.main(reached["metric"])`.
        before: Name of the first stage.
        after: Name of the stage that starts from it.
        title: What stands above, such as the pathology.

    Raises:
        UsageError: It is another table, of more than one arm, set or pathology, or without a row of a stage,
            or none of the metrics.
    """
    check_table(reached, "reached", (*_REACHED, "stage"), _OF_AN_ARM)
    check_single(reached, "reached", ("arm", "section", "part", "pathology"), _OF_AN_ARM)
    _check_metrics(metrics, "metrics")
    for stage in (before, after):
        _of(reached, "reached", stage=stage)
    rows = reached.dropna(subset="mean")
    panels = list(panels_of(metrics, rows))
    if not panels:
        known = ", ".join(rows["metric"].unique()) or "none"
        raise UsageError(f"metrics: found none that `reached` has; it has {known}")
    return draw_stages((before, after), title, panels, rows)


def report(results: StudyResults) -> Iterator[Picture]:
    """Yields all figures of a study's report, with name, title, caption and the matplotlib `figure`.

    Raises:
        UsageError: These are no results of a study.
    """
    check_results(results)
    from xferlab.analysis.report import pictures  # it imports all tables

    contents = Contents(results)
    yield from map(contents.numbered, pictures(contents))


def _histories(table: pd.DataFrame) -> pd.DataFrame:
    columns = ("arm", "stage", "repetition", "epoch", "score")
    check_table(table, "histories", columns, "`histories` of what `load_study` returns")
    return table


def _check_metrics(metrics: Sequence[Metric], name: str) -> None:
    if other := next((metric for metric in metrics if not isinstance(metric, Metric)), None):
        raise UsageError(
            f'{name}: found {other!r}; accepted: a declared metric, such as `results.metrics.named("DICE")`'
        )


def _of(table: pd.DataFrame, name: str, **values: str) -> pd.DataFrame:
    """Returns the rows with these values."""
    rows = table
    for column, value in values.items():
        if not (rows[column] == value).any():
            known = ", ".join(map(str, rows[column].unique())) or "none"
            raise UsageError(f"{name}: there is no row with {column} {value!r}; it has {known}")
        rows = rows[rows[column] == value]
    return rows
