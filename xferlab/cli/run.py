"""`xferlab run`: runs all trials that are not complete; running again resumes."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from xferlab.cli import mirror
from xferlab.cli.cluster import check_options, cluster
from xferlab.cli.findings import print_warnings
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
    XferlabError,
)
from xferlab.plan.expand import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records.complete import complete_ids
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.retry_policy import SAME_ERRORS, Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import Outcome, check_writable, run_study

if TYPE_CHECKING:  # pandas takes a second to import
    from xferlab.analysis import StudyResults

METRIC = "DICE"
SHOWN_ARMS = 20
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
            num_complete = len(complete_ids(session.store, trials))  # workers may have ended after the signal
            print(f"interrupted: {num_complete} of {len(trials)} trials complete; {_RESUME}")
            return exit_code(outcome.ending.signal)
        for line in headline(session, options.arms.split(",") if options.arms else None):
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
            f"{counts[State.BLOCKED]} blocked; `xferlab failures {session.words}` tells why"
        )
    elif num_complete != total:
        print(f"{num_complete} of {total} trials complete; {_RESUME}")
    else:
        print(f"all {total} trials complete; `xferlab report {session.words}` writes the tables")
        return COMPLETE
    return INCOMPLETE


def headline(session: Session, arms: Collection[str] | None = None) -> Iterator[str]:
    """Yields lines with the mean of the headline metric for each arm; nothing where nothing is evaluated.

    They are those of the report's tables: means over repetitions, on the hold-out if the last stage is
    measured on one, else on its test part.

    Args:
        session: The study.
        arms: Only these.
    """
    from xferlab.analysis import load_study

    try:
        results = load_study(session.store.location, session.study)
    except XferlabError as error:
        yield f"the results cannot be shown: {error}"
    else:
        yield from _headline(results, arms)


def _headline(results: StudyResults, arms: Collection[str] | None) -> Iterator[str]:
    from xferlab.analysis import aggregate
    from xferlab.analysis.results import is_hold_out
    from xferlab.analysis.selection import ALL, evaluation_sets, unseen

    sets = [evaluated for evaluated in evaluation_sets(results) if "@" not in evaluated.part]
    sets = [evaluated for evaluated in sets if evaluated.stage == results.stages[-1]] or sets
    if not sets or not len(results.cases):
        return
    evaluated = next((hold_out for hold_out in sets if is_hold_out(hold_out.part)), sets[0])
    wanted = {**vars(evaluated), "pathology": ALL, "metric": METRIC}
    planned = results.planned()
    rows = {
        row["arm"]: row
        for row in aggregate(unseen(results.cases), planned=planned).to_dict("records")
        if wanted.items() <= row.items()
    }
    names = [arm for arm in results.arms if arms is None or arm in arms]
    yield f"{METRIC} on {evaluated.name} after stage {evaluated.stage}, mean over repetitions:"
    width = max(map(len, names[:SHOWN_ARMS]))
    for arm in names[:SHOWN_ARMS]:
        numbers = f"none of {planned.get((arm, evaluated.stage), 0)} repetitions"
        if row := rows.get(arm):
            sd = "" if math.isnan(row["sd_repetitions"]) else f" (SD {row['sd_repetitions']:.3f})"
            numbers = f"{row['mean']:.3f}{sd}, {row['num_repetitions']} of {row['num_planned']} repetitions"
        yield f"  {arm:{width}}  {numbers}"
    if len(names) > SHOWN_ARMS:
        yield f"  and {len(names) - SHOWN_ARMS} more arms, which the report has"
