"""`xferlab run`: runs all trials that are not complete; running again resumes."""

from __future__ import annotations

import importlib
import sys
from contextlib import ExitStack

from xferlab.cli import mirror
from xferlab.cli.cluster import check_options, cluster
from xferlab.cli.findings import print_warnings
from xferlab.cli.headline import headline
from xferlab.cli.main import COMPLETE, INCOMPLETE, exit_code
from xferlab.cli.options import RunOptions
from xferlab.cli.prepare import check_device, decode_images
from xferlab.cli.session import Session, of_arms
from xferlab.cli.view import View, say_if_slow
from xferlab.errors import (
    LeaseHeldError,
    RecordError,
    StorageError,
    StorageLostError,
    StudyError,
    UsageError,
)
from xferlab.plan.expand import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records.complete import complete_trials
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.retry_policy import SAME_ERRORS, Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import Outcome, check_writable, run_study

_RESUME = "the same command continues"


def run(options: RunOptions) -> int:
    """Runs a study and prints how it ended."""
    if options.executor == "in-process" and (options.address or options.workers is not None):
        raise UsageError("--address and --workers belong to --executor ray")
    check_options(options)
    with StopRequest(graceful=False) as stop:
        session = Session.open(options)
        with say_if_slow("reading the data of the study, to know the ids of its trials"):
            plan = session.plan()  # bad studies and data are told before anything is written
        of_arms(plan, options.arms)
        check_writable(session.store)
        with say_if_slow("fetching and reading the weights that are given"):
            if donors := session.weights.store_all():
                plan = session.plan(donors)
            trials = of_arms(plan, options.arms)
            if problems := list(session.weights.problems(trials, stored=True)):
                raise StudyError(problems)
        print_warnings(session, plan, trials)
        outcome = _run(options, session, plan, trials=trials, stop=stop)
        if outcome.ending.signal is not None:
            num_complete = len(
                complete_trials(session.store, session.study, trials)
            )  # counted after workers ended
            print(f"interrupted: {num_complete} of {len(trials)} trials complete; {_RESUME}")
            return exit_code(outcome.ending.signal)
        known = outcome.complete_before if len(outcome.complete_before) == len(trials) else None
        for line in headline(session, plan, options.arms.split(",") if options.arms else None, known):
            print(line)
        return _conclude(outcome, session)


def _run(
    options: RunOptions, session: Session, plan: Plan, *, trials: tuple[TrialSpec, ...], stop: StopRequest
) -> Outcome:
    in_process = options.executor == "in-process"
    with ExitStack() as stack:
        view = stack.enter_context(View(session.store.shown))

        def progress(what: str, done: int, total: int) -> None:
            stop.check()
            view.preparing(what, done, total)

        def prepare(graph: TrialGraph) -> None:
            stop.graceful = True
            done = (State.COMPLETE, State.BLOCKED)
            left = [graph.trials[trial_id] for trial_id, state in graph.states.items() if state not in done]
            if in_process:
                check_device(left)
            decode_images(session, plan.selections, left, progress=progress)
            if graph.exhausted:
                return
            view.doing("loading PyTorch" if in_process else "starting Ray")
            if not in_process:
                stack.enter_context(cluster(options, session.store, left, stop=stop))
                view.doing("waiting for a worker")

        def execute(policy: RetryPolicy) -> Ending:
            if policy.graph.exhausted:
                return Ending()
            executor = importlib.import_module(
                f"xferlab.schedule.{'in_process' if in_process else 'ray_tune'}"
            )
            try:
                ending: Ending = executor.execute(policy, cache_dir=session.cache_dir, stop=stop)
                return ending
            except (RecordError, LeaseHeldError):
                raise
            except StorageError as error:
                raise StorageLostError(f"{error}; when it is back, {_RESUME}") from error

        outcome = run_study(plan, session.store, execute, listener=view, trials=trials, prepare=prepare)
        if outcome.ending.signal is None and (line := mirror.complete(session)):
            print(line, file=sys.stderr)
        return outcome


def _conclude(outcome: Outcome, session: Session) -> int:
    counts = outcome.graph.counts()
    num_complete, total = counts[State.COMPLETE], sum(counts.values())
    if failure := outcome.ending.repeated:
        print(
            f"{failure['traceback'] or failure['message']}\n"
            f"xferlab: stopped: the first {SAME_ERRORS} trials all failed with this error, on "
            f"{failure['host']}; {counts[State.WAITING] + counts[State.READY]} trials stay open. Fix the "
            f"cause, and {_RESUME}; if it lies in one arm, --arms runs the others.",
            file=sys.stderr,
        )
    elif counts[State.FAILED] or counts[State.BLOCKED]:
        print(
            f"{num_complete} of {total} trials complete, {counts[State.FAILED]} failed, "
            f"{counts[State.BLOCKED]} blocked; `xferlab failures {session.words}` says why"
        )
    elif num_complete != total:
        print(f"{num_complete} of {total} trials complete; {_RESUME}")
    else:
        print(f"all {total} trials complete; `xferlab report {session.words}` writes the tables")
        return COMPLETE
    return INCOMPLETE
