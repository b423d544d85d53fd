"""Writes the report of a study: tables, figures, `report.md` and one self-contained `index.html`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xferlab.analysis.claims import declared_when, earlier_plans
from xferlab.analysis.contents import Contents
from xferlab.analysis.division import division
from xferlab.analysis.loading import load_study
from xferlab.analysis.pages import Block, Page, Point, SavedPicture, Section, written
from xferlab.analysis.reprediction import NOTHING, Repredictor
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.sections import STUDY, Tables, written_files
from xferlab.analysis.selection import seen_by_parents
from xferlab.analysis.tables.arms import compared_arms
from xferlab.analysis.tables.claims import best_sentence
from xferlab.analysis.tables.missing import missing_lines
from xferlab.analysis.tables.model import Table, heading_of
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
_NO_RESULT = "No trial of this study is complete: there is nothing to report yet."


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
    contents = Contents(load_study(storage, study), repredictor)
    return write_pages(contents, out, echo=echo, remarks=remarks, fail=fail, other=other)


def write_pages(
    contents: Contents,
    out: str | Path,
    *,
    echo: Echo = _silent,
    remarks: Sequence[str] = (),
    fail: Echo | None = None,
    other: StudyResults | None = None,
) -> Path:
    """As `write_report`, of a study that has been read."""
    results = contents.results
    folder = Path(out).resolve()
    try:
        with _collecting_seldom():
            path = _Writer(Tables(contents, other), folder, echo).write(remarks)
    except OSError as error:
        raise StorageError(f"{folder}: the report cannot be written: {error}; give another folder") from error
    echo(f"report: {path}")
    if results.problems and fail is None:
        raise StorageError("\n".join(results.problems))
    for problem in results.problems:
        (fail or _silent)(problem)
    return path


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
            STUDY: self.study,
            "Against another study": self.beside,
            "Cases": self.figures_and_cases,
        }
        for title, tables in self.tables.by_section():
            for table in tables:  # those whose files cannot be written stand on the page, too
                self.written += written_files(table, self.folder, self.results)
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
        judged = f"By {heading_of(verdicts.metric)}{better} on {verdicts.claims.on}"
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
    return Section(STUDY, tuple(blocks))


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
