"""What a trial took from others: the digests of weights, so that W&B draws the graph of its runs."""

from __future__ import annotations

from xferlab.plan.spec import TrialSpec
from xferlab.records.reader import read_trial
from xferlab.records.schema import TrialRecord
from xferlab.records.store import Store

_DIGEST_LENGTH = 64


def taken_weights(store: Store, spec: TrialSpec, record: TrialRecord) -> list[str]:
    """Returns the digests of the weights that a trial took, each once, as far as they are known.

    They are those that its training started from, and those of the trials whose predictions it took: masks,
    and what a gate lets pass.

    Raises:
        StorageError: The storage cannot be read.
    """
    started = record.started_from or {}
    names = [started] if isinstance(started, str) else list(started.values())
    names += [trial for given in spec.inputs if given.network is None for trial in given.trials]
    return list(dict.fromkeys(filter(None, (_weights(store, name) for name in names))))


def _weights(store: Store, name: str) -> str | None:
    if len(name) == _DIGEST_LENGTH:  # given weights are named by their digest, those of a trial by its id
        return name
    record = read_trial(store, name)
    return record.weights_sha256 if record else None
