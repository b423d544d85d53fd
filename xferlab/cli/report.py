"""`xferlab report`: tables and figures."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from rich.console import Console
from rich.markup import escape

from xferlab.analysis.contents import Contents
from xferlab.analysis.loading import load_study
from xferlab.analysis.report import Echo, write_pages
from xferlab.analysis.results import StudyResults
from xferlab.cli.last_plan import ArchivedStudy, stored
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import ReportOptions
from xferlab.cli.output import tell
from xferlab.cli.reprediction import repredictor
from xferlab.cli.session import Session
from xferlab.errors import RecordError, UsageError, suggest, without_query
from xferlab.records.layout import STUDIES, StudyFiles
from xferlab.records.store import Store, is_archive
from xferlab.study.load import load


def run(options: ReportOptions) -> int:
    """Writes the report and prints its path.

    Returns:
        1 if trials of the study are not complete, or parts of the report could not be read or written.
    """
    now = stored(options, must_have_run=True)
    now.print_remarks()
    session = now.session
    with shown() as echo:
        other = other_results(options.compare, session) if options.compare else None
        repredicts = repredictor(now, options, echo)
        contents = Contents(load_study(session.store, session.study), repredicts)
        remarks = now.remarks(quote(session.path.name))
        is_whole = write(
            contents, options.out or Path("reports") / session.study, echo, remarks=remarks, other=other
        )
    is_complete = now.is_complete()
    tell(study=session.study, remarks=now.remarks(), complete=is_complete)
    if is_complete:
        return COMPLETE if is_whole else INCOMPLETE
    print(f"not all trials are complete; `xferlab status {session.words}` lists them", file=sys.stderr)
    return INCOMPLETE


@contextmanager
def shown() -> Iterator[Echo]:
    """Yields what shows a line at a time on a terminal, of what is being done."""
    with Console(stderr=True).status("reading records", spinner="line") as progress:  # nothing in a pipe
        yield lambda line: progress.update(escape(line))


def write(
    contents: Contents,
    out: str | Path,
    echo: Echo,
    *,
    remarks: Sequence[str] = (),
    other: StudyResults | None = None,
) -> bool:
    """Writes a report, and prints where it is and what it lacks; returns whether it lacks nothing."""
    problems: list[str] = []
    path = write_pages(contents, out, echo=echo, fail=problems.append, remarks=remarks, other=other)
    print(path)
    if (page := path.with_name("index.html")).exists():
        print(f"{page}: the same as one page for a browser")
    for problem in problems:
        print(problem, file=sys.stderr)
    tell(report=path, lacking=problems)
    return not problems


def other_results(given: str, session: Session | ArchivedStudy) -> StudyResults:
    """Returns the results of the study that `--compare` names: by its file, or by a storage that holds it.

    Of a storage with several studies, it is the one of the same name as the report's.

    Raises:
        UsageError: There is no such file or storage, it holds no such study, or it is the report's own one.
        XferlabError: The file, the plan or the storage cannot be read.
    """
    store, name = _other_study(given, session)
    what = f"--compare {without_query(given)}"
    if (store.location, name) == (session.store.location, session.study):
        raise UsageError(
            f"{what}: this is study {name!r} in {store.shown}, the one that the report is of; "
            "give another study file, or a storage with other results"
        )
    try:
        return load_study(store, name)
    except RecordError as error:
        raise RecordError(f"{what}: {error}") from error


def _other_study(given: str, session: Session | ArchivedStudy) -> tuple[Store, str]:
    if Path(given).is_file() and not is_archive(given):
        loaded = load(given)
        return Store.open(loaded.base.storage), loaded.base.study
    store, what = Store.open(given), f"--compare {without_query(given)}"
    studies = [each for each in store.list(STUDIES) if store.exists(StudyFiles(each).plan)]
    if not studies:
        raise UsageError(
            f"{what}: there is no such study file, and no study has run in a storage of that "
            "name; accepted: a study file, or a folder or URI in which a study has run"
        )
    if session.study in studies or len(studies) == 1:
        return store, session.study if session.study in studies else studies[0]
    raise UsageError(
        f"{what}: this storage holds no study {session.study!r} (studies here: "
        f"{', '.join(studies)}); give the file of the one that is meant.{suggest(session.study, studies)}"
    )
