"""DICOM files as pydicom reads them: with or without a preamble, headers, frames, compression."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_partial, read_preamble
from pydicom.pixels import get_decoder
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from xferlab.data.memo import read_file, regular
from xferlab.data.pixels import check_size, lacks_preamble
from xferlab.errors import DataError

_META_GROUP = 2
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
"""What pydicom raises over files that are damaged or odd."""


def read_header(path: Path, *names: str) -> Any:
    """Returns some elements of a DICOM file, with or without a preamble; reads no further than these.

    Raises:
        DataError: The file cannot be read, or is no DICOM file.
    """
    last = max(map(Tag, names))
    try:
        with open(path, "rb", opener=regular) as file:
            is_bare = lacks_preamble(file.read(132))
            file.seek(0)
            return read_partial(file, stop_when=lambda tag, *_: tag > last, force=is_bare)
    except InvalidDicomError as error:
        raise DataError.at(path, "is no DICOM file.") from error
    except READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read as DICOM: {why(error)}.") from error


def read_frames(path: Path) -> tuple[Any, NDArray[Any]]:
    """Returns a DICOM file of several frames, and these as `(N, H, W)`.

    Raises:
        DataError: The file cannot be read, is compressed in a way that no installed package decodes, or has
            too many pixels.
    """
    try:
        dataset = open_dataset(path, read_file(path))
        check_size(path, width=int(dataset.Columns), height=int(dataset.Rows))
        frames = int(dataset.get("NumberOfFrames") or 1)
        check_size(path, width=int(dataset.Columns) * int(dataset.Rows), height=frames)
        return dataset, stored_values(path, dataset).reshape(frames, int(dataset.Rows), int(dataset.Columns))
    except InvalidDicomError as error:
        raise DataError.at(path, "is no DICOM file.") from error
    except READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read as DICOM: {why(error)}. Export it again.") from error


def open_dataset(path: Path, data: bytes, **options: Any) -> Any:
    """Opens a file; adds the 128 bytes and `DICM` before its first element, which some exports leave out.

    Raises:
        DataError: It is stored deflated.
    """
    file = io.BytesIO(bytes(128) + b"DICM" + data if lacks_preamble(data[:132]) else data)
    _check_not_deflated(path, file)
    return pydicom.dcmread(file, **options)


def _check_not_deflated(path: Path, file: BinaryIO) -> None:
    """Refuses a deflated data set: nothing in it can be checked before all of it is unpacked."""
    read_preamble(file, force=False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != _META_GROUP)
    file.seek(0)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise DataError.at(path, "is stored deflated; store it as Explicit VR Little Endian, uncompressed.")


def check_one_frame(path: Path, dataset: Any) -> None:
    """Refuses a file of several frames."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError.at(path, f"holds {frames} frames; a case is one frame. Export the frame you mean.")


def stored_values(path: Path, dataset: Any) -> NDArray[Any]:
    """Returns the pixels as they are stored, decompressed.

    Raises:
        DataError: They are compressed, and it is not known how, or no installed package can decode them.
    """
    _complete_syntax(path, dataset)
    is_compressed = dataset.file_meta.TransferSyntaxUID.is_encapsulated
    return _decompressed(path, dataset) if is_compressed else np.asarray(dataset.pixel_array)


def _complete_syntax(path: Path, dataset: Any) -> None:
    """Names the transfer syntax of uncompressed pixels where the file meta information is missing.

    Raises:
        DataError: They are compressed.
    """
    if "TransferSyntaxUID" in dataset.file_meta:
        return
    if dataset["PixelData"].is_undefined_length:
        raise DataError.at(
            path,
            "lacks the file meta information, which says how its pixels are compressed. Export it again as a"
            " DICOM file with a preamble (Part 10).",
        )
    dataset.file_meta.TransferSyntaxUID = _SYNTAXES[dataset.original_encoding]


def _decompressed(path: Path, dataset: Any) -> NDArray[np.generic]:
    """Returns the stored values of compressed pixels.

    Raises:
        DataError: No installed package can decode them.
    """
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
        raise DataError.at(path, f"{what} and cannot be decoded: {why(failure)}.") from failure
    # Not all that pydicom names: pylibjpeg-libjpeg is under the GPL.
    has_extra = any(missing.startswith("gdcm") for missing in decoder.missing_dependencies)
    remedy = "`pip install 'xferlab[dicom]'`, or store" if has_extra else "Store"
    raise DataError.at(path, f"{what} which no installed package decodes. {remedy} the file uncompressed.")


def why(error: Exception) -> str:
    """Returns the message of an error in one line."""
    return " ".join(str(error).split()).rstrip(".")
