"""One sample of a search on one worker: its repetitions step together, an epoch at a time.

A sample opens the training and validation cases of its trials and nothing else: it has no evaluations, so
no test or hold-out case is ever looked up.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from xferlab.errors import NonFiniteLossError
from xferlab.plan.sample_spec import SampleSpec
from xferlab.plan.spec import TrialSpec
from xferlab.records import layout
from xferlab.records.samples import (
    RepetitionCurve,
    SampleRecord,
    read_attempts,
    read_sample,
    write_attempts,
    write_sample,
)
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.trial.checkpoint import Checkpoints
from xferlab.trial.examples import TrialContext, fit_examples
from xferlab.trial.origin import load_origin
from xferlab.trial.training import trainer_of


@dataclass(frozen=True)
class Step:
    """What a sample says after an epoch.

    Attributes:
        record: What its record would be if it ended now.
        done: Whether it has ended.
    """

    record: SampleRecord
    done: bool


class SampleRun:
    """A sample in progress: `step` until it is done, `leave` if it is to go on elsewhere."""

    @staticmethod
    def begin(sample: SampleSpec, context: TrialContext) -> SampleRun:
        """Loads data, parents' weights, and the latest state that an earlier attempt stored.

        Raises:
            XferlabError: It cannot be done; the attempt tells why.
        """
        log = _Log(context.store, sample)
        with log.failures():
            return SampleRun(sample, context, log)

    def __init__(self, sample: SampleSpec, context: TrialContext, log: _Log):
        """For `begin`."""
        self.sample, self.context, self._log = sample, context, log
        self._states = _States(context.store, sample)
        self._members = [_Member(trial, sample.judge, context) for trial in sample.trials]
        self._epoch, self._ticks, self._told = 1, 0, 0
        self._states.resume(self._restore, context.device)
        self._every_s = min(float(trial.settings["checkpoint_every_s"]) for trial in sample.trials)
        self._saved_at = time.monotonic()
        log.write(first_epoch=self._epoch)

    def step(self) -> Step:
        """Returns the next epoch of the sample: one that was resumed if it is not told yet, else a new one.

        Telling epochs again after a restart lets a scheduler see the whole curve. The end is recorded here.
        """
        with self._log.failures():
            return self._step()

    def _step(self) -> Step:
        self._told += 1
        if self._told < self._epoch:
            return Step(self._record("stopped", self._told), done=False)
        try:
            for member in self._members:
                member.catch_up(self._epoch, self._tick)
        except NonFiniteLossError:
            return self._end("diverged")
        self._epoch, self._ticks = self._epoch + 1, 0
        if all(member.trainer.stopped_by() for member in self._members):
            return self._end("complete")
        self._save_if_due()
        return Step(self._record("stopped", self._told), done=False)

    def leave(self) -> None:
        """Stores the state unless the sample is finished; also when the driver has stopped it."""
        record = read_sample(self.context.store, self.sample.tuning_id, self.sample.sample_id)
        if record is None:
            self._states.save(self._state())
        self._log.close(record.outcome if record else "interrupted", last_epoch=self._epoch - 1)

    def _end(self, outcome: str) -> Step:
        record = self._record(outcome, self._epoch - 1)
        write_sample(self.context.store, record)
        self._log.close(outcome, last_epoch=self._epoch - 1)
        return Step(record, done=True)

    def _record(self, outcome: str, num_epochs: int) -> SampleRecord:
        curves = [member.curve(num_epochs) for member in self._members]
        carried = [
            [one.losses[min(e, len(one.losses)) - 1] for one in curves] for e in range(1, num_epochs + 1)
        ]
        return SampleRecord(
            sample_id=self.sample.sample_id,
            tuning_id=self.sample.tuning_id,
            number=self.sample.number,
            parameters=self.sample.parameters,
            outcome=outcome,
            num_epochs=num_epochs,
            max_epochs=self.sample.max_epochs,
            curve=tuple(sum(losses) / len(losses) for losses in carried),
            repetitions=tuple(curves),
        )

    def _tick(self) -> None:
        self._ticks += 1
        self._save_if_due()

    def _save_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= self._every_s:
            self._states.save(self._state())
            self._saved_at = time.monotonic()

    def _state(self) -> dict[str, Any]:
        return {
            "cursor": {"epoch": self._epoch, "next_batch": self._ticks},
            "members": [member.state() for member in self._members],
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self._epoch, self._ticks = state["cursor"]["epoch"], state["cursor"]["next_batch"]
        for member, its in zip(self._members, state["members"], strict=True):
            member.restore(its)


class _Member:
    """One repetition of a sample, trained as `run_trial` trains it, and judged as the untuned arm is."""

    def __init__(self, spec: TrialSpec, judge: Any, context: TrialContext):
        self._train, self._validation = fit_examples(spec, context)
        learner = registry.learner_of(spec.identity, context.device)
        load_origin(spec, learner, context)
        self.trainer = trainer_of(spec.identity, learner)
        training = spec.identity.training.model_copy(update=judge)
        self._judge = None
        if training != spec.identity.training:
            judged = spec.identity.model_copy(update={"training": training})
            self._judge = registry.learner_of(judged, context.device, share=learner)
        self._spec = spec
        self._losses: list[float] = []

    def catch_up(self, epoch: int, after_batch: Callable[[], None]) -> None:
        """Finishes an epoch unless it is finished or the training has ended."""
        if self.trainer.stopped_by() or len(self._losses) >= epoch:
            return
        result = self.trainer.epoch(self._train, self._validation, after_batch=after_batch)
        if not result.improved:
            self._losses.append(self._losses[-1])
        elif self._judge is None:
            self._losses.append(float(result.score or 0.0))
        else:  # the weights of this epoch are the best so far
            score = self._spec.identity.score
            assert score is not None
            self._losses.append(self._judge.validate(self._validation)[score.name])
        after_batch()

    def curve(self, num_epochs: int) -> RepetitionCurve:
        history = self.trainer.cursor.history[:num_epochs]
        best = max((one.epoch for one in history if one.improved), default=0)
        whole = len(self._losses) <= num_epochs
        stopped_by = self.trainer.stopped_by() if whole else ""
        return RepetitionCurve(self._spec.trial_id, tuple(self._losses[:num_epochs]), best, stopped_by)

    def state(self) -> dict[str, Any]:
        return {"trainer": self.trainer.state(), "losses": list(self._losses)}

    def restore(self, state: dict[str, Any]) -> None:
        self.trainer.restore(state["trainer"])
        self._losses = list(state["losses"])


class _States(Checkpoints):
    """The states of a sample, in its own folder; one may be taken after any batch."""

    def __init__(self, store: Store, sample: SampleSpec):
        super().__init__(store, sample.sample_id)
        self._folder = layout.SearchFiles(sample.tuning_id).open_sample(sample.sample_id)


class _Log:
    """The attempts at a sample; one that was killed is found as `running` by the next."""

    def __init__(self, store: Store, sample: SampleSpec):
        self._store, self._place = store, (sample.tuning_id, sample.sample_id)
        earlier = read_attempts(store, *self._place)
        self._earlier = [
            {**one, "outcome": "killed"} if one["outcome"] == "running" else one for one in earlier
        ]
        self._own: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "outcome": "running"}
        self.write(started=_now())

    def write(self, **facts: Any) -> None:
        self._own |= facts
        write_attempts(self._store, *self._place, [*self._earlier, self._own])

    def close(self, outcome: str, **facts: Any) -> None:
        if self._own["outcome"] == "running":
            self.write(outcome=outcome, ended=_now(), **facts)

    @contextmanager
    def failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            told = "".join(traceback.format_exception(error))
            self.close("failed", failure=f"{type(error).__name__}: {error}", traceback=told)
            raise


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
