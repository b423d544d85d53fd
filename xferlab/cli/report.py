"""`xferlab report`: tables and figures."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from xferlab.cli.session import Session


def run(options: Namespace) -> int:
    """Writes the report and prints its path."""
    from xferlab.analysis import report

    session = Session.open(options)
    study = session.loaded.base.study
    out = Path(options.out) if options.out else Path("reports") / study
    print(report(session.store.location, study, out))
    return 0
