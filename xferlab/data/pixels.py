"""What files of images hold, and what reading any format needs: grey levels, limits, refusals."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xferlab.errors import DataError

MAX_PIXELS = 200_000_000
PERCENTILES = (0.5, 99.5)
STRETCH = "the range of its values, which extreme ones widen,"
"""What makes an image without a window 8 bit, as the subject of a sentence."""
ROWS_AT_ONCE = 64
"""Of a large image in floating point, so that memory stays a few bytes a pixel."""
_FIRST_ELEMENT = re.compile(
    rb"\x02\x00\x00\x00UL\x04\x00|\x08\x00[\x00\x01\x05\x08\x12\x16\x18]\x00([A-Z][A-Z]|..\x00\x00)",
    re.DOTALL,
)
"""The length of DICOM's file meta information, or an early element of the group after it."""

FEW_LEVELS = 32
"""Fewer grey levels than these show bands; the poorest of ordinary 8-bit radiographs have some hundred."""
_LOST = 4
"""How many stored values must share a grey level on average before they count as lost."""
_CLIPPED, _CLIPPED_BEFORE = 0.9, 0.5


@dataclass(frozen=True)
class Levels:
    """Grey values of an image at the depth of its file, before anything makes them 8 bits.

    Attributes:
        values: `(H, W)`, finite, integer or floating; the higher, the brighter.
        valid: Which pixels are no padding, `(H, W)`; None for all.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_] | None = None

    def above(self, height: int) -> Levels:
        """Returns the first rows."""
        return Levels(self.values[:height], None if self.valid is None else self.valid[:height])


@dataclass(frozen=True)
class Picture:
    """What an image file holds.

    Attributes:
        pixels: uint8, `(H, W)`.
        spacing_mm: Distance between rows and between columns, if the file tells it.
        turned: Whether an orientation of the file was applied.
        remarks: What somebody should look at, though it can be used.
        modality: What a DICOM file says that it was taken with (`DX`, `MR`), after `colour` where it is a
            colour picture, which may be a screenshot or a rendering. Empty for other files.
        levels: What `pixels` was made from, where it was asked for and the file has more than 8-bit pixels.
        axes: Where the axes of a NIfTI file lead, such as `LPS`, before it was turned. Empty for other files.
    """

    pixels: NDArray[np.uint8]
    spacing_mm: tuple[float, float] | None = None
    turned: bool = False
    remarks: tuple[str, ...] = ()
    modality: str = ""
    levels: Levels | None = None
    axes: str = ""


def check_size(path: Path, *, width: int, height: int) -> None:
    """Raises DataError if an image has no pixels or more than `MAX_PIXELS`; call it before decoding."""
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise DataError.at(path, f"is {width}x{height} pixels; up to {MAX_PIXELS:,} pixels are accepted.")


def to_grey(image: Image.Image) -> Image.Image:
    """Returns an 8-bit image as mode L: ITU-R 601 luma of colour, palette resolved, alpha ignored."""
    if image.mode in ("1", "L", "LA", "RGB", "RGBA"):
        return image.convert("L")
    return image.convert("RGB").convert("L")


def stretch(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Maps the 0.5th and 99.5th percentile of the valid pixels to 0 and 255, clipped; one value only gives 0.

    Args:
        values: `(H, W)`, finite, integer or floating.
        valid: Pixels that the percentiles are taken over; default all.
    """
    if values.dtype not in (np.uint8, np.uint16):  # differences of others may overflow
        values = values.astype(np.float64, copy=False)
    chosen = values if valid is None or not valid.any() else values[valid]
    low, high = np.percentile(chosen, PERCENTILES)
    if high <= low:  # a small bright object on an even ground: the percentiles miss it
        low, high = float(chosen.min()), float(chosen.max())
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    return mapped(values, lambda strip: to_uint8((strip.astype(np.float64) - low) / (high - low)))


def mapped(values: NDArray[Any], tones: Callable[[NDArray[Any]], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Returns what `tones` makes of all values, a few rows at once."""
    shown = np.empty(values.shape, np.uint8)
    for row in range(0, len(values), ROWS_AT_ONCE):
        shown[row : row + ROWS_AT_ONCE] = tones(values[row : row + ROWS_AT_ONCE])
    return shown


def to_uint8(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Maps 0..1 to 0..255, rounded; values outside are clipped."""
    return np.rint(np.clip(shares, 0.0, 1.0) * 255.0).astype(np.uint8)


def inverted(values: NDArray[Any]) -> NDArray[Any]:
    """Returns values of the same type in the opposite order."""
    return ~values if values.dtype.kind in "iu" else -values


def lacks_preamble(head: bytes) -> bool:
    """Returns whether a file begins with a DICOM element, without the 128 bytes and `DICM` before it."""
    return head[128:132] != b"DICM" and _FIRST_ELEMENT.match(head) is not None


def lost_contrast(
    stored: NDArray[Any], shown: NDArray[np.uint8], *, valid: NDArray[np.bool_] | None, cause: str
) -> tuple[str, ...]:
    """Returns a remark if few of an image's values can still be told apart, or nearly all are black or white.

    Args:
        stored: `(H, W)` integers as the file has them.
        shown: The same image in 8 bits.
        valid: Pixels that are no padding; default all.
        cause: What made it 8 bit, as the subject of a sentence, and what to do about it, divided by `|`.
    """
    if valid is not None and valid.any():
        stored, shown = stored[valid], shown[valid]
    counts = np.bincount(shown.ravel(), minlength=256)
    num_shown, clipped = int((counts > 0).sum()), (counts[0] + counts[255]) / shown.size
    if num_shown >= FEW_LEVELS and clipped <= _CLIPPED:
        return ()
    values, stored_counts = np.unique(stored, return_counts=True)
    subject, _, remedy = cause.partition("|")
    if num_shown < FEW_LEVELS and len(values) >= _LOST * num_shown:
        lost = f"leaves {num_shown} of 256 grey levels to {len(values):,} different values"
        return (f"{subject} {lost}. {remedy}",)
    if clipped > _CLIPPED and (stored_counts[0] + stored_counts[-1]) / shown.size < _CLIPPED_BEFORE:
        return (f"{subject} makes {clipped:.0%} of the pixels black or white. {remedy}",)
    return ()
