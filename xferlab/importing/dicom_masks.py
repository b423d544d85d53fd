"""DICOM images with DICOM-SEG objects: each frame is joined with the image that it names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xferlab.data.decode import is_image_file
from xferlab.data.formats import NOT_DICOM, without_suffix
from xferlab.data.sources.manifest.config import MASK
from xferlab.errors import DataError, Problem, attempt
from xferlab.importing.folders import walk
from xferlab.importing.found import Entry, Listing, as_name
from xferlab.importing.pictures import write_png
from xferlab.parallel import for_each

WRITTEN = "masks_dicom"
_CLASS_IDS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of objects whose frames, or whose values, are segments."""
_TAGS = ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "NumberOfFrames", "ImageOrientationPatient")
_MARKED, _SAME_DIRECTION = 255, 1e-3
_LEFT_OUT = "files that are left out"


@dataclass(frozen=True)
class _Image:
    """An image that frames may name.

    Attributes:
        path: The file.
        size: Rows and columns.
        directions: Those of rows and columns, where the file has them.
    """

    path: Path
    size: tuple[int, int]
    directions: Sequence[float] | None


@dataclass(frozen=True)
class _Object:
    """What one object marks.

    Attributes:
        path: The file.
        names: The structures that it is about.
        images: UIDs of the images that it is about.
        marked: Pixels by UID of the image and structure; where there are none, nothing is marked.
        num_absent: How many other images it is about, which are not there.
    """

    path: Path
    names: tuple[str, ...]
    images: tuple[str, ...]
    marked: Mapping[tuple[str, str], NDArray[np.bool_]]
    num_absent: int


def has_objects(path: Path) -> bool:
    """Returns whether a folder has DICOM files that mark what others show."""
    if not path.is_dir():
        return False
    headers = for_each(_dicom_files(path), lambda file: attempt(_header, file))
    return any(_is_object(header) for header in headers if not isinstance(header, DataError))


def read_objects(folder: Path) -> Listing:
    """Returns the DICOM images of a folder with the masks of the objects that name them.

    Masks are written as PNG files into the folder `masks_dicom`. An image that an object names has a mask of
    each of its segments, empty where no frame marks it; segments of one label are one structure.

    Raises:
        DataError: No object is there, or two mark the same structure of an image.
        StorageError: A mask cannot be written.
    """
    files = _dicom_files(folder)
    images, objects, left_out = _sorted_out(files)
    if not objects or not images:
        raise DataError.at(folder, f"holds no DICOM{' images' if objects else '-SEG objects'}.")
    read = for_each(objects, lambda path: attempt(_object, path, images))
    for result in read:
        if isinstance(result, DataError):
            left_out += [Problem(each.where, each.what, "warning", _LEFT_OUT) for each in result.problems]
        elif result.num_absent:
            what = f"marks {result.num_absent} images that are not in the folder."
            left_out.append(Problem(str(result.path), what, "warning", "objects about absent images"))
    masks = _written([each for each in read if isinstance(each, _Object)], images, folder)
    entries = tuple(Entry(image.path, masks.get(uid, {})) for uid, image in images.items())
    columns = dict.fromkeys(column for of in masks.values() for column in of)
    labels = {column: {column.removeprefix(f"{MASK}_"): [_MARKED]} for column in columns}
    remark = f"the masks are written into {folder / WRITTEN}"
    return Listing(entries, tuple(left_out), labels, remarks=(remark,))


def _dicom_files(folder: Path) -> list[Path]:
    paths = sorted(walk(folder, without=[folder / WRITTEN]))
    return [path for path in paths if not path.name.lower().endswith(NOT_DICOM) and is_image_file(path)]


def _header(path: Path) -> Any:
    from xferlab.data.dicom_file import read_header

    return read_header(path, *_TAGS)


def _is_object(header: Any) -> bool:
    return str(header.get("SOPClassUID", "")) in _CLASS_IDS


def _sorted_out(files: Sequence[Path]) -> tuple[dict[str, _Image], list[Path], list[Problem]]:
    """Returns images by their UIDs, objects, and files that are neither."""
    images, objects, left_out = dict[str, _Image](), list[Path](), list[Problem]()
    for path, header in zip(files, for_each(files, lambda file: attempt(_header, file)), strict=True):
        if isinstance(header, DataError):
            left_out += [Problem(each.where, each.what, "warning", _LEFT_OUT) for each in header.problems]
        elif _is_object(header):
            objects.append(path)
        else:
            try:
                images |= _image(path, header, images)
            except DataError as error:
                left_out += [Problem(each.where, each.what, "warning", _LEFT_OUT) for each in error.problems]
    return images, objects, left_out


def _image(path: Path, header: Any, others: Mapping[str, _Image]) -> dict[str, _Image]:
    """Returns an image by its UID.

    Raises:
        DataError: It is none of one frame, has no UID, or that of another.
    """
    from xferlab.data.dicom_file import READ_ERRORS

    try:
        uid, frames = str(header.SOPInstanceUID), int(header.get("NumberOfFrames") or 1)
        size = int(header.Rows), int(header.Columns)
    except READ_ERRORS as error:
        raise DataError.at(path, "is a DICOM file without an image or its UID.") from error
    if frames > 1:
        raise DataError.at(path, f"holds {frames} frames; a case is one frame. Export the frame you mean.")
    if uid in others:
        raise DataError.at(path, f"has the UID of {others[uid].path}; it is not used.")
    return {uid: _Image(path, size, header.get("ImageOrientationPatient"))}


def _object(path: Path, images: Mapping[str, _Image]) -> _Object:
    """Reads one object.

    Raises:
        DataError: It cannot be read, is not binary, does not say which image a frame is of, or has frames of
            another size or direction than their image.
    """
    from xferlab.data.dicom_file import READ_ERRORS, read_frames

    try:
        dataset, frames = read_frames(path)
        names = _names(path, dataset)
        named = tuple(_named_images(dataset))
        marked: dict[tuple[str, str], NDArray[np.bool_]] = {}
        about = dict.fromkeys(named)
        for number, frame in enumerate(frames):
            uid = _image_of(path, dataset, number, named)
            about[uid] = None
            if uid not in images:
                continue
            _check_place(path, dataset, number, images[uid], frame)
            for name, pixels in _segments(dataset, number, frame, names):
                marked[uid, name] = marked.get((uid, name), np.zeros(frame.shape, bool)) | pixels
    except READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read as a DICOM-SEG object: {error}.") from error
    known = tuple(uid for uid in about if uid in images)
    if not known:
        raise DataError.at(path, "marks images that are not in the folder.")
    return _Object(path, tuple(dict.fromkeys(names.values())), known, marked, len(about) - len(known))


def _names(path: Path, dataset: Any) -> dict[int, str]:
    """Returns structures by the numbers of segments.

    Raises:
        DataError: The object is not binary.
    """
    kind = str(dataset.SegmentationType)
    if kind not in ("BINARY", "LABELMAP"):
        raise DataError.at(
            path, f"is of the type {kind}; BINARY and LABELMAP are accepted. Export it as one of these."
        )
    return {
        int(segment.SegmentNumber): as_name(str(segment.get("SegmentLabel", "")))
        or f"segment_{segment.SegmentNumber}"
        for segment in dataset.SegmentSequence
        if kind == "BINARY" or int(segment.SegmentNumber)  # 0 is the background of a label map
    }


def _named_images(dataset: Any) -> Iterator[str]:
    """Yields the UIDs of the images that an object is about."""
    for series in dataset.get("ReferencedSeriesSequence") or ():
        for instance in series.get("ReferencedInstanceSequence") or ():
            yield str(instance.ReferencedSOPInstanceUID)


def _groups(dataset: Any, number: int) -> tuple[Any, ...]:
    """Returns what is said of one frame, and of all."""
    own = dataset.get("PerFrameFunctionalGroupsSequence")
    shared = dataset.get("SharedFunctionalGroupsSequence") or ()
    return (*([own[number]] if own else ()), *shared)


def _within(groups: Iterable[Any], name: str) -> Any:
    """Returns the first item of the first sequence of a name; None if there is none."""
    return next((group.get(name)[0] for group in groups if group.get(name)), None)


def _image_of(path: Path, dataset: Any, number: int, named: Sequence[str]) -> str:
    """Returns the UID of the image that a frame marks.

    Raises:
        DataError: It names none, or several, and neither does the object.
    """
    derived = _within(_groups(dataset, number), "DerivationImageSequence")
    sources = [
        str(source.ReferencedSOPInstanceUID)
        for source in (derived.get("SourceImageSequence") or () if derived else ())
    ]
    candidates = set(sources or named)
    if len(candidates) != 1:
        raise DataError.at(
            path, f"does not say which image its frame {number + 1} marks ({len(candidates)} are named)."
        )
    return candidates.pop()


def _check_place(path: Path, dataset: Any, number: int, image: _Image, frame: NDArray[Any]) -> None:
    """Refuses a frame that does not lie on its image pixel by pixel."""
    if frame.shape != image.size:
        raise DataError.at(
            path, f"has frames of {frame.shape[1]}x{frame.shape[0]} pixels; {image.path} has "
            f"{image.size[1]}x{image.size[0]}."
        )  # fmt: skip
    plane = _within(_groups(dataset, number), "PlaneOrientationSequence")
    own = plane.get("ImageOrientationPatient") if plane else None
    if own and image.directions:
        difference = np.abs(np.subtract(list(map(float, own)), list(map(float, image.directions))))
        if difference.max() > _SAME_DIRECTION:
            raise DataError.at(path, f"has frames in another plane, or turned otherwise, than {image.path}.")


def _segments(
    dataset: Any, number: int, frame: NDArray[Any], names: Mapping[int, str]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yields the structures that a frame marks, with their pixels."""
    if str(dataset.SegmentationType) == "LABELMAP":
        yield from ((name, frame == value) for value, name in names.items())
        return
    identified = _within(_groups(dataset, number), "SegmentIdentificationSequence")
    yield names[int(identified.ReferencedSegmentNumber)], frame > 0


def _written(
    objects: Sequence[_Object], images: Mapping[str, _Image], folder: Path
) -> dict[str, dict[str, Path]]:
    """Writes all masks; returns them by UID of the image and column.

    Raises:
        DataError: Two objects mark the same structure of an image.
    """
    owners = dict[tuple[str, str], _Object]()
    problems: list[Problem] = []
    for item in objects:
        for key in ((uid, name) for uid in item.images for name in item.names):
            first = owners.setdefault(key, item)
            if first is not item:
                what = f"marks {key[1]} of {images[key[0]].path}, as {first.path} does; move one away."
                problems.append(Problem(str(item.path), what))
    if problems:
        raise DataError(problems)
    masks = defaultdict[str, dict[str, Path]](dict)
    for (uid, name), item in owners.items():
        image = images[uid]
        below = without_suffix(image.path.relative_to(folder).as_posix())
        path = folder / WRITTEN / name / f"{below}.png"
        pixels = item.marked.get((uid, name), np.zeros(image.size, bool))
        write_png(path, np.where(pixels, _MARKED, 0).astype(np.uint8))
        masks[uid][f"{MASK}_{name}"] = path
    return dict(masks)
