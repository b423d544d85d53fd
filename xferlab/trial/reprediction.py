"""Reprediction: stored networks predict again what they were measured on, for values that no record holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from math import nan

from xferlab.metrics.temperature import fitted_temperature, joined
from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.records.reader import read_selection
from xferlab.tasks import registry
from xferlab.training.learner import predicted_rows
from xferlab.trial.environment import computing_as
from xferlab.trial.evaluate import PredictedCase, predicted_cases
from xferlab.trial.examples import TrialContext, evaluated_examples, fit_part
from xferlab.trial.origin import trained_learner
from xferlab.trial.predictions import predictions_for
from xferlab.trial.training import AnyLearner


@dataclass(frozen=True)
class Member:
    """A network of an ensemble.

    Attributes:
        spec: Its trial.
        evaluation: What of its trial is repredicted.
        digests: The cases of it in which the network takes part.
    """

    spec: TrialSpec
    evaluation: EvaluationSpec
    digests: Collection[str]


def measured_together(members: Sequence[Member], context: TrialContext) -> dict[str, Mapping[str, float]]:
    """Returns what is measured of the mean of networks, by digest of the case.

    Each case is predicted by the members that name it. All networks are in memory at once, their outputs for
    a batch of cases each. Nothing is stored but decoded images, in the cache.

    Args:
        members: Trials of one stage of one arm.
        context: Where they run.

    Returns:
        Values as of `Learner.measure`; nothing where the task does not average outputs.

    Raises:
        XferlabError: The images cannot be read here, or weights are missing or altered.
    """
    identity = members[0].spec.identity
    if registry.task(identity.task).ensemble_files is None:
        return {}
    with computing_as(identity.execution, context) as context:
        learners = [trained_learner(member.spec, context) for member in members]
        streams = [
            _predicted(member, learner, context) for member, learner in zip(members, learners, strict=True)
        ]
        # Selections are in digest order, so that the predictions of a case come one after the other.
        cases = groupby(merge(*streams, key=_digest), key=_digest)
        return {digest: _measured(learners[0], list(predicted)) for digest, predicted in cases}


def _digest(predicted: PredictedCase) -> str:
    return predicted.case.digest


def _measured(learner: AnyLearner, predicted: Sequence[PredictedCase]) -> Mapping[str, float]:
    first = predicted[0]
    return learner.measure_ensemble(first.examples, first.row, [each.output for each in predicted])


def _predicted(member: Member, learner: AnyLearner, context: TrialContext) -> Iterator[PredictedCase]:
    spec, evaluation = member.spec, member.evaluation
    selection = read_selection(context.store, evaluation.selection).only(member.digests)
    given = predictions_for(
        spec, evaluation.predicted, evaluation.read_as, context, variant=evaluation.variant
    )
    parts = evaluated_examples(spec, evaluation, selection, context, given)
    yield from predicted_cases(learner, parts, selection.cases(), spec.identity.training.batch_size)


def temperature_of(
    spec: TrialSpec, context: TrialContext, *, without: Set[str] = frozenset()
) -> float | None:
    """Returns the temperature of a trial's network, fitted to its validation cases; NaN if these say nothing.

    Args:
        spec: The trial.
        context: Where it runs.
        without: Validation cases that take no part, by digest.

    Returns:
        None where the task has no probabilities.

    Raises:
        XferlabError: The images cannot be read here, or weights are missing or altered.
    """
    if registry.task(spec.identity.task).ensemble_files is None:
        return None
    with computing_as(spec.identity.execution, context) as context:
        given = predictions_for(spec, spec.predicted, spec.section, context)
        validation = fit_part(spec, "validation", context, given, without=without)
        learner = trained_learner(spec, context)
        outcomes = [
            learner.outcomes(validation, row, prediction)
            for row, prediction in predicted_rows(learner, validation, spec.identity.training.batch_size)
        ]
        return fitted_temperature(joined(outcomes)) if outcomes else nan


def measured_at(member: Member, temperature: float, context: TrialContext) -> dict[str, Mapping[str, float]]:
    """Returns what is measured of a network's probabilities at a temperature, by digest of the case.

    Raises:
        XferlabError: The images cannot be read here, or weights are missing or altered.
    """
    with computing_as(member.spec.identity.execution, context) as context:
        learner = trained_learner(member.spec, context)
        return {
            case.digest: learner.measure_at(examples, row, output, temperature)
            for case, examples, row, output in _predicted(member, learner, context)
        }
