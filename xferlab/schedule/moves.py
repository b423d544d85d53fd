"""Patients who are in another part than when the study was planned last, and what moved them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from xferlab.cohort import Case
from xferlab.errors import RecordError
from xferlab.plan.document import split_of
from xferlab.plan.plan import Plan
from xferlab.plan.spec import PLAN_VERSION
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store

Parts = Mapping[tuple[int, str], str]
"""The part of a case, by repetition and digest."""


def last_document(store: Store, study: str) -> dict[str, Any]:
    """Returns the last plan of a study; empty where there is none, or a torn one, which the next replaces."""
    try:
        return codec.read_json(store, layout.StudyFiles(study).plan) or {}
    except RecordError:
        return {}


def moved(plan: Plan, store: Store) -> str:
    """Returns a sentence about patients who were in another part in the last plan; empty where none was.

    It knows what trials of the last plan were to be measured on, and what those that began trained on.
    """
    last = last_document(store, plan.loaded.base.study)
    if last.get("version") != PLAN_VERSION:
        return ""
    changes = _changes(plan, dict(_parts(last, store, plan)))
    if not changes:
        return ""
    cohort = plan.selector.cohort
    total = len({cohort.unit(case) for cases in cohort.sections.values() for case in cases})
    what = "patients" if cohort.by_patient else "images"
    left = sum(any(pair == ("train", "hold_out") for pair in pairs) for pairs in changes.values())
    seen = sum(any(before == "hold_out" for before, _ in pairs) for pairs in changes.values())
    causes = ", ".join(_causes(plan, last))
    return (
        f"{len(changes)} of {total} {what} are in another part than in the last plan"
        + (f", in one repetition or more ({causes})" if causes else ", in one repetition or more")
        + (f"; {left} of them trained and are held out now" if left else "")
        + (f"; {seen} were held out and are not now: they may have been looked at" if seen else "")
    )


def _changes(plan: Plan, before: Parts) -> dict[str, set[tuple[str, str]]]:
    """Old and new parts of the units that moved."""
    selector = plan.selector
    cases: dict[str, Case] = {case.digest: case for _, case, _ in selector.listed()} if before else {}
    changes = defaultdict[str, set[tuple[str, str]]](set)
    for (repetition, digest), part in before.items():
        if digest in cases and (now := selector.part_of(repetition, cases[digest])) != part:
            changes[selector.cohort.unit(cases[digest])].add((part, str(now)))
    return changes


def _parts(last: Mapping[str, Any], store: Store, plan: Plan) -> Iterator[tuple[tuple[int, str], str]]:
    """Yields the parts of the last plan, where its selections are not those of this one."""
    repetitions = range(1, plan.loaded.base.repetitions + 1)
    trials = [t for t in last["trials"] if t["repetition"] in repetitions and not t.get("fold")]
    for repetition, part, digest in _measured(trials):
        if digest not in plan.selections and store.exists(layout.selection_path(digest)):
            for row in reader.read_selection(store, digest).rows:
                yield (repetition, row[0]), part
    for repetition, trial_id in _trained(trials):
        if trial_id in plan.by_id:
            continue
        spec = reader.read_undamaged(store, layout.TrialFiles(trial_id).spec)
        digest = spec.get("selection", "")
        if digest and digest not in plan.selections and store.exists(layout.selection_path(digest)):
            for row in reader.read_selection(store, digest).rows:
                yield (repetition, row[0]), row[1]


def _measured(trials: list[dict[str, Any]]) -> dict[tuple[int, str, str], None]:
    """Repetition, part and selection of all that is measured, once."""
    measured = (
        (trial["repetition"], evaluation["part"], evaluation["selection"])
        for trial in trials
        for evaluation in trial["evaluations"]
    )
    return dict.fromkeys(measured)


def _trained(trials: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """Repetition and id of the trial of each section that trains on most images."""
    most = dict[tuple[int, str], dict[str, Any]]()
    for trial in trials:
        place = trial["repetition"], trial["data"]
        if place not in most or trial["num_train"] > most[place]["num_train"]:
            most[place] = trial
    return [(repetition, trial["trial_id"]) for (repetition, _), trial in most.items()]


def _causes(plan: Plan, last: Mapping[str, Any]) -> Iterator[str]:
    """Yields what differs of all that parts depend on."""
    base, sections = plan.loaded.base, plan.selector.cohort.sections
    if last["seed"] != base.seed:
        yield "another seed"
    if last["split"] != split_of(base.split):
        yield "another split"
    for name in sections.keys() - last["data"].keys():
        yield f"data.{name} added"
    for name in last["data"].keys() - sections.keys():
        yield f"data.{name} removed"
    for name in sections.keys() & last["data"].keys():
        told, cases = last["data"][name], sections[name]
        patients = len({case.patient for case in cases})
        if told["cases"] != len(cases):
            yield f"images of data.{name} {told['cases']} -> {len(cases)}"
        elif told["patients"] != patients:
            yield f"patients of data.{name} {told['patients']} -> {patients}, by joining or telling apart"
        if told["hold_out"] != base.data[name].hold_out:
            yield f"data.{name}.hold_out {told['hold_out']} -> {base.data[name].hold_out}"
