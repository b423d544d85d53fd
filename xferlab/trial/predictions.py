"""Predictions that a trial takes from other trials: read, or made from their best weights where they lack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from xferlab.errors import RecordError
from xferlab.phantoms.foreign_objects import OBJECTS_VERSION
from xferlab.plan.spec import Predicted, TrialSpec
from xferlab.records import predictions, reader
from xferlab.records.predictions import Arrays, PredictedCases, PredictionRecord
from xferlab.records.reader import read_selection
from xferlab.tasks.config import OBJECTS
from xferlab.training.learner import predicted_rows
from xferlab.trial.environment import computing_as
from xferlab.trial.examples import TrialContext, in_steps
from xferlab.trial.given import Digests, Given
from xferlab.trial.origin import trained_learner


@dataclass(frozen=True)
class _Images:
    """Where the images of cases come from: a section of a trial's data, maybe with an object on each."""

    data: Mapping[str, Mapping[str, Any]]
    section: str
    objects: tuple[str, ...] = ()

    @property
    def variant(self) -> str:
        return " ".join([*self.objects, f"version {OBJECTS_VERSION}"]) if self.objects else ""


def predictions_for(
    spec: TrialSpec, predicted: Sequence[Predicted], section: str, context: TrialContext, *, variant: str = ""
) -> Given:
    """Returns what other trials predict of a trial's cases; stores what is not stored yet.

    Args:
        spec: The trial that takes it.
        predicted: What it takes.
        section: Key of the cases' section in `spec.data`.
        context: Where it runs; `context.go_on` is called after each case that is predicted.
        variant: Of the evaluation whose cases they are.

    Raises:
        RecordError: A trial that predicts is not complete, or its weights were altered.
    """
    images = _Images(spec.data, section, (variant,) if variant in OBJECTS else ())
    cases: dict[str, dict[str, PredictedCases]] = {}
    used: Digests = {}
    for item in predicted:
        digests = read_selection(context.store, item.selection).digests
        record, stored = _stored(spec, item, digests, images, context)
        cases.setdefault(item.role, {}).update(dict.fromkeys(digests, stored))
        used.setdefault(item.role, {})[record.prediction_id] = record.sha256
    return Given(cases, {given.role: given for given in spec.inputs}, used)


def _stored(
    spec: TrialSpec, asked: Predicted, digests: Sequence[str], images: _Images, context: TrialContext
) -> tuple[PredictionRecord, PredictedCases]:
    store, given = context.store, spec.input(asked.role)
    trained = reader.read_trial(store, asked.trial)
    if trained is None or given is None:
        raise RecordError(
            f"{spec.name}: trial {asked.trial}, which predicts its {asked.role}, is not complete; run the "
            "study again"
        )
    wanted = predictions.wanted(
        asked.trial,
        trained.weights_sha256,
        digests,
        threshold=given.threshold,
        variant=images.variant,
        set_name=asked.set_name,
    )
    found = predictions.read(store, wanted)
    if found is None:
        made = _made(asked, digests, images, context, threshold=given.threshold)
        predictions.write(store, wanted, predictions.table_of(made))
        found = predictions.read(store, wanted)
    if found is None:
        raise RecordError(f"{store.path(wanted.files.folder)}: was lost at once; run the study again")
    return found


def _made(
    asked: Predicted,
    digests: Sequence[str],
    images: _Images,
    context: TrialContext,
    *,
    threshold: float | None,
) -> Iterator[tuple[str, Arrays]]:
    """Yields the arrays of each case, in order, from the best weights of the trial that is asked."""
    producer = reader.required_spec(context.store, asked.trial)
    with computing_as(producer.identity.execution, context) as context:
        learner = trained_learner(producer, context)
        # The cases are those of the trial that asks, read as its section says, at the producer's own size.
        reads = replace(producer, data=images.data)
        cases = iter(digests)
        for part in in_steps(reads, images.section, digests, context, objects=images.objects):
            part.set_name = asked.set_name
            of_part = list(islice(cases, len(part)))
            for row, prediction in predicted_rows(learner, part, producer.identity.training.batch_size):
                yield of_part[row], learner.for_others(prediction, threshold or 0.0)
                context.go_on()
