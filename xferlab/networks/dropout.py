"""Dropout whose draws are a pure function of trial, epoch and batch: a resumed training is bit-equal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zeroes elements with probability `p` while it trains and scales the others by 1 / (1 - p).

    Draws come from a generator of its own, which `reseed` sets: trials that share a process do not disturb
    each other.

    Attributes:
        p: The probability, from 0 to below 1.
        whole_channels: Whether all pixels of a channel share one draw (Tompson et al. 2015, SpatialDropout);
            values are then `(N, C, H, W)`.
        generator: What it draws from; None before the first `seed`.
    """

    def __init__(self, p: float, *, whole_channels: bool = False):
        """Takes the probability, and whether whole channels are dropped."""
        super().__init__()
        self.p, self.whole_channels = p, whole_channels
        self.generator: torch.Generator | None = None

    def seed(self, seed: int, device: torch.device) -> None:
        """Starts the draws of one batch."""
        if self.generator is None or self.generator.device != device:
            self.generator = torch.Generator(device)
        self.generator.manual_seed(seed)

    def forward(self, values: Tensor) -> Tensor:
        """Returns the values, in training mode with elements or channels dropped."""
        if not self.training or self.p == 0.0:
            return values
        keep = values.new_empty(*values.shape[:2], 1, 1) if self.whole_channels else torch.empty_like(values)
        keep = keep.bernoulli_(1.0 - self.p, generator=self.generator)
        return values * keep / (1.0 - self.p)


def reseed(network: nn.Module, *, seed: int, epoch: int, batch: int) -> None:
    """Starts the draws of every `Dropout` of a network, each layer with a stream of its own."""
    for name, layer in _layers(network):
        device = next(network.parameters()).device
        stream = hashlib.sha256(f"{seed}\x1fdropout\x1f{epoch}\x1f{batch}\x1f{name}".encode()).digest()
        layer.seed(int.from_bytes(stream[:8], "big") >> 1, device)


def generators(network: nn.Module) -> list[torch.Generator]:
    """Returns what the `Dropout` layers of a network draw from, once `reseed` has started them."""
    return [layer.generator for _, layer in _layers(network) if layer.generator is not None]


def _layers(network: nn.Module) -> Iterator[tuple[str, Dropout]]:
    return ((name, layer) for name, layer in network.named_modules() if isinstance(layer, Dropout))
