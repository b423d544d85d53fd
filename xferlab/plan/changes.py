"""How a study file differs from the last plan of the study: trials added, removed and changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from xferlab.plan.expand import Plan
from xferlab.study.load import LoadedStudy

SHOWN = 4
"""Arms, stages or fields that a phrase names before it says how many more there are."""

Fields = Callable[[str, str], Collection[str]]
"""Takes the old and the new id of a trial, and returns what of its identity differs."""


def planned_names(document: Mapping[str, Any]) -> dict[str, str]:
    """Returns the ids of a plan document by name (`arm/stage/rNN`)."""
    return {name: trial["trial_id"] for trial in document["trials"] for name in trial["names"]}


def asked_names(loaded: LoadedStudy) -> list[str]:
    """Returns the names of all trials that a study file asks for, whatever its data are."""
    return [
        f"{arm}/{name}/r{repetition:02d}"
        for arm, study in loaded.arms.items()
        for name, stage in study.stages.items()
        if stage.weights is None
        for repetition in range(1, (stage.repetitions or study.repetitions) + 1)
    ]


def changes(
    loaded: LoadedStudy, document: Mapping[str, Any], plan: Plan | None, *, fields: Fields
) -> list[str]:
    """Returns phrases for what differs; none where nothing does.

    Args:
        loaded: The study file.
        document: The last plan.
        plan: What the file asks for now; None where its data cannot be read: then ids are not compared.
        fields: Tells what made a trial's id another.
    """
    before, now = planned_names(document), asked_names(loaded)
    added = [name for name in now if name not in before]
    removed = [name for name in before if name not in set(now)]
    phrases = [
        *_counted(added, "added", known=before),
        *_counted(removed, "removed", known=now),
    ]
    if document["seed"] != loaded.base.seed:
        phrases.append(f"seed {document['seed']} -> {loaded.base.seed}")
    if plan is None:
        phrases += _overridden(loaded, document)
    else:
        phrases += _renewed(plan, before, fields)
        phrases += _measured_otherwise(plan, document)
    return phrases


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by dotted path."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    parts = (flattened(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
    return {path: leaf for part in parts for path, leaf in part.items()}


def changed_fields(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the fields in which two identities differ, with both values where these are short."""
    old, new = flattened(before), flattened(now)
    differing = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    return [_field(path, old.get(path), new.get(path)) for path in differing]


def _field(path: str, before: Any, now: Any) -> str:
    if path == "selection":
        return "the patients or images to train on"
    if path == "version":
        return "the version of the training in this xferlab"
    if path.partition(".")[0] == "parent":
        return PARENT
    return f"{path} {before} -> {now}"


PARENT = "what it starts from"


def _counted(names: Collection[str], verb: str, *, known: Iterable[str]) -> Iterator[str]:
    if names:
        yield f"{_trials(len(names))} {verb} ({_listed(_groups(names, known))})"


def _groups(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Returns whole arms, whole stages and repetitions, as a reader of the study file would call them."""
    parts = [name.split("/") for name in known]
    arms, stages = {part[0] for part in parts}, {part[1] for part in parts}
    whole: dict[str, None] = {}
    parts_of: dict[str, list[str]] = defaultdict(list)
    for name in names:
        arm, stage, repetition = name.split("/")
        if arm not in arms:
            whole[f"arm {arm}"] = None
        elif stage not in stages:
            whole[f"stage {stage}"] = None
        else:
            parts_of[f"{arm}/{stage}"].append(repetition)
    return [*whole, *(f"{group} {_span(repetitions)}" for group, repetitions in parts_of.items())]


def _span(repetitions: list[str]) -> str:
    first, last = min(repetitions), max(repetitions)
    return first if first == last else f"{first} to {last}"


def _overridden(loaded: LoadedStudy, document: Mapping[str, Any]) -> Iterator[str]:
    """Yields the arms that override other fields, or with other values."""
    planned = {name: arm["description"] for name, arm in document["arms"].items()}
    for name in loaded.arms:
        if name in planned and flattened(planned[name]) != flattened(dict(loaded.overrides.get(name, {}))):
            yield f"arm {name} overrides other values"


def _renewed(plan: Plan, before: Mapping[str, str], fields: Fields) -> Iterator[str]:
    """Yields the trials whose ids changed, and the settings that changed them."""
    pairs = {name: (before[name], new) for name, new in plan.names.items() if before.get(name, new) != new}
    if not pairs:
        return
    groups: dict[str, tuple[str, str]] = {}
    for name, pair in pairs.items():
        groups.setdefault(name.rpartition("/")[0], pair)
    reasons = dict.fromkeys(field for pair in dict.fromkeys(groups.values()) for field in fields(*pair))
    causes = [reason for reason in reasons if reason != PARENT]
    where = _listed(list(groups))
    yield f"{_trials(len(set(pairs.values())))} changed ({where}" + (
        f": {_listed(causes)})" if causes else ")"
    )


def _measured_otherwise(plan: Plan, document: Mapping[str, Any]) -> Iterator[str]:
    asked = {
        trial["trial_id"]: {one["evaluation_id"] for one in trial["evaluations"]}
        for trial in document["trials"]
    }
    differing = [
        trial
        for trial in plan.trials
        if trial.trial_id in asked
        and asked[trial.trial_id] != {one.evaluation_id for one in trial.evaluations}
    ]
    if differing:
        groups = dict.fromkeys(trial.name.rpartition("/")[0] for trial in differing)
        yield f"{_trials(len(differing))} evaluated on other cases or otherwise ({_listed(list(groups))})"


def _trials(number: int) -> str:
    return f"{number} trial{'' if number == 1 else 's'}"


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more
