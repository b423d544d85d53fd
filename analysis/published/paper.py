"""Reads a paper's folder: values printed beside a study's own, and the numbers of its tables and figures.

A folder holds `layout.yaml` and three CSV files. A CSV file without values still has its header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pandas as pd
import yaml

from xferlab.analysis.published import FOLDER, papers
from xferlab.errors import UsageError, suggest


@dataclass(frozen=True)
class PublishedTable:
    """What a paper says about one of its tables.

    Attributes:
        shows: Names and values that a study's table must have to take this number.
        title: The paper's title.
        deviation: Name of its deviations; it says what they are over, if the paper does.
        repetitions: How many repetitions it is over.
        notes: Sentences that a reader of its values must know.
    """

    shows: Mapping[str, str]
    title: str
    deviation: str
    repetitions: str
    notes: tuple[str, ...] = ()


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
        values: Columns table, stage, section, part, pathology, metric, mean, sd.
        times: Columns place, stage, quantity, mean_ms, sd_ms.
        cohorts: Columns section, pathology, images.
    """

    name: str
    citation: str
    images: str
    metrics: tuple[str, ...]
    tables: Mapping[str, PublishedTable]
    figures: Mapping[str, Mapping[str, str]]
    values: pd.DataFrame = field(repr=False)
    times: pd.DataFrame = field(repr=False)
    cohorts: pd.DataFrame = field(repr=False)

    def number(self, kind: str, subject: Mapping[str, str]) -> str | None:
        """Returns the number of the paper's `table` or `figure` on a subject; None if it has no such."""
        tables = {number: table.shows for number, table in self.tables.items()}
        entries = tables if kind == "table" else self.figures
        agreeing = (number for number, shows in entries.items() if shows.items() <= subject.items())
        return next(agreeing, None)

    def words(self, number: str) -> tuple[str, ...]:
        """Returns the title of a table, and what a reader of its values must know."""
        counts = self.cohorts.groupby("section", sort=False)["images"].sum()
        sizes = " and ".join(f"{count:,} {section}" for section, count in counts.items())
        return (
            f"{self.name}, Table {number}: {self.tables[number].title}.",
            f"The cohorts differ: the paper used {sizes} {self.images}; its values are context, not a "
            "target.",
            *self.tables[number].notes,
        )


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
        stem: pd.read_csv(FOLDER / name / f"{stem}.csv", dtype={"table": str})
        for stem in ("tables", "times", "cohorts")
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
        values=frames["tables"],
        times=frames["times"],
        cohorts=frames["cohorts"],
    )
