"""What complete trials of a storage took, as paces of trials like them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean

from xferlab.errors import RecordError
from xferlab.plan.estimate import Bounds, Pace, kind_of
from xferlab.records import layout, reader
from xferlab.records.store import Store

MAX_OF_KIND = 16
"""Trials of the study that are read of each kind."""
MAX_OTHERS = 256
"""Trials of other studies that are read where the study has none of a kind."""
_READERS = 16
_WHOLE = ("interrupted", "complete")
"""Ends of an attempt that add its time to that of the trial; that of a killed one is lost."""


@dataclass(frozen=True)
class _Run:
    """What one complete trial took."""

    kind: str
    bounds: Bounds
    num_epochs: int
    images: int
    total_s: float
    memory_gib: float
    stored_bytes: int
    device_name: str


def paces(store: Store, wanted: Collection[str], own: Mapping[str, Sequence[str]]) -> dict[str, Pace]:
    """Returns the pace of each kind that complete trials are known of.

    They are those of the study; for kinds of which it has none, some of the other trials of the storage.

    Args:
        store: The storage.
        wanted: Kinds, as of `plan.estimate.kinds`.
        own: The ids of the study's complete trials, by kind.
    """
    chosen = [trial_id for kind in wanted for trial_id in own.get(kind, ())[-MAX_OF_KIND:]]
    runs = _by_kind(_read(store, chosen, wanted))
    if lacking := set(wanted) - runs.keys():
        read = {trial_id for ids in own.values() for trial_id in ids}
        others = [trial_id for trial_id in store.list(layout.TRIALS) if trial_id not in read]
        runs |= _by_kind(_read(store, others[:MAX_OTHERS], lacking))
    return {kind: _pace(of_kind) for kind, of_kind in runs.items()}


def _pace(runs: Sequence[_Run]) -> Pace:
    epochs: dict[Bounds, list[int]] = defaultdict(list)
    for run in runs:
        epochs[run.bounds].append(run.num_epochs)
    return Pace(
        "records",
        image_s=sum(run.total_s for run in runs) / sum(run.images * run.num_epochs for run in runs),
        validated_s=0.0,
        memory_gib=max(run.memory_gib for run in runs),
        stored_bytes=fmean(run.stored_bytes for run in runs),
        trials=len(runs),
        devices=tuple(sorted({run.device_name for run in runs})),
        epochs={bounds: fmean(numbers) for bounds, numbers in epochs.items()},
    )


def _by_kind(runs: Iterable[_Run]) -> dict[str, list[_Run]]:
    groups: dict[str, list[_Run]] = defaultdict(list)
    for run in runs:
        groups[run.kind].append(run)
    return dict(groups)


def _read(store: Store, trial_ids: Sequence[str], wanted: Collection[str]) -> list[_Run]:
    with ThreadPoolExecutor(_READERS) as pool:
        return list(filter(None, pool.map(lambda trial_id: _run(store, trial_id, wanted), trial_ids)))


def _run(store: Store, trial_id: str, wanted: Collection[str]) -> _Run | None:
    """What a trial of these kinds took; None where it is not complete, or its time is not of all training."""
    body = reader.read_run(store, trial_id)
    attempts = body.get("attempts", [])
    is_whole = all(attempt.get("outcome") in _WHOLE and "continues" not in attempt for attempt in attempts)
    if not (is_whole and attempts and body.keys() >= {"total_s", "memory_peak_gib", "device_name"}):
        return None
    try:
        record = reader.read_trial(store, trial_id)
    except RecordError:  # another version wrote it
        return None
    if record is None:
        return None
    training, kind = record.identity["training"], kind_of(record.identity)
    if kind not in wanted:
        return None
    return _Run(
        kind,
        (training["max_epochs"], training["patience"]),
        record.num_epochs,
        record.num_train,
        body["total_s"],
        body["memory_peak_gib"],
        sum(info.size for _, info in store.walk(layout.TrialFiles(trial_id).folder)),
        body["device_name"],
    )
