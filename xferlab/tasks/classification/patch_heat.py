"""Probabilistic Grad-CAM: one map an image and class, from the maps of its patches (oh2020, eq. 3 to 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from xferlab.tasks.classification.patches import Boxes


class PatchHeat:
    """The mean of the maps of the patches that cover a pixel, each times its probability of the class.

    The map of a patch is stretched to it (bilinear) and divided by its maximum; a map of zeros stays so.
    Nothing is rescaled after that, so that images and classes compare by the level.
    """

    def __init__(self, num_classes: int, side: int, device: torch.device):
        """Takes the number of classes, and the side of the image in pixels."""
        self._sums = torch.zeros(num_classes, side, side, device=device)
        self._counts = torch.zeros(side, side, device=device)

    def add(self, maps: Tensor, probability: Tensor, boxes: Boxes) -> None:
        """Adds patches of the image.

        Args:
            maps: (M, K, h, w), at least 0; any scale.
            probability: (M, K), of each class.
            boxes: Where the M patches lie.
        """
        side, (height, width) = len(self._counts), maps.shape[-2:]
        own = [
            _stretching(torch.stack([span[:, 0] * 0, span[:, 1] - span[:, 0]], dim=1), number, boxes.size_px)
            for span, number in ((boxes.rows, height), (boxes.columns, width))
        ]
        highest = torch.einsum("mri,mkij,mcj->mkrc", own[0], maps, own[1]).amax(dim=(2, 3))
        shares = torch.where(highest > 0, probability / highest, 0.0)
        down = _stretching(boxes.rows, height, side)
        across = _stretching(boxes.columns, width, side).permute(0, 2, 1).reshape(-1, side)
        for number, weighted in enumerate((maps * shares[:, :, None, None]).unbind(dim=1)):
            lines = torch.bmm(down, weighted).permute(1, 0, 2).reshape(side, -1)
            self._sums[number] += lines @ across
        inside = [_inside(span, side).float() for span in (boxes.rows, boxes.columns)]
        self._counts += inside[0].T @ inside[1]

    @property
    def covered(self) -> Tensor:
        """Which pixels some patch covers, bool (H, W)."""
        return self._counts > 0.5

    def means(self) -> Tensor:
        """Returns the maps of the image, (K, H, W) in [0, 1]; 0 where no patch lies."""
        return self._sums / self._counts.clamp_min(1.0)


def _inside(spans: Tensor, side: int) -> Tensor:
    """Which of `side` pixels lie in each span, bool (M, side)."""
    pixels = torch.arange(side, device=spans.device)
    return (pixels >= spans[:, :1]) & (pixels < spans[:, 1:])


def _stretching(spans: Tensor, number: int, side: int) -> Tensor:
    """What each of `number` values counts at each of `side` pixels, when they are stretched to a span.

    (M, side, number), bilinear, as `torch.nn.functional.interpolate` without aligned corners; 0 outside.
    """
    length = spans[:, 1:] - spans[:, :1]
    pixels = torch.arange(side, device=spans.device, dtype=torch.float64)
    places = ((pixels - spans[:, :1] + 0.5) * number / length - 0.5).clamp(0, number - 1)
    distance = (places[:, :, None] - torch.arange(number, device=spans.device)).abs()
    return ((1.0 - distance).clamp_min(0.0) * _inside(spans, side)[:, :, None]).float()
