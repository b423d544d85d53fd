"""Writes the report of a study: tables, figures, `report.md` and one self-contained `index.html`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from xferlab.analysis.contents import Contents
from xferlab.analysis.loading import load_study
from xferlab.analysis.pages import Block, Page, SavedPicture, Section, html_page, markdown_page
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ordered_metrics, seen_by_parents
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.notes import trial_name
from xferlab.analysis.tables.overview import cohorts_table, progress_table
from xferlab.analysis.tables.rendering import write_table
from xferlab.analysis.tables.training import training_table
from xferlab.errors import StorageError

Echo = Callable[[str], None]
_NO_RESULT = "No trial of this study is complete: there is nothing to report yet."


def report(
    storage: str | Path,
    study: str,
    out: str | Path,
    *,
    echo: Echo | None = None,
    remarks: Sequence[str] = (),
    fail: Echo | None = None,
) -> Path:
    """Writes everything about a study into a folder and returns the path of its `report.md`.

    Beside it: `index.html` with all pictures inside, `tables/*.{csv,md,tex}` and `figures/*.{png,svg}`.
    Works for any part of a study that is complete, and says what is missing.

    Args:
        storage: Folder or URI of the records.
        study: Name.
        out: Folder to write into; files of the same names are replaced.
        echo: Called with one line of progress at a time.
        remarks: Sentences that stand above all else on the page, which is not called complete then.
        fail: Called, when all else is written, with a line for each table, figure or stored file that could
            not be written or read; without it they are raised.

    Raises:
        RecordError: There is no plan of this study, or it is damaged.
        StorageError: The storage cannot be read or the folder not be written.
    """
    say = echo or _silent
    results = load_study(storage, study)
    folder = Path(out).resolve()
    try:
        path = _write(results, folder, say, remarks)
    except OSError as error:
        raise StorageError(
            f"{folder}: the report cannot be written: {error}; give another folder with --out"
        ) from error
    say(f"report: {path}")
    if results.problems and fail is None:
        raise StorageError("\n".join(results.problems))
    for problem in results.problems:
        (fail or _silent)(problem)
    return path


def _silent(line: str) -> None:
    del line


def _write(results: StudyResults, folder: Path, say: Echo, remarks: Sequence[str]) -> Path:
    status, complete = _status(results, remarks)
    for sentence in status:
        say(sentence)
    folder.mkdir(parents=True, exist_ok=True)
    page = Page(f"Study {results.study}", status, complete, tuple(_sections(results, folder, say)))
    path = folder / "report.md"
    path.write_text(markdown_page(page, folder), "utf-8")
    (folder / "index.html").write_text(html_page(page), "utf-8")
    return path


def _status(results: StudyResults, remarks: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    distinct = results.trials.drop_duplicates("trial_id")
    done, planned = int((distinct["state"] == "complete").sum()), len(distinct)
    if done == planned and remarks:
        return (*remarks, f"All {planned} trials of the last plan are complete."), False
    if done == planned:
        return (f"Complete: all {planned} planned trials.",), True
    sentence = f"Incomplete: {done} of {planned} planned trials are complete; the others are in no number."
    return (*remarks, sentence, *([_NO_RESULT] if done == 0 else [])), False


def _sections(results: StudyResults, folder: Path, say: Echo) -> Iterable[Section]:
    yield _overview(results, folder)
    if not len(results.cases) and not len(results.histories):
        return
    contents = Contents(results)
    for title, tables in (
        ("All arms", contents.all_arms()),
        ("Test parts", contents.metrics(hold_out=False)),
        ("Hold-out", contents.metrics(hold_out=True)),
        ("After against before", contents.before_after()),
        ("Arms against the baseline", contents.arms()),
        ("What foreign objects cost", contents.objects()),
        ("Deep features", contents.features()),
        ("Times", contents.times()),
    ):
        written = tuple(_written(results, tables, folder))
        if written:
            say(f"{title}: {len(written)} table{'' if len(written) == 1 else 's'}")
            yield Section(title, written)
    pictures = tuple(_saved(contents, folder, say))
    if pictures:
        say(f"Figures: {len(pictures)}")
        yield Section("Figures", pictures)
    yield _definitions(results, contents)


def _overview(results: StudyResults, folder: Path) -> Section:
    plan = results.plan
    absent = results.trials[results.trials["state"] != "complete"].to_dict("records")
    missing = tuple(f"{trial_name(row)}: {row['state']} ({row['reason']})" for row in absent)
    warnings = tuple(str(warning) for warning in plan.get("warnings") or ())
    profile = f", profile {plan['profile']}" if plan.get("profile") else ""
    arms, stages = ", ".join(results.arms), ", ".join(plan["stages"])
    trained = training_table(results)
    overview = [cohorts_table(results), *filter(None, [trained]), progress_table(results)]
    tables = _written(results, overview, folder)
    blocks: tuple[Block, ...] = (
        f"Seed {plan['seed']}{profile}. Arms: {arms}. Stages: {stages}.",
        *tables,
        *_listed("Not complete:", missing),
        *_listed(
            "In no table, because a parent may have trained on these patients:", seen_by_parents(results)
        ),
        *_listed("Warnings of the plan:", warnings),
    )
    return Section("Study", blocks)


def _listed(title: str, items: tuple[str, ...]) -> tuple[Block, ...]:
    return (title, items) if items else ()


def _definitions(results: StudyResults, contents: Contents) -> Section:
    metrics = ordered_metrics(results.cases["metric"].unique())
    items = tuple(f"{m.name} ({m.label}): {m.definition} {m.undefined} Source: {m.source}." for m in metrics)
    paper = (f"{contents.reference.name}: {contents.reference.citation}.",) if contents.reference else ()
    return Section("Definitions", (items, *paper))


def _written(results: StudyResults, tables: Iterable[Table], folder: Path) -> Iterable[Table]:
    """Yields the tables, which stand on the page even where a file of theirs cannot be written."""
    for table in tables:
        try:
            write_table(table, folder / "tables")
        except OSError as error:
            results.note(f"table {table.name}: its files cannot be written: {error}")
        yield table


def _saved(contents: Contents, folder: Path, say: Echo) -> Iterable[SavedPicture]:
    from xferlab.analysis.figures.gallery import pictures
    from xferlab.analysis.figures.style import save

    for picture in pictures(contents):
        say(f"drawing: {picture.title}")
        try:
            png, svg = save(picture, folder / "figures")
        except OSError as error:
            contents.results.note(f"figure {picture.name}: cannot be written and is left out: {error}")
            continue
        yield SavedPicture(picture.title, picture.caption, png, svg)
