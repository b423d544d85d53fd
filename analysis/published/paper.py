"""Reads a paper's folder: values printed beside a study's own, and the numbers of its tables and figures.

A folder holds `layout.yaml` and four CSV files. A CSV file without values still has its header.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import pandas as pd
import yaml

from xferlab.analysis.published import FOLDER, papers
from xferlab.errors import UsageError, suggest

AMBIGUOUS = "(?)"
"""Follows a value of which the paper leaves open what it is, or which it contradicts elsewhere."""

Shows = Mapping[str, Any]
"""Names, each with the value, or a list of the values, that a table or figure has."""


def is_shown(shows: Shows, subject: Mapping[str, Any]) -> bool:
    """Returns whether a subject has the value, or one of the values, of each name that is shown."""
    return all(
        subject.get(name) in (value, *(value if isinstance(value, list) else ()))
        for name, value in shows.items()
    )


@dataclass(frozen=True)
class PublishedTable:
    """What a paper says about one of its tables.

    Attributes:
        title: The paper's title.
        repetitions: How many repetitions it is over.
        deviation: Name of its deviations; it says what they are over, if the paper does. Empty without any.
        shows: What a study's table must be to take this number (see `is_shown`); none if no table of a study
            can show the same.
        notes: Sentences that a reader of its values must know.
        quoted: Arms whose values it quotes from other papers, with the name of their deviations.
    """

    title: str
    repetitions: str
    deviation: str = ""
    shows: Shows = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    quoted: Mapping[str, str] = field(default_factory=dict)


class PublishedLine(NamedTuple):
    """What a table of a paper says of one of its arms, or several that agree.

    Attributes:
        paper: Name of the paper.
        numbers: Numbers of the tables.
        arm: Name of the arm; may be empty.
        table: The first of the tables.
        values: Rows of the paper's values by metric.
    """

    paper: str
    numbers: tuple[str, ...]
    arm: str
    table: PublishedTable
    values: pd.DataFrame

    @property
    def label(self) -> str:
        """Names of paper, tables and arm."""
        return ", ".join(filter(None, (self.paper, named_tables(self.numbers), self.arm)))

    def agrees(self, other: PublishedLine) -> bool:
        """Returns whether both are of one arm, and say the same of the metrics that both have."""
        both = self.values.index.intersection(other.values.index)
        kinds = [(line.arm, line.repetitions, line.deviation) for line in (self, other)]
        return kinds[0] == kinds[1] and self.values.loc[both].equals(other.values.loc[both])

    def joined(self, other: PublishedLine) -> PublishedLine:
        """Returns one line of both, which agree."""
        more = other.values[~other.values.index.isin(self.values.index)]
        numbers = (*self.numbers, *other.numbers)
        return self._replace(numbers=numbers, values=pd.concat([self.values, more]))

    def marked(self, metric: str, text: str) -> str:
        """Returns a value's text with a mark if it is ambiguous."""
        is_open = metric in self.values.index and self.values["ambiguous"][metric]
        return f"{text} {AMBIGUOUS}" if is_open else text

    @property
    def deviation(self) -> str:
        """Name of its deviations; empty without any."""
        return self.table.quoted.get(self.arm, self.table.deviation)

    @property
    def repetitions(self) -> str:
        """How many repetitions it is over; a dash where it is quoted."""
        return "–" if self.arm in self.table.quoted else self.table.repetitions

    @property
    def label_of_cells(self) -> str:
        """The label, and what the deviations of its cells are."""
        return f"{self.label} (± {self.deviation})" if self.deviation else self.label


@dataclass(frozen=True, eq=False)
class Paper:
    """A paper's results, and how it presents them.

    Attributes:
        name: Name of its folder, which a study writes under `compare_to`.
        citation: Where the values were published.
        images: What its images are; follows their number in a sentence.
        metrics: Metrics of its tables.
        tables: Its tables by number.
        figures: What each of its figures shows, by number.
        notes: Sentences on the paper as a whole, such as on tables that no study can have.
        signed_rank: Metrics, over all targets, whose values it compares image by image; see
            `tables.signed_rank`.
        values: Columns table, stage, section, part, arm, pathology, metric, mean, sd, ambiguous. The arm is
            that of a study, or empty; `ambiguous` is not empty where the paper leaves open what a value is.
        times: Columns place, stage, quantity, mean_ms, sd_ms.
        cohorts: Columns section, pathology, images.
        significance: How it marks the comparison of two arms or pathologies, `first` and `second`: columns
            table, stage, section, part, metric, first, second, mark, ambiguous.
    """

    name: str
    citation: str
    images: str
    metrics: tuple[str, ...]
    tables: Mapping[str, PublishedTable]
    figures: Mapping[str, Shows]
    values: pd.DataFrame = field(repr=False)
    times: pd.DataFrame = field(repr=False)
    cohorts: pd.DataFrame = field(repr=False)
    significance: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()
    signed_rank: tuple[str, ...] = ()

    def number(self, kind: str, subject: Mapping[str, Any]) -> str | None:
        """Returns the number of the paper's `table` or `figure` on a subject; None if it has no such."""
        tables = {number: table.shows for number, table in self.tables.items()}
        entries = tables if kind == "table" else self.figures
        agreeing = (number for number, shows in entries.items() if shows and is_shown(shows, subject))
        return next(agreeing, None)

    def words(self, numbers: Iterable[str]) -> tuple[str, ...]:
        """Returns the titles of tables, and what a reader of their values must know."""
        counts = self.cohorts.groupby("section", sort=False)["images"].sum()
        *first, last = (f"{count:,} {section}" for section, count in counts.items())
        sizes = " and ".join(filter(None, (", ".join(first), last)))
        given = {number: self.tables[number] for number in numbers}
        return (
            *(f"{self.name}, Table {number}: {table.title}." for number, table in given.items()),
            f"The cohorts differ: the paper used {sizes} {self.images}; its values are context, not a "
            "target.",
            *dict.fromkeys(note for table in given.values() for note in table.notes),
        )

    def lines(self, rows: pd.DataFrame) -> Iterator[PublishedLine]:
        """Yields rows of one evaluation set and pathology, those of each table and arm together.

        Tables share a line where they say the same of an arm, or of other metrics.
        """
        lines: list[PublishedLine] = []
        for (number, arm), of_line in rows.groupby(["table", "arm"], sort=False):
            values = of_line.drop(columns="table").set_index("metric")
            line = PublishedLine(self.name, (str(number),), str(arm), self.tables[str(number)], values)
            at = next((at for at, other in enumerate(lines) if other.agrees(line)), len(lines))
            lines[at : at + 1] = [lines[at].joined(line) if at < len(lines) else line]
        yield from lines


def named_tables(numbers: Sequence[str]) -> str:
    """Returns `Table V`, or `Tables V, XIII`."""
    return f"Table{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


def marks_of(significance: pd.DataFrame, metric: str, first: str, others: Collection[str]) -> str:
    """Returns how a paper marks a comparison, each mark with its table: `V: ***`; empty where it does not.

    Args:
        significance: Rows of a paper, all of one stage and section.
        metric: What is compared.
        first: An arm or a pathology.
        others: Those that it is compared with, whichever the paper names first.
    """
    pairs = [{first, other} for other in others]
    sides = zip(significance["first"], significance["second"], strict=True)
    is_here = pd.Series([set(names) in pairs for names in sides], significance.index, dtype=bool)
    marks = significance[is_here & (significance["metric"] == metric)].to_dict("records")
    return "; ".join(f"{m['table']}: {m['mark']}{f' {AMBIGUOUS}' * bool(m['ambiguous'])}" for m in marks)


_OPTIONAL = ("arm", "ambiguous")


def _text(frame: pd.DataFrame, column: str) -> pd.Series:
    """A column of texts that a file may lack, empty where it says nothing."""
    return frame.get(column, pd.Series("", index=frame.index)).fillna("").astype(str)


@cache
def read_paper(name: str) -> Paper:
    """Returns the published values that a study compares itself to.

    Raises:
        UsageError: There are none of this name.
    """
    if name not in papers():
        raise UsageError(
            f"compare_to {name!r} is no publication with stored values (accepted: {', '.join(papers())})."
            f"{suggest(name, papers())}"
        )
    layout: dict[str, Any] = yaml.safe_load((FOLDER / name / "layout.yaml").read_text("utf-8"))
    frames = {
        stem: pd.read_csv(FOLDER / name / f"{stem}.csv", dtype=dict.fromkeys(("table", *_OPTIONAL), str))
        for stem in ("tables", "times", "cohorts", "significance")
    }
    return Paper(
        name=name,
        citation=layout["citation"],
        images=layout["images"],
        metrics=tuple(layout["metrics"]),
        tables={
            number: PublishedTable(**{**entry, "notes": tuple(entry.get("notes", ()))})
            for number, entry in layout["tables"].items()
        },
        figures=layout["figures"],
        values=frames["tables"].assign(**{name: _text(frames["tables"], name) for name in _OPTIONAL}),
        times=frames["times"],
        cohorts=frames["cohorts"],
        significance=frames["significance"].assign(ambiguous=_text(frames["significance"], "ambiguous")),
        notes=tuple(layout.get("notes", ())),
        signed_rank=tuple(layout.get("tests", {}).get("signed_rank", ())),
    )
