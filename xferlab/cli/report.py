"""`xferlab report`: tables and figures."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.session import Session


def run(options: Namespace) -> int:
    """Writes the report and prints its path; exit code 1 if parts of it could not be read or written."""
    from xferlab.analysis import report

    session = Session.open(options)
    study = session.loaded.base.study
    out = Path(options.out) if options.out else Path("reports") / study
    problems: list[str] = []
    print(report(session.store.location, study, out, fail=problems.append))
    for problem in problems:
        print(problem, file=sys.stderr)
    return INCOMPLETE if problems else COMPLETE
