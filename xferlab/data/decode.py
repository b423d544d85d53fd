"""Image files to 8-bit grey pixels, mask files to label values. What would be a guess is refused.

Grey levels. 8-bit images are kept as they are (colour by ITU-R 601 luma, palettes resolved, alpha ignored);
1, 2 and 4 bits of grey are spread over 0 to 255. Images of 16 or more integer bits are stretched so that
their 0.5th and 99.5th percentiles become 0 and 255. DICOM is in `dicom.py`, NIfTI in `nifti.py`.

Orientation. An EXIF or TIFF orientation is applied, to images and masks alike, so that both lie as a viewer
shows them. `turned` says whether a file has such an orientation.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from xferlab.data.formats import DICOM, SUFFIXES
from xferlab.data.memo import read_file
from xferlab.data.nifti import Slice, is_nifti, read_nifti, read_slice
from xferlab.data.pixels import (
    MAX_PIXELS,
    STRETCH,
    Levels,
    Picture,
    check_size,
    inverted,
    lacks_preamble,
    lost_contrast,
    stretch,
    to_grey,
)
from xferlab.errors import DataError, pointer_hint

DECODE_VERSION = 1
"""Raised when the pixels of any case change; part of every case digest."""

_DICOM_INDEX = "DICOMDIR"
_CONVERT = "Convert it to 8 bits with a window of your choice."
_CONVERT_LABELS = "Save its label values as integers of 8 or 16 bits."

_SAVE_LABELS = "save the labels themselves, with an integer type of array and header."

# Pillow's own limit would warn at 89 million pixels already, which stitched radiographs reach.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
"""Pillow would open forty more formats, such as PostScript, which it hands to another program."""
_MAX_ROUNDING, _FLOAT32 = 0.01, 1e-6
"""How far a label may be from a whole number at most; what 32 bits of slope and intercept cost of a value."""
_ORIENTATION_TAG, _PHOTOMETRIC_TAG, _SAMPLE_FORMAT_TAG, _WHITE_IS_ZERO, _SIGNED = 274, 262, 339, 0, 2
_GREY_8 = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
_ALPHA = ("LA", "La", "RGBA", "RGBa")
_MAGIC = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"GIF8": "GIF"}
_INTEGER = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_WIDE_CHANNELS = re.compile(r"(LA|RGB|CMYK|YCbCr|LAB)\w*;16")
_READ_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error, zlib.error)


@dataclass(frozen=True)
class Labels:
    """What a mask file holds.

    Attributes:
        values: `(H, W)`; uint8, or wider where the file is.
        turned: Whether an orientation of the file was applied.
        lossy: Whether the file is a JPEG, which alters values.
        indexed: Whether the values are indices of a palette.
        axes: As of a `Picture`.
    """

    values: NDArray[np.integer[Any]]
    turned: bool = False
    lossy: bool = False
    indexed: bool = False
    axes: str = ""


def read_image(path: Path, data: bytes | None = None, *, own_depth: bool = False) -> Picture:
    """Returns the grey pixels of a file of any format that is read (told by content, not by name).

    Args:
        path: The file.
        data: Its bytes, where they were read already.
        own_depth: Whether to return the levels, too. What the 8 bits lose is then no remark.

    Raises:
        DataError: If the file cannot be read, has several frames, floating-point pixels or too many pixels.
    """
    data = content_of(path) if data is None else data
    if is_dicom(path, data):
        from xferlab.data.dicom import read_dicom  # pydicom takes a while to import

        return read_dicom(path, data, own_depth=own_depth)
    if is_nifti(path, data):
        return read_nifti(path, data, own_depth=own_depth)
    image, turned = _load(path, data)
    if image.mode in _INTEGER:
        stored = np.asarray(image)
        pixels, is_inverted = stretch(stored), _white_is_zero(image)
        shown = 255 - pixels if is_inverted else pixels
        if own_depth:
            levels = Levels(inverted(stored) if is_inverted else stored)
            return Picture(shown, None, turned, levels=levels)
        remarks = lost_contrast(stored, pixels, valid=None, cause=f"{STRETCH}|{_CONVERT}")
        return Picture(shown, None, turned, remarks)
    return Picture(np.asarray(to_grey(image)), None, turned)


def read_colour(path: Path, data: bytes | None = None) -> NDArray[np.uint8]:
    """Returns `(H, W, 3)` uint8 pixels of an 8-bit image; grey is repeated. Takes what `read_image` takes.

    Raises:
        DataError: As `read_image`, and if the file is not an 8-bit image.
    """
    image, _ = _load(path, content_of(path) if data is None else data)
    if image.mode not in _GREY_8:
        raise DataError.at(path, f"has pixels of mode {image.mode!r}; 8-bit grey or colour is accepted.")
    return np.asarray(image.convert("RGB"))


def read_labels(path: Path, data: bytes | None = None) -> Labels:
    """Returns the label values of a mask file. Takes what `read_image` takes.

    The values of a palette image are its indices, not its colours, so that they mean the same in all masks of
    a section; those of a GIF, whose palette each encoder orders as it likes, are its colours. A colour image
    is accepted if its three channels are equal; its values are those of a channel.

    Raises:
        DataError: If the file cannot be read or is not a label image.
    """
    data = content_of(path) if data is None else data
    if is_dicom(path, data):
        raise DataError.at(path, "is a DICOM file; masks are accepted as PNG or TIFF. Export it as such.")
    if is_nifti(path, data):
        return _labels_of(path, read_slice(path, data))
    image, turned = _load(path, data, remedy=_CONVERT_LABELS)
    lossy = image.format in ("JPEG", "MPO")
    if image.mode in _INTEGER:
        values = np.asarray(image)
        if values.dtype == np.uint16 and _white_is_zero(image):
            values = ~values  # as Pillow does with masks of up to 8 bits: a value means the same at any depth
        return Labels(values, turned)
    if image.mode in ("1", "L", "LA", "La"):
        return Labels(np.asarray(image.convert("L")), turned, lossy)
    if image.mode in ("P", "PA") and image.format != "GIF":
        return Labels(np.asarray(image.getchannel("P")), turned, indexed=True)
    colours = np.asarray(image.convert("RGB"))
    if (np.ptp(colours, axis=-1) == 0).all():
        return Labels(colours[..., 0], turned, lossy)
    raise DataError.at(
        path, "is a colour image; a mask has one channel of label values. Save it as grey or palette."
    )


def _labels_of(path: Path, plane: Slice) -> Labels:
    """Returns the values of a slice as labels; many programs store these as floating-point numbers.

    nibabel scales such numbers to the integers of a header, so that they are labels but for rounding.
    """
    values = plane.values
    if values.dtype.kind == "f":
        labels, highest = np.rint(values), np.abs(values).max()
        tolerance = min(plane.slope / 2 + _FLOAT32 * highest, _MAX_ROUNDING) if plane.slope else 0
        if highest > MAX_PIXELS or (np.abs(values - labels) > tolerance).any():
            what = "has values that are no whole numbers; a mask has label values."
            if plane.slope:
                what += f" They are integers with a slope of {plane.slope:g}: {_SAVE_LABELS}"
            raise DataError.at(path, what)
        values = labels.astype(np.int32)
    return Labels(values, axes=plane.axes)


def _white_is_zero(image: Image.Image) -> bool:
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


def _load(path: Path, data: bytes, *, remedy: str = _CONVERT) -> tuple[Image.Image, bool]:
    """Returns the one frame of an image file as it is to be seen, and whether its orientation turned it.

    `remedy` says what to do with pixels whose range is not known.

    Raises:
        DataError: If the file cannot be read, has several frames, too many pixels, or pixels that would have
            to be guessed.
    """
    try:
        # Not by name: Pillow would map a TIFF at its size after turning, with rows of the wrong length.
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(path, width=image.width, height=image.height)
            frames = getattr(image, "n_frames", 1)
            if frames != 1:
                raise DataError.at(
                    path, f"holds {frames} frames; a case is one frame. Save the frame you mean."
                )
            _check_pixels(path, image, remedy)
            turned = image.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9)  # loading a TIFF removes it
            image.load()
            _check_sign(path, image)
            _check_alpha(path, image)
            ImageOps.exif_transpose(image, in_place=True)
            return image, turned
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        number = re.search(r"\d+", str(error))
        raise DataError.at(
            path,
            f"has {int(number[0]) if number else 0:,} pixels; up to {MAX_PIXELS:,} pixels are accepted.",
        ) from error
    except UnidentifiedImageError as error:
        raise DataError.at(path, _unidentified(data)) from error
    except _READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read: {error}.{_text_hint(data)}") from error


def _check_pixels(path: Path, image: Image.Image, remedy: str) -> None:
    """Refuses pixels without grey levels, and pixels that Pillow would change while it reads them."""
    if image.mode not in _GREY_8 and image.mode not in _INTEGER:
        raise DataError.at(
            path,
            f"has pixels of mode {image.mode!r} (floating point or unknown), whose range is not known; 8- and"
            f" 16-bit integers are accepted. {remedy}",
        )
    if image.mode in _GREY_8 and _WIDE_CHANNELS.match(_raw_mode(image)):
        raise DataError.at(
            path,
            "has 16 bits in each of several channels, of which only 8 could be read. Save it as 16-bit grey,"
            " or with 8 bits a channel.",
        )


def _raw_mode(image: Image.Image) -> str:
    """Returns how pixels are stored: the first argument of their decoder."""
    arguments = next((tile.args for tile in getattr(image, "tile", ())), "")
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _check_sign(path: Path, image: Image.Image) -> None:
    """Refuses integers that were read with another sign than the TIFF declares."""
    signed = getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT_TAG, (1,))[0] == _SIGNED
    if signed and image.mode == "L":
        raise DataError.at(path, "has signed 8-bit pixels. Save them unsigned, or with 16 bits.")
    if not signed and image.mode == "I" and np.asarray(image).min() < 0:
        raise DataError.at(path, f"has values above {2**31 - 1:,}. Save it with 16 bits.")


def _check_alpha(path: Path, image: Image.Image) -> None:
    """Refuses a picture that is drawn in its transparency alone, which nothing reads."""
    if image.mode not in _ALPHA:
        return
    ranges = np.ptp(np.asarray(image), axis=(0, 1))
    if ranges[-1] and not ranges[:-1].any():
        raise DataError.at(
            path,
            "has one colour and is drawn in its transparency, which is not read. Save it as grey, without an"
            " alpha channel.",
        )


def _unidentified(data: bytes) -> str:
    if not data:
        return "is empty (0 bytes). Fetch it again."
    hint = pointer_hint(data) or _text_hint(data)
    begins = next((name for magic, name in _MAGIC.items() if data.startswith(magic)), "")
    if begins and not hint:
        hint = (
            f" It begins as a {begins} file: it is cut off or damaged, or its pixels are no integers of 8 or"
            " 16 bits. Fetch it again, or convert it."
        )
    return f"is no PNG, JPEG, TIFF, BMP, GIF, DICOM or NIfTI file of a kind that can be read.{hint}"


def is_dicom(path: Path, data: bytes | None = None) -> bool:
    """Tells DICOM by its magic bytes, or by its first element or name where a file lacks the preamble.

    Raises:
        DataError: The file cannot be read.
    """
    head = content_of(path, 132) if data is None else data[:132]
    return head[128:] == b"DICM" or lacks_preamble(head) or path.suffix.lower() in DICOM


def is_image_file(path: Path) -> bool:
    """Returns whether a file is called an image, or begins as DICOM files do; reads 132 bytes at most."""
    if path.name.startswith(".") or path.name.upper() == _DICOM_INDEX:
        return False
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        return is_dicom(path)
    except DataError:  # unreadable, and nothing says that it is an image
        return False


def content_of(path: Path, size: int = -1) -> bytes:
    """Returns the bytes of a file, or its first ones.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return read_file(path, size)
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror or error}.") from error


def _text_hint(data: bytes) -> str:
    """A hint where a binary file was copied as text: undecodable bytes became U+FFFD, in UTF-8."""
    damaged = data.count(b"\xef\xbf\xbd")
    if damaged < 3:
        return ""
    return (
        f" It holds {damaged} UTF-8 replacement characters: it was copied as text, which destroys a binary"
        " file. Fetch the original again."
    )
