"""DICOM images with DICOM-SEG objects: each frame is joined with the image that it names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xferlab.data.decode import is_image_file
from xferlab.data.formats import NOT_DICOM, without_suffix
from xferlab.data.memo import Stamp, stamp_of
from xferlab.data.sources.manifest.config import MASK
from xferlab.errors import DataError, Problem, attempt
from xferlab.importing.folders import walk
from xferlab.importing.found import Entry, Listing, parted
from xferlab.importing.pictures import MARKED, write_mask
from xferlab.importing.segments import Segment, segments_of, structures
from xferlab.parallel import for_each

WRITTEN = "masks_dicom"
_CLASS_IDS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of objects whose frames, or whose values, are segments."""
_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
_DIRECTIONS = "ImageOrientationPatient"
_TAGS = ("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "NumberOfFrames", _DIRECTIONS, *_GROUPS)
_SAME_DIRECTION = 1e-3
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
        segments: One of each label that it is about.
        images: UIDs of the images that it is about.
        marked: Pixels by UID of the image and label; where there are none, nothing is marked.
        num_absent: How many other images it is about, which are not there.
    """

    path: Path
    segments: tuple[Segment, ...]
    images: tuple[str, ...]
    marked: Mapping[tuple[str, str], NDArray[np.bool_]]
    num_absent: int


@dataclass(frozen=True)
class _Sorted:
    """The DICOM files of a folder, by their headers.

    Attributes:
        images: By their UIDs.
        objects: What marks them.
        left_out: Files that are neither.
    """

    images: Mapping[str, _Image]
    objects: tuple[Path, ...]
    left_out: tuple[Problem, ...]


def has_objects(path: Path) -> bool:
    """Returns whether a folder has DICOM files that mark what others show."""
    return path.is_dir() and bool(_sorted_out(path).objects)


def read_objects(folder: Path) -> Listing:
    """Returns the DICOM images of a folder with the masks of the objects that name them.

    Masks are written as PNG files into the folder `masks_dicom`. An image that an object names has a mask of
    each of its segments, empty where no frame marks it; segments of one label are one structure.

    Raises:
        DataError: No object is there, two mark the same structure of an image, or structures with different
            labels would have one name.
        StorageError: A mask cannot be written.
    """
    files = _sorted_out(folder)
    if not files.objects or not files.images:
        raise DataError.at(folder, f"holds no DICOM{' images' if files.objects else '-SEG objects'}.")
    read = for_each(files.objects, lambda path: attempt(_object, path, files.images))
    left_out = [*files.left_out]
    for result in read:
        if isinstance(result, DataError):
            left_out += parted([result], _LEFT_OUT)[1]
        elif result.num_absent:
            what = f"marks {result.num_absent} images that are not in the folder."
            left_out.append(Problem(str(result.path), what, "warning", "objects about absent images"))
    masks = _written([result for result in read if isinstance(result, _Object)], files.images, folder)
    entries = tuple(Entry(image.path, masks.get(uid, {})) for uid, image in files.images.items())
    columns = dict.fromkeys(column for of_image in masks.values() for column in of_image)
    labels = {column: {column.removeprefix(f"{MASK}_"): [MARKED]} for column in columns}
    remark = f"the masks are written into {folder / WRITTEN}"
    return Listing(entries, tuple(left_out), labels, remarks=(remark,), written=folder / WRITTEN, root=folder)


def _dicom_files(folder: Path) -> list[Path]:
    paths = sorted(walk(folder, without=[folder / WRITTEN]))
    return [path for path in paths if not path.name.lower().endswith(NOT_DICOM) and is_image_file(path)]


def _header(path: Path) -> Any:
    from xferlab.data.dicom_file import read_header

    return read_header(path, *_TAGS)


def _sorted_out(folder: Path) -> _Sorted:
    return _read(tuple((path, _stamp(path)) for path in _dicom_files(folder)))


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path.stat())
    except OSError:  # whoever reads it says so
        return ()


@lru_cache(maxsize=1)  # a layout is recognised and read by the headers of all files
def _read(files: tuple[tuple[Path, Stamp], ...]) -> _Sorted:
    images, objects, failed = dict[str, _Image](), list[Path](), list[DataError]()
    paths = [path for path, _ in files]
    for path, header in zip(paths, for_each(paths, partial(attempt, _header)), strict=True):
        if isinstance(header, DataError):
            failed.append(header)
        elif str(header.get("SOPClassUID", "")) in _CLASS_IDS:
            objects.append(path)
        else:
            image = attempt(_image, path, header, images)
            if isinstance(image, DataError):
                failed.append(image)
            else:
                images |= image
    return _Sorted(images, tuple(objects), tuple(parted(failed, _LEFT_OUT)[1]))


def _image(path: Path, header: Any, others: Mapping[str, _Image]) -> dict[str, _Image]:
    """Returns an image by its UID.

    Raises:
        DataError: It is none of one frame, has no UID, or that of another.
    """
    from xferlab.data.dicom_file import READ_ERRORS, check_one_frame

    try:
        uid, size = str(header.SOPInstanceUID), (int(header.Rows), int(header.Columns))
        check_one_frame(path, header)
        directions = header.get(_DIRECTIONS) or _directions(header, 0)
    except READ_ERRORS as error:
        raise DataError.at(path, "is a DICOM file without an image or its UID.") from error
    if uid in others:
        raise DataError.at(path, f"has the UID of {others[uid].path}; it is not used.")
    return {uid: _Image(path, size, directions)}


def _object(path: Path, images: Mapping[str, _Image]) -> _Object:
    """Reads one object.

    Raises:
        DataError: It cannot be read, is not binary, does not say which image a frame is of, or has frames of
            another size or direction than their image.
    """
    from xferlab.data.dicom_file import READ_ERRORS, read_frames

    try:
        dataset, frames = read_frames(path)
        segments = _labelled(path, dataset)
        named = tuple(_named_images(dataset))
        marked: dict[tuple[str, str], NDArray[np.bool_]] = {}
        about = dict.fromkeys(named)
        for number, frame in enumerate(frames):
            uid = _image_of(path, dataset, number, named)
            about[uid] = None
            if uid not in images:
                continue
            _check_place(path, dataset, number, images[uid], frame)
            for label, pixels in _marked(dataset, number, frame, segments):
                marked[uid, label] = marked.get((uid, label), np.zeros(frame.shape, bool)) | pixels
    except READ_ERRORS as error:
        raise DataError.at(path, f"cannot be read as a DICOM-SEG object: {error}.") from error
    known = tuple(uid for uid in about if uid in images)
    if not known:
        raise DataError.at(path, "marks images that are not in the folder.")
    by_label = {segment.label: segment for segment in reversed(segments.values())}
    return _Object(path, tuple(reversed(by_label.values())), known, marked, len(about) - len(known))


def _labelled(path: Path, dataset: Any) -> dict[int, Segment]:
    """Returns segments by their numbers.

    Raises:
        DataError: The object is not binary.
    """
    kind = str(dataset.SegmentationType)
    if kind not in ("BINARY", "LABELMAP"):
        raise DataError.at(
            path, f"is of the type {kind}; BINARY and LABELMAP are accepted. Export it as one of these."
        )
    segments = segments_of(dataset)
    if kind == "LABELMAP":
        segments.pop(0, None)  # the background
    return segments


def _named_images(dataset: Any) -> Iterator[str]:
    """Yields the UIDs of the images that an object is about."""
    for series in dataset.get("ReferencedSeriesSequence") or ():
        for instance in series.get("ReferencedInstanceSequence") or ():
            yield str(instance.ReferencedSOPInstanceUID)


def _groups(dataset: Any, number: int) -> tuple[Any, ...]:
    """Returns what is said of one frame, and of all."""
    of_frames, of_all = (dataset.get(name) or () for name in _GROUPS)
    return (*([of_frames[number]] if of_frames else ()), *of_all)


def _within(groups: Iterable[Any], name: str) -> Any:
    """Returns the first item of the first sequence of a name; None if there is none."""
    return next((group.get(name)[0] for group in groups if group.get(name)), None)


def _directions(dataset: Any, number: int) -> Sequence[float] | None:
    """Returns the directions of a frame's rows and columns, where its groups have them."""
    plane = _within(_groups(dataset, number), "PlaneOrientationSequence")
    return plane.get(_DIRECTIONS) if plane else None


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
    directions = _directions(dataset, number)
    if directions and image.directions:
        difference = np.abs(np.subtract(list(map(float, directions)), list(map(float, image.directions))))
        if difference.max() > _SAME_DIRECTION:
            raise DataError.at(path, f"has frames in another plane, or turned otherwise, than {image.path}.")


def _marked(
    dataset: Any, number: int, frame: NDArray[Any], segments: Mapping[int, Segment]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yields the labels that a frame marks, with their pixels."""
    if str(dataset.SegmentationType) == "LABELMAP":
        yield from ((segment.label, frame == value) for value, segment in segments.items())
        return
    identified = _within(_groups(dataset, number), "SegmentIdentificationSequence")
    yield segments[int(identified.ReferencedSegmentNumber)].label, frame > 0


def _written(
    objects: Sequence[_Object], images: Mapping[str, _Image], folder: Path
) -> dict[str, dict[str, Path]]:
    """Writes all masks; returns them by UID of the image and column.

    Raises:
        DataError: Two objects mark the same structure of an image, or two labels would have one name.
    """
    names = structures([(marking.path, segment) for marking in objects for segment in marking.segments])
    owners = dict[tuple[str, str], _Object]()
    problems: list[Problem] = []
    for marking in objects:
        for uid, segment in product(marking.images, marking.segments):
            first = owners.setdefault((uid, segment.label), marking)
            if first is not marking:
                place = images[uid].path
                what = f"marks {names[segment.label]} of {place}, as {first.path} does; move one away."
                problems.append(Problem(str(marking.path), what))
    if problems:
        raise DataError(problems)
    masks = defaultdict[str, dict[str, Path]](dict)
    stems = Counter(_stem(image, folder) for image in images.values())
    for (uid, label), marking in owners.items():
        image, name = images[uid], names[label]
        stem = _stem(image, folder)
        below = stem if stems[stem] == 1 else image.path.relative_to(folder).as_posix()
        path = folder / WRITTEN / name / f"{below}.png"
        pixels = marking.marked.get((uid, label), np.zeros(image.size, bool))
        write_mask(path, pixels)
        masks[uid][f"{MASK}_{name}"] = path
    return dict(masks)


def _stem(image: _Image, folder: Path) -> str:
    return without_suffix(image.path.relative_to(folder).as_posix())
