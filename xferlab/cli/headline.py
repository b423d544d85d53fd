"""The numbers that a run ends with: the headline metric of the last stage, arm by arm."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from xferlab.cli.session import Session
from xferlab.errors import XferlabError
from xferlab.plan.expand import Plan
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records.complete import CompleteTrial, complete_trials

METRIC = "DICE"
SHOWN_ARMS = 20


class _Measured(NamedTuple):
    """What a stage is measured on."""

    stage: str
    section: str
    part: str


def headline(session: Session, plan: Plan, arms: Collection[str] | None = None) -> list[str]:
    """Returns lines with the mean of the headline metric for each arm; nothing where nothing is evaluated.

    They are those of the report's tables: means over repetitions, on the hold-out if the last stage is
    measured on one, else on its test part. They come from the index of complete trials, without their tables.

    Args:
        session: The study.
        plan: Its plan.
        arms: Only these.
    """
    try:
        complete = complete_trials(session.store, plan.loaded.base.study, plan.trials)
    except XferlabError as error:
        return [f"the results cannot be shown: {error}"]
    measured = _last_measured(plan)
    return list(_lines(plan, measured, complete, arms)) if complete and measured else []


def _last_measured(plan: Plan) -> _Measured | None:
    """Returns what the last stage is measured on, its hold-out if it has one; None if nothing is measured."""
    sets = {_of(trial, evaluation) for trial in plan.trials for evaluation in _plain(trial)}
    stages = list(plan.loaded.base.stages)
    trained = {trial.stage for trial in plan.trials}
    last_stage = [stage for stage in stages if stage in trained][-1]
    chosen = [measured for measured in sets if measured.stage == last_stage] or sets
    order = {stage: number for number, stage in enumerate(stages)}
    return min(chosen, key=lambda m: (m.part != "hold_out", order[m.stage], m.section, m.part), default=None)


def _plain(trial: TrialSpec) -> Iterator[EvaluationSpec]:
    """Yields the evaluations of tables: cases as they are, of patients that no ancestor trained on."""
    for evaluation in trial.evaluations:
        if not evaluation.variant and not evaluation.parent_may_have_seen:
            yield evaluation


def _of(trial: TrialSpec, evaluation: EvaluationSpec) -> _Measured:
    return _Measured(trial.stage, evaluation.section, evaluation.part)


def _lines(
    plan: Plan, measured: _Measured, complete: Mapping[str, CompleteTrial], arms: Collection[str] | None
) -> Iterator[str]:
    trials = [trial for trial in plan.trials if trial.stage == measured.stage]
    planned = Counter(arm for trial in trials for arm in trial.arms)
    means: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        for evaluation in _plain(trial) if trial.trial_id in complete else ():
            values = complete[trial.trial_id].means[evaluation.evaluation_id]
            for arm in evaluation.arms or trial.arms:
                means[arm] += (
                    [values[METRIC]] if _of(trial, evaluation) == measured and METRIC in values else []
                )
    names = dict.fromkeys([arm for trial in plan.trials for arm in trial.arms] + list(plan.loaded.arms))
    shown = sorted((arm for arm in names if arms is None or arm in arms), key=lambda arm: arm != "baseline")
    yield (
        f"{METRIC} on {measured.section}.{measured.part} after stage {measured.stage}, mean over repetitions:"
    )
    width = max(map(len, shown[:SHOWN_ARMS]))
    for arm in shown[:SHOWN_ARMS]:
        yield f"  {arm:{width}}  {_numbers(means[arm], planned[arm])}"
    if len(shown) > SHOWN_ARMS:
        yield f"  and {len(shown) - SHOWN_ARMS} more arms, which the report has"


def _numbers(means: list[float], num_planned: int) -> str:
    if not means:
        return f"none of {num_planned} repetitions"
    spread = f" (SD {statistics.stdev(means):.3f})" if len(means) > 1 else ""
    return f"{statistics.fmean(means):.3f}{spread}, {len(means)} of {num_planned} repetitions"
