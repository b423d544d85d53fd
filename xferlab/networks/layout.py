"""How images and kernels lie in memory, so that a network need not copy them."""

from __future__ import annotations

import torch
from torch import nn

from xferlab.networks.residual import ResidualBlock


def layout(network: nn.Module, device: torch.device) -> torch.memory_format:
    """Returns how the images and kernels of a network should lie in memory: with their channels last.

    On the CPU not where there is instance norm: it would copy what has its channels last, and its gradient.
    """
    has_instance_norm = any(isinstance(part, nn.InstanceNorm2d | ResidualBlock) for part in network.modules())
    is_plain = device.type == "cpu" and has_instance_norm
    return torch.contiguous_format if is_plain else torch.channels_last
