"""`xferlab run`: runs what is not complete; running again resumes."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import ExitStack

from xferlab.cli.main import COMPLETE, INCOMPLETE, INTERRUPTED
from xferlab.cli.prepare import check_donors, decode_images, store_donors
from xferlab.cli.session import Session, of_arms
from xferlab.cli.view import View
from xferlab.errors import UsageError
from xferlab.schedule.ready import Board, State
from xferlab.schedule.study import Executor, Outcome, check_writable, run_study

_DONE = (State.COMPLETE, State.BLOCKED)


def run(options: Namespace) -> int:
    """Runs a study and prints how it ended."""
    _check(options)
    session = Session.open(options)
    plan = session.plan()  # bad studies and data are told before anything is written
    of_arms(plan, options.arms)
    check_writable(session.store)
    donors = store_donors(session)
    if donors:
        plan = session.plan(donors)
    trials = of_arms(plan, options.arms)
    check_donors(session, trials)
    for warning in plan.warnings:
        print(warning, file=sys.stderr)
    with ExitStack() as stack:
        view = stack.enter_context(View(session.store.shown))
        executor = _executor(options, session, view, stack)

        def prepare_and_execute(board: Board) -> bool:
            open_trials = [board.trials[one] for one, state in board.states.items() if state not in _DONE]
            decode_images(session, plan, open_trials, progress=view.preparing)
            return executor(board)

        outcome = run_study(plan, session.store, prepare_and_execute, listener=view, trials=trials)
    return _conclude(outcome, options)


def _check(options: Namespace) -> None:
    if options.executor == "in-process" and (options.address or options.workers is not None):
        raise UsageError("--address and --workers belong to --executor ray")
    if options.address and options.workers is not None:
        raise UsageError("--workers is for this machine; the cluster at --address has its own number")
    if options.workers is not None and options.workers < 1:
        raise UsageError(f"--workers {options.workers}: at least one CPU core is needed")


def _executor(options: Namespace, session: Session, view: View, stack: ExitStack) -> Executor:
    retries = session.loaded.base.retries
    if options.executor == "in-process":
        from xferlab.schedule import in_process

        return lambda board: in_process.execute(
            board, session.store, cache_dir=session.cache_dir, retries=retries, listener=view
        )
    from xferlab.schedule import ray_tune

    def execute(board: Board) -> bool:
        if board.exhausted:
            return True
        stack.enter_context(ray_tune.cluster(options.address, num_cpus=options.workers))
        left = [board.trials[one] for one, state in board.states.items() if state not in _DONE]
        if unmet := ray_tune.unmet_resources(left):
            # A cluster may grow while trials wait for it; this machine does not.
            if options.address is None:
                raise UsageError(unmet)
            print(f"warning: {unmet} Waiting for nodes.", file=sys.stderr)
        return ray_tune.execute(
            board, session.store, cache_dir=session.cache_dir, retries=retries, listener=view
        )

    return execute


def _conclude(outcome: Outcome, options: Namespace) -> int:
    same = options.study
    same += f" --profile {options.profile}" if options.profile else ""
    same += f" --storage '{options.storage}'" if options.storage else ""
    counts = outcome.board.counts()
    total = sum(counts.values())
    if outcome.interrupted:
        print(f"interrupted: {counts[State.COMPLETE]} of {total} trials complete; the same command goes on")
        return INTERRUPTED
    if counts[State.FAILED] or counts[State.BLOCKED]:
        print(
            f"{counts[State.COMPLETE]} of {total} trials complete, {counts[State.FAILED]} failed, "
            f"{counts[State.BLOCKED]} blocked; `xferlab status {same}` tells why"
        )
        return INCOMPLETE
    print(f"all {total} trials complete; `xferlab report {same}` writes the tables")
    return COMPLETE
