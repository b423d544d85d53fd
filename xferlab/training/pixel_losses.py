"""Losses on logits, in float32, over the pixels that count.

`LOSSES` are of one structure. `loss_of` takes their mean over several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]
"""Takes logits, target, valid and the constant s."""

FALSE_NEGATIVE_WEIGHT, FALSE_POSITIVE_WEIGHT = 0.7, 0.3
"""Alpha and beta of Abraham and Khan 2019."""

FOCAL_EXPONENT = 0.75
"""1 / gamma with gamma = 4/3 of Abraham and Khan 2019."""


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


def focal_tversky(
    probability: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Returns the focal Tversky loss over a whole batch, `(1 - TI) ** 0.75`, in (0, 1).

    `TI = (TP + s) / (TP + 0.7 FN + 0.3 FP + s)`, TP, FN and FP being sums over all images of the batch of
    p·t, (1 - p)·t and p·(1 - t) (Abraham and Khan 2019: alpha 0.7, beta 0.3, and 0.75 = 1 / gamma with
    gamma = 4/3). Missed pixels weigh more than those too many. The slope grows without bound towards a
    perfect match, so below 1 - TI = 1.2e-7 (float32) the loss stays what it is there, 6.4e-6, with slope 0.

    Arguments as in `dice`.
    """
    hit = (probability * target * valid).sum()
    missed = ((1.0 - probability) * target * valid).sum()
    too_many = (probability * (1.0 - target) * valid).sum()
    weighted = FALSE_NEGATIVE_WEIGHT * missed + FALSE_POSITIVE_WEIGHT * too_many
    lacking = weighted / (hit + weighted + smoothing)
    return lacking.clamp_min(torch.finfo(lacking.dtype).eps).pow(FOCAL_EXPONENT)


def cross_entropy(logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Returns the mean of `-t log p - (1 - t) log(1 - p)` over the pixels that count.

    p is the sigmoid of the logits. Finite for all finite logits; 0 where no pixel counts.

    Args:
        logits: (N, 1, H, W) float32.
        target: (N, 1, H, W) float32, 0 or 1.
        valid: (N, 1, H, W) float32, 0 where a pixel is ignored.
    """
    total = F.binary_cross_entropy_with_logits(logits, target, weight=valid, reduction="sum")
    return total / valid.sum().clamp_min(1.0)


def dice_cross_entropy(
    logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Returns the sum of `dice` and `cross_entropy`, unweighted."""
    overlap = dice(torch.sigmoid(logits), target, valid, smoothing)
    return overlap + cross_entropy(logits, target, valid)


def _of_probability(loss: Loss) -> Loss:
    return lambda logits, target, valid, smoothing: loss(torch.sigmoid(logits), target, valid, smoothing)


LOSSES: dict[str, Loss] = {
    "dice": _of_probability(dice),
    "dice_as_printed": _of_probability(dice_as_printed),
    "cross_entropy": lambda logits, target, valid, smoothing: cross_entropy(logits, target, valid),
    "dice_cross_entropy": dice_cross_entropy,
    "focal_tversky": _of_probability(focal_tversky),
}
"""Losses of one structure by name; `cross_entropy` has no use for the constant s."""


def loss_of(
    name: str,
    logits: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    smoothing: float,
    *,
    is_exclusive: bool = False,
    class_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Returns the mean of a loss over the structures with a pixel that counts; 0 where there is none.

    Where structures are exclusive, the loss of each is that of its softmax probability, and cross entropy is
    `exclusive_cross_entropy`, once for all of them.

    Args:
        name: Key of `LOSSES`.
        logits: (N, S, H, W) float32; (N, 1 + S, H, W), the background first, where they are exclusive.
        target: (N, S, H, W) float32, 0 or 1.
        valid: (N, S, H, W) float32, 0 where a pixel is ignored.
        smoothing: The constant s.
        is_exclusive: Whether a pixel belongs to one structure at most.
        class_weights: Of the background and each structure, in their cross entropy; None weighs all alike.
    """
    if not is_exclusive:
        return _mean(LOSSES[name], logits, target, valid, smoothing)
    if name == "cross_entropy":
        return exclusive_cross_entropy(logits, target, valid, class_weights)
    if name == "dice_cross_entropy":
        overlap = loss_of("dice", logits, target, valid, smoothing, is_exclusive=True)
        return overlap + exclusive_cross_entropy(logits, target, valid, class_weights)
    return _mean(LOSSES[name], against_others(logits), target, valid, smoothing)


def probabilities(logits: torch.Tensor, *, is_exclusive: bool) -> torch.Tensor:
    """Returns the probability of each structure, (N, S, H, W), of a network's logits."""
    return torch.sigmoid(against_others(logits) if is_exclusive else logits)


def against_others(logits: torch.Tensor) -> torch.Tensor:
    """Returns logits (N, S, H, W) whose sigmoids are the softmax probabilities of all but the first channel.

    Args:
        logits: (N, 1 + S, H, W), the background first.
    """
    return torch.cat(
        [
            logits[:, channel : channel + 1]
            - torch.cat([logits[:, :channel], logits[:, channel + 1 :]], dim=1).logsumexp(1, keepdim=True)
            for channel in range(1, logits.shape[1])
        ],
        dim=1,
    )


def exclusive_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    valid: torch.Tensor,
    class_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Returns the mean of `-log p` over the pixels that count, p being the softmax probability of the truth.

    Where a structure is ignored, such as in a case without its mask, the truth may be several classes: p is
    then the sum of their probabilities (Shi et al. 2021, marginal loss). A pixel that may be anything counts
    nowhere.

    With weights, each pixel counts as much as its class, and the sum is divided by that of the weights of all
    pixels (oh2020, eq. 2, as PyTorch normalises it); a pixel that may be several classes counts as much as
    they do on average.

    Arguments as in `loss_of`.
    """
    is_known = (target * valid).amax(dim=1, keepdim=True)
    structures = torch.maximum(target * valid, (1.0 - valid) * (1.0 - is_known))
    possible = torch.cat([1.0 - is_known, structures], dim=1)
    counted = possible.amin(dim=1) == 0
    entropy = logits.logsumexp(1) - logits.masked_fill(possible == 0, -torch.inf).logsumexp(1)
    if class_weights is None:
        return (entropy * counted).sum() / counted.sum().clamp_min(1)
    planes = zip(class_weights, possible.unbind(dim=1), strict=True)
    counts = counted * sum(weight * plane for weight, plane in planes) / possible.sum(dim=1)
    return (entropy * counts).sum() / counts.sum().clamp_min(torch.finfo(counts.dtype).tiny)


def _mean(
    loss: Loss, logits: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, smoothing: float
) -> torch.Tensor:
    planes = [(slice(None), slice(number, number + 1)) for number in range(logits.shape[1])]
    losses = [loss(logits[plane], target[plane], valid[plane], smoothing) for plane in planes]
    if len(losses) == 1:
        return losses[0]
    counted = valid.amax(dim=(0, 2, 3))
    return (torch.stack(losses) * counted).sum() / counted.sum().clamp_min(1.0)


def _sums(
    probability: torch.Tensor, target: torch.Tensor, valid: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    weighted = probability * valid
    return (weighted * target).sum(), weighted.sum() + (target * valid).sum()
