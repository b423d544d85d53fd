"""`xferlab run`: runs what is not complete; running again resumes."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack

from xferlab.cli import mirror
from xferlab.cli.cluster import check_options, cluster
from xferlab.cli.findings import print_warnings
from xferlab.cli.headline import headline
from xferlab.cli.main import COMPLETE, INCOMPLETE, exit_code
from xferlab.cli.prepare import check_device, check_donors, decode_images, store_donors
from xferlab.cli.session import Session, command_options, of_arms
from xferlab.cli.view import View, say_if_slow
from xferlab.errors import LeaseHeldError, RecordError, StorageError, StorageLostError, UsageError
from xferlab.plan.expand import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.retry_policy import SAME_ERRORS, Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import Outcome, check_writable, run_study

_DONE = (State.COMPLETE, State.BLOCKED)


def run(options: Namespace) -> int:
    """Runs a study and prints how it ended."""
    _check(options)
    with StopRequest(graceful=False) as stop:
        session = Session.open(options)
        with say_if_slow("reading the data of the study, to know the ids of its trials"):
            plan = session.plan()  # bad studies and data are told before anything is written
        of_arms(plan, options.arms)
        check_writable(session.store)
        with say_if_slow("fetching and reading the weights that are given"):
            donors = store_donors(session)
            if donors:
                plan = session.plan(donors)
            trials = of_arms(plan, options.arms)
            check_donors(session, trials)
        print_warnings(session, plan, options, trials=trials)
        outcome = _run(options, session, plan, trials=trials, stop=stop)
        if outcome.ending.signal is None:
            known = outcome.complete_before if len(outcome.complete_before) == len(trials) else None
            for line in headline(session, plan, options.arms.split(",") if options.arms else None, known):
                print(line)
        return _conclude(outcome, options)


def _run(
    options: Namespace, session: Session, plan: Plan, *, trials: tuple[TrialSpec, ...], stop: StopRequest
) -> Outcome:
    with ExitStack() as stack:
        view = stack.enter_context(View(session.store.shown))

        def progress(what: str, done: int, total: int) -> None:
            stop.check()
            view.preparing(what, done, total)

        def prepare(graph: TrialGraph) -> None:
            stop.graceful = True
            if options.executor == "in-process":
                check_device(_open(graph))
            decode_images(session, plan.selections, _open(graph), progress=progress)
            if not graph.exhausted:
                view.doing("loading PyTorch" if options.executor == "in-process" else "starting Ray")
            if not graph.exhausted and options.executor == "ray":
                stack.enter_context(cluster(options, session.store, _open(graph), stop=stop))
                view.doing("waiting for a worker")

        def execute(policy: RetryPolicy) -> Ending:
            if policy.graph.exhausted:
                return Ending()
            try:
                return _executor(options)(policy, cache_dir=session.cache_dir, stop=stop)
            except (RecordError, LeaseHeldError):
                raise
            except StorageError as error:
                raise StorageLostError(f"{error}; when it is back, the same command goes on") from error

        outcome = run_study(plan, session.store, execute, listener=view, trials=trials, prepare=prepare)
        if outcome.ending.signal is None and (line := mirror.complete(session, command_options(options))):
            print(line, file=sys.stderr)
        return outcome


def _open(graph: TrialGraph) -> list[TrialSpec]:
    return [graph.trials[one] for one, state in graph.states.items() if state not in _DONE]


def _check(options: Namespace) -> None:
    if options.executor == "in-process" and (options.address or options.workers is not None):
        raise UsageError("--address and --workers belong to --executor ray")
    check_options(options)


def _executor(options: Namespace) -> Callable[..., Ending]:
    if options.executor == "in-process":
        from xferlab.schedule import in_process

        return in_process.execute
    from xferlab.schedule import ray_tune

    return ray_tune.execute


def _conclude(outcome: Outcome, options: Namespace) -> int:
    same = command_options(options)
    counts = outcome.graph.counts()
    total = sum(counts.values())
    if outcome.ending.signal is not None:
        print(f"interrupted: {counts[State.COMPLETE]} of {total} trials complete; the same command goes on")
        return exit_code(outcome.ending.signal)
    if outcome.ending.repeated is not None:
        print(_repeated(outcome), file=sys.stderr)
        return INCOMPLETE
    if counts[State.FAILED] or counts[State.BLOCKED]:
        print(
            f"{counts[State.COMPLETE]} of {total} trials complete, {counts[State.FAILED]} failed, "
            f"{counts[State.BLOCKED]} blocked; `xferlab failures {same}` tells why"
        )
        return INCOMPLETE
    if counts[State.COMPLETE] != total:
        print(f"{counts[State.COMPLETE]} of {total} trials complete; the same command goes on")
        return INCOMPLETE
    print(f"all {total} trials complete; `xferlab report {same}` writes the tables")
    return COMPLETE


def _repeated(outcome: Outcome) -> str:
    failure = outcome.ending.repeated
    assert failure is not None
    counts = outcome.graph.counts()
    num_open = sum(counts[state] for state in (State.WAITING, State.READY))
    return (
        f"{failure['traceback'] or failure['message']}\n"
        f"xferlab: stopped: the first {SAME_ERRORS} trials all failed with this error, on {failure['host']}; "
        f"{num_open} trials stay open. Fix the cause, and the same command goes on; if it lies in one arm, "
        "--arms runs the others."
    )
