"""A recorder of steps for the CPU: what was computed once is computed again, in the same memory.

Like a CUDA graph it knows nothing of the host: numbers that a step read there are those of the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense.default,
    aten.item.default,  # what inference mode calls in the place of the one before
    aten.nonzero.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
}
"""What makes the host wait for a device: it reads a value, or how many there are."""


def tensors(values: Any) -> list[torch.Tensor]:
    """The tensors in nested values."""
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


class Tape(TorchDispatchMode):
    """Notes all that is computed, and what was overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self._known: set[int] = set()  # all of them live as long as the tape
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.waits += func in WAITS
        # Not all that is written to is known as such: batch normalisation's statistics are not.
        for each in tensors((args, kwargs)):
            if id(each) not in self._known:
                self._before.append((each, each.clone()))
        output = func(*args, **(kwargs or {}))
        self._known |= {id(each) for each in tensors((args, kwargs, output))}
        self.calls.append((func, args, kwargs or {}, output))
        return output

    @torch.no_grad()
    def undo(self) -> None:
        """Gives memory back what it held before."""
        for tensor, value in self._before:
            tensor.copy_(value)
        self._before.clear()

    @torch.no_grad()
    def replay(self) -> None:
        """Computes it all again."""
        for func, args, kwargs, output in self.calls:
            for recorded, value in zip(tensors(output), tensors(func(*args, **kwargs)), strict=True):
                if recorded.data_ptr() != value.data_ptr():
                    recorded.copy_(value)


class Tapes:
    """A `Recorder`; counts what it recorded, and the times that a step would wait for a device."""

    def __init__(self) -> None:
        self.recorded = self.waits = self.replayed = 0

    def __call__(
        self, step: Callable[[], torch.Tensor], generators: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, Callable[[], None]]:
        tape, states = Tape(), [generator.get_state() for generator in generators]
        with tape:
            output = step()
        tape.undo()
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
        self.recorded, self.waits = self.recorded + 1, self.waits + tape.waits

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return output, replay
