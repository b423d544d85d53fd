"""Styles of the images of two domains: drawn to train with, and the mean to predict with."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from xferlab.training.upload import uploaded


class Styles(nn.Module):
    """The mean style of the training images of each domain, which weights hold; 0 before there is one."""

    def __init__(self, size: int):
        super().__init__()
        for domain in ("a", "b"):
            self.register_buffer(domain, torch.zeros(size))

    def of(self, domain: str) -> Tensor:
        """Returns the mean style of a domain, `(size,)`."""
        return self.get_buffer(domain)

    def set(self, domain: str, style: Tensor) -> None:
        """Takes the mean style of a domain."""
        self.get_buffer(domain).copy_(style)


def drawn(
    number: int, size: int, domain: str, *, device: torch.device, seed: int, epoch: int, batch: int
) -> Tensor:
    """Returns standard normal styles, `(number, size)`, a function of seed, domain, epoch and batch."""
    stream = hashlib.sha256(f"{seed}\x1fstyle {domain}\x1f{epoch}\x1f{batch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(stream[:8], "big") >> 1)
    return uploaded(torch.randn(number, size, generator=generator), device)
