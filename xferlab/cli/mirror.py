"""`xferlab mirror`: rebuilds in Weights & Biases what is missing there, from the records.

Trials of studies are mirrored; searches (`xferlab tune`) are not, their records and report hold all samples.
"""

from __future__ import annotations

import sys
from argparse import Namespace

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.session import Session
from xferlab.data.cache import check_cache
from xferlab.records.mirror import mirror_study, unmirrored

_SETTLE_S = 3.0


def run(options: Namespace) -> int:
    """Mirrors a study and prints what was written; exit code 1 if something could not be."""
    from xferlab.analysis import aggregate, load

    session = Session.open(options)
    check_cache(session.cache_dir)
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
    if not report.failed:
        return COMPLETE
    print(
        "xferlab: the lines above say why runs failed. Mend that (network, key, disk), and the same command "
        "sends what is missing; nothing is sent twice.",
        file=sys.stderr,
    )
    return INCOMPLETE


def lacking(session: Session, same: str) -> str:
    """Returns one line on the trials that W&B may lack after a run, empty if there are none.

    Args:
        session: The study.
        same: Its file and options, for the command that completes them.
    """
    tracking = session.loaded.base.tracking.wandb
    if tracking is None or tracking.mode == "disabled":
        return ""
    found = unmirrored(session.store, session.loaded.base.study, wait_s=_SETTLE_S)
    if not found:
        return ""
    trial_id, reason = next(iter(found.items()))
    return (
        f"warning: W&B lacks something of {len(found)} trials ({trial_id}: {reason}); the records are whole, "
        f"and `xferlab mirror {same}` completes it"
    )
