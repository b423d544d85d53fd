"""Losses of translation, in float32: least-squares adversarial losses, and reconstruction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

Scores = Sequence[torch.Tensor]
"""Maps of a discriminator's scores, `(N, 1, h, w)`, one for each of its scales."""


def discriminator_loss(real: Scores, generated: Scores) -> torch.Tensor:
    """Returns `E[(D(x) - 1)^2] + E[D(g)^2]`, 0 where real patches score 1 and generated ones 0.

    The least-squares loss of Mao et al. 2017 (eq. 9, times 2), as in MUNIT. E is the mean over images and
    patches of a scale, and scales are summed.

    Args:
        real: Scores of real images x.
        generated: Scores of generated images g, as many scales.
    """
    return _distance(real, 1.0) + _distance(generated, 0.0)


def generator_loss(generated: Scores) -> torch.Tensor:
    """Returns `E[(D(g) - 1)^2]`, 0 where generated patches score 1 (Mao et al. 2017; E as above)."""
    return _distance(generated, 1.0)


def reconstruction_loss(result: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
    """Returns the mean absolute difference `E[|result - original|]` over all elements.

    By what it is given, it is one of these, for images a and b of domains A and B:

    - cycle: `G_BA(G_AB(a))` and a (Zhu et al. 2017, eq. 2; MUNIT's explicit cycle);
    - identity: `G_BA(a)` and a (Zhu et al. 2017, section 5.2);
    - image: a decoded from its own content and style, and a (Huang et al. 2018, eq. 1);
    - content: the content of a that is encoded again from its translation, and that of a (eq. 2);
    - style: the style that is encoded again from a translation, and that which the translation took (eq. 3).

    Both have the same shape, and gradients go to both.
    """
    return F.l1_loss(result, original)


def _distance(scores: Scores, target: float) -> torch.Tensor:
    """The mean squared distance from a target, summed over scales."""
    return torch.stack([(score - target).square().mean() for score in scores]).sum()
