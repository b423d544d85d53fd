"""`xferlab mirror`: rebuilds in Weights & Biases what is missing there, from the records.

Trials of studies are mirrored; searches (`xferlab tune`) are not, their records and report hold all samples.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from functools import partial

from xferlab.cli.last_plan import compare
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import MirrorOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session
from xferlab.cli.study_results import study_results
from xferlab.data.cache import check_cache
from xferlab.errors import XferlabError
from xferlab.tracking import FAILURES, complete_study, mirror_study, unmirrored

COMPLETE_WITHIN_S = {"offline": 60.0, "online": 20.0}
"""Longest time that a run spends on W&B after its last trial."""


def run(options: MirrorOptions) -> int:
    """Mirrors a study and prints what was written.

    Returns:
        1 if something could not be mirrored, or trials of the study are not complete.
    """
    now = compare(options, must_have_run=True)
    session = now.session
    check_cache(session.cache_dir)
    now.print_remarks()
    report = mirror_study(
        session.store,
        session.loaded.base.study,
        directory=session.cache_dir / "wandb",
        mode=options.mode,
        results=study_results(session),
        echo=print,
    )
    print(report)
    tell(study=session.study, remarks=now.remarks(), **asdict(report))
    if not report.failed:
        return COMPLETE if now.is_complete() else INCOMPLETE
    print(
        "xferlab: the lines above say why runs failed. Fix that (network, key, disk), and the same command "
        "sends what is missing; nothing is sent twice.",
        file=sys.stderr,
    )
    return INCOMPLETE


def complete(session: Session, alert: tuple[str, str] | None = None) -> str:
    """Completes in W&B what a run has left open there, and writes the run of the study.

    Args:
        session: The study.
        alert: Title and text that W&B tells its subscribers.

    Returns:
        One line on what W&B still lacks, empty if that is nothing.
    """
    tracking, study = session.loaded.base.tracking.wandb, session.loaded.base.study
    if tracking is None or tracking.mode == "disabled":
        return ""
    lacking: dict[str, str] = {}
    try:
        report = complete_study(
            session.store,
            study,
            directory=session.cache_dir / "wandb",
            results=partial(study_results, session, alert),
            within_s=COMPLETE_WITHIN_S[tracking.mode],
        )
        lacking = {**dict.fromkeys(report.not_tried, "not tried for lack of time"), **report.failed}
    except FAILURES as error:
        lacking = {study: str(error) if isinstance(error, XferlabError) else repr(error)}
    trials = unmirrored(session.store, study)
    if not trials and not lacking:
        return ""
    what = f"something of {len(trials)} trials" if trials else "the summary run of the study"
    run_id, reason = next(iter({**trials, **lacking}.items()))
    return (
        f"warning: W&B lacks {what} ({run_id}: {reason}); the records are whole, and "
        f"`xferlab mirror {session.words}` completes it"
    )
