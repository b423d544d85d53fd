"""`xferlab mirror`: rebuilds in Weights & Biases what is missing there, from the records."""

from __future__ import annotations

from argparse import Namespace

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.session import Session
from xferlab.records.mirror import mirror_study


def run(options: Namespace) -> int:
    """Mirrors a study and prints what was written; exit code 1 if something could not be."""
    from analysis import aggregate, load

    session = Session.open(options)
    study = session.loaded.base.study
    rows = aggregate(load(session.store.location, study)).to_dict("records")
    report = mirror_study(
        session.store,
        study,
        directory=session.cache_dir / "wandb",
        mode=options.mode,
        aggregate=[{str(key): value for key, value in row.items()} for row in rows],
        echo=print,
    )
    print(report)
    return INCOMPLETE if report.failed else COMPLETE
