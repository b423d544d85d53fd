"""DICOM files as pydicom reads them: with or without a preamble, headers, frames, compression."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
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
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
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
_REQUIRED = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
)
_ABSENT_IF_BLANK = ("NumberOfFrames", "RescaleSlope", "RescaleIntercept", "VOILUTFunction")
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
        check_description(path, dataset)
        check_size(path, width=int(dataset.Columns), height=int(dataset.Rows))
        frames = _num_frames(dataset)
        check_size(path, width=int(dataset.Columns) * int(dataset.Rows), height=frames)
        return dataset, stored_values(path, dataset).reshape(frames, int(dataset.Rows), int(dataset.Columns))
    except InvalidDicomError as error:
        raise DataError.at(path, "is no DICOM file.") from error
    except READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read as DICOM: {why(error)}. Export it again.") from error


def open_dataset(path: Path, data: bytes, **options: Any) -> Any:
    """Opens a file; adds the 128 bytes and `DICM` before its first element, which some exports leave out.

    Optional elements that are blank are removed, as if the file did not have them.

    Raises:
        DataError: It is stored deflated.
    """
    file = io.BytesIO(bytes(128) + b"DICM" + data if lacks_preamble(data[:132]) else data)
    _check_not_deflated(path, file)
    dataset = pydicom.dcmread(file, **options)
    for name in _ABSENT_IF_BLANK:
        if name in dataset and is_blank(dataset[name].value):
            del dataset[name]
    return dataset


def is_blank(value: object) -> bool:
    """Returns whether an element has no value, or spaces only."""
    return value is None or not str(value).strip()


def numbers(dataset: Any, name: str) -> tuple[float, ...]:
    """Returns the numbers of an element; none where it is missing or blank.

    Raises:
        ValueError: It holds something else.
    """
    value = dataset.get(name)
    if is_blank(value):
        return ()
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        return tuple(float(item) for item in values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its {name} is {value}, which is no number") from error


def number(dataset: Any, name: str) -> float | None:
    """Returns the number of an element; None where it is missing or blank.

    Raises:
        ValueError: It holds something else, or several numbers.
    """
    values = numbers(dataset, name)
    if len(values) > 1:
        raise ValueError(f"its {name} is {dataset.get(name)}; one number is expected")
    return values[0] if values else None


def lift(dataset: Any, *macros: str) -> None:
    """Copies what the groups of an enhanced object say of its frame to the top level, where that lacks it.

    Args:
        dataset: The object.
        macros: Names of the sequences in which groups say it (PS3.3, C.7.6.16).
    """
    of_frame = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    of_all = dataset.get("SharedFunctionalGroupsSequence") or ()
    for group in (*of_frame[:1], *of_all[:1]):
        for macro in (group.get(name) for name in macros):
            for element in macro[0] if macro else ():
                if not is_blank(element.value) and is_blank(dataset.get(element.tag)):
                    dataset[element.tag] = element


def check_description(path: Path, dataset: Any) -> None:
    """Refuses a file that does not say how its pixels are stored.

    Raises:
        DataError: It lacks an element.
        ValueError: An element is not one number.
    """
    missing = [name for name in _REQUIRED if is_blank(dataset.get(name))]
    if missing:
        raise DataError.at(
            path, f"does not say how its pixels are stored: it lacks {', '.join(missing)}. Export it again."
        )
    for name in _REQUIRED:
        if name != "PhotometricInterpretation":
            number(dataset, name)


def _num_frames(dataset: Any) -> int:
    return int(number(dataset, "NumberOfFrames") or 1)


def _check_not_deflated(path: Path, file: BinaryIO) -> None:
    """Refuses a deflated data set: nothing in it can be checked before all of it is unpacked."""
    read_preamble(file, force=False)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != _META_GROUP)
    file.seek(0)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        raise DataError.at(path, "is stored deflated; store it as Explicit VR Little Endian, uncompressed.")


def check_one_frame(path: Path, dataset: Any) -> None:
    """Refuses a file of several frames."""
    frames = _num_frames(dataset)
    if frames != 1:
        raise DataError.at(path, f"holds {frames} frames; a case is one frame. Export the frame you mean.")


def stored_values(path: Path, dataset: Any) -> NDArray[Any]:
    """Returns the pixels as they are stored, decompressed, without the bits above `BitsStored`.

    Raises:
        DataError: There are none; they are compressed, and it is not known how, or no installed package can
            decode them; or grey values reach into the bits above `BitsStored`.
    """
    if not dataset.PixelData:
        raise DataError.at(path, "is a DICOM file without pixels.")
    _complete_syntax(path, dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        values = _decompressed(path, dataset)
    else:
        dataset.pixel_array_options(correct_unused_bits=False)
        values = np.asarray(dataset.pixel_array)
    if syntax in (*JPEG2000TransferSyntaxes, *JPEGLSTransferSyntaxes):
        return values  # decoded at their own depth: there are no bits to clear
    return _without_unused_bits(path, dataset, values)


def _without_unused_bits(path: Path, dataset: Any, values: NDArray[Any]) -> NDArray[Any]:
    """Clears the bits above `BitsStored` (PS3.5, 8.1.1), or fills them with the sign.

    Raises:
        DataError: They hold more than the sign and the overlays of the header (PS3.5, 8.1.2). Most likely,
            these are grey values, which would wrap around.
    """
    stored, unused = int(dataset.BitsStored), int(dataset.BitsAllocated) - int(dataset.BitsStored)
    if unused == 0:
        return values
    kept = values << unused >> unused
    above = ((1 << unused) - 1 << stored) & ~_overlay_bits(dataset)
    bits = values.view(f"{values.dtype.byteorder}u{values.itemsize}") & above
    bits[(kept < 0) & (bits == above)] = 0
    used = int(np.bitwise_or.reduce(bits, axis=None))
    if not used:
        return kept
    high = int(number(dataset, "HighBit") or stored - 1)
    shift = high + 1 - stored
    if shift > 0 and not int(np.bitwise_or.reduce(values, axis=None)) & (1 << shift) - 1:
        raise DataError.at(
            path,
            f"stores its {stored} bits left-aligned: its HighBit is {high}. Shift its pixel values right by"
            f" {shift} bits, and set HighBit to {stored - 1}.",
        )
    raise DataError.at(
        path,
        f"has pixel values of {used.bit_length()} bits, and its BitsStored is {stored}. Set BitsStored and"
        " HighBit to what its grey values use; or clear the bits above, if these are an overlay.",
    )


def _overlay_bits(dataset: Any) -> int:
    """Returns the bits of a pixel in which the header says that overlays lie."""
    elements = [dataset.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2)]
    positions = {element.value for element in elements if element and isinstance(element.value, int)}
    return sum(1 << position for position in positions if 0 < position < 64)


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
            dataset.pixel_array_options(decoding_plugin=plugin, correct_unused_bits=False)
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
