"""The contract of a trial on the simulated cluster, with real records and arithmetic in place of training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xferlab.errors import RecordError, StorageError, TrainingError
from xferlab.plan.spec import Input, TrialSpec
from xferlab.records import codec, layout, reader, writer
from xferlab.records.complete import is_measured
from xferlab.records.schema import CASES_SCHEMA, EpochResult, EvaluationRecord, TrialRecord, history_sha256
from xferlab.records.store import Store
from xferlab.trial.attempt import Attempt

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

NUM_EPOCHS = 3


def weights_of(spec: TrialSpec, parent: bytes) -> bytes:
    """What training gives: a function of the spec and of what it starts from."""
    return hashlib.sha256(spec.trial_id.encode() + parent).digest() * 4


def loss_of(spec: TrialSpec, epoch: int) -> float:
    """A validation loss that falls, another for each trial."""
    return 1.0 / epoch + int(spec.trial_id[:6], 16) / 1e9


def work(cluster: Cluster, store: Store, spec: TrialSpec) -> None:
    """The contract of a trial, with the real records and arithmetic in place of training."""
    came = cluster.clock.now
    record = reader.read_trial(store, spec.trial_id)
    if record is not None and is_measured(store, spec, record.weights_sha256):
        return
    attempt = Attempt(store, spec.trial_id, trained=record is not None)
    try:
        codec.write_json(store, layout.TrialFiles(spec.trial_id).spec, spec.to_json())
        if record is None:
            record = _train(cluster, store, spec, attempt, came=came)
        else:
            attempt.begin(record.num_epochs + 1)
            _measure(store, spec, record.weights_sha256)
            attempt.complete()
            return
        _measure(store, spec, record.weights_sha256)
        attempt.complete()
        writer.write_trial(store, record)
        cluster.log.completed.setdefault(spec.trial_id, cluster.clock.now)
        _clear(store, spec)
    except BaseException as error:
        attempt.failed(error)
        raise


def _train(cluster: Cluster, store: Store, spec: TrialSpec, attempt: Attempt, *, came: float) -> TrialRecord:
    parent = b"".join(_weights_taken(store, spec, given) for given in spec.inputs)
    cluster.log.starts.setdefault(spec.trial_id, set()).add(hashlib.sha256(parent).hexdigest())
    cluster.log.trained.append((spec.trial_id, came))
    history = _resume(store, spec)
    attempt.begin(len(history) + 1)
    file = writer.HistoryFile(store, spec.trial_id, history)
    for epoch in range(len(history) + 1, NUM_EPOCHS + 1):
        cluster.clock.pause(cluster.draws.expovariate(0.2))
        if cluster.draws.random() < cluster.weather.worker_error:
            raise StorageError(f"the connection {cluster.draws.random()} was reset")
        if spec.stage in cluster.weather.hopeless:
            raise TrainingError(f"{spec.name}: the loss is NaN in epoch {epoch}")
        loss = loss_of(spec, epoch)
        history = [*history, EpochResult(epoch, {"validation_loss": loss}, loss, True, 0.0, 0.0)]
        file.append(history[-1])
        attempt.epoch(epoch)
        _save(store, spec, history)
    file.finish()
    weights = weights_of(spec, parent)
    store.write(layout.TrialFiles(spec.trial_id).weights, weights)
    return TrialRecord(
        trial_id=spec.trial_id, identity=spec.identity.to_json(), num_epochs=NUM_EPOCHS,
        best_epoch=NUM_EPOCHS,
        best_score=history[-1].score, stopped_by="max_epochs", num_parameters=1,
        num_train=1, num_validation=1, started_from=spec.parents[0] if spec.parents else None,
        weights_sha256=hashlib.sha256(weights).hexdigest(), weights_bytes=len(weights),
        history_sha256=history_sha256(history),
    )  # fmt: skip


def _weights_taken(store: Store, spec: TrialSpec, given: Input) -> bytes:
    """The weights of the best parent, or of all that predict; verified, as a trial does it."""
    records = [record for parent in given.trials if (record := reader.read_trial(store, parent))]
    if len(records) < len(given.trials):
        raise RecordError(f"{spec.name}: a parent is not complete")
    records.sort(key=lambda record: (record.best_score or 0.0, record.trial_id))
    weights = b""
    for record in records if given.network is None else records[:1]:
        data = store.read(layout.TrialFiles(record.trial_id).weights)
        if data is None or not codec.matches(data, record.weights_sha256):
            raise RecordError(f"{spec.name}: the weights of {record.trial_id} are altered")
        weights += data
    return weights


def _save(store: Store, spec: TrialSpec, history: Sequence[EpochResult]) -> None:
    folder = layout.TrialFiles(spec.trial_id).checkpoint
    codec.write_json(
        store, f"{folder}/state-{len(history):06d}", {"history": [one.to_json() for one in history]}
    )
    for old in [name for name in store.list(folder) if name.startswith("state-")][:-2]:
        store.delete(f"{folder}/{old}")


def _resume(store: Store, spec: TrialSpec) -> list[EpochResult]:
    folder = layout.TrialFiles(spec.trial_id).checkpoint
    for name in reversed([one for one in store.list(folder) if one.startswith("state-")]):
        body = codec.read_json(store, f"{folder}/{name}")
        if body is not None:
            return [EpochResult(**one) for one in body["history"]]
    return []


def _measure(store: Store, spec: TrialSpec, weights: str) -> None:
    for one in spec.evaluations:
        stored = reader.read_evaluation(store, spec.trial_id, one.evaluation_id)
        if not reader.is_whole(store, stored, weights):
            columns = {name: [one.evaluation_id] for name in CASES_SCHEMA.names} | {"value": [0.5]}
            cases = writer.table(CASES_SCHEMA, columns)
            record = EvaluationRecord(
                evaluation_id=one.evaluation_id, trial_id=spec.trial_id, selection=one.selection,
                num_cases=1, metrics_version=1, weights_sha256=weights,
            )  # fmt: skip
            writer.write_measurement(store, record, {"cases": cases, "outputs": cases})


def _clear(store: Store, spec: TrialSpec) -> None:
    folder = layout.TrialFiles(spec.trial_id).checkpoint
    for name in store.list(folder):
        if name.startswith("state-"):
            store.delete(f"{folder}/{name}")
