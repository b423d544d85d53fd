"""DICOM files to 8-bit grey: modality LUT, VOI window, padding, MONOCHROME1, pixel spacing."""

from __future__ import annotations

import io
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_partial, read_preamble
from pydicom.pixels import apply_modality_lut, apply_voi_lut, apply_windowing, get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from xferlab.data.pixels import (
    ROWS_AT_ONCE,
    STRETCH,
    Levels,
    Picture,
    check_size,
    inverted,
    lacks_preamble,
    lost_contrast,
    stretch,
    to_grey,
    to_uint8,
)
from xferlab.errors import DataError, pointer_hint

_META_GROUP, _CHANNELS, _COLOUR_BITS = 2, 3, 8
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422")
"""pydicom gives the pixels of all of them as RGB."""
_COLOUR_REMARK = "is a colour picture, of which the luma is taken: see that it is a radiograph."
_SYNTAXES = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
_PLUGINS = ("pillow", "pydicom", "gdcm", "pylibjpeg", "pyjpegls")
"""In this order: an additional package must not change pixels that can be read without it."""
READ_ERRORS = (
    OSError,
    EOFError,
    AttributeError,
    ValueError,
    LookupError,
    TypeError,
    NotImplementedError,
    RecursionError,
    ArithmeticError,
    struct.error,
    BytesLengthException,
)
_LARGE_VALUE = "1 MB"
"""Larger values are read when they are needed, which is after the header was checked."""


def read_dicom(path: Path, data: bytes, *, own_depth: bool = False) -> Picture:
    """Returns the pixels, bright where rays were absorbed, the spacing and the modality.

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
        dataset = _dataset(path, data, defer_size=_LARGE_VALUE)
        _check_header(path, dataset)
        _complete_syntax(path, dataset)
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
        raise DataError.at(path, f"cannot be read as DICOM: {_why(error)}. Export it again.") from error
    pixels = 255 - shown if is_inverted else shown
    return Picture(pixels, spacing, remarks=remarks, modality=modality, levels=levels)


def read_header(path: Path, *names: str) -> Any:
    """Returns some elements of a DICOM file, with or without a preamble; reads no further than these.

    Raises:
        DataError: The file cannot be read, or is no DICOM file.
    """
    last = max(map(Tag, names))
    try:
        with open(path, "rb") as file:
            is_bare = lacks_preamble(file.read(132))
            file.seek(0)
            return read_partial(file, stop_when=lambda tag, *_: tag > last, force=is_bare)
    except InvalidDicomError as error:
        raise DataError.at(path, "is no DICOM file.") from error
    except READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read as DICOM: {_why(error)}.") from error


def read_frames(path: Path) -> tuple[Any, NDArray[Any]]:
    """Returns a DICOM file of several frames, and these as `(N, H, W)`.

    Raises:
        DataError: The file cannot be read, is compressed in a way that no installed package decodes, or has
            too many pixels.
    """
    try:
        data = path.read_bytes()
        dataset = _dataset(path, data)
        check_size(path, width=int(dataset.Columns), height=int(dataset.Rows))
        frames = int(dataset.get("NumberOfFrames") or 1)
        check_size(path, width=int(dataset.Columns) * int(dataset.Rows), height=frames)
        _complete_syntax(path, dataset)
        compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
        values = _decompressed(path, dataset) if compressed else np.asarray(dataset.pixel_array)
        return dataset, values.reshape(frames, int(dataset.Rows), int(dataset.Columns))
    except InvalidDicomError as error:
        raise DataError.at(path, "is no DICOM file.") from error
    except READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read as DICOM: {_why(error)}. Export it again.") from error


def has_padding_range(path: Path, data: bytes) -> bool | None:
    """Returns whether a DICOM file has no window, and padding of more values than `PixelPaddingValue`.

    Earlier versions took only that value for padding, so their grey levels of such a file were others. Reads
    the header. None if it cannot be parsed; another version of pydicom may parse it.

    Args:
        path: The file, for messages.
        data: Its bytes.
    """
    try:
        dataset = _dataset(path, data, stop_before_pixels=True)
        if dataset.get("VOILUTSequence") or _window(dataset) or dataset.get("PixelPaddingValue") is None:
            return False
        kind = np.dtype(f"{'iu'[not dataset.PixelRepresentation]}{dataset.BitsAllocated // 8}")
        low, high = _padding_range(dataset, kind)
        return not low == high == dataset.PixelPaddingValue
    except (DataError, InvalidDicomError, *READ_ERRORS):
        return None  # reading its pixels tells what is wrong with it


def _dataset(path: Path, data: bytes, **options: Any) -> Any:
    """Opens a file; adds the 128 bytes and `DICM` before its first element, which some exports leave out."""
    file = io.BytesIO(bytes(128) + b"DICM" + data if lacks_preamble(data[:132]) else data)
    _check_not_deflated(path, file)
    return pydicom.dcmread(file, **options)


def _why(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _complete_syntax(path: Path, dataset: Any) -> None:
    """Names the transfer syntax of uncompressed pixels where the file meta information is missing."""
    if "TransferSyntaxUID" in dataset.file_meta:
        return
    if dataset["PixelData"].is_undefined_length:
        raise DataError.at(
            path,
            "lacks the file meta information, which says how its pixels are compressed. Export it again as a"
            " DICOM file with a preamble (Part 10).",
        )
    dataset.file_meta.TransferSyntaxUID = _SYNTAXES[dataset.original_encoding]


def _check_not_deflated(path: Path, file: BinaryIO) -> None:
    """Refuses a deflated data set: nothing in it can be checked before all of it is unpacked."""
    read_preamble(file, force=False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != _META_GROUP)
    file.seek(0)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise DataError.at(path, "is stored deflated; store it as Explicit VR Little Endian, uncompressed.")


def _check_header(path: Path, dataset: Any) -> None:
    if "PixelData" not in dataset:
        raise DataError.at(path, "is a DICOM file without pixels.")
    check_size(path, width=int(dataset.Columns), height=int(dataset.Rows))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError.at(path, f"holds {frames} frames; a case is one frame. Export the frame you mean.")
    interpretation, bits = dataset.PhotometricInterpretation, int(dataset.BitsStored)
    if interpretation in _COLOUR and bits == int(dataset.BitsAllocated) == _COLOUR_BITS:
        return
    if interpretation not in _GREY:
        raise DataError.at(
            path,
            f"has photometric interpretation {interpretation} with {bits} bits; accepted are"
            f" {', '.join(_GREY)}, and {', '.join(_COLOUR)} with {_COLOUR_BITS} bits.",
        )


def _stored_values(path: Path, dataset: Any) -> NDArray[Any]:
    compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    stored = _decompressed(path, dataset) if compressed else np.asarray(dataset.pixel_array)
    # pydicom believes the length of the data, not the header.
    if stored.shape[2:] != (_CHANNELS,) * (dataset.PhotometricInterpretation in _COLOUR):
        shape = "x".join(map(str, stored.shape))
        raise DataError.at(
            path, f"has pixel data of shape {shape}; a case is one grey frame. Export it again."
        )
    return stored


def _decompressed(path: Path, dataset: Any) -> NDArray[np.generic]:
    syntax = dataset.file_meta.TransferSyntaxUID
    decoder, what = get_decoder(syntax), f"is compressed as {syntax.name} ({syntax}),"
    failure: RuntimeError | None = None
    for plugin in _PLUGINS:
        if plugin in decoder.available_plugins:
            dataset.pixel_array_options(decoding_plugin=plugin)
            try:
                return np.asarray(dataset.pixel_array)
            except RuntimeError as error:
                failure = error
    if failure is not None:
        raise DataError.at(path, f"{what} and cannot be decoded: {_why(failure)}.") from failure
    # Not all that pydicom names: pylibjpeg-libjpeg is under the GPL.
    has_extra = any(missing.startswith("gdcm") for missing in decoder.missing_dependencies)
    remedy = "`pip install 'xferlab[dicom]'`, or store" if has_extra else "Store"
    raise DataError.at(path, f"{what} which no installed package decodes. {remedy} the file uncompressed.")


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
    values = np.asarray(apply_modality_lut(stored, dataset))
    if not np.isfinite(values).all():
        raise ValueError("its rescale slope and intercept give values that are no numbers")
    return values


def _windowed(values: NDArray[np.generic], dataset: Any) -> NDArray[np.uint8]:
    window = _window(dataset)
    if window is None or dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0]
        bits = int(table.LUTDescriptor[2])
        if bits < 1 or not table.get("LUTData"):  # pydicom would leave the values as they are
            raise ValueError("its VOI LUT is empty")
        shown = apply_voi_lut(values.astype(np.int64), dataset).astype(np.float64)
        return to_uint8(shown / (2**bits - 1))
    center, width = window
    shown = apply_windowing(values.astype(np.float64), dataset)
    # The output range depends on bits, sign and rescale; far outside the window it shows itself.
    low, high = apply_windowing(np.array([center - 20 * width, center + 20 * width]), dataset)
    if not low < high:
        raise ValueError(f"its window of {width:g} around {center:g} shows nothing")
    return to_uint8((shown - low) / (high - low))


def _window(dataset: Any) -> tuple[float, float] | None:
    """Center and width of the first window; None if the file has none."""
    values = [dataset.get(name) for name in ("WindowCenter", "WindowWidth")]
    if any(value is None or value == "" for value in values):
        return None
    center, width = (float(v[0] if isinstance(v, pydicom.multival.MultiValue) else v) for v in values)
    return center, width


def _spacing_mm(dataset: Any) -> tuple[float, float] | None:
    spacing = [float(step) for step in dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing") or ()]
    if len(spacing) != 2 or not all(0 < step < math.inf for step in spacing):
        return None
    return spacing[0], spacing[1]
