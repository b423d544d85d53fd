"""`xferlab report`: tables and figures."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from shlex import quote

from rich.console import Console

from xferlab.cli.last_plan import study_now
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.session import Session, command_options
from xferlab.records import reader


def run(options: Namespace) -> int:
    """Writes the report and prints its path.

    Returns:
        1 if trials of the study are not complete, or parts of the report could not be read or written.
    """
    session = Session.open(options)
    study = session.loaded.base.study
    reader.read_plan(session.store, study)  # without one there is nothing to report, nor to compare
    now = study_now(session)
    for remark in now.remarks(command_options(options)):
        print(remark)
    out = Path(options.out) if options.out else Path("reports") / study
    problems: list[str] = []
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with console.status("reading records", spinner="line") as status:
        from xferlab.analysis import write_report

        echo = status.update if console.is_terminal else console.print
        path = write_report(
            session.store.location,
            study,
            out,
            echo=echo,
            fail=problems.append,
            remarks=now.remarks(quote(session.loaded.path.name)),
        )
    print(path)
    for problem in problems:
        print(problem, file=sys.stderr)
    return COMPLETE if now.is_complete(session) and not problems else INCOMPLETE
