"""`xferlab run`: runs all trials that are not complete; running again resumes."""

from __future__ import annotations

import importlib
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from xferlab.cli import mirror
from xferlab.cli.cancel import cancelled_before
from xferlab.cli.cluster import check_options, cluster
from xferlab.cli.continuing import continuations, cut_off
from xferlab.cli.findings import print_warnings
from xferlab.cli.main import COMPLETE, INCOMPLETE, exit_code
from xferlab.cli.notices import Notices
from xferlab.cli.options import RunOptions
from xferlab.cli.output import tell
from xferlab.cli.prepare import check_device, decode_images, with_weights
from xferlab.cli.session import Session, names_of_arms, of_arms
from xferlab.cli.study_results import contents_of
from xferlab.cli.view import View, say_if_slow
from xferlab.errors import (
    LeaseHeldError,
    RecordError,
    StorageError,
    StorageLostError,
    UsageError,
    XferlabError,
)
from xferlab.plan.claims import evaluations_on, last_measured, metrics_of
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records.complete import CompleteTrial, complete_trials
from xferlab.schedule.graph import State, TrialGraph
from xferlab.schedule.retry_policy import SAME_ERRORS, Ending, RetryPolicy
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.study import Outcome, check_writable, run_study
from xferlab.tasks import registry

if TYPE_CHECKING:  # matplotlib and pandas take a second to import
    from xferlab.analysis.contents import Contents

_RESUME = "the same command continues"
SHOWN_ARMS = 20


def run(options: RunOptions) -> int:
    """Runs a study and prints how it ended."""
    if options.executor == "in-process" and (options.address or options.workers is not None):
        raise UsageError("--address and --workers belong to --executor ray")
    check_options(options)
    if options.max_hours is not None and not options.max_hours > 0:
        raise UsageError(f"--max-hours {options.max_hours}: give a number of hours above 0")
    if options.report is not None and Path(options.report).is_file():
        raise UsageError(f"--report {options.report}: this is a file; give a folder for the report")
    with StopRequest(graceful=False) as stop, stop.after(options.max_hours):
        session = Session.open(options)
        with say_if_slow("reading the data of the study, to know the ids of its trials"):
            plan = session.plan()  # bad studies and data are told before anything is written
        of_arms(plan, options.arms)
        check_writable(session.store)
        plan, _ = with_weights(session, plan, options.arms)
        trials = of_arms(plan, options.arms)
        print_warnings(session, plan, trials)
        contents = cache(partial(contents_of, session))
        outcome, wandb_lacks = _run(options, session, plan, trials=trials, stop=stop, contents=contents)
        tell(study=session.study, counts=outcome.graph.counts(), repeated_error=outcome.ending.repeated)
        tell(report=None, lacking=[])
        if outcome.ending.signal is not None:
            num_complete = len(
                complete_trials(session.store, session.study, trials)
            )  # counted after workers ended
            print(f"interrupted: {num_complete} of {len(trials)} trials complete; {_RESUME}")
            return exit_code(outcome.ending.signal)
        known = outcome.complete_before if len(outcome.complete_before) == len(trials) else None
        arms = names_of_arms(options.arms) if options.arms else None
        for line in _told(session, plan, arms=arms, complete=known):
            print(line)
        code = _conclude(outcome, session, reported=options.report is not None)
        if options.report is not None and not _report(options.report, session, contents, stop=stop):
            code = INCOMPLETE
        if lacks := wandb_lacks():
            print(lacks, file=sys.stderr)
        return code


def _run(
    options: RunOptions,
    session: Session,
    plan: Plan,
    *,
    trials: tuple[TrialSpec, ...],
    stop: StopRequest,
    contents: Callable[[], Contents],
) -> tuple[Outcome, Callable[[], str]]:
    """Runs trials; returns how they ended, and what waits for W&B and says what it lacks."""
    in_process = options.executor == "in-process"
    with ExitStack() as stack:
        view = stack.enter_context(View(session.store.shown))
        notices = stack.enter_context(Notices(session, view))

        def progress(what: str, done: int, total: int) -> None:
            stop.check()
            notices.alive()
            view.preparing(what, done, total)

        def prepare(graph: TrialGraph, moves: str) -> None:
            stop.graceful = True
            done = (State.COMPLETE, State.BLOCKED)
            left = [graph.trials[trial_id] for trial_id, state in graph.states.items() if state not in done]
            for line in (
                *filter(None, [moves]),
                *cancelled_before(session, left),
                *continuations(session, left),
            ):
                print(line)
            if in_process:
                check_device(left)
            decode_images(session, plan.selections, left, plan.by_id, progress=progress)
            if graph.exhausted:
                return
            view.doing("loading PyTorch" if in_process else "starting Ray")
            if not in_process:
                stack.enter_context(cluster(options, session.store, left, stop=stop))
                view.doing("waiting for a worker")

        def execute(policy: RetryPolicy) -> Ending:
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

        outcome = run_study(plan, session.store, execute, listener=notices, trials=trials, prepare=prepare)
        alert = notices.ended(outcome)
        is_over = outcome.ending.signal is None
        wandb_lacks = mirror.complete(session, contents, alert) if is_over else lambda: ""
        for line in notices.problems():
            print(line, file=sys.stderr)
        return outcome, wandb_lacks


def _report(out: str, session: Session, contents: Callable[[], Contents], *, stop: StopRequest) -> bool:
    """Writes the report and prints where it is; returns whether it is whole."""
    from xferlab.cli import report

    stop.check()
    stop.graceful = False  # nothing is lost
    try:
        with report.shown() as echo:
            return report.write(contents(), out, echo)
    except XferlabError as error:
        print(f"xferlab: {error}; `xferlab report {session.words}` writes the report later", file=sys.stderr)
        return False


def _conclude(outcome: Outcome, session: Session, *, reported: bool) -> int:
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
    elif counts[State.FAILED] or counts[State.BLOCKED] or counts[State.CANCELLED]:
        cancelled, again = counts[State.CANCELLED], "the same command starts again what was cancelled"
        is_failure = counts[State.FAILED] or not cancelled
        print(
            f"{num_complete} of {total} trials complete, {counts[State.FAILED]} failed, "
            f"{counts[State.BLOCKED]} blocked{f', {cancelled} cancelled' if cancelled else ''}; "
            + (f"`xferlab failures {session.words}` says why" if is_failure else again)
        )
    elif num_complete != total:
        print(f"{num_complete} of {total} trials complete; {_RESUME}")
    else:
        advice = "" if reported else f"; `xferlab report {session.words}` writes the tables"
        print(f"all {total} trials complete{advice}")
        return COMPLETE
    return INCOMPLETE


def _told(
    session: Session,
    plan: Plan,
    *,
    arms: Collection[str] | None,
    complete: Mapping[str, CompleteTrial] | None,
) -> Iterator[str]:
    """Yields what a run ends with: the headline metric of each arm, and trainings that were cut off."""
    try:
        if complete is None:
            complete = complete_trials(session.store, session.study, plan.trials)
    except XferlabError as error:
        yield f"the results cannot be shown: {error}"
        return
    yield from _headline(plan, complete, arms)
    yield from cut_off(plan, {key: (trial.stopped_by, trial.best_score) for key, trial in complete.items()})


def _headline(
    plan: Plan, complete: Mapping[str, CompleteTrial], arms: Collection[str] | None
) -> Iterator[str]:
    """Yields lines with the mean of one metric for each arm; nothing where nothing is evaluated.

    They are those of the report's tables: means over repetitions of the declared primary metric on what the
    study declares, else of the headline metric of the last stage, on its hold-out or its test part. They come
    from the index of complete trials, without their tables: it lacks metrics of sets of images, such as
    AUROC, so the headline metric takes the place of such a primary metric.

    Args:
        plan: The plan.
        complete: The complete trials, by id.
        arms: Only these; None for all.
    """
    primary = plan.loaded.base.primary
    last = (primary.stage, primary.on) if primary else last_measured(plan.loaded, plan.trials)
    if not complete or last is None:
        return
    stage, on = last
    task = registry.task(plan.loaded.base.stages[stage].task)
    targets = next(trial.targets for trial in plan.trials if trial.stage == stage)
    metrics = {shown.name: shown for shown in (*task.metrics(()), *metrics_of(plan.trials, stage))}
    is_shown = primary is not None and not metrics[primary.metric].computed_by
    metric = primary.metric if primary and is_shown else task.headline
    unit = f" ({metrics[metric].unit})" if metric in metrics and metrics[metric].unit else ""
    means: dict[str, list[float]] = defaultdict(list)
    for trial, evaluation in evaluations_on(plan.trials, stage, on):
        if trial.trial_id in complete:
            values = complete[trial.trial_id].means[evaluation.evaluation_id]
            for arm in evaluation.arms or trial.arms:
                means[arm] += [values[metric]] if metric in values else []
    planned = Counter(
        arm for trial in plan.trials if trial.stage == stage and not trial.fold for arm in trial.arms
    )
    names = [arm for arm in plan.loaded.arms if arms is None or arm in arms]
    shown = sorted(names, key=lambda arm: arm != "baseline")
    marks = next((evaluation.marks for _, evaluation in evaluations_on(plan.trials, stage, on)), ())
    single = [
        shown.of_label
        for shown in task.metrics(targets)
        if shown.of in (marks or targets) and shown.whole == metric
    ]
    tell(
        results={
            "metric": metric,
            "on": on,
            "stage": stage,
            "means": {arm: means[arm] for arm in shown},
            "planned": {arm: planned[arm] for arm in shown},
        }
    )
    over = " and ".join(filter(None, (", ".join(single), "repetitions")))
    yield f"{metric}{unit} on {on} after stage {stage}, mean over {over}:"
    width = max(map(len, shown[:SHOWN_ARMS]))
    for arm in shown[:SHOWN_ARMS]:
        yield f"  {arm:{width}}  {_numbers(means[arm], planned[arm])}"
    if len(shown) > SHOWN_ARMS:
        yield f"  and {len(shown) - SHOWN_ARMS} more arms, which the report has"
    if primary and not is_shown:
        yield f"the primary metric, {primary.metric}, is one of sets of images: the report has it"


def _numbers(means: Sequence[float], num_planned: int) -> str:
    if not means:
        return f"none of {num_planned} repetitions"
    spread = f" (SD {statistics.stdev(means):.3f})" if len(means) > 1 else ""
    return f"{statistics.fmean(means):.3f}{spread}, {len(means)} of {num_planned} repetitions"
