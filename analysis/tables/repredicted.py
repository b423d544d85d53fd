"""What the tables of repredicted cases have in common: two lines for each arm, of the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS, aggregate, deviations_withheld
from xferlab.analysis.contents import Contents
from xferlab.analysis.reprediction import Repredicted
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.tables.metrics import by_pathology
from xferlab.analysis.tables.model import ABSENT, Record, number
from xferlab.analysis.tables.notes import mean_and_deviation
from xferlab.metrics.metric import Metric

Arms = TypeVar("Arms", bound=Repredicted)


def repredicted_sets(contents: Contents) -> Iterator[EvaluationSet]:
    """Yields the sets without objects of which no repetition trains or selects on what it is measured on."""
    for evaluated in contents.plain_sets:
        if evaluated.plain.part in ("test", "hold_out"):
            yield evaluated


def pathologies_of(contents: Contents, evaluated: EvaluationSet, names: Iterable[str]) -> tuple[str, ...]:
    """Returns the pathologies that the page shows."""
    return ordered_pathologies((ALL, *names)) if by_pathology(contents, evaluated) else (ALL,)


def where_others_are(contents: Contents, evaluated: EvaluationSet) -> tuple[str, ...]:
    """Returns the sentence of a table that does not show every pathology."""
    return () if by_pathology(contents, evaluated) else ("The CSV has every pathology.",)


@dataclass(frozen=True)
class Lines:
    """The two lines of each arm.

    Attributes:
        column: Of the data and the table, which says what a line is.
        before: What the column says of cases as they were measured.
        after: Of cases after reprediction.
    """

    column: str
    before: str
    after: str

    def aggregated(self, contents: Contents, every: Sequence[Repredicted]) -> pd.DataFrame:
        """Returns means and deviations of both lines; of few patients without the latter."""
        planned = contents.results.planned_evaluations()
        frames = []
        for arms in every:
            for name, rows in ((self.before, arms.before), (self.after, arms.after)):
                frame, _ = contents.divided(aggregate(rows, planned=planned, sets=contents.sets))
                frames.append(frame.assign(**{self.column: name}))
        return deviations_withheld(pd.concat(frames, ignore_index=True))

    def records(
        self,
        frame: pd.DataFrame,
        metrics: Sequence[Metric],
        every: Sequence[Arms],
        pathologies: Sequence[str],
        labels: Callable[[Arms, str, pd.DataFrame], Record | None],
    ) -> Iterator[Record]:
        """Yields both lines of each pathology and arm.

        Args:
            frame: What `aggregated` returned.
            metrics: The columns.
            every: The arms.
            pathologies: Those to show.
            labels: Takes arms, a pathology and the rows of a line; returns what names them, or None to leave
                the line out.
        """
        for pathology in pathologies:
            for arms in every:
                rows = frame[(frame["arm"] == arms.arms[0]) & (frame["pathology"] == pathology)]
                for name in (self.before, self.after):
                    by_metric = rows[rows[self.column] == name].set_index("metric")
                    if (named := labels(arms, pathology, by_metric)) is not None:
                        yield {
                            "pathology": pathology,
                            "arm": ", ".join(arms.arms),
                            self.column: name,
                            **named,
                            **{metric.name: _text(by_metric, metric) for metric in metrics},
                        }


def _text(by_metric: pd.DataFrame, metric: Metric) -> str:
    if metric.name not in by_metric.index:
        return ABSENT
    row = by_metric.loc[[metric.name]].iloc[0]
    if row["num_patients"] < MIN_PATIENTS:
        return number(row["mean"], metric.unit)
    return mean_and_deviation(row, metric.unit, "sd_repetitions")
