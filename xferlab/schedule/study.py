"""One run of a study: write what workers need, give the open trials to an executor, count what came out."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xferlab.cohort import Selection
from xferlab.errors import StorageError
from xferlab.plan.document import provenance, to_document
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.complete import CompleteTrial, complete_trials
from xferlab.records.store import Store
from xferlab.schedule.cancelling import Inbox, arms_left_out, names_in_run
from xferlab.schedule.graph import Listener, TrialGraph, trial_priorities
from xferlab.schedule.lease import Lease
from xferlab.schedule.looks import dated
from xferlab.schedule.moves import last_document, moved
from xferlab.schedule.retry_policy import Ending, RetryPolicy

Executor = Callable[[RetryPolicy], Ending]
"""Runs the graph of a retry policy until it is exhausted, or is to end early."""


@dataclass(frozen=True)
class Outcome:
    """How a run of a study ended.

    Attributes:
        graph: The states of all trials.
        ending: What ended it early, if anything did.
        complete_before: What was complete when it began.
    """

    graph: TrialGraph
    ending: Ending
    complete_before: Mapping[str, CompleteTrial]


def run_study(
    plan: Plan,
    store: Store,
    executor: Executor,
    *,
    listener: Listener,
    trials: Sequence[TrialSpec],
    prepare: Callable[[TrialGraph, str], None] = lambda graph, moves: None,
) -> Outcome:
    """Runs those of a plan's trials that are not complete; `trials` is closed under parents.

    `prepare` finds what prevents the run from starting, before the plan replaces the last one. It is given
    what `moved` says, which the new plan keeps.

    Raises:
        LeaseHeldError: Another live process drives this study on this storage.
        StorageError: The storage cannot be written.
    """
    base = plan.loaded.base
    left_out = arms_left_out(plan, trials)
    arms = [arm for arm in plan.loaded.arms if arm not in left_out] if left_out else ()
    with Lease(store, base.study, arms=arms) as lease:
        complete = complete_trials(store, base.study, trials)
        priorities = trial_priorities(trials, plan.loaded.priorities)
        graph = TrialGraph(trials, complete=complete, priorities=priorities)
        listener.begin(graph)
        last = last_document(store, base.study)
        moves = moved(plan, store, last)
        prepare(graph, moves)
        publish(plan, store, last, moved=moves)
        if graph.exhausted:
            return Outcome(graph, Ending(), complete)
        with Inbox(store, base.study, run=lease.token, names=names_in_run(plan, trials)) as inbox:
            ending = executor(
                RetryPolicy(graph, store, listener, retries=base.retries, study=base.study, inbox=inbox)
            )
    return Outcome(graph, ending, complete)


def publish(plan: Plan, store: Store, last: Mapping[str, Any] | None = None, *, moved: str = "") -> None:
    """Writes a plan and the selections that its trials refer to.

    For `last` and `moved` see `dated`; without `last`, the last plan is read.
    """
    if last is None:
        last = last_document(store, plan.loaded.base.study)
    write_selections(store, plan.selections)
    document = dated(to_document(plan), store, last, moved=moved, of=provenance(plan))
    if document is not last:
        name = layout.StudyFiles(plan.loaded.base.study).plan
        codec.write_json(store, name, document, replaces=reader.EARLIER_PLANS)


def write_selections(store: Store, selections: Mapping[str, Selection]) -> None:
    """Writes those selections, by digest, that the storage does not hold yet."""
    present = set(store.list(layout.SELECTIONS))
    for digest, selection in selections.items():
        if f"{digest}.json" not in present:
            codec.write_json(store, layout.selection_path(digest), selection.to_json())


def check_writable(store: Store) -> None:
    """Refuses a storage that cannot be written, before anything else is done.

    Raises:
        StorageError: Says where and why.
    """
    probe = f".xferlab-probe-{secrets.token_hex(8)}"  # several studies may begin at once in one storage
    try:
        store.write(probe, b"")
    except StorageError as error:
        raise StorageError(
            f"storage {store.shown} cannot be written: {error.__cause__}. Give another with --storage."
        ) from error
    if store.size(probe) is None:
        raise StorageError(f"{store.shown}: what is written there cannot be read back")
    store.delete(probe)
