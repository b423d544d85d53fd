"""`xferlab run`: runs what is not complete; running again resumes."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import ExitStack

from xferlab.cli.main import COMPLETE, INCOMPLETE, INTERRUPTED
from xferlab.cli.session import Session, given_weights, of_arms
from xferlab.cli.view import View
from xferlab.errors import UsageError
from xferlab.schedule.ready import Board, State
from xferlab.schedule.study import Executor, Outcome, check_writable, run_study


def run(options: Namespace) -> int:
    """Runs a study and prints how it ended."""
    if options.executor == "in-process" and (options.address or options.workers):
        raise UsageError("--address and --workers belong to --executor ray")
    session = Session.open(options)
    check_writable(session.store)
    plan = session.plan(_donors(session))
    trials = of_arms(plan, options.arms)
    for warning in plan.warnings:
        print(warning, file=sys.stderr)
    with ExitStack() as stack:
        view = stack.enter_context(View(session.store.shown))
        executor = _executor(options, session, view, stack)
        outcome = run_study(plan, session.store, executor, listener=view, trials=trials)
    return _conclude(outcome, options)


def _donors(session: Session) -> dict[str, str]:
    """Fetches and stores given weights, so that ids are known and workers find them."""
    weights_by_name = given_weights(session.loaded.arms)
    if not weights_by_name:
        return {}
    from xferlab.trial.given import provide

    return {
        name: provide(given, session.store, cache_dir=session.cache_dir)
        for name, given in weights_by_name.items()
    }


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
        ray_tune.check_resources(
            [board.trials[one] for one, state in board.states.items() if state is not State.COMPLETE]
        )
        return ray_tune.execute(
            board, session.store, cache_dir=session.cache_dir, retries=retries, listener=view
        )

    return execute


def _conclude(outcome: Outcome, options: Namespace) -> int:
    counts = outcome.board.counts()
    total = sum(counts.values())
    if outcome.interrupted:
        print(f"interrupted: {counts[State.COMPLETE]} of {total} trials complete; the same command goes on")
        return INTERRUPTED
    if counts[State.FAILED] or counts[State.BLOCKED]:
        print(
            f"{counts[State.COMPLETE]} of {total} trials complete, {counts[State.FAILED]} failed, "
            f"{counts[State.BLOCKED]} blocked; `xferlab status {options.study}` tells why"
        )
        return INCOMPLETE
    print(f"all {total} trials complete; `xferlab report {options.study}` writes the tables")
    return COMPLETE
