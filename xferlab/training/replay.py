"""Steps that are recorded once and replayed: on CUDA a step is then one graph, launched at once.

A recording reads and writes memory where it lay when it was made, and what the host knew then is fixed in it:
learning rates, which parameters rest, shapes. So batches are copied to where the recording reads them, and
what differs on the host makes another recording. Nothing is computed otherwise, and no batch is padded: an
epoch has two shapes of batches at most, and each has a recording of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

STEPS_BEFORE = 2
"""Steps of a kind that are taken as they are before one is recorded.

In the first, optimizers make their state, and libraries choose their algorithms.
"""


class Recorder(Protocol):
    """Records what a function does to memory."""

    def __call__(
        self, step: Callable[[], torch.Tensor], generators: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, Callable[[], None]]:
        """Returns the step's output, and what takes the step and sets that output.

        Recording takes no step.

        Args:
            step: Neither waits for the device nor reads from the host anything that changes.
            generators: What it draws from; they are seeded before each step.
        """


class CudaGraphs:
    """Records CUDA graphs that share their memory, since they run one after the other.

    When the last of them is dropped, PyTorch frees that memory, and takes no further graph for it. With it go
    the work spaces of libraries on the stream of the recordings, so other recordings have other streams.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(
        self, step: Callable[[], torch.Tensor], generators: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, Callable[[], None]]:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        # Other threads of the process may use the device meanwhile.
        capture = torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        )
        with capture:
            output = step()
        return output, graph.replay


@dataclass(frozen=True)
class _Recording:
    inputs: tuple[torch.Tensor, ...]
    output: torch.Tensor
    replay: Callable[[], None]


class Recordings:
    """The recordings of one training's step: it is recorded as soon as it repeats itself."""

    def __init__(self, recorder: Callable[[], Recorder]):
        """Takes what makes a recorder; recordings that are dropped together have one."""
        self._recorder = recorder
        self.forget()

    def forget(self) -> None:
        """Drops all: to be called where tensors that the step uses were replaced by others."""
        self._host: Hashable = None
        self._taken: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, _Recording] = {}
        self._record = self._recorder()

    def take(
        self,
        step: Callable[[Any], torch.Tensor],
        batch: Any,
        *,
        host: Hashable,
        generators: Callable[[], Sequence[torch.Generator]] = list,
    ) -> torch.Tensor:
        """Takes a step; returns what it returns.

        Args:
            step: From a batch to a scalar loss, detached; the same at every call.
            batch: A tuple of tensors; any other is not recorded.
            host: All that the step reads on the host and that may change.
            generators: Returns what the step draws from; asked once a recording.
        """
        if not (isinstance(batch, tuple) and all(isinstance(part, torch.Tensor) for part in batch)):
            return step(batch)
        if host != self._host:
            self.forget()
            self._host = host
        kind = tuple((part.shape, part.stride(), part.dtype) for part in batch)
        if self._taken.setdefault(kind, 0) < STEPS_BEFORE:
            self._taken[kind] += 1
            return step(batch)
        if kind not in self._recordings:
            self._recordings[kind] = self._recorded(step, batch, generators())
        recording = self._recordings[kind]
        for given, read in zip(batch, recording.inputs, strict=True):
            read.copy_(given)
        recording.replay()
        return recording.output.clone()

    def _recorded(
        self, step: Callable[[Any], torch.Tensor], batch: Any, generators: Sequence[torch.Generator]
    ) -> _Recording:
        inputs = tuple(part.clone() for part in batch)
        there = batch._make(inputs) if hasattr(batch, "_make") else inputs
        return _Recording(inputs, *self._record(lambda: step(there), generators))
