"""What the segments of DICOM-SEG objects are called: one name for each label, the same in all objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xferlab.data.sources.manifest.config import IGNORE
from xferlab.errors import DataError, Problem, attempt, composed
from xferlab.importing.found import as_name


@dataclass(frozen=True)
class Segment:
    """A segment of an object.

    Attributes:
        number: In its object.
        label: As it is written, but for blanks and `_`; never empty. Segments of one label are one structure.
        meaning: Of the code of its type, such as `Lung`; may be empty.
    """

    number: int
    label: str
    meaning: str


def segments_of(dataset: Any) -> dict[int, Segment]:
    """Returns the segments of an object by their numbers."""
    return {segment.number: segment for segment in map(_segment, dataset.SegmentSequence)}


def _segment(item: Any) -> Segment:
    number, code = int(item.SegmentNumber), item.get("SegmentedPropertyTypeCodeSequence")
    meaning = str(code[0].get("CodeMeaning") or "") if code else ""
    label = " ".join(composed(str(item.get("SegmentLabel") or "")).replace("_", " ").split())
    return Segment(number, label or meaning or f"segment {number}", meaning)


def structures(segments: Sequence[tuple[Path, Segment]]) -> dict[str, str]:
    """Returns the names of structures by the labels of segments.

    A label without a letter or digit that a name can have is called by the meaning of its code; where these
    do not tell all structures apart, by its number. So is `ignore`, which is no structure in a study.

    Args:
        segments: Of all objects, with the file of each; a label occurs once in an object.

    Raises:
        DataError: Two labels would have one name, or one label two, as its number is not always the same.
    """
    names = attempt(_names, segments, _by_code)
    return _names(segments, _by_number) if isinstance(names, DataError) else names


def _by_code(segment: Segment) -> str:
    return as_name(segment.label) or as_name(segment.meaning)


def _by_number(segment: Segment) -> str:
    return as_name(segment.label)


def _names(segments: Iterable[tuple[Path, Segment]], name_of: Callable[[Segment], str]) -> dict[str, str]:
    names, owners = dict[str, str](), dict[str, tuple[Path, Segment]]()
    problems = dict[tuple[str, str], Problem]()
    for path, segment in segments:
        name = name_of(segment)
        name = f"segment_{segment.number}" if name in ("", IGNORE) else name
        first_path, first = owners.setdefault(name, (path, segment))
        what = ""
        if first.label != segment.label:
            what = (
                f"has the segment {segment.label!r}, which would be the structure {name}, as is "
                f"{first.label!r} of {first_path}. Names of structures have letters, digits, `-` and `_` of "
                "ASCII; a number stands for a label without them. Rename one."
            )
        elif names.setdefault(segment.label, name) != name:
            what = (
                f"has the segment {segment.label!r} under another number than other objects, and no letter "
                "or digit of it can be in the name of a structure. Rename it in all objects."
            )
        if what:
            problems.setdefault((name, segment.label), Problem(str(path), what))
    if problems:
        raise DataError([*problems.values()])
    return names
