"""`xferlab cancel`: stops trials of a study that runs, on whatever machine its driver is."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import asdict

from xferlab.cli.main import COMPLETE, INCOMPLETE
from xferlab.cli.options import CancelOptions, TrialOptions
from xferlab.cli.output import tell
from xferlab.cli.session import Session
from xferlab.cli.trials import KnownTrials
from xferlab.errors import UsageError, listed
from xferlab.plan.spec import PlannedTrial
from xferlab.records import cancellations
from xferlab.records.cancellations import Answer, Request
from xferlab.records.complete import complete_trials
from xferlab.records.store import Store
from xferlab.schedule.lease import driver_of

ANSWER_WITHIN_S = 30.0
SHOWN = 8


def run(options: CancelOptions) -> int:
    """Asks the run of a study to cancel trials and waits for its answer; exit code 1 if nothing is cancelled.

    Raises:
        UsageError: No run is under way, or there is nothing of that name to cancel.
    """
    session = Session.open(options)
    store, study = session.store, session.study
    holder = driver_of(store, study)
    if holder is None:
        raise UsageError(
            f"no run of study {study} is under way in {store.shown}, so there is nothing to cancel. "
            f"`xferlab status {session.words}` shows its trials; `xferlab run --arms` runs some arms only."
        )
    names = _chosen(options)
    path = cancellations.new_request_path(study, holder.token)
    cancellations.write_request(store, path, Request.now(names, options.reason))
    answer = _answer(store, study, path, holder.token)
    tell(study=study, answered=answer is not None, **asdict(answer or Answer()))
    if answer is None:
        print(_unanswered(store, study, path, run=holder.token, who=holder.who))
        return INCOMPLETE
    for line in _told(answer):
        print(line)
    return COMPLETE if answer.cancelled else INCOMPLETE


def _chosen(options: CancelOptions) -> list[str]:
    """Returns the names of the trials that are to be cancelled; of an arm or a stage, those not complete."""
    known = KnownTrials.of(
        TrialOptions(study=options.study, profile=options.profile, storage=options.storage)
    )
    (study, plan), = known.plans.items()  # fmt: skip
    complete = complete_trials(known.store, study, list(map(PlannedTrial.from_entry, plan["trials"])))
    chosen: dict[str, None] = {}
    for what in options.what:
        ids = known.matching(what)
        left = [name for name, trial_id in ids.items() if trial_id not in complete]
        if not left:
            all_of = "is" if len(ids) == 1 else f"has {len(ids)} trials, and all are"
            raise UsageError(f"{what} {all_of} complete already: there is nothing to cancel")
        chosen.update(dict.fromkeys(left))
    return list(chosen)


def _answer(store: Store, study: str, path: str, run: str) -> Answer | None:
    """Waits for the run's answer; None if it has ended, or is busy with something else."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while True:
        lives = (holder := driver_of(store, study)) is not None and holder.token == run
        request = cancellations.read_request(store, path)  # after the look: the last answer is there
        if request is not None and request.answer is not None:
            store.delete(path)
            return request.answer
        if not lives or time.monotonic() >= deadline:
            return None
        time.sleep(cancellations.LOCAL_EVERY_S)


def _unanswered(store: Store, study: str, path: str, *, run: str, who: str) -> str:
    holder = driver_of(store, study)
    if holder is None or holder.token != run:
        store.delete(path)
        return "nothing was cancelled: the run ended before it read the request"
    return (
        f"the run has not read the request yet ({who}); it does so as soon as it hands out trials, and "
        "`xferlab status` shows then what is cancelled"
    )


def _told(answer: Answer) -> Iterator[str]:
    if answer.cancelled:
        yield f"cancelled: {_listed(answer.cancelled)}"
    if answer.blocked:
        yield f"not started, since they start from cancelled ones: {_listed(answer.blocked)}"
    for name, others in answer.shared.items():
        yield f"{name} goes on: it is also {_listed(others)}; cancel all to cancel it"
    for name, state in answer.ended.items():
        yield f"{name} has ended already: {state}"
    if answer.unknown:
        yield f"not in this run: {_listed(answer.unknown)}"
    if answer.cancelled:
        yield "the next `xferlab run` starts them again"


def cancelled_before(session: Session, left: Collection[PlannedTrial]) -> Iterator[str]:
    """Yields one line if the last run has cancelled some of the trials that are left."""
    cancelled = cancellations.read_cancelled(session.store, session.study) if left else {}
    if names := [trial.name for trial in left if trial.trial_id in cancelled]:
        yield f"cancelled in the last run, and started again: {_listed(names)}"


def _listed(names: Collection[str]) -> str:
    return listed(sorted(names), SHOWN)
