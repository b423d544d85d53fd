"""Which trainings will continue a shorter one, and why others do not although only their end has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from xferlab.cli.session import Session
from xferlab.cli.view import count_of
from xferlab.errors import RecordError, UsageError
from xferlab.plan.identity import differing
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout, reader
from xferlab.records.states import KeptState, kept_starts, refusal
from xferlab.records.store import Store

_ENDS = ("training.max_epochs", "training.patience")
_OF_OTHERS = ("parent", "masks", "gate")
"""Fields of an identity that name other trials."""
_KEPT_NOT = "its state was not kept (`keep_states: true` keeps those of trainings from then on)"


def continuations(session: Session, left: Sequence[TrialSpec]) -> Iterator[str]:
    """Yields a sentence for each stage of an arm whose trials continue others, or why they cannot.

    Trials are compared with those of the same name in the last plan of the study.

    Args:
        session: Of the study.
        left: Its trials that are not complete.
    """
    if not left:
        return
    store, before = session.store, _last_ids(session)
    renewed = {trial.trial_id for trial in left if before.get(trial.name, trial.trial_id) != trial.trial_id}
    starts = kept_starts(store, left)
    groups: dict[str, list[TrialSpec]] = defaultdict(list)
    for trial in left:
        groups["/".join(trial.name.split("/")[:2])].append(trial)
    for name, group in groups.items():
        if continued := [starts[trial.trial_id] for trial in group if trial.trial_id in starts]:
            yield f"{name}: {_continued(continued)}"
        others = [trial for trial in group if trial.trial_id in renewed - starts.keys()]
        if others and (reason := _why_not(store, others[0], before[others[0].name])):
            more = f" (as {len(others) - 1} more of the stage)" if len(others) > 1 else ""
            yield f"{others[0].name} does not continue trial {before[others[0].name]}: {reason}{more}"


def cut_off(plan: Plan, ends: Mapping[str, tuple[str, float | None]]) -> Iterator[str]:
    """Yields one line if trainings ended by `max_epochs` and not by patience.

    Args:
        plan: Of the study.
        ends: What ended each complete training, and its best score, by the id of its trial. One without a
            score can end by nothing but `max_epochs`.
    """
    base, counts = plan.loaded.base, list[str]()
    for stage in base.stages:
        trained = [ends[t.trial_id] for t in plan.trials if t.stage == stage and t.trial_id in ends]
        if cut := sum(end == "max_epochs" and score is not None for end, score in trained):
            counts.append(f"{stage} {cut} of {len(trained)}")
    if counts:
        kept = "trainings whose state was kept" if base.keep_states else "with keep_states: true, trainings"
        yield (
            f"trainings that ended by max_epochs and not by patience: {', '.join(counts)}; a larger "
            f"training.max_epochs lets them end by patience ({kept} continue)"
        )


def _continued(starts: Sequence[KeptState]) -> str:
    epochs = sorted({start.num_epochs for start in starts})
    span = " to ".join(map(str, dict.fromkeys((epochs[0], epochs[-1]))))
    return f"{count_of(len(starts), 'trial')} will continue shorter trainings after epoch {span}"


def _last_ids(session: Session) -> dict[str, str]:
    try:
        document = session.last_plan()
    except (UsageError, RecordError):
        return {}
    return {name: trial["trial_id"] for trial in document["trials"] for name in trial["names"]}


def _why_not(store: Store, spec: TrialSpec, before: str) -> str | None:
    """Returns why a trial trains from scratch although an earlier one differs in its end alone."""
    stored = reader.read_undamaged(store, layout.TrialFiles(before).spec)
    changed = set(differing(stored.get("identity", {}), spec.identity.to_json()))
    ends = [path for path in _ENDS if path in changed]
    others = changed - set(ends)
    if not ends or any(path.partition(".")[0] not in _OF_OTHERS for path in others):
        return None  # another training in any case
    if others:
        return "it starts from another network now, or reads other predictions"
    if fixed := [path for path in ends if path.rpartition(".")[2] not in spec.identity.bounds]:
        return f"task {spec.identity.task!r} computes more from {' and '.join(fixed)} than when to end"
    record = reader.read_trial(store, before)
    if record is None:
        return "it is not complete"
    if reason := refusal(store, spec, record):
        return reason
    return None if store.exists(layout.state_path(spec.course_id, before)) else _KEPT_NOT
