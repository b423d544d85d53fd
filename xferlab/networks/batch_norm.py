"""Batch normalisation that can be compiled well for a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, but where training steps are compiled for a CPU, its sums are taken in one pass.

    PyTorch's compiler makes slow loops of a variance. Values differ by rounding. Where it is not compiled, or
    on another device, it is PyTorch's own. It has weights and running statistics.
    """

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def forward(self, images: Tensor) -> Tensor:
        """Returns what `nn.BatchNorm2d` does."""
        is_compiled = torch.compiler.is_compiling() and images.device.type == "cpu"
        if self.training and is_compiled and images[:, 0].numel() > 1:  # of a single value, PyTorch says so
            return self._of_batch(images)
        return super().forward(images)

    def _of_batch(self, images: Tensor) -> Tensor:
        """Returns images (N, C, H, W) normalised by their own statistics."""
        values, dims = images.float(), (0, 2, 3)
        # About the mean of one image, so that a mean far from 0 takes no digits of the variance.
        origin = values[:1].detach().mean(dims)
        moved = values - origin[:, None, None]
        shift = moved.mean(dims)
        mean, variance = origin + shift, (moved * moved).mean(dims) - shift * shift
        self._follow(mean.detach(), variance.detach(), images[:, 0].numel())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        offset = self.bias - mean * scale
        return (values * scale[:, None, None] + offset[:, None, None]).to(images.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, num_values: int) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (num_values / (num_values - 1)), self.momentum)
