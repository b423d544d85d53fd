"""NIfTI files of one slice, as radiologists see them. Needs nibabel, the extra `nifti`.

Orientation. The axes of the file are swapped and turned by the affine of its header: the patient's right is
on the left of the picture; anterior is on top in axial slices, superior in coronal and sagittal ones; in
sagittal slices, anterior is on the left. Oblique axes count as those that they are nearest to. Nothing is
resampled.

Grey levels. Unsigned 8-bit values without a scale are kept as they are. All others are scaled as the header
says, and stretched as those of other files of more than 8 bits.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from xferlab.data.formats import NIFTI
from xferlab.data.memo import regular
from xferlab.data.pixels import STRETCH, Levels, Picture, check_size, lost_contrast, stretch
from xferlab.errors import DataError

_HEADER_1, _HEADER_2, _START = 348, 540, 352
_MAGIC_1, _MAGIC_2, _GZIP = b"n+1\0", b"n+2\0", b"\x1f\x8b"
_RADIOLOGICAL = "LPI"
"""Where the columns, rows and slices of a picture lead: towards left, posterior and inferior."""
_MM = {"meter": 1000.0, "micron": 0.001}
"""Millimetres of the units that a header can name; others are millimetres."""
_DIMENSIONS, _MAX_OFFSET = 3, 1 << 24
_READ_ERRORS = (
    OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, struct.error, zlib.error,
    np.linalg.LinAlgError,
)  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """The one slice of a NIfTI file.

    Attributes:
        values: `(H, W)`, scaled as the header says.
        spacing_mm: Distance between rows and between columns; None if the header has none. Of the affine
            that gives the orientation, too: where a header has an sform, `pixdim` counts for nothing.
        axes: Where the axes of the file lead, such as `LPS`; `(H, W)` lies otherwise.
        has_orientation: Whether the header gives an orientation.
        slope: Distance between neighbouring values, where these are integers that the header scales; else 0.
    """

    values: NDArray[Any]
    spacing_mm: tuple[float, float] | None
    axes: str
    has_orientation: bool
    slope: float = 0.0


def is_nifti(path: Path, head: bytes) -> bool:
    """Tells NIfTI by its size of header and magic bytes; where it is compressed, by its name, too."""
    if head[:2] == _GZIP:
        return path.name.lower().endswith(NIFTI)
    size = {head[:4], head[3::-1]}
    return (_HEADER_1.to_bytes(4, "little") in size and head[344:348] == _MAGIC_1) or (
        _HEADER_2.to_bytes(4, "little") in size and head[4:8] == _MAGIC_2
    )


def read_nifti(path: Path, data: bytes, *, own_depth: bool = False) -> Picture:
    """Returns the grey pixels of a slice, and its spacing.

    Args:
        path: The file, for messages.
        data: Its bytes.
        own_depth: As for `read_image`.

    Raises:
        DataError: nibabel is not installed; the file cannot be read, or is not one slice of grey values.
    """
    plane = read_slice(path, data)
    remarks: tuple[str, ...] = ()
    if not plane.has_orientation:
        remarks = (
            "its header gives no orientation (the codes of sform and qform are 0), so its axes are taken for "
            f"{plane.axes}, as viewers do: see that it lies as you mean it.",
        )
    values, levels = plane.values, None
    if values.dtype == np.uint8:
        return Picture(values, plane.spacing_mm, remarks=remarks, axes=plane.axes)
    shown = stretch(values)
    if own_depth:
        levels = Levels(values)
    else:
        cause = f"{STRETCH}|Convert it to 8 bits with a window of your choice."
        remarks += lost_contrast(values, shown, valid=None, cause=cause)
    return Picture(shown, plane.spacing_mm, remarks=remarks, levels=levels, axes=plane.axes)


def read_slice(path: Path, data: bytes) -> Slice:
    """Returns the values of a file of one slice, turned as the module says.

    Raises:
        DataError: As `read_nifti`.
    """
    with _nibabel(path) as nibabel, _opened(data) as file:
        header = _header(nibabel, file)
        stored = _stored(path, header, file, _shape(path, header))
        return _turned(nibabel, path, header, stored)


def check_slice(path: Path) -> None:
    """Raises DataError if a file is not one slice, or nibabel is not installed; reads the header alone."""
    with _nibabel(path) as nibabel, open(path, "rb", opener=regular) as raw, _opened(raw) as file:
        _shape(path, _header(nibabel, file))


@contextmanager
def _nibabel(path: Path) -> Iterator[Any]:
    """Yields nibabel; what it raises over a damaged file becomes a DataError."""
    try:
        import nibabel
        from nibabel.spatialimages import HeaderDataError
        from nibabel.wrapstruct import WrapStructError
    except ImportError as error:
        raise DataError.at(path, "is a NIfTI file, which `pip install 'xferlab[nifti]'` can read.") from error
    try:
        yield nibabel
    except (*_READ_ERRORS, HeaderDataError, WrapStructError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise DataError.at(path, f"cannot be read as NIfTI: {why}. Export it again.") from error


def _opened(data: bytes | IO[bytes]) -> IO[bytes]:
    """Returns the uncompressed bytes as a file: only what is asked for is unpacked."""
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    head = file.read(2)
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if head == _GZIP else file  # type: ignore[return-value]


def _header(nibabel: Any, file: IO[bytes]) -> Any:
    head = file.read(_HEADER_2)
    is_second = _HEADER_2 in (int.from_bytes(head[:4], order) for order in ("little", "big"))
    kind = nibabel.Nifti2Header if is_second else nibabel.Nifti1Header
    return kind(head[: _HEADER_2 if is_second else _HEADER_1])


def _shape(path: Path, header: Any) -> tuple[int, int, int]:
    """Returns the three sizes of a slice, of which at least one is 1.

    Raises:
        DataError: It is no slice, or too large.
    """
    given = [int(size) for size in header.get_data_shape()]
    shape = (given + [1] * _DIMENSIONS)[:_DIMENSIONS]
    if math.prod(given) != math.prod(shape):
        raise DataError.at(path, f"holds {math.prod(given[_DIMENSIONS:])} images; a case is one slice.")
    large = sorted(size for size in shape if size != 1)
    if len(large) == _DIMENSIONS:
        sizes = "x".join(map(str, shape))
        remedy = "docs/data.md shows under Volumes how to save slices."
        raise DataError.at(path, f"is a volume of {sizes}; a case is one slice. {remedy}")
    height, width = [1, 1, *large][-2:]
    check_size(path, width=width, height=height)
    return shape[0], shape[1], shape[2]


def _stored(path: Path, header: Any, file: IO[bytes], shape: tuple[int, int, int]) -> NDArray[Any]:
    """Returns the values in the order of the file's axes, scaled.

    Raises:
        DataError: They are no grey values, not all there, or not finite.
    """
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError.at(path, f"has values of type {dtype}; grey values are accepted.")
    offset, size = int(header.get_data_offset()), math.prod(shape) * dtype.itemsize
    if not _START <= offset <= _MAX_OFFSET:
        raise DataError.at(path, f"says that its values begin at byte {offset}; export it again.")
    file.seek(offset)
    data = file.read(size)
    file.read(1)  # at the end of a compressed file, its checksum is compared
    if len(data) < size:
        raise DataError.at(path, f"holds {len(data):,} of {size:,} bytes of values; fetch it again.")
    values = np.frombuffer(data, dtype).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    if slope is not None and (slope, intercept) != (1, 0):
        values = values * float(slope) + float(intercept or 0)
    if not np.isfinite(values).all():
        raise DataError.at(path, "has values that are no numbers; replace them, and save it again.")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _turned(nibabel: Any, path: Path, header: Any, stored: NDArray[Any]) -> Slice:
    affine = header.get_best_affine()
    axes = nibabel.aff2axcodes(affine)
    if None in axes:
        raise DataError.at(path, "has an affine that does not say where its axes lead. Export it again.")
    orientation = nibabel.io_orientation(affine)
    turn = nibabel.orientations.ornt_transform(
        orientation, nibabel.orientations.axcodes2ornt(tuple(_RADIOLOGICAL))
    )
    turned = nibabel.orientations.apply_orientation(stored, turn)
    order = [int(axis) for axis in orientation[:, 0]]
    across = order[_across(stored.shape)]
    columns, rows = (axis for axis in range(_DIMENSIONS) if axis != across)
    sizes = nibabel.affines.voxel_sizes(affine) if header["sform_code"] else header.get_zooms()
    zooms = [*map(float, sizes), 0.0, 0.0, 0.0]
    unit = _MM.get(header.get_xyzt_units()[0], 1.0)
    steps = [zooms[order.index(axis)] * unit for axis in (rows, columns)]
    return Slice(
        np.ascontiguousarray(turned.take(0, axis=across).T),
        (steps[0], steps[1]) if all(0 < step < math.inf for step in steps) else None,
        "".join(axes),
        bool(header["sform_code"] or header["qform_code"]),
        abs(float(header.get_slope_inter()[0] or 0)) if header.get_data_dtype().kind in "iu" else 0.0,
    )


def _across(shape: tuple[int, ...]) -> int:
    """Returns the axis through the slice: the last one of size 1."""
    return max(axis for axis, size in enumerate(shape) if size == 1)
