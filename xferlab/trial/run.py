"""The contract of a trial: return if complete, else resume, train, evaluate, and write the record last."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xferlab.errors import InterruptedTrialError
from xferlab.plan.identity import sha256_of
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader, writer
from xferlab.records.complete import is_measured, lacks_features
from xferlab.records.schema import EpochResult, TrialRecord, history_sha256
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.tracking.live import TrialMirror
from xferlab.tracking.summary import trial_summary
from xferlab.training.examples import AnyExamples
from xferlab.training.loop import Fitted, Trainer, Weights
from xferlab.training.randomness import uniform
from xferlab.training.sets import FitExamples, predicted_of
from xferlab.trial import environment
from xferlab.trial.attempt import Attempt
from xferlab.trial.checkpoint import Checkpoints
from xferlab.trial.continuing import continue_shorter
from xferlab.trial.evaluate import evaluate, prediction_time
from xferlab.trial.examples import TrialContext, check_packages, fit_examples
from xferlab.trial.features import extract
from xferlab.trial.given import Given
from xferlab.trial.headline import headline_of
from xferlab.trial.log import recorded
from xferlab.trial.origin import Origin, load_origins, names_of, trained_weights, weights_of
from xferlab.trial.pictures import outputs_of
from xferlab.trial.predictions import predictions_for
from xferlab.trial.training import finished, load_weights, trainer_of


@dataclass(frozen=True)
class Hooks:
    """What the scheduler around a trial wants.

    Attributes:
        stop: Asked after every batch and every measured case; True ends the trial with its training stored.
        on_epoch: Called with every finished epoch, with the best score of all epochs so far.
        on_resume: Called with the last epoch that a resumed training kept, in the same way.
    """

    stop: Callable[[], bool] = lambda: False
    on_epoch: Callable[[EpochResult, float | None], None] = lambda result, best_score: None
    on_resume: Callable[[EpochResult, float | None], None] = lambda result, best_score: None


def run_trial(spec: TrialSpec, store: Store, *, cache_dir: Path, hooks: Hooks | None = None) -> TrialRecord:
    """Runs one trial to its record, from wherever an earlier attempt left it.

    Args:
        spec: What to run.
        store: Where its parent's weights are and its records go.
        cache_dir: Folder of decoded images and of the mirror's files on this machine.
        hooks: Stop request and progress.

    Returns:
        The record; at once if the trial is complete.

    Raises:
        InterruptedTrialError: `hooks.stop` asked to end; the state is stored.
        XferlabError: It cannot be done; the failure is stored as `failure.json`.
    """
    record = reader.read_trial(store, spec.trial_id)
    if record is not None and is_measured(store, spec, record.weights_sha256):
        return record
    attempt = Attempt(store, spec.trial_id, trained=record is not None)
    with recorded(attempt, sections=spec.data.values()):
        check_packages(spec)
        context = TrialContext(store, cache_dir, environment.prepare(spec.identity.execution))
        return _Run(spec, context, attempt, hooks or Hooks()).to_record(record)


class _Run:
    def __init__(self, spec: TrialSpec, context: TrialContext, attempt: Attempt, hooks: Hooks):
        self.spec, self.attempt, self.hooks = spec, attempt, hooks
        # Nothing that the run holds may hold the run: a circle keeps its networks until garbage is collected.
        self.context = replace(context, go_on=partial(_go_on, hooks, spec, "took the predictions of others"))
        self.learner = registry.learner_of(spec.identity, context.device)

    def to_record(self, record: TrialRecord | None) -> TrialRecord:
        store, trial_id = self.context.store, self.spec.trial_id
        codec.write_json(store, layout.TrialFiles(trial_id).spec, self.spec.to_json())
        if record is not None:
            self.attempt.begin(record.num_epochs + 1)
            self._load(trained_weights(store, trial_id))
            self._evaluate(record.weights_sha256)
            self.attempt.complete()
            return record
        return self._train()

    def _train(self) -> TrialRecord:
        store, spec = self.context.store, self.spec
        given = predictions_for(spec, spec.predicted, spec.section, self.context)
        train, validation = fit_examples(spec, self.context, given)
        origins = load_origins(spec, self.learner, self.context)
        started_from = _origin(origins, given)
        self.checkpoints = Checkpoints(store, spec.trial_id, origin=started_from)
        trainer = trainer_of(spec.identity, self.learner)
        self.checkpoints.resume(trainer.restore, self.context.device)
        start = continue_shorter(spec, trainer, self.context, origin=started_from)
        self.attempt.begin(trainer.cursor.epoch, continues=start.record.trial_id if start else None)
        for kept in trainer.cursor.history[-1:]:
            self.hooks.on_resume(kept, trainer.cursor.best_score)
        with ExitStack() as stack:
            mirror = TrialMirror.start(
                spec,
                directory=self.context.cache_dir / "wandb",
                parent_weights=weights_of(origins),
                store=store,
            )
            summary: dict[str, float] = {}
            outcome = ["failed"]
            stack.callback(lambda: mirror.finish(summary=summary, outcome=outcome[0]))
            fitted = self._fit(trainer, train, validation, mirror)
            self._load(fitted.weights)
            weights = finished(self.learner, validation)
            store.write(layout.TrialFiles(spec.trial_id).weights, weights)
            record = TrialRecord(
                trial_id=spec.trial_id,
                identity=spec.identity.to_json(),
                num_epochs=len(fitted.history),
                best_epoch=fitted.best_epoch,
                best_score=fitted.best_score,
                stopped_by=fitted.stopped_by,
                num_parameters=sum(
                    parameter.numel()
                    for network in self.learner.networks.values()
                    for parameter in network.parameters()
                ),
                num_train=len(train),
                num_validation=len(validation),
                started_from=names_of(origins),
                weights_sha256=hashlib.sha256(weights).hexdigest(),
                weights_bytes=len(weights),
                history_sha256=history_sha256(fitted.history),
                predictions=given.used or None,
            )
            tables = self._evaluate(record.weights_sha256)
            summary.update(
                mirror.summary(
                    lambda: trial_summary(record, fitted.history, tables, headline=headline_of(spec))
                )
            )
            self._show(mirror, predicted_of(validation))
            mirror.weights(record)
            self.attempt.complete(
                **environment.describe(self.context.device),
                memory_peak_gib=environment.memory_peak_gib(self.context.device),
                network_ms_per_image=prediction_time(self.learner, predicted_of(validation)),
            )
            writer.write_trial(store, record)
            self.checkpoints.clear()
            outcome[0] = "complete"
        return record

    def _load(self, weights: Weights) -> None:
        load_weights(self.learner, weights, origin=f"trial {self.spec.trial_id}")

    def _fit(
        self,
        trainer: Trainer[Any, Any],
        train: FitExamples,
        validation: FitExamples,
        mirror: TrialMirror,
    ) -> Fitted:
        history = writer.HistoryFile(self.context.store, self.spec.trial_id, trainer.cursor.history)
        for result in trainer.cursor.history:
            mirror.epoch(result)
        every_s, saved_at = self.spec.settings.checkpoint_every_s, [time.monotonic()]

        def after_batch() -> None:
            stopping = self.hooks.stop()
            self.attempt.log.flush()
            if stopping or time.monotonic() - saved_at[0] >= every_s:
                self.checkpoints.save(trainer.state())
                saved_at[0] = time.monotonic()
            if stopping:
                raise InterruptedTrialError(
                    f"{self.spec.name}: stopped in epoch {trainer.cursor.epoch}; run the study again to go on"
                )

        def after_epoch(result: EpochResult) -> None:
            history.append(result)
            self.attempt.epoch(result.epoch, result)
            mirror.epoch(result)
            self.hooks.on_epoch(result, trainer.cursor.best_score)

        fitted = trainer.fit(train, validation, after_batch=after_batch, after_epoch=after_epoch)
        # The evaluation may be killed, too: the end of training is worth a checkpoint of its own.
        self.checkpoints.save(trainer.state())
        if self.spec.settings.keep_states:
            self.checkpoints.keep(layout.state_path(self.spec.course_id, self.spec.trial_id), trainer.state())
        history.finish()
        return fitted

    def _evaluate(self, weights: str) -> dict[str, pa.Table]:
        """Measures what has no valid record yet of these weights; returns all rows by its `read_name`."""
        store, trial_id = self.context.store, self.spec.trial_id
        started = time.monotonic()
        tables, go_on = {}, partial(_go_on, self.hooks, self.spec, "was evaluated")
        for evaluation in self.spec.evaluations:
            record = reader.read_evaluation(store, trial_id, evaluation.evaluation_id)
            if record is None or not reader.is_whole(store, record, weights):
                measure = partial(evaluate, self.spec, evaluation, self.learner, self.context)
                record = measure(weights=weights, after_case=go_on)
            tables[evaluation.read_name] = reader.read_cases(store, record)
        if lacks_features(store, self.spec, weights):
            extract(self.spec, self.learner, self.context, weights=weights, after_case=go_on)
        self.attempt.evaluated(time.monotonic() - started)
        return tables

    def _show(self, mirror: TrialMirror, validation: AnyExamples) -> None:
        """Sends a fixed, seeded few validation cases to the mirror, which drops what is not shareable."""
        tracking = self.spec.settings.tracking
        if tracking:
            draws = uniform(validation.keys, seed=0, purpose="overlay", epoch=0)
            rows = np.argsort(draws)[: tracking["images"]].tolist()
            mirror.outputs(outputs_of(self.learner, validation, rows))


def _origin(origins: Mapping[str, Origin], given: Given) -> str | None:
    """Returns the digest of all that a training starts from: weights, and what others predict."""
    weights = weights_of(origins)
    return sha256_of([weights, given.used]) if given.used else weights


def _go_on(hooks: Hooks, spec: TrialSpec, doing: str) -> None:
    """Ends a trial if it is to stop: what it measures or predicts is lost, what it trained is not."""
    if hooks.stop():
        raise InterruptedTrialError(f"{spec.name}: stopped while it {doing}; run the study again to go on")
