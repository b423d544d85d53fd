"""What a study claims to show, with the arms, stages and cases that it means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from xferlab.errors import suggest
from xferlab.metrics.claims import Claims, Place
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.study.load import LoadedStudy
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks import registry
from xferlab.tasks.task import Finding

BASELINE = "baseline"


Measured = Mapping[tuple[str, str, str], frozenset[str]]
"""Arm, stage and `section.part` -> ids of the evaluations that no ancestor may have trained on."""


def measured(trials: Iterable[TrialSpec]) -> Measured:
    """Returns what is measured, by whom and on which cases."""
    found = defaultdict[tuple[str, str, str], set[str]](set)
    for trial in trials:
        for evaluation in trial.evaluations:
            for arm in () if evaluation.parent_may_have_seen else (evaluation.arms or trial.arms):
                found[arm, trial.stage, evaluation.name].add(evaluation.evaluation_id)
    return {place: frozenset(ids) for place, ids in found.items()}


def claims_of(loaded: LoadedStudy, trials: Collection[TrialSpec]) -> Claims | None:
    """Returns the claims of a study; None where nothing can be compared.

    Undeclared: the headline metric of the last stage on its last hold-out, every arm minus the baseline.
    """
    base, known = loaded.base, measured(trials)
    primary = base.primary
    if primary is not None:
        metric, stage, on, margin = primary.metric, primary.stage, primary.on, primary.margin
    elif (last := last_measured(loaded, trials)) is not None:
        (stage, on), margin = last, None
        metric = base.task_of(stage).headline
    else:
        return None
    if base.contrasts:
        named = [tuple(map(Place.of, contrast)) for contrast in base.contrasts]
        pairs = [(_at(first, stage), _at(second, stage)) for first, second in named]
    else:
        pairs = _against_baseline(loaded, known, stage, on)
    if not metric or not pairs:
        return None
    margin = margin if margin is not None else _margin(trials, stage, metric)
    is_strict = primary is not None and primary.strict
    return Claims(metric, on, margin, tuple(pairs), declared=primary is not None, strict=is_strict)


def last_measured(loaded: LoadedStudy, trials: Collection[TrialSpec]) -> tuple[str, str] | None:
    """Returns the last stage that is measured, and `section.part` of what it is measured on.

    This is the last hold-out of its `evaluate_on`; without one its own test part, else what is named last.
    None where nothing is measured without a variant on cases that no ancestor may have trained on.
    """
    stages = loaded.base.stages
    order = {stage: number for number, stage in enumerate(stages)}
    sets = {
        (trial.stage, evaluation.section, evaluation.part)
        for trial in trials
        for evaluation in trial.evaluations
        if not evaluation.variant and not evaluation.parent_may_have_seen
    }

    def rank(place: tuple[str, str, str]) -> tuple[int, bool, bool, bool, int, str]:
        stage, section, part = place
        name, named = f"{section}.{part}", stages[stage].evaluate_on or []
        is_own = part == "test" and section == stages[stage].section
        number = named.index(name) if name in named else -1  # of an arm alone
        return order[stage], part == "hold_out", is_own, part == "test", number, name

    found = max(sets, key=rank, default=None)
    return (found[0], f"{found[1]}.{found[2]}") if found else None


def _at(place: Place, stage: str) -> Place:
    return place._replace(stage=place.stage or stage)


def _against_baseline(loaded: LoadedStudy, known: Measured, stage: str, on: str) -> list[tuple[Place, Place]]:
    """Every arm minus the baseline; those that share its results have nothing to compare."""
    arms = list(loaded.arms)
    baseline = BASELINE if BASELINE in arms else arms[0]
    of_baseline = known.get((baseline, stage, on))
    others = [arm for arm in arms if known.get((arm, stage, on)) not in (None, of_baseline)]
    return [(Place(arm, stage), Place(baseline, stage)) for arm in others] if of_baseline else []


def _margin(trials: Iterable[TrialSpec], stage: str, metric: str) -> float | None:
    return next((each.margin for each in metrics_of(trials, stage) if each.name == metric), None)


def metrics_of(trials: Iterable[TrialSpec], stage: str) -> list[Any]:
    """The metrics of what the trials of a stage learn."""
    of_stage = [trial for trial in trials if trial.stage == stage]
    learnt = dict.fromkeys((trial.identity.task, trial.targets) for trial in of_stage)
    evaluations = (evaluation for trial in of_stage for evaluation in trial.evaluations)
    added = tuple(dict.fromkeys(name for each in evaluations for name, _ in each.metrics))
    return [each for task, targets in learnt for each in registry.task(task).declared(targets, added)]


def unfit(loaded: LoadedStudy, trials: Collection[TrialSpec]) -> Iterator[Finding]:
    """Yields what is wrong with the claims that a study declares."""
    base = loaded.base
    primary = base.primary
    if primary is None:
        return
    known = measured(trials)
    names = [metric.name for metric in metrics_of(trials, primary.stage)]
    stages = {stage for _, stage, _ in known}
    if primary.stage not in stages:
        listed = ", ".join(stage for stage in base.stages if stage in stages) or "none"
        what = f"{primary.stage!r} is no stage that is measured (there is {listed})"
        yield Finding(("primary", "stage"), f"primary.stage: {what}.{suggest(primary.stage, stages)}")
        return
    if primary.metric not in names:
        what = f"stage {primary.stage!r} has no metric {primary.metric!r} (it has {', '.join(names)})"
        yield Finding(("primary", "metric"), f"primary.metric: {what}.{suggest(primary.metric, names)}")
    sides = [[_at(Place.of(side), primary.stage) for side in pair] for pair in base.contrasts or ()]
    if not any(place[1:] == (primary.stage, primary.on) for place in known):
        yield Finding(("primary", "on"), f"primary.on: {_unmeasured(known, '', primary.stage, primary.on)}")
        sides = []
    compared: dict[frozenset[frozenset[str] | None], int] = {}
    for number, pair in enumerate(sides):
        path: KeyPath = ("contrasts", number)
        found = [text for place in pair for text in _problems(loaded, known, place, primary.on)]
        trials_of = frozenset(known.get((*place, primary.on)) for place in pair)
        sides_named = " and ".join(".".join(place) for place in pair)
        if not found and len(trials_of) == 1:
            found = [f"{sides_named} are the same trials"]
        elif not found and (first := compared.setdefault(trials_of, number)) != number:
            found = [
                f"{sides_named} are compared by contrasts[{first}] already: the same trials, also by other "
                "names or the other way round; leave one out, since each contrast adds to Holm's correction"
            ]
        yield from (Finding(path, f"contrasts[{number}]: {text}") for text in found)


def _problems(loaded: LoadedStudy, known: Measured, place: Place, on: str) -> Iterator[str]:
    if place.arm not in loaded.arms:
        listed = ", ".join(loaded.arms)
        yield f"there is no arm {place.arm!r}; this study has {listed}.{suggest(place.arm, loaded.arms)}"
    elif (*place, on) not in known:
        yield _unmeasured(known, place.arm, place.stage, on)


def _unmeasured(known: Measured, arm: str, stage: str, on: str) -> str:
    """Returns that a stage, of an arm or of all, is not measured on a set, with the sets that it has."""
    sets = sorted({found for owner, name, found in known if name == stage and arm in ("", owner)})
    of_arm = f" of arm {arm!r}" if arm else ""
    if not sets:
        return f"stage {stage!r}{of_arm} is not measured, or only on what an ancestor may have trained on"
    return (
        f"stage {stage!r}{of_arm} is not measured on {on!r}, or an ancestor may have trained on it (it is "
        f"on {', '.join(sets)}); name another, or add it to the stage's evaluate_on"
    )


def evaluations_on(
    trials: Iterable[TrialSpec], stage: str, on: str
) -> Iterator[tuple[TrialSpec, EvaluationSpec]]:
    """Yields the evaluations of a stage on a set that enter tables, each with its trial."""
    for trial in trials:
        for evaluation in trial.evaluations if trial.stage == stage else ():
            if evaluation.name == on and not evaluation.parent_may_have_seen:
                yield trial, evaluation
