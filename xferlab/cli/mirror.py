"""`xferlab mirror`: rebuilds in Weights & Biases what is missing there, from the records.

Trials of studies are mirrored; searches (`xferlab tune`) are not, their records and report hold all samples.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from xferlab.cli.last_plan import compare
from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import MirrorOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session
from xferlab.cli.study_results import contents_of, study_results
from xferlab.data.cache import check_cache
from xferlab.errors import XferlabError
from xferlab.tracking.live import FAILURES
from xferlab.tracking.notes import unmirrored
from xferlab.tracking.pipe import MirrorProcess
from xferlab.tracking.rebuild import MirrorReport, complete_study, mirror_study

if TYPE_CHECKING:  # matplotlib and pandas take a second to import
    from xferlab.analysis.contents import Contents

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
        results=study_results(contents_of(session)),
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


def complete(
    session: Session, contents: Callable[[], Contents], alert: tuple[str, str] | None = None
) -> Callable[[], str]:
    """Begins to complete in W&B what a run has left open there, and to write the run of the study.

    Args:
        session: The study.
        contents: Returns what is stored of it.
        alert: Title and text that W&B tells its subscribers.

    Returns:
        What waits until that is done, and returns one line on what W&B still lacks, empty if that is nothing.
    """
    tracking, study = session.loaded.base.tracking.wandb, session.loaded.base.study
    if tracking is None or tracking.mode == "disabled":
        return lambda: ""
    directory = session.cache_dir / "wandb"
    try:
        MirrorProcess.prepare(directory)  # it starts while the results are drawn
        results = study_results(contents(), alert)
    except FAILURES as error:
        return partial(_lacking, session, {study: _told(error)})
    sending = partial(
        complete_study, directory=directory, results=results, within_s=COMPLETE_WITHIN_S[tracking.mode]
    )
    pool = ThreadPoolExecutor(1, thread_name_prefix="mirror")
    return partial(_lacks, session, pool.submit(sending, session.store, study))


def _lacks(session: Session, sent: Future[MirrorReport]) -> str:
    """Waits until a study is sent; as `complete` returns it."""
    try:
        report = sent.result()
    except FAILURES as error:
        return _lacking(session, {session.study: _told(error)})
    return _lacking(
        session, {**dict.fromkeys(report.not_tried, "not tried for lack of time"), **report.failed}
    )


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, XferlabError) else repr(error)


def _lacking(session: Session, runs: Mapping[str, str]) -> str:
    """Returns one line on what W&B lacks: the runs given with why, and those of trials that are noted."""
    trials = unmirrored(session.store, session.study)
    if not trials and not runs:
        return ""
    what = f"something of {len(trials)} trials" if trials else "the summary run of the study"
    run_id, reason = next(iter({**trials, **runs}.items()))
    return (
        f"warning: W&B lacks {what} ({run_id}: {reason}); the records are whole, and "
        f"`xferlab mirror {session.words}` completes it"
    )
