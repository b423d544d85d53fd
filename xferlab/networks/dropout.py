"""Dropout whose draws are a pure function of trial, epoch and batch: a resumed training is bit-equal."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zeroes elements with probability `p` while it trains and scales the others by 1 / (1 - p).

    Draws come from a generator of its own, which `reseed` sets: trials that share a process do not disturb
    each other.
    """

    def __init__(self, p: float):
        """Takes the probability, from 0 to below 1."""
        super().__init__()
        self.p = p
        self._generator: torch.Generator | None = None

    def seed(self, seed: int, device: torch.device) -> None:
        """Starts the draws of one batch."""
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device)
        self._generator.manual_seed(seed)

    def forward(self, values: Tensor) -> Tensor:
        """Returns the values, in training mode with elements dropped."""
        if not self.training or self.p == 0.0:
            return values
        keep = torch.empty_like(values).bernoulli_(1.0 - self.p, generator=self._generator)
        return values * keep / (1.0 - self.p)


def reseed(network: nn.Module, *, seed: int, epoch: int, batch: int) -> None:
    """Starts the draws of every `Dropout` of a network, each layer with a stream of its own."""
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, Dropout)]
    for name, layer in layers:
        device = next(network.parameters()).device
        stream = hashlib.sha256(f"{seed}\x1fdropout\x1f{epoch}\x1f{batch}\x1f{name}".encode()).digest()
        layer.seed(int.from_bytes(stream[:8], "big") >> 1, device)
