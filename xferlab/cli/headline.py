"""The numbers that a run ends with: the headline metric of the last stage, arm by arm."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

from xferlab.cli.session import Session
from xferlab.errors import XferlabError
from xferlab.plan.expand import Plan
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records.complete import CompleteTrial, complete_trials
from xferlab.tasks import registry

SHOWN_ARMS = 20


def headline(
    session: Session,
    plan: Plan,
    arms: Collection[str] | None = None,
    complete: Mapping[str, CompleteTrial] | None = None,
) -> Iterator[str]:
    """Yields lines with the mean of the headline metric for each arm; nothing where nothing is evaluated.

    They are those of the report's tables: means over repetitions, on the hold-out if the last stage is
    measured on one, else on its test part. They come from the index of complete trials, without their tables.

    Args:
        session: The study.
        plan: Its plan.
        arms: Only these; None for all.
        complete: The complete trials of these arms, where they are known.
    """
    try:
        if complete is None:
            complete = complete_trials(session.store, session.study, plan.trials)
    except XferlabError as error:
        yield f"the results cannot be shown: {error}"
        return
    # As in tables: cases as they are, of patients that no ancestor trained on.
    measured = [
        (trial, evaluation)
        for trial in plan.trials
        for evaluation in trial.evaluations
        if not evaluation.variant and not evaluation.parent_may_have_seen
    ]
    if not complete or not measured:
        return
    stage, section, part = wanted = _last_measured(plan, measured)
    task = registry.task(plan.loaded.base.stages[stage].task)
    metric = task.headline
    unit = next((f" ({shown.unit})" for shown in task.metrics if shown.name == metric and shown.unit), "")
    means: dict[str, list[float]] = defaultdict(list)
    for trial, evaluation in measured:
        if trial.trial_id in complete and (trial.stage, evaluation.section, evaluation.part) == wanted:
            values = complete[trial.trial_id].means[evaluation.evaluation_id]
            for arm in evaluation.arms or trial.arms:
                means[arm] += [values[metric]] if metric in values else []
    planned = Counter(arm for trial in plan.trials if trial.stage == stage for arm in trial.arms)
    names = [arm for arm in plan.loaded.arms if arms is None or arm in arms]
    shown = sorted(names, key=lambda arm: arm != "baseline")
    yield f"{metric}{unit} on {section}.{part} after stage {stage}, mean over repetitions:"
    width = max(map(len, shown[:SHOWN_ARMS]))
    for arm in shown[:SHOWN_ARMS]:
        yield f"  {arm:{width}}  {_numbers(means[arm], planned[arm])}"
    if len(shown) > SHOWN_ARMS:
        yield f"  and {len(shown) - SHOWN_ARMS} more arms, which the report has"


def _last_measured(plan: Plan, measured: Sequence[tuple[TrialSpec, EvaluationSpec]]) -> tuple[str, str, str]:
    """Returns stage, section and part of what the last stage is measured on: its hold-out if it has one."""
    order = {stage: number for number, stage in enumerate(plan.loaded.base.stages)}
    last = max((trial.stage for trial in plan.trials), key=order.__getitem__)
    sets = {(trial.stage, evaluation.section, evaluation.part) for trial, evaluation in measured}

    def rank(measured: tuple[str, str, str]) -> tuple[bool, bool, int, str, str]:
        stage, section, part = measured
        return stage != last, part != "hold_out", order[stage], section, part

    return min(sets, key=rank)


def _numbers(means: Sequence[float], num_planned: int) -> str:
    if not means:
        return f"none of {num_planned} repetitions"
    spread = f" (SD {statistics.stdev(means):.3f})" if len(means) > 1 else ""
    return f"{statistics.fmean(means):.3f}{spread}, {len(means)} of {num_planned} repetitions"
