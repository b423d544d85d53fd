"""DICOM files to 8-bit grey: modality LUT, VOI window, MONOCHROME1, pixel spacing."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.uid import DeflatedExplicitVRLittleEndian

from xferlab.data.decode import ROWS_AT_ONCE, check_size, stretch, to_uint8
from xferlab.errors import DataError, Problem

_GREY = ("MONOCHROME1", "MONOCHROME2")
_READ_ERRORS = (
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
"""Values above this are read when they are asked for: after the header was checked."""


def read_dicom(path: Path) -> tuple[NDArray[np.uint8], tuple[float, float] | None]:
    """Returns `(H, W)` uint8 pixels, bright where rays were absorbed, and the spacing in mm.

    Stored values pass the modality LUT (or rescale), then the first VOI LUT or window of the file; without
    one, their 0.5th and 99.5th percentiles become 0 and 255. MONOCHROME1 is inverted last.

    Raises:
        DataError: If the file cannot be read, is compressed in a way that no installed package decodes, or is
            not one grey frame.
    """
    try:
        _check_not_deflated(path)
        dataset = pydicom.dcmread(path, defer_size=_LARGE_VALUE)
        _check_header(path, dataset)
        shown = _shown(_stored_values(path, dataset), dataset)
        spacing = _spacing_mm(dataset)
    except InvalidDicomError as error:
        raise _refusal(path, "is no DICOM file although its name says so.") from error
    except _READ_ERRORS as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise _refusal(path, f"cannot be read as DICOM: {why}. Export it again.") from error
    return (255 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown), spacing


def modality(path: Path) -> str:
    """Returns what a readable DICOM file says that it was taken with (`DX`, `MR`); empty if nothing."""
    header = pydicom.dcmread(path, force=True, stop_before_pixels=True, specific_tags=["Modality"])
    return str(header.get("Modality") or "")


def _check_not_deflated(path: Path) -> None:
    """Refuses a data set in one zip stream: nothing in it can be checked before all of it is unpacked."""
    if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise _refusal(path, "is stored deflated; store it as Explicit VR Little Endian, uncompressed.")


def _check_header(path: Path, dataset: Any) -> None:
    if "PixelData" not in dataset:
        raise _refusal(path, "is a DICOM file without pixels.")
    check_size(path, width=int(dataset.Columns), height=int(dataset.Rows))
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise _refusal(path, f"holds {frames} frames; a case is one frame. Export the frame you mean.")
    if dataset.PhotometricInterpretation not in _GREY:
        found = dataset.PhotometricInterpretation
        raise _refusal(path, f"has photometric interpretation {found}; {' and '.join(_GREY)} are accepted.")


def _stored_values(path: Path, dataset: Any) -> NDArray[np.generic]:
    try:
        stored = np.asarray(dataset.pixel_array)
    except RuntimeError as error:  # pydicom names the packages that would decode it
        syntax = dataset.file_meta.TransferSyntaxUID
        raise _refusal(
            path,
            f"is compressed as {syntax.name} ({syntax}), which no installed package decodes. `pip install`"
            f" one of those named here, or store the file uncompressed. {' '.join(str(error).split())}",
        ) from error
    if stored.ndim != 2:  # pydicom believes the length of the data more than the header
        shape = "x".join(map(str, stored.shape))
        raise _refusal(path, f"has pixel data of shape {shape}; a case is one grey frame. Export it again.")
    return stored


def _shown(stored: NDArray[np.generic], dataset: Any) -> NDArray[np.uint8]:
    if dataset.get("VOILUTSequence") or _window(dataset):
        strips = (stored[row : row + ROWS_AT_ONCE] for row in range(0, len(stored), ROWS_AT_ONCE))
        return np.concatenate([_windowed(_modality(strip, dataset), dataset) for strip in strips])
    padding = dataset.get("PixelPaddingValue")
    return stretch(_modality(stored, dataset), None if padding is None else stored != padding)


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
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    return None if center is None or width is None else (center, width)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value[0]) if isinstance(value, pydicom.multival.MultiValue) else float(value)


def _spacing_mm(dataset: Any) -> tuple[float, float] | None:
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    if not spacing or len(spacing) != 2 or not all(0 < float(one) < math.inf for one in spacing):
        return None
    return float(spacing[0]), float(spacing[1])


def _refusal(path: Path, what: str) -> DataError:
    return DataError(Problem(str(path), what))
