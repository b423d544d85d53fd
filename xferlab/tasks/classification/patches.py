"""Patches of images: where they lie, and their pixels, for whole batches on their device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xferlab.training.batches import Rows
from xferlab.training.examples import ImageExamples, nearest
from xferlab.training.randomness import uniform
from xferlab.training.upload import uploaded

Keys = npt.NDArray[np.uint64]
_TURN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Boxes:
    """Squares of images: what of one would lie outside of its image is cut off.

    Attributes:
        case: (M,) int64, the place in a batch of the image that each is of.
        rows: (M, 2) int64, first row, and the row after the last.
        columns: (M, 2) int64, likewise.
        size_px: Side of a square that lies inside.
    """

    case: Tensor
    rows: Tensor
    columns: Tensor
    size_px: int

    @staticmethod
    def around(centres: Tensor, *, size_px: int, side: int) -> Boxes:
        """Returns squares around centres, (N, K, 2) rows and columns, of N images of a side; case by case."""
        number = centres.shape[1]
        case = torch.arange(len(centres), device=centres.device).repeat_interleave(number)
        first = centres.reshape(-1, 2) - size_px // 2
        span = torch.stack([first, first + size_px], dim=-1).clamp(0, side)
        return Boxes(case, span[:, 0], span[:, 1], size_px)

    def __len__(self) -> int:
        """Number of squares."""
        return len(self.case)

    def part(self, start: int, stop: int) -> Boxes:
        """Returns some of them, in order."""
        return Boxes(self.case[start:stop], self.rows[start:stop], self.columns[start:stop], self.size_px)

    def pixels(self, images: Tensor) -> Tensor:
        """Returns the pixels of the squares, (M, C, size_px, size_px) uint8; cut ones are stretched.

        Args:
            images: (N, C, H, W) uint8.
        """
        along = [_between(span, self.size_px) for span in (self.rows, self.columns)]
        (top, bottom, down), (left, right, across) = along
        down, across = down[:, None, :, None], across[:, None, None, :]
        corners = [
            [self._taken(images, row, column).float() for column in (left, right)] for row in (top, bottom)
        ]
        upper, lower = (first + (second - first) * across for first, second in corners)
        return (upper + (lower - upper) * down).round().to(torch.uint8)

    def inside(self, masks: Tensor, lines: tuple[Tensor, Tensor]) -> Tensor:
        """Returns where all that `pixels` mixes lies in masks of another size, (M, 1, size_px, size_px) bool.

        Args:
            masks: (N, h, w) bool.
            lines: For each row, and for each column, of an image the row or column of a mask that it lies in.
        """
        spans = zip((self.rows, self.columns), lines, strict=True)
        (top, bottom), (left, right) = (
            [line[pixel(_positions(span, self.size_px)).long()] for pixel in (torch.floor, torch.ceil)]
            for span, line in spans
        )
        corners = ((top, left), (top, right), (bottom, left), (bottom, right))
        mixed = [self._taken(masks[:, None], row, column) for row, column in corners]
        return torch.stack(mixed).all(dim=0)

    def _taken(self, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Pixels of images (N, C, H, W) at rows and columns (M, size_px) of each square."""
        _, channels, height, width = images.shape
        plane = self.case[:, None] * channels + torch.arange(channels, device=images.device)
        line = plane[:, :, None] * height + row[:, None, :]
        index = line[:, :, :, None] * width + column[:, None, None, :]
        return images.flatten().index_select(0, index.flatten()).reshape(index.shape)


def _positions(span: Tensor, number: int) -> Tensor:
    """Centres of `number` equal parts of spans (M, 2), in pixels; whole numbers where a part is a pixel."""
    middles = torch.arange(number, device=span.device, dtype=torch.float64) + 0.5
    start, length = span[:, :1], span[:, 1:] - span[:, :1]
    inner = (middles * length / number - 0.5).clamp_min(0.0)
    return torch.minimum(start + inner, (span[:, 1:] - 1).double())


def _between(span: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels before and after each position, and how far from the first to the second it lies."""
    positions = _positions(span, number)
    before = positions.floor()
    after = torch.minimum(before + 1, (span[:, 1:] - 1).double())
    return before.long(), after.long(), (positions - before).float()


class Places:
    """The region of each case that patches lie around.

    Masks keep the size at which they were predicted; everything is as if they were stretched to the images.

    Attributes:
        masks: (N, h, w) bool, where the region is. In a case without any, patches lie anywhere.
        is_empty: (N,) bool, which cases have none at the size of the images: small ones lose specks.
        lines: For each row, and for each column, of an image the row or column of a mask that it lies in.
    """

    def __init__(self, masks: npt.NDArray[np.bool_], *, side: int, device: torch.device):
        """Takes masks (N, h, w) of images of a side."""
        down, across = (nearest(number, side) for number in masks.shape[1:])
        kept = masks[:, np.unique(down.numpy())][:, :, np.unique(across.numpy())]
        self.is_empty = np.asarray(~kept.any(axis=(1, 2)))
        self.masks = torch.from_numpy(masks).to(device)
        self.lines = down.to(device), across.to(device)
        height, width = (
            torch.bincount(line, minlength=number)
            for line, number in zip(self.lines, masks.shape[1:], strict=True)
        )
        counts = [
            self._counts(torch.ones_like(mask) if is_empty else mask, height, width)
            for mask, is_empty in zip(self.masks, self.is_empty, strict=True)
        ]
        by_row, by_column = (torch.stack(side) for side in zip(*counts, strict=True))
        self._until_row, self._until_column = by_row.cumsum(dim=1), by_column.cumsum(dim=1)

    def _counts(self, mask: Tensor, height: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
        """How many pixels of an image, where patches may lie, each of its rows and columns has."""
        by_row, by_column = (mask * width).sum(dim=1), (mask * height[:, None]).sum(dim=0)
        return by_row[self.lines[0]], by_column[self.lines[1]]

    def region(self, row: int) -> Tensor:
        """Returns the region of a case at the size of its image, bool (H, W)."""
        return self.masks[row][self.lines[0]][:, self.lines[1]]

    def centres(self, rows: Rows, draws: npt.NDArray[np.float64], *, apart: bool) -> Tensor:
        """Returns centres of patches, (n, K, 2) int64: rows and columns of the images.

        Args:
            rows: The cases.
            draws: Two numbers in [0, 1) for each centre, (n, K, 2).
            apart: Whether rows and columns are each drawn by itself, from those of all pixels of the region
                (oh2020, code), so that a centre may lie outside of it. Else a centre is one of its pixels,
                all equally likely, and the second number is not used.
        """
        index = uploaded(rows, self.masks.device)
        first, second = uploaded(draws, self.masks.device).unbind(dim=-1)
        row, left = _chosen(self._until_row[index], first)
        if apart:
            column, _ = _chosen(self._until_column[index], second)
        else:
            anywhere = uploaded(self.is_empty[rows], self.masks.device)[:, None, None]
            along = (self.masks[index[:, None], self.lines[0][row]] | anywhere)[:, :, self.lines[1]]
            column = (along.cumsum(dim=2) <= left[:, :, None]).sum(dim=2)
        return torch.stack([row, column], dim=-1)


def _chosen(until: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """The line in which a drawn pixel lies, and how many pixels of the line lie before it.

    Args:
        until: (n, L), number of pixels up to the end of each line.
        draws: (n, K), in [0, 1).
    """
    number = until[:, -1:]
    pixel = torch.minimum((draws * number).long(), number - 1).contiguous()
    line = torch.searchsorted(until, pixel, right=True)
    before = torch.where(line > 0, until.gather(1, (line - 1).clamp_min(0)), 0)
    return line, pixel - before


def draws(keys: Keys, *, number: int, seed: int, epoch: int) -> npt.NDArray[np.float64]:
    """Returns two numbers in [0, 1) for each of `number` patches of each case, (N, number, 2).

    The first patches are the same, however many there are.
    """
    numbers = [
        [uniform(keys, seed=seed, purpose=f"patch {patch} {axis}", epoch=epoch) for axis in ("row", "column")]
        for patch in range(number)
    ]
    return np.array(numbers).transpose(2, 0, 1)


def repeated(rows: Rows, cases: ImageExamples) -> tuple[Rows, Keys]:
    """Returns the cases of rows as `balanced_rows` gives them, and keys that tell repeated draws apart."""
    case, times = rows % len(cases), rows // len(cases)
    with np.errstate(over="ignore"):
        return case, cases.keys[case] + times.astype(np.uint64) * _TURN
