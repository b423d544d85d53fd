"""Small pictures of the cases of an evaluation that a reader looks at first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing

import numpy as np

from xferlab.cohort import Case
from xferlab.metrics.extremes import badness, ranked
from xferlab.metrics.metric import PASSED
from xferlab.parallel import in_background
from xferlab.plan.spec import EvaluationSpec
from xferlab.records import writer
from xferlab.records.schema import PICTURES_SCHEMA
from xferlab.tasks import registry
from xferlab.tasks.task import Task
from xferlab.training.examples import AnyExamples
from xferlab.training.learner import Array
from xferlab.trial.training import AnyLearner


def rows_to_picture(
    task: Task, evaluation: EvaluationSpec, cases: Sequence[Case], values: Sequence[Mapping[str, float]]
) -> list[int]:
    """Returns rows of the worst, median and best cases; none where no pixels or no pictures are wanted."""
    metric, is_plain = task.ranking, not evaluation.variant or evaluation.at_original_size
    if not (metric and task.panels and is_plain and evaluation.overlay_cases):
        return []
    passed = [row for row, measured in enumerate(values) if measured.get(PASSED.name, 1.0)]
    bad = badness([values[row][metric.name] for row in passed], metric.better)
    return [passed[row] for row in ranked(bad, [cases[row].pathology for row in passed])]


def pictures_table(
    task: Task, learner: AnyLearner, examples: AnyExamples, rows: Mapping[int, str], *, threads: int
) -> dict[str, bytes]:
    """Returns the table `pictures` of some rows, given with the digests of their cases; empty without any.

    Each case is predicted once more, by itself, since ranks are known only when all are measured. Meanwhile
    those before it are drawn in threads.
    """

    def drawn(predicted: tuple[int, Array]) -> bytes:
        return registry.picture_of(task.name, learner.outputs(examples, *predicted))

    alone = _predicted(learner, examples, rows)
    with closing(in_background(alone, drawn, threads=threads, ahead=threads)) as pictures:
        pairs = [pair for pair in zip(rows.values(), pictures, strict=True) if pair[1]]
    if not pairs:
        return {}
    columns = dict(zip(PICTURES_SCHEMA.names, map(list, zip(*pairs, strict=True)), strict=True))
    return {"pictures": writer.table(PICTURES_SCHEMA, columns)}


def outputs_of(learner: AnyLearner, examples: AnyExamples, rows: Sequence[int]) -> list[Mapping[str, Array]]:
    """Returns the arrays of some cases that are stored to look at."""
    return [learner.outputs(examples, *predicted) for predicted in _predicted(learner, examples, rows)]


def _predicted(
    learner: AnyLearner, examples: AnyExamples, rows: Iterable[int]
) -> Iterator[tuple[int, Array]]:
    """Yields rows with the outputs for them, each predicted by itself."""
    for row in rows:
        (prediction,) = learner.predict(learner.load(examples, np.array([row]), None))
        yield row, prediction
