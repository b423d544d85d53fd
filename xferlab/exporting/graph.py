"""The graph of a trained network with a case that it is checked on."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

from xferlab.data.decode import read_image
from xferlab.errors import ExportError, UsageError
from xferlab.training.exported import Exported
from xferlab.training.learner import Array
from xferlab.training.precision import float32
from xferlab.trial.predictor import Predictor

LIMIT = 1e-4
"""Largest absolute difference from the network's output at which an export is whole."""
INPUT, INPUT_AXES = "image", ("batch", "channel", "height", "width")
_TRACES = ("stack_trace", "source_fn_stack", "from_node")
"""What a graph notes of the machine that made it: paths of source files."""


@dataclass(frozen=True)
class Graph:
    """What is exported of a trial.

    Attributes:
        predictor: The trained network with its preprocessing.
        exported: The part of a prediction that a graph holds.
        case: What the graph is checked on, (N, C, H, W).
        expected: What the network tells of the case.
        image: The file that the case is of; None for noise.
    """

    predictor: Predictor
    exported: Exported
    case: torch.Tensor
    expected: tuple[Array, ...]
    image: Path | None = None

    @staticmethod
    def of(predictor: Predictor, image: Path | None) -> Graph:
        """Returns the graph of a predictor on the CPU.

        Args:
            predictor: The trained network.
            image: What it is checked on; None for seeded noise of the size that it takes.

        Raises:
            UsageError: Its task has no graph, or the image can be no case.
            DataError: The image cannot be read.
        """
        exported = predictor.learner.exported()
        if exported is None:
            raise UsageError(
                f"{predictor.origin}: task {predictor.identity.task!r} gives no graph, so its networks "
                "cannot be exported. `Learner.exported` would return it."
            )
        exported.module.requires_grad_(False)
        case = _noise(exported) if image is None else _case(predictor, exported, image)
        return Graph(predictor, exported, case, run(exported.module, case), image)

    @cached_property
    def program(self) -> ExportedProgram:
        """The graph, with the batch as a free axis, and height and width where the network takes any."""
        sizes = {0: Dim("batch")}
        example = torch.zeros(2, *self.case.shape[1:])
        if multiple := self.exported.multiple:
            sizes |= {2: multiple * Dim("rows"), 3: multiple * Dim("columns")}
            example = torch.zeros(2, self.exported.channels, 2 * multiple, 3 * multiple)
        with quiet(), torch.no_grad():
            program = torch.export.export(self.exported.module, (example,), dynamic_shapes=(sizes,))
        program.example_inputs = None  # readers need none
        for node in program.graph.nodes:
            for trace in _TRACES:
                node.meta.pop(trace, None)
        return program

    def difference(self, outputs: Sequence[Array], *, made: str) -> float:
        """Returns the largest absolute difference of outputs for the case from the network's.

        Raises:
            ExportError: It is above `LIMIT`, or no number.
        """
        pairs = zip(self.expected, outputs, strict=True)
        largest = max(float(np.abs(expected - output).max()) for expected, output in pairs)
        if not largest <= LIMIT:
            raise ExportError(
                f"{made}: differs from the network by up to {largest:.3g}; {LIMIT:g} is accepted. Nothing is "
                "written."
            )
        return largest


def _noise(exported: Exported) -> torch.Tensor:
    shape = (1, exported.channels, exported.side, exported.side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _case(predictor: Predictor, exported: Exported, image: Path) -> torch.Tensor:
    picture = read_image(image, own_depth=predictor.own_depth)
    examples = predictor.examples([predictor.prepared(picture)], [picture])
    return exported.inputs(examples, np.arange(1)).contiguous()


def run(module: torch.nn.Module, case: torch.Tensor) -> tuple[Array, ...]:
    """Returns what a module tells of a case."""
    with torch.inference_mode(), float32():
        outputs = module(case)
    tensors = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
    return tuple(tensor.detach().cpu().numpy() for tensor in tensors)


def need(packages: Sequence[str], *, format: str) -> None:
    """Refuses a format whose packages are not installed.

    Raises:
        UsageError: Names the extra that installs them.
    """
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    if absent:
        raise UsageError(
            f"--format {format}: needs {', '.join(absent)}, which is not installed here; install xferlab "
            "with its extra: pip install 'xferlab[export]'"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps to itself what PyTorch's exporters say of their own parts while the context is open."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
