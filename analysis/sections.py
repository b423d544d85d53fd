"""All tables of a report, section by section: each is computed once, whoever writes or returns it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from xferlab.analysis.claims import Verdicts, verdicts_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.gallery import Gallery, View, galleries
from xferlab.analysis.given import check_results
from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.arms import arms_tables
from xferlab.analysis.tables.checklists import checklists_tables
from xferlab.analysis.tables.claims import Reached, claims_table, reached_by, reached_table
from xferlab.analysis.tables.confusion import confusion_tables
from xferlab.analysis.tables.differences import (
    adaptation_tables,
    arms_against_baseline_tables,
    before_after_tables,
    object_tables,
)
from xferlab.analysis.tables.ensembles import ensembles_tables
from xferlab.analysis.tables.features import features_tables
from xferlab.analysis.tables.fractions import fractions_tables
from xferlab.analysis.tables.gates import gates_tables
from xferlab.analysis.tables.markers import markers_tables
from xferlab.analysis.tables.masks import masks_table
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.missing import missing_table
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.overview import cohorts_table, times_tables, training_table
from xferlab.analysis.tables.provenance import provenance_tables
from xferlab.analysis.tables.rendering import write_table
from xferlab.analysis.tables.signed_rank import signed_rank_tables
from xferlab.analysis.tables.sites import sites_tables
from xferlab.analysis.tables.structures import classes_tables, structures_tables
from xferlab.analysis.tables.subgroups import subgroups_tables
from xferlab.analysis.tables.temperature import temperature_tables
from xferlab.analysis.tables.two_studies import two_studies_tables
from xferlab.analysis.two_studies import TwoStudies
from xferlab.tasks import registry

STUDY = "Study"
"""The section on what the study is made of."""
_TABLES: dict[str, Callable[[Contents], Iterator[Table]]] = {
    "All arms": arms_tables,
    "Test parts": partial(metrics_tables, hold_out=False),
    "Site by site": sites_tables,
    "Gates": gates_tables,
    "Hold-out": partial(metrics_tables, hold_out=True),
    "Structure by structure": structures_tables,
    "Class by class": classes_tables,
    "Confusion": confusion_tables,
    "Ensembles": ensembles_tables,
    "Temperature scaling": temperature_tables,
    "Subgroups": subgroups_tables,
    "Markers": markers_tables,
    "After against before": before_after_tables,
    "What adaptation costs": adaptation_tables,
    "Arms against the baseline": arms_against_baseline_tables,
    "As the paper tests": signed_rank_tables,
    "By the share of the labels": fractions_tables,
    "What foreign objects cost": object_tables,
    "Deep features": features_tables,
    "Times": times_tables,
}
"""The sections of tables on the page, in order."""


class Tables:
    """All tables of a report, and what other parts of its page are made of, too; each is computed once."""

    def __init__(self, contents: Contents, other: StudyResults | None = None):
        """Takes a study, and another one that is shown beside it."""
        self.contents, self.results = contents, contents.results
        self.verdicts = verdicts_of(contents)
        self.both = TwoStudies(contents.results, other) if other else None

    @property
    def has_results(self) -> bool:
        """Whether anything of the study is complete."""
        return bool(len(self.results.cases) or len(self.results.histories))

    @cached_property
    def reached(self) -> Reached:
        """What each arm reaches on what the study is judged on."""
        assert self.verdicts is not None
        return reached_by(self.contents, self.verdicts.claims)

    @cached_property
    def galleries(self) -> tuple[Gallery, ...]:
        """The worst, median and best cases of each task, with pictures where any are stored."""
        return tuple(galleries(self.contents, _view_of))

    def by_section(self) -> Iterator[tuple[str, tuple[Table, ...]]]:
        """Yields the title of each section, in the order of the page, with its tables, if any.

        All are numbered but those that say what the study is made of.
        """
        for title, made in self._made():
            yield title, tuple(made if title == STUDY else map(self.contents.numbered, made))

    def _made(self) -> Iterator[tuple[str, Iterable[Table]]]:
        if self.verdicts:
            yield "Result", self._of_verdicts(self.verdicts)
        yield STUDY, _of_study(self.results)
        if not self.has_results:
            return
        for title, make in _TABLES.items():
            yield title, make(self.contents)
        if self.both:
            yield "Against another study", two_studies_tables(self.both)
        yield "Cases", (gallery.table for gallery in self.galleries)
        yield "Provenance", provenance_tables(self.contents)
        yield "Reporting guidelines", checklists_tables(self.contents, has_cases=bool(self.galleries))

    def _of_verdicts(self, verdicts: Verdicts) -> Iterator[Table]:
        made = reached_table(self.contents, verdicts, self.reached), claims_table(self.contents, verdicts)
        return filter(None, made)


def write_tables(results: StudyResults, folder: Path) -> None:
    """Writes the tables of a report, and nothing else of it, into `tables` of a folder.

    What cannot be read or written is noted in the results.
    """
    for _, made in Tables(Contents(results)).by_section():
        for table in made:
            written_files(table, folder, results)


def tables(results: StudyResults) -> dict[str, pd.DataFrame]:
    """Returns the numbers of all tables of a study's report, by the names of its CSV files without `.csv`.

    They are tidy, with full precision. Those that need networks to predict again are not among them.

    Raises:
        UsageError: These are no results of a study.
    """
    check_results(results)
    return {table.name: table.data for _, made in Tables(Contents(results)).by_section() for table in made}


def written_files(table: Table, folder: Path, results: StudyResults) -> list[Path]:
    """Writes the files of a table into `tables` of a folder; notes what cannot be written."""
    try:
        return write_table(table, folder / "tables")
    except OSError as error:
        results.note(f"table {table.name}: its files cannot be written: {error}")
        return []


def _of_study(results: StudyResults) -> Iterator[Table]:
    made = cohorts_table(results), training_table(results), masks_table(results), missing_table(results)
    return (table for table in made if table.groups)


def _view_of(name: str) -> View | None:
    """Returns how the cases of a task are ranked and drawn; None where they are not."""
    task = registry.task(name)
    return View(task.ranking, partial(registry.picture_of, name), task.panels_show) if task.ranking else None
