"""Writes the report of a study: tables, figures, `report.md` and one self-contained `index.html`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from xferlab.analysis.claims import Verdicts, declared_when, earlier_plans, verdicts_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.division import division
from xferlab.analysis.gallery import Gallery, View, galleries
from xferlab.analysis.loading import load_study
from xferlab.analysis.pages import Block, Page, Point, SavedPicture, Section, written
from xferlab.analysis.reprediction import NOTHING, Repredictor
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.selection import seen_by_parents
from xferlab.analysis.tables.arms import arms_tables, compared_arms
from xferlab.analysis.tables.checklists import checklists_tables
from xferlab.analysis.tables.claims import (
    Reached,
    best_sentence,
    claims_table,
    reached_by,
    reached_table,
)
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
from xferlab.analysis.tables.missing import missing_lines, missing_table
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
from xferlab.errors import StorageError
from xferlab.records.store import Store
from xferlab.tasks import registry

if TYPE_CHECKING:  # matplotlib takes a second to import
    from xferlab.analysis.figures.style import Picture

Echo = Callable[[str], None]
FILE_LIST = "files.txt"
"""Names the files that a report wrote, a line each, so that the next one removes what it has no longer."""
_UNDECLARED = (
    "Nothing was declared before the study ran, so all of this is exploratory; for verdicts, the study file "
    "declares primary and contrasts."
)
_STUDY = "Study"
_NO_RESULT = "No trial of this study is complete: there is nothing to report yet."
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


def _silent(line: str) -> None:
    """An `Echo` that says nothing."""


def write_report(
    storage: str | Path | Store,
    study: str,
    out: str | Path,
    *,
    echo: Echo = _silent,
    remarks: Sequence[str] = (),
    fail: Echo | None = None,
    other: StudyResults | None = None,
    repredictor: Repredictor = NOTHING,
) -> Path:
    """Writes everything about a study into a folder and returns the path of its `report.md`.

    Beside it: `index.html` with all pictures inside, `tables/*.{csv,md,tex}` and `figures/*.{png,svg,pdf}`.
    Works for any part of a study that is complete, and says what is missing. Files of an earlier report in
    this folder, as `files.txt` lists them, are replaced or removed; other files stay.

    Args:
        storage: Folder, URI or archive of the records.
        study: Name.
        out: Folder to write into.
        echo: Called with one line of progress at a time.
        remarks: Sentences that stand above all else on the page, which is not called complete then.
        fail: Called, when all else is written, with a line for each table, figure or stored file that could
            not be written or read; without it they are raised.
        other: Another study, which is shown beside this one.
        repredictor: What repredicts cases for ensembles and temperatures, where these are to be shown.

    Raises:
        RecordError: There is no plan of this study, or it is damaged.
        StorageError: The storage cannot be read or the folder not be written.
    """
    results = load_study(storage, study)
    contents = Contents(results, repredictor)
    folder = Path(out).resolve()
    try:
        with _collecting_seldom():
            path = _Writer(Tables(contents, other), folder, echo).write(remarks)
    except OSError as error:
        raise StorageError(
            f"{folder}: the report cannot be written: {error}; give another folder with --out"
        ) from error
    echo(f"report: {path}")
    if results.problems and fail is None:
        raise StorageError("\n".join(results.problems))
    for problem in results.problems:
        (fail or _silent)(problem)
    return path


def write_tables(results: StudyResults, folder: Path) -> None:
    """Writes the tables of a report, and nothing else of it, into `tables` of a folder.

    What cannot be read or written is noted in the results.
    """
    for _, made in Tables(Contents(results)).by_section():
        for table in made:
            _written(table, folder, results)


def tables(results: StudyResults) -> dict[str, pd.DataFrame]:
    """Returns the numbers of all tables of a study's report, by the names of its CSV files without `.csv`.

    They are tidy, with full precision. Those that need networks to predict again are not among them.
    """
    return {table.name: table.data for _, made in Tables(Contents(results)).by_section() for table in made}


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Lets Python look for cycles seldom: each look at all that is imported takes a tenth of a second."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


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
            yield title, tuple(made if title == _STUDY else map(self.contents.numbered, made))

    def _made(self) -> Iterator[tuple[str, Iterable[Table]]]:
        if self.verdicts:
            yield "Result", self._of_verdicts(self.verdicts)
        yield _STUDY, _of_study(self.results)
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


class _Writer:
    """Writes the page of a study and all files beside it, and keeps the list of them."""

    def __init__(self, tables: Tables, folder: Path, say: Echo):
        self.tables, self.folder, self.say = tables, folder, say
        self.contents, self.results = tables.contents, tables.results
        self.written: list[Path] = []
        self.shown_first: list[EvaluationSet] = []

    def write(self, remarks: Sequence[str]) -> Path:
        status, complete = _status(self.results, remarks)
        for sentence in status:
            self.say(sentence)
        self.folder.mkdir(parents=True, exist_ok=True)
        markdown, html = self.folder / "report.md", self.folder / "index.html"
        with _listed(self.folder, self.written):
            page = Page(f"Study {self.results.study}", status, complete, tuple(self.sections()))
            self.written += [markdown, html]
            markdown.write_text(written(page, "page.md"), "utf-8")
            html.write_text(written(page, "page.html"), "utf-8")
        return markdown

    def sections(self) -> Iterator[Section]:
        with_more = {
            "Result": self.result,
            _STUDY: self.study,
            "Against another study": self.beside,
            "Cases": self.figures_and_cases,
        }
        for title, tables in self.tables.by_section():
            for table in tables:  # those whose files cannot be written stand on the page, too
                self.written += _written(table, self.folder, self.results)
            if title in with_more:
                yield from with_more[title](tables)
            elif tables:
                self.say(f"{title}: {len(tables)} table{'' if len(tables) == 1 else 's'}")
                yield Section(title, tables)
        if self.tables.has_results:
            yield _definitions(self.contents)

    def result(self, tables: Sequence[Table]) -> Iterator[Section]:
        """Yields the first screen: a sentence a contrast, all arms at a glance, and a short table."""
        from xferlab.analysis.figures.comparisons import arms_picture

        verdicts = self.tables.verdicts
        assert verdicts is not None
        better = f" ({verdicts.metric.better} is better)" if verdicts.metric.better else ""
        judged = f"By {verdicts.metric.label}{better} on {verdicts.claims.on}"
        blocks: list[Block] = [
            f"{judged}, {declared_when(self.results, verdicts.claims)}:"
            if verdicts.claims.declared
            else f"{judged}. {_UNDECLARED}",
            tuple(Point(*verdicts.point(verdict)) for verdict in verdicts.verdicts),
            (
                *best_sentence(self.contents, verdicts, self.tables.reached),
                *verdicts.reader_notes(),
                *missing_lines(self.results),
            ),
        ]
        blocks = [block for block in blocks if block]
        evaluated = verdicts.verdicts[0].contrast.comparison.evaluated
        for arms in compared_arms(self.contents, judged=verdicts.metric.name):
            if arms.evaluated == evaluated and arms.metrics[0].name == verdicts.metric.name:
                self.shown_first += [arms.evaluated] if arms.is_of_main else []
                blocks += self.saved(filter(None, [arms_picture(arms)]))
        yield Section("Result", (*blocks, *tables), brief=True)

    def study(self, tables: Sequence[Table]) -> Iterator[Section]:
        """Yields what the study is made of, and what a reader must know of it."""
        yield _overview(self.results, tables)

    def beside(self, tables: Sequence[Table]) -> Iterator[Section]:
        """Yields this study and another one side by side."""
        assert self.tables.both is not None
        self.say(f"Against another study: {len(tables)} tables")
        yield Section("Against another study", (*self.tables.both.told(), *tables))

    def figures_and_cases(self, tables: Sequence[Table]) -> Iterator[Section]:
        """Yields the figures, and the worst, median and best cases."""
        drawn = tuple(self.saved(pictures(self.contents, without=self.shown_first)))
        if drawn:
            self.say(f"Figures: {len(drawn)}")
            yield Section("Figures", drawn)
        for gallery in self.tables.galleries:
            self.say(f"Cases: {len(gallery.cards)}")
        if tables:
            pairs = zip(self.tables.galleries, tables, strict=True)
            yield Section("Cases", tuple(replace(gallery, table=table) for gallery, table in pairs))

    def saved(self, pictures: Iterable[Picture]) -> Iterator[SavedPicture]:
        """Yields the figures with their files; those that cannot be written are noted and left out."""
        from xferlab.analysis.figures.files import drawn_text, save

        for picture in map(self.contents.numbered, pictures):
            self.say(f"drawing: {picture.title}")
            try:
                files = save(picture, self.folder / "figures")
            except OSError as error:
                self.results.note(f"figure {picture.name}: cannot be written and is left out: {error}")
                continue
            self.written += files
            width_px = round(96 * picture.figure.get_figwidth())
            alt = drawn_text(picture.figure)
            yield SavedPicture(picture.title, picture.caption, *files, alt=alt, width_px=width_px)


def pictures(contents: Contents, *, without: Collection[EvaluationSet] = ()) -> Iterator[Picture]:
    """Yields the figures in order; of many arms, figures of all together and of `detailed_arms` alone.

    Args:
        contents: The study.
        without: Sets on which all arms at a glance have been shown.
    """
    from xferlab.analysis.figures.before_after import before_after_pictures
    from xferlab.analysis.figures.classes import class_pictures
    from xferlab.analysis.figures.comparisons import arms_pictures, object_pictures
    from xferlab.analysis.figures.features import features_pictures
    from xferlab.analysis.figures.fractions import fractions_pictures
    from xferlab.analysis.figures.losses import loss_pictures
    from xferlab.analysis.figures.markers import markers_pictures
    from xferlab.analysis.figures.reached import reached_pictures

    yield from loss_pictures(contents)
    yield from before_after_pictures(contents)
    for name in dict.fromkeys(contents.results.plan["tasks"].values()):
        yield from registry.pictures_of(name, contents)
    yield from class_pictures(contents)
    yield from markers_pictures(contents)
    yield from arms_pictures(contents, without=without)
    yield from reached_pictures(contents)
    yield from fractions_pictures(contents)
    yield from object_pictures(contents)
    yield from features_pictures(contents)


def _written(table: Table, folder: Path, results: StudyResults) -> list[Path]:
    """Writes the files of a table into `tables` of a folder; notes what cannot be written."""
    try:
        return write_table(table, folder / "tables")
    except OSError as error:
        results.note(f"table {table.name}: its files cannot be written: {error}")
        return []


@contextmanager
def _listed(folder: Path, written: list[Path]) -> Iterator[None]:
    """Keeps the list of written files, and removes those of the former list that are not written again."""
    former = _former_files(folder)
    try:
        yield
        for path in former - set(written):
            path.unlink(missing_ok=True)
        former = set()
    finally:
        names = sorted(path.relative_to(folder).as_posix() for path in former | set(written))
        (folder / FILE_LIST).write_text("".join(f"{name}\n" for name in names), "utf-8")


def _former_files(folder: Path) -> set[Path]:
    """Returns the files in the folder's list that are there and lie within the folder."""
    try:
        names = (folder / FILE_LIST).read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return set()
    paths = {(folder / name).resolve() for name in names if name.isprintable()}
    return {path for path in paths if path.is_file() and path.is_relative_to(folder)}


def _status(results: StudyResults, remarks: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    distinct = results.trials.drop_duplicates("trial_id")
    done, planned = int((distinct["state"] == "complete").sum()), len(distinct)
    if done == planned and remarks:
        return (*remarks, f"All {planned} trials of the last plan are complete."), False
    if done == planned:
        return (f"Complete: all {planned} planned trials.",), True
    sentence = f"Incomplete: {done} of {planned} planned trials are complete; the others are in no number."
    return (*remarks, sentence, *([_NO_RESULT] if done == 0 else [])), False


def _of_study(results: StudyResults) -> Iterator[Table]:
    made = cohorts_table(results), training_table(results), masks_table(results), missing_table(results)
    return (table for table in made if table.groups)


def _overview(results: StudyResults, tables: Sequence[Table]) -> Section:
    plan = results.plan
    lists = {
        "In no table, in repetitions in which a parent may have trained on these patients:": seen_by_parents(
            results
        ),
        "Earlier plans with results, each a look at them, or with other parts:": earlier_plans(results),
        "Warnings of the plan:": tuple(str(warning) for warning in plan.get("warnings") or ()),
    }
    profile = f", profile {plan['profile']}" if plan.get("profile") else ""
    arms, stages = ", ".join(results.arms), ", ".join(plan["stages"])
    divided = division(plan)
    planned = f" Planned {p['at']}, digest {p['digest']}." if (p := plan.get("planned")) else ""
    moved = f" {p['moved']}." if p and "moved" in p else ""
    blocks: list[Block] = [f"Seed {plan['seed']}{profile}. Arms: {arms}. Stages: {stages}.{planned}{moved}"]
    blocks += [divided] if divided else []
    if not plan.get("claims") and (missing := tuple(missing_lines(results))):  # else they are in the result
        blocks.append(missing)
    blocks += [*_redeclared(results), *tables]
    for title, items in lists.items():
        blocks += [title, items] if items else []
    return Section(_STUDY, tuple(blocks))


def _view_of(name: str) -> View | None:
    """Returns how the cases of a task are ranked and drawn; None where they are not."""
    task = registry.task(name)
    return View(task.ranking, partial(registry.picture_of, name), task.panels_show) if task.ranking else None


def _definitions(contents: Contents) -> Section:
    paper = [f"{p.name}: {' '.join((f'{p.citation}.', *p.notes))}"] if (p := contents.paper) else []
    return Section("Definitions", (tuple(contents.definitions()), *paper))


def _redeclared(results: StudyResults) -> Iterator[str]:
    """Yields a sentence on metrics that the installed tasks declare in other words than the stored plan."""
    names = [
        metric.name
        for metric in registry.declared_metrics(results.learnt())
        if metric.to_json() != results.metrics.named(metric.name).to_json()
    ]
    if names:
        yield (
            "Declared otherwise by the installed task than by the stored plan, which this report follows: "
            f"{', '.join(names)}. Running the study again stores the new declarations and keeps all that is "
            "complete."
        )
