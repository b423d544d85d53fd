"""DICOM files to 8-bit grey: modality LUT, VOI window, padding, MONOCHROME1, pixel spacing."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut, apply_windowing

from xferlab.data.dicom_file import (
    READ_ERRORS,
    check_description,
    check_one_frame,
    lift,
    number,
    numbers,
    open_dataset,
    stored_values,
    why,
)
from xferlab.data.pixels import (
    ROWS_AT_ONCE,
    STRETCH,
    Levels,
    Picture,
    check_size,
    inverted,
    lost_contrast,
    stretch,
    to_grey,
    to_uint8,
)
from xferlab.errors import DataError, pointer_hint

_CHANNELS, _COLOUR_BITS = 3, 8
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422")
"""pydicom gives the pixels of all of them as RGB."""
_MACROS = (
    "PixelMeasuresSequence",
    "FramePixelDataPropertiesSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
)
"""Where objects of enhanced classes hold spacing, rescale and window (PS3.3, C.7.6.16)."""
_COLOUR_REMARK = "is a colour picture, of which the luma is taken: see that it is a radiograph."
_LARGE_VALUE = "1 MB"
"""Larger values are read when they are needed, which is after the header was checked."""


def read_dicom(path: Path, data: bytes, *, own_depth: bool = False) -> Picture:
    """Returns the pixels, bright where rays were absorbed, the spacing and the modality.

    In an object of an enhanced class, the functional groups of its frame, or of all, may hold what follows.

    Stored values pass the modality LUT (or rescale), then the first VOI LUT or window of the file.
    Without these, the 0.5th and 99.5th percentiles of all pixels but padding become 0 and 255. MONOCHROME1 is
    inverted last. Colour of 8 bits (a screenshot, say) becomes grey by its luma, as in other files, with a
    remark. Levels are the values after the modality LUT, before any window; MONOCHROME1 is inverted.

    Args:
        path: The file, for messages.
        data: Its bytes.
        own_depth: As for `read_image`.

    Raises:
        DataError: If the file cannot be read, is compressed in a way that no installed package decodes, or is
            not one frame of grey or of 8-bit colour.
    """
    try:
        dataset = open_dataset(path, data, defer_size=_LARGE_VALUE)
        lift(dataset, *_MACROS)
        _check_header(path, dataset)
        stored = _stored_values(path, dataset)
        spacing, modality = _spacing_mm(dataset), str(dataset.get("Modality") or "")
        if stored.ndim == _CHANNELS:
            grey = np.asarray(to_grey(Image.fromarray(stored)))
            return Picture(grey, spacing, remarks=(_COLOUR_REMARK,), modality=f"colour {modality or 'DICOM'}")
        valid = _valid(stored, dataset)
        shown = _shown(stored, dataset, valid)
        is_inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
        remarks, levels = tuple[str, ...](), None
        if own_depth:
            values = _modality(stored, dataset)
            levels = Levels(inverted(values) if is_inverted else values, valid)
        else:
            remarks = lost_contrast(stored, shown, valid=valid, cause=_cause(dataset))
    except InvalidDicomError as error:
        raise DataError.at(
            path, f"is no DICOM file although its name says so.{pointer_hint(data)}"
        ) from error
    except READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read as DICOM: {why(error)}. Export it again.") from error
    pixels = 255 - shown if is_inverted else shown
    return Picture(pixels, spacing, remarks=remarks, modality=modality, levels=levels)


def has_padding_range(path: Path, data: bytes) -> bool | None:
    """Returns whether a DICOM file has no window, and padding of more values than `PixelPaddingValue`.

    Earlier versions took only that value for padding, so their grey levels of such a file were others. Reads
    the header. None if it cannot be parsed; another version of pydicom may parse it.

    Args:
        path: The file, for messages.
        data: Its bytes.
    """
    try:
        dataset = open_dataset(path, data, stop_before_pixels=True)
        lift(dataset, *_MACROS)
        if dataset.get("VOILUTSequence") or _window(dataset) or dataset.get("PixelPaddingValue") is None:
            return False
        kind = np.dtype(f"{'iu'[not dataset.PixelRepresentation]}{dataset.BitsAllocated // 8}")
        low, high = _padding_range(dataset, kind)
        return not low == high == dataset.PixelPaddingValue
    except (DataError, InvalidDicomError, *READ_ERRORS):
        return None  # reading its pixels tells what is wrong with it


def _check_header(path: Path, dataset: Any) -> None:
    if "PixelData" not in dataset:
        raise DataError.at(path, "is a DICOM file without pixels.")
    check_description(path, dataset)
    check_size(path, width=int(dataset.Columns), height=int(dataset.Rows))
    check_one_frame(path, dataset)
    _check_rescale(path, dataset)
    interpretation, bits = dataset.PhotometricInterpretation, int(dataset.BitsStored)
    if interpretation in _COLOUR and bits == int(dataset.BitsAllocated) == _COLOUR_BITS:
        return
    if interpretation not in _GREY:
        raise DataError.at(
            path,
            f"has photometric interpretation {interpretation} with {bits} bits; accepted are"
            f" {', '.join(_GREY)}, and {', '.join(_COLOUR)} with {_COLOUR_BITS} bits.",
        )


def _check_rescale(path: Path, dataset: Any) -> None:
    """Refuses a slope or an intercept alone, which pydicom would not apply, unless it changes nothing."""
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if (slope is None) != (intercept is None) and (slope, intercept) not in ((1, None), (None, 0)):
        given, missing = ("RescaleIntercept", "RescaleSlope")[:: 1 if slope is None else -1]
        raise DataError.at(path, f"has a {given} and no {missing}. Add the {missing}.")


def _stored_values(path: Path, dataset: Any) -> NDArray[Any]:
    stored = stored_values(path, dataset)
    # pydicom believes the length of the data, not the header.
    if stored.shape[2:] != (_CHANNELS,) * (dataset.PhotometricInterpretation in _COLOUR):
        shape = "x".join(map(str, stored.shape))
        raise DataError.at(
            path, f"has pixel data of shape {shape}; a case is one grey frame. Export it again."
        )
    return stored


def _valid(stored: NDArray[Any], dataset: Any) -> NDArray[np.bool_] | None:
    """Pixels that are no padding; None if the file declares none."""
    if dataset.get("PixelPaddingValue") is None:
        return None
    low, high = _padding_range(dataset, stored.dtype)
    return np.asarray((stored < low) | (stored > high))


def _padding_range(dataset: Any, kind: np.dtype[Any]) -> tuple[int, int]:
    """Lowest and highest padding in the stored type; some files declare signed values as unsigned."""
    value, limit = dataset.PixelPaddingValue, dataset.get("PixelPaddingRangeLimit")
    ends = np.array([value, value if limit is None else limit], np.int64).astype(kind)
    return int(ends.min()), int(ends.max())


def _cause(dataset: Any) -> str:
    """Returns what made the pixels 8 bit, and what to do if that cost their contrast."""
    window = _window(dataset)
    if dataset.get("VOILUTSequence"):
        return "its VOI LUT|Remove the VOI LUT from the file: the range of its values is then shown."
    if window is not None:
        shown = f"its window of {window[1]:g} around {window[0]:g}"
        return f"{shown}|Correct it in the file, or remove it: the range of its values is then shown."
    if dataset.get("ModalityLUTSequence") or not dataset.get("RescaleSlope", 1):
        return "its rescale slope or modality LUT|Correct it in the file, or remove it."
    return f"{STRETCH}|Declare padding in the file (PixelPaddingValue), or give it a window."


def _shown(stored: NDArray[np.generic], dataset: Any, valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    if dataset.get("VOILUTSequence") or _window(dataset):
        strips = (stored[row : row + ROWS_AT_ONCE] for row in range(0, len(stored), ROWS_AT_ONCE))
        return np.concatenate([_windowed(_modality(strip, dataset), dataset) for strip in strips])
    return stretch(_modality(stored, dataset), valid)


def _modality(stored: NDArray[np.generic], dataset: Any) -> NDArray[np.generic]:
    with _named("modality LUT"):
        values = np.asarray(apply_modality_lut(stored, dataset))
    if not np.isfinite(values).all():
        raise ValueError("its rescale slope and intercept give values that are no numbers")
    return values


@contextmanager
def _named(table: str) -> Iterator[None]:
    """Names the table that pydicom cannot apply."""
    try:
        yield
    except (struct.error, AttributeError, TypeError, LookupError, ArithmeticError) as error:
        raise ValueError(f"its {table} is damaged: {why(error)}") from error


def _windowed(values: NDArray[np.generic], dataset: Any) -> NDArray[np.uint8]:
    window = _window(dataset)
    if window is None or dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0]
        bits = int((table.get("LUTDescriptor") or [0, 0, 0])[2])
        if bits < 1 or not table.get("LUTData"):  # pydicom would leave the values as they are
            raise ValueError("its VOI LUT is empty")
        with _named("VOI LUT"):
            shown = apply_voi_lut(values.astype(np.int64), dataset).astype(np.float64)
        return to_uint8(shown / (2**bits - 1))
    center, width = window
    if not isinstance(dataset.get("VOILUTFunction", ""), str):
        raise TypeError("its VOILUTFunction has several values")
    shown = apply_windowing(values.astype(np.float64), dataset)
    # The output range depends on bits, sign and rescale; far outside the window it shows itself.
    low, high = apply_windowing(np.array([center - 20 * width, center + 20 * width]), dataset)
    if not abs(high - low) > 0:  # a negative slope turns the range round; NaN has none
        cause = ", because its rescale slope is 0" if dataset.get("RescaleSlope") == 0 else ""
        raise ValueError(f"its window of {width:g} around {center:g} shows nothing{cause}")
    return to_uint8((shown - low) / (high - low))


def _window(dataset: Any) -> tuple[float, float] | None:
    """Center and width of the first window; None if the file has none."""
    center, width = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    return (center[0], width[0]) if center and width else None


def _spacing_mm(dataset: Any) -> tuple[float, float] | None:
    """Returns the distance between rows and columns: of the patient, else of the detector."""
    for name in ("PixelSpacing", "ImagerPixelSpacing"):
        spacing = numbers(dataset, name)
        if len(spacing) == 2 and all(0 < step < math.inf for step in spacing):
            return spacing[0], spacing[1]
    return None
