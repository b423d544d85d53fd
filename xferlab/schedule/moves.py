"""Patients who are in another part than when the study was planned last, and what moved them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xferlab.cohort import Case, Selection
from xferlab.parallel import for_each
from xferlab.plan.document import split_of
from xferlab.plan.plan import Plan
from xferlab.plan.spec import PLAN_VERSION
from xferlab.records import codec, layout
from xferlab.records.store import Store


def last_document(store: Store, study: str) -> dict[str, Any]:
    """Returns the last plan of a study; empty where there is none, or a torn one, which the next replaces."""
    return codec.read_whole(store, layout.StudyFiles(study).plan)


def moved(plan: Plan, store: Store, last: Mapping[str, Any]) -> str:
    """Returns a sentence about patients who were in another part in the last plan; empty where none was.

    It knows the cases that trials of the last plan were to train on, to select with, or to be measured on.
    """
    if last.get("version") != PLAN_VERSION:
        return ""
    changes = _changes(plan, _parts(last, store, plan))
    if not changes:
        return ""
    total = len(set(plan.units.values()))
    what = "patients" if plan.selector.cohort.by_patient else "images"
    left = sum(any(pair == ("train", "hold_out") for pair in pairs) for pairs in changes.values())
    seen = sum(any(before == "hold_out" for before, _ in pairs) for pairs in changes.values())
    causes = ", ".join(_causes(plan, last))
    return (
        f"{len(changes)} of {total} {what} are in another part than in the last plan"
        + (f", in one repetition or more ({causes})" if causes else ", in one repetition or more")
        + (f"; {left} of them were in a training part and are held out now" if left else "")
        + (f"; {seen} were held out and are not now: they may have been looked at" if seen else "")
    )


def _changes(plan: Plan, before: Mapping[tuple[int, str], str]) -> dict[str, set[tuple[str, str]]]:
    """Old and new parts of the units that moved, by the old part of each repetition and case."""
    selector = plan.selector
    cases: dict[str, Case] = {case.digest: case for _, case, _ in selector.listed()} if before else {}
    changes = defaultdict[str, set[tuple[str, str]]](set)
    for (repetition, digest), part in before.items():
        if digest in cases and (now := selector.part_of(repetition, cases[digest])) != part:
            changes[selector.cohort.unit(cases[digest])].add((part, str(now)))
    return changes


def _parts(last: Mapping[str, Any], store: Store, plan: Plan) -> dict[tuple[int, str], str]:
    """The part of each repetition and case in the last plan, of selections that this one does not have."""
    chosen = [
        item
        for item in dict.fromkeys(_chosen(last["trials"]))
        if item[2] not in plan.selections and item[0] <= plan.loaded.base.repetitions
    ]
    digests = list(dict.fromkeys(digest for _, _, digest in chosen))
    rows = dict(zip(digests, for_each(digests, lambda digest: _rows(store, digest)), strict=True))
    return {
        (repetition, row[0]): part or row[1] for repetition, part, digest in chosen for row in rows[digest]
    }


def _chosen(trials: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str, str]]:
    """Yields repetition, part and digest of what trials choose; no part where the rows say it."""
    for trial in trials:
        if not trial.get("fold"):
            yield trial["repetition"], "", trial.get("selection", "")
            for evaluation in trial["evaluations"]:
                yield trial["repetition"], evaluation["part"], evaluation["selection"]


def _rows(store: Store, digest: str) -> tuple[tuple[str, ...], ...]:
    """The rows of a selection; none of one that is lost or damaged, which no trial of this plan needs."""
    value = codec.read_whole(store, layout.selection_path(digest))
    return Selection.from_json(value).rows if value else ()


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
