"""One sample of a search on one worker: its repetitions step together, an epoch at a time.

A sample opens the training and validation cases of its trials and nothing else: it has no evaluations, so
no test or hold-out case is ever looked up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from xferlab.errors import InterruptedTrialError, NonFiniteLossError
from xferlab.plan.identity import sha256_of
from xferlab.plan.sample_spec import SampleSpec
from xferlab.plan.spec import TrialSpec
from xferlab.records.samples import RepetitionCurve, SampleRecord, read_sample, search_store, write_sample
from xferlab.tasks import registry
from xferlab.trial.attempt import Attempt
from xferlab.trial.checkpoint import Checkpoints
from xferlab.trial.examples import TrialContext, fit_examples
from xferlab.trial.log import recorded
from xferlab.trial.origin import load_origins
from xferlab.trial.predictions import predictions_for
from xferlab.trial.training import trainer_of


def run_sample(
    sample: SampleSpec,
    context: TrialContext,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_epoch: Callable[[SampleRecord], None] = lambda record: None,
) -> SampleRecord:
    """Runs one sample to its record, from wherever an earlier attempt left it.

    Args:
        sample: What to run.
        context: Where.
        stop: Asked after every batch; True ends the sample with its state stored, unless it is finished.
        on_epoch: Told what the record would be if the sample ended now; may wait for a decision.

    Returns:
        The record; at once if the sample is finished.

    Raises:
        InterruptedTrialError: `stop` asked to end; the state is stored.
        XferlabError: It cannot be done; the failure is stored as `failure.json`.
    """
    search = search_store(context.store, sample.tuning_id)
    record = read_sample(search, sample.sample_id)
    if record is not None:
        return record
    attempt = Attempt(search, sample.sample_id)
    sections = [section for trial in sample.trials for section in trial.data.values()]
    with recorded(attempt, sections=sections):
        record = _Run(sample, context, attempt, stop).to_record(on_epoch)
        attempt.complete()
    return record


class _Run:
    def __init__(self, sample: SampleSpec, context: TrialContext, attempt: Attempt, stop: Callable[[], bool]):
        self.sample, self.attempt, self.stop = sample, attempt, stop
        self.search = search_store(context.store, sample.tuning_id)
        context = replace(context, go_on=partial(_go_on, stop, sample))  # no circle through this run
        self.repetitions = [_Repetition(trial, sample.judge, context) for trial in sample.trials]
        used = [repetition.used for repetition in self.repetitions]
        origin = sha256_of(used) if any(used) else None
        self.checkpoints = Checkpoints(self.search, sample.sample_id, origin=origin)
        self.epoch, self.num_batches = 1, 0
        self.checkpoints.resume(self._restore, context.device)
        self.every_s = min(trial.settings.checkpoint_every_s for trial in sample.trials)
        self.saved_at = time.monotonic()

    def to_record(self, on_epoch: Callable[[SampleRecord], None]) -> SampleRecord:
        """Trains until every repetition has ended, one diverges, or the sample is to stop."""
        self.attempt.begin(self.epoch)
        while True:
            try:
                for repetition in self.repetitions:
                    repetition.catch_up(self.epoch, self._after_batch)
            except NonFiniteLossError:
                return self._finish("diverged")
            self.attempt.epoch(self.epoch)
            self.epoch, self.num_batches = self.epoch + 1, 0
            if all(repetition.trainer.stopped_by() for repetition in self.repetitions):
                return self._finish("complete")
            on_epoch(self._record("stopped"))
            if self.stop() and (record := read_sample(self.search, self.sample.sample_id)):
                return record  # it was one of the worse
            self._heed_stop()

    def _finish(self, outcome: str) -> SampleRecord:
        record = self._record(outcome)
        write_sample(self.search, record)
        return record

    def _record(self, outcome: str) -> SampleRecord:
        return SampleRecord(
            sample_id=self.sample.sample_id,
            tuning_id=self.sample.tuning_id,
            number=self.sample.number,
            parameters=self.sample.parameters,
            outcome=outcome,
            max_epochs=self.sample.max_epochs,
            better=self.repetitions[0].score.better,
            repetitions=tuple(repetition.curve(self.epoch - 1) for repetition in self.repetitions),
        )

    def _after_batch(self) -> None:
        self.num_batches += 1
        self._heed_stop()

    def _heed_stop(self) -> None:
        """Stores the state if it is time or the sample is to stop; ends it in that case."""
        stopping = self.stop()
        if stopping or time.monotonic() - self.saved_at >= self.every_s:
            cursor = {"epoch": self.epoch, "next_batch": self.num_batches}
            states = [repetition.state() for repetition in self.repetitions]
            self.checkpoints.save({"cursor": cursor, "repetitions": states})
            self.saved_at = time.monotonic()
        if stopping:
            raise InterruptedTrialError(
                f"{self.sample.job.name}: stopped in epoch {self.epoch}; run the search again to go on"
            )

    def _restore(self, state: dict[str, Any]) -> None:
        self.epoch, self.num_batches = state["cursor"]["epoch"], state["cursor"]["next_batch"]
        for repetition, stored in zip(self.repetitions, state["repetitions"], strict=True):
            repetition.restore(stored)


class _Repetition:
    """One repetition of a sample, trained as `run_trial` trains it, and judged as the untuned arm is."""

    def __init__(self, spec: TrialSpec, judge: Mapping[str, Any], context: TrialContext):
        given = predictions_for(spec, spec.predicted, spec.section, context)
        self._train, self._validation = fit_examples(spec, context, given)
        self.used = given.used
        identity = spec.identity
        learner = registry.learner_of(identity, context.device)
        load_origins(spec, learner, context)
        self.trainer = trainer_of(identity, learner)
        training = type(identity.training).model_validate({**dict(identity.training), **judge})
        execution = identity.execution.model_copy(update={"validation": None})  # in float32 always
        judged, self._judge = identity.model_copy(update={"training": training, "execution": execution}), None
        if judged != identity:
            self._judge = registry.learner_of(judged, context.device, share=learner)
            self._judge.prepare(self._train)
        assert judged.score is not None  # `Tuning` refuses a stage without one
        self.score, self._trial_id = judged.score, spec.trial_id
        self._scores: list[float] = []

    def catch_up(self, epoch: int, after_batch: Callable[[], None]) -> None:
        """Finishes an epoch unless it is finished or the training has ended."""
        if self.trainer.stopped_by() or len(self._scores) >= epoch:
            return
        result = self.trainer.epoch(self._train, self._validation, after_batch=after_batch)
        if result.score is None:
            raise NonFiniteLossError(f"{self._trial_id}: the {self.score.label} is no number")
        if not result.improved:
            self._scores.append(self._scores[-1])
        elif self._judge is None:
            self._scores.append(result.score)
        else:  # the weights of this epoch are the best so far
            self._scores.append(self._judge.validate(self._validation)[self.score.name])
        after_batch()

    def curve(self, num_epochs: int) -> RepetitionCurve:
        history = self.trainer.cursor.history[:num_epochs]
        best_epoch = max((result.epoch for result in history if result.improved), default=0)
        stopped_by = self.trainer.stopped_by() if len(self._scores) <= num_epochs else ""
        return RepetitionCurve(self._trial_id, tuple(self._scores[:num_epochs]), best_epoch, stopped_by)

    def state(self) -> dict[str, Any]:
        return {"trainer": self.trainer.state(), "scores": list(self._scores)}

    def restore(self, state: dict[str, Any]) -> None:
        self.trainer.restore(state["trainer"])
        self._scores = list(state["scores"])


def _go_on(stop: Callable[[], bool], sample: SampleSpec) -> None:
    if stop():
        raise InterruptedTrialError(f"{sample.job.name}: stopped; run the search again to go on")
