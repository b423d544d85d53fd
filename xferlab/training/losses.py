"""Losses on logits, in float32, over the pixels that count."""

from __future__ import annotations

from collections.abc import Callable

import torch

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]


def dice(
    probability: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Returns the smooth Dice loss over a whole batch, `1 - (2I + s) / (P + T + s)`, in [0, 1).

    I, P and T are sums over all images of the batch of p·t, p and t (Buda et al. 2019; vidal2021,
    section 3.3). Empty prediction and target give 0.

    Args:
        probability: (N, 1, H, W) float32 in [0, 1].
        target: (N, 1, H, W) float32, 0 or 1.
        valid: (N, 1, H, W) float32, 0 where a pixel is ignored.
        smoothing: The constant s.
    """
    intersection, total = _sums(probability, target, valid)
    return 1.0 - (2.0 * intersection + smoothing) / (total + smoothing)


def dice_as_printed(
    probability: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Returns equation 1 of vidal2021 as printed, `1 - 2 (I + s) / (P + T + s)`: below 0 on a perfect match.

    Arguments as in `dice`.
    """
    intersection, total = _sums(probability, target, valid)
    return 1.0 - 2.0 * (intersection + smoothing) / (total + smoothing)


LOSSES: dict[str, Loss] = {"dice": dice, "dice_as_printed": dice_as_printed}


def _sums(
    probability: torch.Tensor, target: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    weighted = probability * valid
    return (weighted * target).sum(), weighted.sum() + (target * valid).sum()
