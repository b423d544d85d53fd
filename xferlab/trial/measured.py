"""The pace of a training from a few seconds of it, on a few of its cases and from random weights.

The time of a step depends neither on the weights nor on the number of cases. Nothing is stored but decoded
images, in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from xferlab.cohort import Selection
from xferlab.plan.estimate import Pace
from xferlab.plan.spec import OtherSet, TrialSpec
from xferlab.records import codec, layout
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.training.loop import Trainer, weights_of
from xferlab.training.sets import FitExamples
from xferlab.trial import environment
from xferlab.trial.examples import TrialContext, fit_examples
from xferlab.trial.training import AnyLearner, trainer_of

_BATCHES = 4
"""Batches of an epoch that is measured."""


class _TimeIsUpError(Exception):
    """Ends an epoch that takes too long to be finished."""


def measured(
    spec: TrialSpec, selections: Mapping[str, Selection], *, cache_dir: Path, limit_s: float
) -> Pace:
    """Trains for a while, and returns the pace.

    Args:
        spec: A trial that takes no predictions of others.
        selections: The cases that it trains on, by digest.
        cache_dir: Folder of decoded images on this machine.
        limit_s: Time to train, in seconds; decoding the images of a few batches comes before it.

    Raises:
        XferlabError: It cannot be trained here.
    """
    device = environment.prepare(spec.identity.execution)
    with TemporaryDirectory(prefix="xferlab-measured-") as folder:
        store = Store.open(folder)
        few = _of_few_cases(spec, selections, store)
        train, validation = fit_examples(few, TrialContext(store, cache_dir, device))
        learner: AnyLearner = registry.learner_of(spec.identity, device)
        image_s, validated_s = _train(trainer_of(spec.identity, learner), train, validation, limit_s)
    weights = weights_of(learner).values()
    return Pace(
        "measured",
        image_s=image_s,
        validated_s=validated_s,
        memory_gib=environment.memory_peak_gib(device),
        stored_bytes=sum(value.numel() * value.element_size() for value in weights),
        devices=(environment.describe(device)["device_name"],),
    )


def _of_few_cases(spec: TrialSpec, selections: Mapping[str, Selection], store: Store) -> TrialSpec:
    """Stores a few cases of each set of a trial, and returns the trial with them."""
    number = _BATCHES * spec.identity.training.batch_size

    def few(digest: str) -> str:
        whole = selections[digest]
        parts = (whole.part(part).rows[:number] for part in ("train", "validation"))
        kept = Selection(whole.section, tuple(sorted(row for rows in parts for row in rows)))
        codec.write_json(store, layout.selection_path(kept.identity()), kept.to_json())
        return kept.identity()

    def of_set(other: OtherSet) -> OtherSet:
        return replace(other, selection=few(other.selection))

    return replace(spec, selection=few(spec.selection), others=tuple(map(of_set, spec.others)))


def _train(
    trainer: Trainer[FitExamples, object], train: FitExamples, validation: FitExamples, limit_s: float
) -> tuple[float, float]:
    """Returns the seconds of a training image and of a validated one; the first epoch only warms up."""
    epochs = list(_epochs(trainer, train, validation, time.monotonic() + limit_s))
    if not epochs:  # all the time was spent in the first epoch
        image_s = trainer.cursor.train_s / trainer.cursor.num_images
        return image_s, image_s
    counted = epochs[1:] or epochs
    train_s = sum(result.train_s for result in counted) / len(counted)
    validation_s = sum(result.validation_s for result in counted) / len(counted)
    return train_s / len(train), validation_s / len(validation)


def _epochs(
    trainer: Trainer[FitExamples, object], train: FitExamples, validation: FitExamples, ends: float
) -> Iterator[EpochResult]:
    """Yields epochs until the time is up, or one more would exceed it."""

    def after_batch() -> None:
        if time.monotonic() >= ends:
            raise _TimeIsUpError

    with suppress(_TimeIsUpError):
        while True:
            yield trainer.epoch(train, validation, after_batch=after_batch)
            after_batch()
