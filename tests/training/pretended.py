"""A CUDA device that is the CPU: it computes as the CPU does, and minds devices as CUDA would.

Tensors know whether they are on it. What mixes both fails, as it would on CUDA, and what makes the host wait
is noted: a value that is read, or a copy that is not queued.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from tests.training.tape import WAITS, aten, tensors

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def on_cuda(tensor: torch.Tensor) -> bool:
    """Whether a tensor pretends to be on the device."""
    return getattr(tensor.untyped_storage(), "is_pretended", False)


def put(values: Any, *, cuda: bool) -> None:
    """Says of all tensors among values where they are."""
    for tensor in tensors(values):
        tensor.untyped_storage().is_pretended = cuda  # type: ignore[attr-defined]


class Generator(torch.Generator):
    """A generator that says on which device it was made."""

    def __new__(cls, device: Any = CPU) -> Generator:
        made = super().__new__(cls)
        made.made_on = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.made_on


class Computed(TorchDispatchMode):
    """What is computed from tensors of the device is on it, if nothing else takes part."""

    def __init__(self, waits: list[str]):
        super().__init__()
        self.waits, self.made_on_cuda = waits, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, given = kwargs or {}, tensors((args, kwargs))
        here = any(map(on_cuda, given)) if given else self.made_on_cuda
        chooses = func == aten.index.Tensor and any(tensor.dtype == torch.bool for tensor in given[1:])
        if here and (func in WAITS or chooses):  # how many pixels a mask chooses is read
            self.waits.append(str(func))
        # Numbers on the CPU are taken along.
        other = [tensor.shape for tensor in given if tensor.dim() and on_cuda(tensor) != here]
        if other and func != aten.copy_.default:
            raise RuntimeError(f"{func} takes tensors of two devices, on the CPU those of {other}")
        output = func(*args, **kwargs)
        if func != aten.copy_.default:
            put(output, cuda=here)
        return output


class Asked(TorchFunctionMode):
    """What is asked for on the device is made on the CPU, and said to be on it."""

    def __init__(self, computed: Computed):
        super().__init__()
        self._computed = computed

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in ("device", "_parse_to"):
            return func(*args, **kwargs)
        if func == torch.Tensor.device.__get__:  # type: ignore[attr-defined]
            return CUDA if on_cuda(args[0]) else CPU
        if name in ("numpy", "__array__") and on_cuda(args[0]):
            raise TypeError("a tensor on CUDA is no array of numpy")
        if name == "tolist" and on_cuda(args[0]):
            self._computed.waits.append(name)
        devices = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.device)]
        args, kwargs = tree_map(_real, (args, kwargs))
        if name in ("to", "cpu") and (devices or name == "cpu"):
            return self._moved(func, args, kwargs, cuda=bool(devices) and devices[0].type == "cuda")
        cuda = devices[0].type == "cuda" if devices else any(map(on_cuda, tensors((args, kwargs))))
        generators = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Generator)]
        if any((generator.device.type == "cuda") != cuda for generator in generators):
            raise RuntimeError(f"{name} draws on another device than its generator's")
        before, self._computed.made_on_cuda = self._computed.made_on_cuda, cuda
        try:
            return func(*args, **kwargs)
        finally:
            self._computed.made_on_cuda = before

    def _moved(self, func: Any, args: Any, kwargs: Any, *, cuda: bool) -> Any:
        if on_cuda(args[0]) == cuda:
            output = func(*args, **kwargs)
        else:
            output = func(*args, **kwargs).clone()
            if not kwargs.get("non_blocking"):
                self._computed.waits.append(f"a copy to {'CUDA' if cuda else 'the CPU'}")
        put(output, cuda=cuda)
        return output


def _real(value: Any) -> Any:
    return CPU if isinstance(value, torch.device) else value


@contextmanager
def pretended() -> Iterator[list[str]]:
    """Pretends that there is a CUDA device; yields what made the host wait for it."""
    autocast, waits = torch.autocast, list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch, "autocast", lambda _, **how: autocast("cpu", **how))
        with Computed(waits) as computed, Asked(computed):
            yield waits
