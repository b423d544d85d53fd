"""What a stage reaches by the share of its training patients: arms that are else alike, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from xferlab.analysis.aggregation import deviations_withheld
from xferlab.analysis.comparison import Contrast
from xferlab.analysis.contents import Contents
from xferlab.analysis.design import Side
from xferlab.analysis.fractions import Series, series_by_set, shown_metrics
from xferlab.analysis.other_sets import labelled
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, of_metrics
from xferlab.analysis.tables.model import ABSENT, Layout, Record, Table, file_name, number, with_unit
from xferlab.analysis.tables.notes import (
    INTERVAL,
    data_notes,
    difference_cells,
    inference_caption,
    inference_notes,
    mean_and_deviations,
    published_cell,
)
from xferlab.analysis.tables.overview import spread
from xferlab.analysis.tuning import tuned_notes
from xferlab.metrics.metric import Metric

_KIND = "label fractions"


@dataclass(frozen=True, eq=False)
class Fractions:
    """What is known of the series on a set.

    Attributes:
        contents: The study.
        evaluated: The set.
        series: The series, in the order of the arms.
        metrics: What is shown; the differences are in the first.
    """

    contents: Contents
    evaluated: EvaluationSet
    series: Sequence[Series]
    metrics: Sequence[Metric]

    @property
    def subject(self) -> dict[str, str]:
        """What table and figure show."""
        return {"kind": _KIND, **vars(self.evaluated)}

    @property
    def name(self) -> str:
        """Stem of their names."""
        return f"label_fractions_{self.evaluated.stage}_on_{file_name(self.evaluated.stem)}"

    @cached_property
    def rows(self) -> pd.DataFrame:
        """What the arms reach: a row for each arm and metric."""
        both = (self.evaluated.rows(frame) for frame in (self.contents.aggregated, self.contents.of_targets))
        frame = of_metrics(pd.concat(both), self.metrics)
        arms = [arm for each in self.series for arm in each.arms.values()]
        return frame[frame["arm"].isin(arms) & (frame["pathology"] == ALL)]

    @cached_property
    def published(self) -> pd.DataFrame:
        """What a paper says of these metrics here."""
        return of_metrics(self.contents.published(self.evaluated), self.metrics)

    def alike(self, arm: str) -> tuple[str, ...]:
        """Returns the arms that share an arm's results here, itself among them."""
        return next(arms for arms in self.contents.results.arms_by_evaluations(self.evaluated) if arm in arms)

    @cached_property
    def contrasts(self) -> dict[str, Contrast]:
        """Every arm compared with that of its series that has the most labels."""
        metric, evaluated = self.metrics[0], self.evaluated
        return {
            arm: self.contents.compare_in(metric, Side(each.whole, evaluated), Side(arm, evaluated))
            for each in self.series
            for arm in each.arms.values()
            if arm != each.whole
        }

    @cached_property
    def differences(self) -> pd.DataFrame:
        """The differences in the first metric, with what they are relative to the mean with most labels.

        Columns of `compare`, and arm, relative, relative_low and relative_high: 1 + difference / first_mean,
        and the same of the ends of the interval, which holds the mean with most labels to be known.
        """
        frame = pd.concat([rows.assign(arm=arm) for arm, (_, rows) in self.contrasts.items()])
        frame = frame[(frame["metric"] == self.metrics[0].name) & (frame["pathology"] == ALL)]
        frame = frame[frame["difference"].notna()]
        names = {"relative": "difference", "relative_low": "low", "relative_high": "high"}
        parts = {name: 1 + frame[column] / frame["first_mean"] for name, column in names.items()}
        return frame.assign(**parts).reset_index(drop=True)


def fractions(contents: Contents) -> Iterator[Fractions]:
    """Yields the sets on which arms of several shares are measured, where something is known of them."""
    for evaluated, series in series_by_set(contents):
        if metrics := shown_metrics(contents, evaluated):
            yield Fractions(contents, evaluated, series, metrics)


def fractions_tables(contents: Contents) -> Iterator[Table]:
    """Yields the series of each set as a table."""
    yield from map(_table, fractions(contents))


def _table(known: Fractions) -> Table:
    contents, evaluated, first = known.contents, known.evaluated, known.metrics[0]
    columns = [
        *(("Arm", "arm"), ("Trained on patients (images)", "trained"), ("Repetitions", "repetitions")),
        *((contents.heading(metric), metric.name) for metric in known.metrics),
        *(
            (with_unit(f"{first.label}, difference", first.unit), "difference"),
            (INTERVAL, "interval"),
            ("p", "p"),
        ),
        ("Relative", "relative"),
    ]
    shown = {name for each in known.series for arm in each.arms.values() for name in known.alike(arm)}
    named = known.published[known.published["arm"].isin(shown)]
    return Layout((("Series", "series"),), ("Labels", "share"), columns).fill(
        Table(
            name=known.name,
            title=f"stage {evaluated.stage} on {evaluated.name} by the share of its labels",
            caption=_caption(known),
            notes=(
                *(inference_notes(known.differences) if len(known.differences) else ()),
                *tuned_notes(contents.results, evaluated.stage, sorted(shown)),
                *data_notes(contents.results, [evaluated.stage], [evaluated.section]),
                *contents.paper_words(named),
            ),
            data=_data(known),
            subject=known.subject,
        ),
        (record for each in known.series for record in _records(known, each)),
    )


def _caption(known: Fractions) -> tuple[str, ...]:
    return (
        "Series: arms that differ in nothing that the stage takes anything from, but for the share of its "
        "training patients; it has the name of the arm with most of them.",
        "Mean over repetitions ± sample SD over repetitions (± SD over images).",
        f"Difference in {known.metrics[0].label} to the first line of the series, paired by repetition and "
        "image. Relative: their ratio.",
        *inference_caption(list(known.contrasts.values())),
        "p is not adjusted for the number of arms.",
    )


def _records(known: Fractions, series: Series) -> Iterator[Record]:
    contents, names = known.contents, [metric.name for metric in known.metrics]
    apart = known.differences.set_index("arm").to_dict("index")
    trained = contents.results.training_counts.to_dict("index")
    trained |= {place: own.counts.to_dict() for place, own in labelled(contents.results).items()}
    absent = dict.fromkeys(["trained", *names, "difference", "interval", "p", "relative"], ABSENT)
    for share, arm in series.arms.items():
        rows = known.rows[known.rows["arm"] == arm].set_index("metric").to_dict("index")
        labels = {"series": series.whole, "share": f"{100 * share:.3g} %", "arm": arm}
        counts, planned = trained[known.evaluated.stage, arm], contents.results.evaluation_ids
        line = {**absent, **labels, "repetitions": f"0 of {len(planned(arm, known.evaluated))}"}
        line["trained"] = f"{spread(counts, 'patients')} ({spread(counts, 'images')})"
        for metric in known.metrics:
            if row := rows.get(metric.name):
                line[metric.name] = mean_and_deviations(row, metric.unit)
                line["repetitions"] = f"{row['num_repetitions']} of {int(row['num_planned'])}"
        if arm in apart:
            line |= difference_cells(apart[arm], known.metrics[0].unit)
            line["relative"] = number(apart[arm]["relative"])
        yield line
        yield from _published_lines(known, {**absent, **labels})


def _published_lines(known: Fractions, labels: Record) -> Iterator[Record]:
    published = known.published
    of_arm = published["arm"].isin(known.alike(labels["arm"]))
    for line in known.contents.published_lines(published[of_arm & (published["pathology"] == ALL)]):
        cells = {metric.name: published_cell(line, metric) for metric in known.metrics}
        yield {**labels, "arm": line.label_of_cells, "repetitions": line.repetitions, **cells}


def _data(known: Fractions) -> pd.DataFrame:
    places = [
        {"series": each.whole, "share": share, "arm": arm}
        for each in known.series
        for share, arm in each.arms.items()
    ]
    named = ["relative", "relative_low", "relative_high", "difference", "low", "high", "p", "no_p"]
    apart = known.differences[["arm", "metric", *named]]
    rows = deviations_withheld(known.rows)
    return pd.DataFrame(places).merge(rows, on="arm").merge(apart, on=["arm", "metric"], how="left")
