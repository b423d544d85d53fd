"""Whether a trial is complete: every record that its spec asks for exists and verifies."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from xferlab.plan.spec import TrialSpec
from xferlab.records import reader
from xferlab.records.store import Store

_READERS = 16


def is_complete(store: Store, spec: TrialSpec) -> bool:
    """Returns whether the training and every measurement that the spec asks for have a valid record."""
    record = reader.read_trial(store, spec.trial_id)
    return record is not None and is_measured(store, spec, record.weights_sha256)


def is_measured(store: Store, spec: TrialSpec, weights: str) -> bool:
    """Returns whether the spec, and all that it asks for of these weights (SHA-256), are stored and whole."""
    stored = reader.holds_spec(store, spec.trial_id)
    return (
        stored and not missing_evaluations(store, spec, weights) and not lacks_features(store, spec, weights)
    )


def lacks_features(store: Store, spec: TrialSpec, weights: str) -> bool:
    """Returns whether deep features are asked for and not stored as their record says."""
    asked, read = spec.features, partial(reader.read_whole_features, store, spec.trial_id, weights=weights)
    return asked is not None and read(asked.features_id) is None


def missing_evaluations(store: Store, spec: TrialSpec, weights: str) -> list[str]:
    """Returns the ids of evaluations without a valid record, or whose tables are not as it says."""
    read = partial(reader.read_whole_evaluation, store, spec.trial_id, weights=weights)
    return [one.evaluation_id for one in spec.evaluations if read(one.evaluation_id) is None]


def complete_ids(store: Store, specs: Iterable[TrialSpec]) -> set[str]:
    """Returns the ids of complete trials; looks only at those that the storage holds, several at a time."""
    present = set(store.list("trials"))
    candidates = [spec for spec in specs if spec.trial_id in present]
    with ThreadPoolExecutor(_READERS) as pool:
        verdicts = pool.map(lambda spec: is_complete(store, spec), candidates)
        return {spec.trial_id for spec, verdict in zip(candidates, verdicts, strict=True) if verdict}
