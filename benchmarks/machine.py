"""What a CPU can do: its description, its best convolution, and the share that a network reaches."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
"""CPU flags that decide how fast bfloat16 is."""

BATCH_SIZE = 16

SHAPES = ((32, 256), (64, 128), (128, 64), (256, 64), (256, 32), (512, 32), (512, 16))
"""Channels (in and out) and side of the 3x3 convolutions tried: those of U-Nets, and roomier ones."""


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one quantity.

    Attributes:
        values: In the order measured; at least one.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return median(self.values)

    def over(self, other: Spread) -> Spread:
        """Returns the ratios to measurements that were made in turn with these."""
        pairs = zip(self.values, other.values, strict=True)
        return Spread(tuple(value / other_value for value, other_value in pairs))

    def text(self, digits: int = 1) -> str:
        """Returns `median (lowest-highest)`."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


@dataclass(frozen=True)
class Share:
    """A network's rate beside that of the best convolution, both in GFLOP/s.

    Attributes:
        rate: Forward and backward pass of the network.
        best: The convolution with the highest median.
        best_name: What it was.
        share: Network over best, measured in turn.
    """

    rate: Spread
    best: Spread
    best_name: str
    share: Spread


def describe(num_threads: int) -> dict[str, Any]:
    """Returns model, flags that are there and that matter, cores, threads, torch and load average."""
    info = Path("/proc/cpuinfo")
    lines = (line.partition(":") for line in info.read_text().splitlines()) if info.exists() else ()
    fields = {name.strip(): value.strip() for name, _, value in lines}
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in fields.get("flags", "").split()],
        "cores": num_cores(),
        "threads": num_threads,
        "torch": torch.__version__,
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def num_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_share(network: nn.Module, images: torch.Tensor, *, dtype: torch.dtype, repeats: int) -> Share:
    """Returns the rate of a network, and of the best of many convolutions, measured in turn.

    The network runs as the engine trains it: under autocast, its weights kept in float32.

    Args:
        network: In training mode and channels_last; its gradients are replaced.
        images: (N, C, H, W) float32, channels_last.
        dtype: Of the arithmetic.
        repeats: Measurements of everything.
    """
    steps = {f"{what} {channels}->{channels} at {side} px": _convolution(channels, side, what, dtype)
             for channels, side in SHAPES for what in ("forward", "forward and backward")}  # fmt: skip
    steps["network"] = Step(lambda: train_once(network, images, dtype), count_flops(network, images))
    rounds = [{name: step.rate() for name, step in steps.items()} for _ in range(repeats)]
    rates = {name: Spread(tuple(rates[name] for rates in rounds)) for name in steps}
    of_network = rates.pop("network")
    best = max(rates, key=lambda name: rates[name].median)
    return Share(of_network, rates[best], best, of_network.over(rates[best]))


@dataclass(frozen=True)
class Step:
    """Something to time, and the floating-point operations that it takes."""

    run: Callable[[], object]
    flops: float

    def rate(self, *, least_s: float = 0.1) -> float:
        """Returns GFLOP/s: the median of runs that fill `least_s`, after one that is not counted."""
        timer = Timer("run()", globals={"run": self.run}, num_threads=torch.get_num_threads())
        return self.flops / timer.blocked_autorange(min_run_time=least_s).median / 1e9


def train_once(network: nn.Module, images: torch.Tensor, dtype: torch.dtype) -> None:
    """Runs a network forward and backward, under autocast unless the type is float32."""
    network.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        logits = network(images)
    logits.float().mean().backward()


def count_flops(network: nn.Module, images: torch.Tensor) -> float:
    """Returns the operations of one training step (two a multiply-add): convolutions only, both ways.

    Counted on one image, since every convolution is linear in the number of images.
    """
    with FlopCounterMode(display=False) as counter:
        train_once(network, images[:1], torch.float32)
    return float(counter.get_total_flops()) * len(images)


def _convolution(channels: int, side: int, what: str, dtype: torch.dtype) -> Step:
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    layer = layer.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    shape = (BATCH_SIZE, channels, side, side)
    images = torch.randn(shape).to(dtype=dtype, memory_format=torch.channels_last)
    flops = 2.0 * 9 * channels**2 * BATCH_SIZE * side**2
    if what == "forward":
        return Step(torch.inference_mode()(lambda: layer(images)), flops)
    images.requires_grad_()
    slope = torch.ones_like(images)
    return Step(lambda: torch.autograd.backward(layer(images), slope), 3 * flops)
