"""`xferlab report`: tables and figures."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote

from rich.console import Console

from xferlab.cli.last_plan import compare
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import ReportOptions


def run(options: ReportOptions) -> int:
    """Writes the report and prints its path.

    Returns:
        1 if trials of the study are not complete, or parts of the report could not be read or written.
    """
    now = compare(options, must_have_run=True)
    now.print_remarks()
    session = now.session
    problems: list[str] = []
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with console.status("reading records", spinner="line") as status:
        from xferlab.analysis import write_report

        path = write_report(
            session.store.location,
            session.study,
            Path(options.out or Path("reports") / session.study),
            echo=status.update if console.is_terminal else console.print,
            fail=problems.append,
            remarks=now.remarks(quote(session.loaded.path.name)),
        )
    print(path)
    for problem in problems:
        print(problem, file=sys.stderr)
    return COMPLETE if now.is_complete() and not problems else INCOMPLETE
