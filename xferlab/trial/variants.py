"""What an evaluation looks at: cases as the network takes them, with foreign objects, at their own size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from xferlab.plan.spec import EvaluationSpec, TrialSpec
from xferlab.tasks.segmentation.native import shown_pixels
from xferlab.tasks.segmentation.native_examples import NativeExamples
from xferlab.tasks.segmentation.resized import BinarySegmentation
from xferlab.training.batches import Rows, fixed
from xferlab.training.learner import Examples, Task
from xferlab.trial.assemble import (
    TrialContext,
    base_task_of,
    examples,
    is_native,
    native_examples,
    task_of,
)
from xferlab.trial.predict import at_size


@dataclass(frozen=True)
class View:
    """Some cases in front of a network, and what its outputs are measured against.

    Attributes:
        task: How cases become the network's input.
        seen: The cases as it takes them.
        batch_size: Images that go through it at once.
    """

    task: Task[Any, Any]
    seen: Examples
    batch_size: int

    def predictions(self, model: nn.Module) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yields each case's row and probabilities, at the size at which they are measured."""
        for rows in fixed(len(self.seen), self.batch_size):
            yield from zip(rows.tolist(), self._predicted(model, rows), strict=True)

    def measure(self, row: int, prediction: npt.NDArray[np.float32]) -> Mapping[str, float]:
        """Returns the metrics of one case."""
        return self.task.measure(self.seen, row, prediction)

    def pixels(self, row: int, prediction: npt.NDArray[np.float32]) -> Mapping[str, Any]:
        """Returns what is stored of one case to look at."""
        return self.task.pixels(self.seen, row, prediction)

    def _predicted(self, model: nn.Module, rows: Rows) -> Sequence[npt.NDArray[np.float32]]:
        return list(self.task.predict(model, self.task.batch(self.seen, rows, None)))


@dataclass(frozen=True)
class OriginalView(View):
    """Cases that a network sees stretched to a square, measured as they were before.

    Outputs are stretched back (bilinear, antialiased where that shrinks) and measured against the original
    target, in original pixels and millimetres.

    Attributes:
        base: How they are measured.
        original: The same cases at their own size.
    """

    base: BinarySegmentation
    original: NativeExamples

    def measure(self, row: int, prediction: npt.NDArray[np.float32]) -> Mapping[str, float]:
        """Returns the metrics of one case at its original size."""
        return self.base.measure(self.original, row, prediction)

    def pixels(self, row: int, prediction: npt.NDArray[np.float32]) -> Mapping[str, Any]:
        """Returns what is stored of one case to look at, of the original image."""
        return shown_pixels(self.original, row, prediction)

    def _predicted(self, model: nn.Module, rows: Rows) -> Sequence[npt.NDArray[np.float32]]:
        sizes = [self.original.size(row) for row in rows.tolist()]
        found = super()._predicted(model, rows)
        pairs = zip(found, sizes, strict=True)
        return [at_size(one, width=width, height=height) for one, (height, width) in pairs]


def views(
    spec: TrialSpec, evaluation: EvaluationSpec, digests: Sequence[str], context: TrialContext
) -> Iterator[View]:
    """Yields the cases of an evaluation, in the order given, as its variant has them.

    All at once, but for images of native size with objects on them: those are held in memory, and come batch
    by batch.
    """
    section, batch_size = evaluation.source or evaluation.section, spec.identity["training"]["batch_size"]
    native, task = is_native(spec.identity), task_of(spec.identity)
    if evaluation.at_original_size and not native:
        seen = examples(spec, section, digests, context)
        original = native_examples(spec, section, digests, context)
        yield OriginalView(task, seen, batch_size, base_task_of(spec.identity), original)
        return
    if evaluation.at_original_size or not evaluation.variant:
        yield View(task, examples(spec, section, digests, context), batch_size)
        return
    step = batch_size if native else max(len(digests), 1)
    for start in range(0, len(digests), step):
        some = digests[start : start + step]
        laid = examples(spec, section, some, context, objects=[evaluation.variant])
        yield View(task, laid, batch_size)
