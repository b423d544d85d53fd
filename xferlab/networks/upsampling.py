"""A transposed convolution whose bias costs next to nothing to train."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class TransposedConv2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` that sums the gradient of its bias by itself.

    On a CPU, oneDNN's sum takes one to four times as long as the gradient of the weight. The output has the
    same bits, and the gradient differs by rounding. Where it is compiled, it is PyTorch's own.
    """

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Returns what `nn.ConvTranspose2d` does."""
        is_plain = output_size is not None or not torch.is_grad_enabled() or torch.compiler.is_compiling()
        if self.bias is None or is_plain:
            return super().forward(images, output_size)
        output = F.conv_transpose2d(
            images,
            self.weight,
            self.bias.detach(),
            self.stride,
            self.padding,  # type: ignore[arg-type]
            self.output_padding,
            self.groups,
            self.dilation,
        )
        with_bias: Tensor = _BiasGradient.apply(output, self.bias)  # type: ignore[no-untyped-call]
        return with_bias


class _BiasGradient(torch.autograd.Function):
    """Gives an output (N, C, H, W) that a bias (C,) is part of already, and the bias its gradient."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, bias: Tensor) -> Tensor:
        ctx.dtype = bias.dtype
        return output.view_as(output)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        is_trained = ctx.needs_input_grad[1]
        return gradient, gradient.sum((0, 2, 3)).to(ctx.dtype) if is_trained else None
