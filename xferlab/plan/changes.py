"""How a study file differs from the last plan of the study: trials added, removed and changed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from xferlab.errors import listed
from xferlab.plan.document import described, to_document
from xferlab.plan.identity import differing, flattened
from xferlab.plan.plan import Plan
from xferlab.study.load import LoadedStudy

SHOWN = 4
"""Arms, stages or fields that a phrase names before it says how many more there are."""

REPORTED = ("note", "compare_to", "claims", "subgroups", "classes", "split", "data", "stages")
"""Fields of a plan that change a report, and that may differ where no trial does."""

Fields = Callable[[str, str], Collection[str]]
"""Takes the old and the new id of a trial, and returns what of its identity differs."""


def asked_names(loaded: LoadedStudy, before: Collection[str] = ()) -> list[str]:
    """Returns the names of all trials that a study file asks for; its data are not read.

    Args:
        loaded: The study file.
        before: The names of the last plan; where only the data tell how many repetitions there are, they
            tell it.
    """
    planned: dict[str, list[str]] = defaultdict(list)
    for name in before if loaded.base.split.is_open else ():
        planned[_stage(name)].append(name)
    known = (int(name.split("/")[2].removeprefix("r")) for names in planned.values() for name in names)
    usual = max(known, default=None)
    asked: list[str] = []
    for arm, study in loaded.arms.items():
        for name, stage in study.stages.items():
            numbers = range(1, (stage.repetitions or usual or study.repetitions) + 1)
            drawn = [f"{arm}/{name}/r{number:02d}" for number in numbers]
            asked += [] if stage.weights else planned.get(f"{arm}/{name}", drawn)
    # Whether a repetition predicts out of fold, only the data tell.
    of_folds = (name for name in before if name.count("/") == 3 and name.rpartition("/")[0] in {*asked})
    return list(dict.fromkeys([*asked, *of_folds]))


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
    arms = {name: arm["description"] for name, arm in document["arms"].items()}
    renamed = renamed_arms(arms, {name: described(loaded.overrides.get(name, {})) for name in loaded.arms})
    before = {
        f"{renamed.get(arm, arm)}/{place}": trial["trial_id"]
        for trial in document["trials"]
        for arm, place in (name.split("/", 1) for name in trial["names"])
    }
    now = dict.fromkeys(plan.names if plan else asked_names(loaded, before))
    added, removed = ([name for name in a if name not in b] for a, b in ((now, before), (before, now)))
    phrases = [
        *(f"arm {old} is called {new} now" for old, new in renamed.items()),
        *_counted(added, "added", known=before, ids=plan.names if plan else {}),
        *_counted(removed, "removed", known=now, ids=before),
    ]
    if document["seed"] != loaded.base.seed:
        phrases.append(f"seed {document['seed']} -> {loaded.base.seed}")
    if plan is None:
        phrases += _overridden(loaded, document)
    else:
        phrases += _renewed(plan, before, fields)
        phrases += _measured_otherwise(plan, document)
        if not phrases:  # claims follow arms, and counts of images follow trials
            phrases += _overridden(loaded, document)
            phrases += _reported_otherwise(plan, document)
    return phrases


def renamed_arms(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """Returns the new names of arms that only have another one, by the old names.

    Args:
        before: What each arm changed, as plans describe it.
        now: What each arm changes.
    """
    gone = {name: flattened(changes) for name, changes in before.items() if name not in now}
    new = {name: flattened(changes) for name, changes in now.items() if name not in before}
    alike = {
        old: [name for name, changes in new.items() if changes == gone[old]]
        for old in gone
        if list(gone.values()).count(gone[old]) == 1
    }
    return {old: names[0] for old, names in alike.items() if len(names) == 1}


def changed_fields(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the fields in which two identities differ, with both values where these are short."""
    old, new = flattened(before), flattened(now)
    return [
        next(
            (words for field, words in _NAMED.items() if f"{path}.".startswith(f"{field}.")),
            f"{path} {old.get(path)} -> {new.get(path)}",
        )
        for path in differing(before, now)
    ]


PARENT, MASKS, GATE = "what it starts from", "what predicts its masks", "what its gate lets pass"
_NAMED = {
    "selection": "the images to train on, or their masks or labels",
    "version": "the version of the training in this xferlab",
    "parent": PARENT,
    "masks.trials": MASKS,
    "gate.trials": GATE,
}
"""Fields whose values say nothing to a reader."""


def _stage(name: str) -> str:
    """`arm/stage` of a trial's name."""
    return "/".join(name.split("/")[:2])


def _counted(
    names: Collection[str], verb: str, *, known: Iterable[str], ids: Mapping[str, str]
) -> Iterator[str]:
    if names:
        shared = {ids.get(name) for name in known}  # with an arm that was there before and still is
        number = len({ids.get(name, name) for name in names} - shared)
        yield f"{_trials(number)} {verb} ({listed(_groups(names, known), SHOWN)})"


def _groups(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Returns whole arms, whole stages and repetitions, as a reader of the study file would call them."""
    known_parts = [name.split("/") for name in known]
    arms, stages = {parts[0] for parts in known_parts}, {parts[1] for parts in known_parts}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        arm, stage, repetition = name.split("/", 2)
        if arm not in arms:
            groups[f"arm {arm}"] = []
        elif stage not in stages:
            groups[f"stage {stage}"] = []
        else:
            groups[f"{arm}/{stage}"].append(repetition)
    whole_first = sorted(groups.items(), key=lambda item: bool(item[1]))
    return [f"{group} {_span(repetitions)}" if repetitions else group for group, repetitions in whole_first]


def _span(repetitions: list[str]) -> str:
    return " to ".join(sorted({min(repetitions), max(repetitions)}))


def _overridden(loaded: LoadedStudy, document: Mapping[str, Any]) -> Iterator[str]:
    """Yields the arms that override other fields, or with other values."""
    planned = {name: flattened(described(arm["description"])) for name, arm in document["arms"].items()}
    for name in loaded.arms:
        if name in planned and planned[name] != flattened(described(loaded.overrides.get(name, {}))):
            yield f"arm {name} overrides other values"


def _renewed(plan: Plan, before: Mapping[str, str], fields: Fields) -> Iterator[str]:
    """Yields the trials whose ids changed, and the settings that changed them."""
    pairs = {name: (before[name], new) for name, new in plan.names.items() if before.get(name, new) != new}
    first: dict[str, tuple[str, str]] = {}
    for name, pair in pairs.items():
        first.setdefault(_stage(name), pair)
    changed = dict.fromkeys(field for pair in dict.fromkeys(first.values()) for field in fields(*pair))
    causes = listed([field for field in changed if field not in (PARENT, MASKS, GATE)], SHOWN)
    if pairs:
        where = listed(list(first), SHOWN) + (f": {causes}" if causes else "")
        yield f"{_trials(len(set(pairs.values())))} changed ({where})"


def _measured_otherwise(plan: Plan, document: Mapping[str, Any]) -> Iterator[str]:
    planned = {
        trial["trial_id"]: {evaluation["evaluation_id"] for evaluation in trial["evaluations"]}
        for trial in document["trials"]
    }
    differing = []
    for trial in plan.trials:
        evaluation_ids = {evaluation.evaluation_id for evaluation in trial.evaluations}
        if planned.get(trial.trial_id, evaluation_ids) != evaluation_ids:
            differing.append(_stage(trial.name))
    if differing:
        groups = listed(list(dict.fromkeys(differing)), SHOWN)
        yield f"{_trials(len(differing))} evaluated on other cases or otherwise ({groups})"
    shown = {
        trial["trial_id"]: (trial.get("features") or {}).get("features_id") for trial in document["trials"]
    }
    now = {trial.trial_id: trial.features and trial.features.features_id for trial in plan.trials}
    if any(shown[trial_id] != now[trial_id] for trial_id in shown.keys() & now.keys()):
        yield "features changed"


def _reported_otherwise(plan: Plan, document: Mapping[str, Any]) -> Iterator[str]:
    """Yields the fields that the report would show otherwise after a run, which would train nothing."""
    planned = to_document(plan)
    now = json.loads(json.dumps({field: planned.get(field) for field in REPORTED}))
    differing = [field for field in REPORTED if now[field] != document.get(field)]
    if differing:
        yield f"{listed(differing, SHOWN)} changed"


def _trials(number: int) -> str:
    return f"{number} trial{'' if number == 1 else 's'}"
