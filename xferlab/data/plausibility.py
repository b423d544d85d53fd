"""Findings that a careful data manager would ask about: masks, images and patients unlike the others."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data.pixels import FEW_LEVELS
from xferlab.data.sources.source import STRUCTURE, Decoded
from xferlab.errors import Problem, listed

# Chosen on eight sets of radiographs and MRI so that all findings there are true.
_ENOUGH = 10
"""Fewest cases of a section in which one can be unlike the others."""
_FAR, _AREA_FACTOR = 5.0, 3.0
"""Robust standard deviations of the logarithm, and the factor, between a mask's area and the median."""
_SIDE_FACTOR, _ASPECT_FACTOR, _SPACING_FACTOR = 4.0, 2.5, 3.0
_RARE = 0.1
"""A larger share of a section is a group of its own rather than a mistake."""
_MANY_IMAGES, _MANY_TIMES = 20, 10
_SHOWN = 4


@dataclass(frozen=True)
class Observation:
    """What decoding one case showed.

    Attributes:
        case: The case.
        image: SHA-256 of its pixels; empty for an even image, which resembles others by chance.
        mask: SHA-256 of its targets; empty if no pixel belongs to a structure, or all.
        shape: Height and width.
        spacing_mm: Distance between rows and between columns; None if the file does not tell it.
        levels: Number of grey levels.
        share: Share of the image that belongs to one of the structures.
        has: Whether there is a pixel of each structure.
        seems_inverted: Whether the structures, which are not everything, fill most of image and border.
        values: Structures and mask values of the section's labels that occur.
        has_remark: Whether decoding remarked on the image already.
    """

    case: Case
    image: str
    mask: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    levels: int
    share: float
    has: tuple[bool, ...]
    seems_inverted: bool
    values: frozenset[tuple[str, int]]
    has_remark: bool

    @staticmethod
    def of(case: Case, decoded: Decoded) -> Observation:
        """Returns what a decoded case shows."""
        image, planes = decoded.image, decoded.targets == STRUCTURE
        inside = planes.any(axis=0)
        levels = int((np.bincount(image.ravel(), minlength=256) > 0).sum())
        edges = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
        is_divided = 0 < inside.sum() < inside.size
        return Observation(
            case,
            image=_digest(image) if np.ptp(image, axis=(0, 1)).any() else "",
            mask=_digest(decoded.targets) if is_divided else "",
            shape=inside.shape,
            spacing_mm=decoded.spacing_mm,
            levels=levels,
            share=float(inside.mean()),
            has=tuple(planes.any(axis=(1, 2)).tolist()),
            seems_inverted=bool(is_divided and inside.mean() > 0.5 and edges.mean() > 0.5),
            values=decoded.values,
            has_remark=bool(decoded.remarks),
        )


def implausible(section: str, seen: Sequence[Observation], *, empty_targets: bool) -> list[Problem]:
    """Returns warnings about the cases of a section.

    Args:
        section: As in the study, for messages.
        seen: Its cases.
        empty_targets: Whether cases without the structure belong to the set, such as the outermost slices of
            volumes. Areas and grey levels then mean nothing.
    """
    where = f"data.{section}"
    findings = [*_doubled_images(seen), *_shared_masks(seen)]
    if not empty_targets:
        findings += _levels_and_areas(seen)
    findings += [*_sizes(seen), *_spacings(seen), *_patients(seen)]
    return [
        Problem(f"{where}: {entry.case.name}" if entry else where, what, "warning", kind)
        for entry, what, kind in findings
    ]


_Finding = tuple[Observation | None, str, str]
"""The case that it is about, if there is one; what is said; what many of them are called."""


def _doubled_images(seen: Sequence[Observation]) -> Iterator[_Finding]:
    """Images that are equal pixel by pixel, though their files may differ."""
    groups = _equal(seen, "image")
    if several := [group for group in groups if len({entry.mask for entry in group}) > 1]:
        number = "one image has" if len(several) == 1 else f"{len(several)} images have"
        what = f"{number} different masks ({_listed(several)}); keep the right one."
        yield None, what, "images with several masks"
    if repeated := [group for group in groups if len({entry.mask for entry in group}) == 1]:
        number = "one image stands" if len(repeated) == 1 else f"{len(repeated)} images stand"
        what = f"{number} in the table twice, with the same mask ({_listed(repeated)}); keep one row."
        yield None, what, "repeated images"


def _shared_masks(seen: Sequence[Observation]) -> Iterator[_Finding]:
    groups = [list({entry.image: entry for entry in group}.values()) for group in _equal(seen, "mask")]
    if shared := [group for group in groups if len(group) > 1]:
        number = "one mask stands" if len(shared) == 1 else f"{len(shared)} masks stand"
        what = f"{number} for several different images ({_listed(shared)}); each image needs its own."
        yield None, what, "masks of several images"


def _levels_and_areas(seen: Sequence[Observation]) -> Iterator[_Finding]:
    """Images of few grey levels, masks that seem inverted, and masks of an unusual area, in this order."""
    for entry in seen:
        if 1 < entry.levels < FEW_LEVELS and not entry.has_remark:
            what = f"the image has only {entry.levels} grey levels; see whether its export lost contrast."
            yield entry, what, "images of few grey levels"
    for entry in seen:
        if entry.seems_inverted:
            yield (
                entry,
                f"the structure fills {entry.share:.0%} of the image and most of its border; see whether the "
                "mask is inverted.",
                "masks that seem inverted",
            )
    usual = [entry for entry in seen if entry.share > 0 and not entry.seems_inverted]
    shares = np.array([entry.share for entry in usual])
    for row in _unlike(shares, factor=_AREA_FACTOR, far=_FAR):
        yield (
            usual[row],
            f"the structure fills {shares[row]:.2%} of the image, in most of the section about "
            f"{np.median(shares):.0%}.",
            "masks of an unusual area",
        )


def _sizes(seen: Sequence[Observation]) -> Iterator[_Finding]:
    sides = np.array([entry.shape for entry in seen], float).reshape(-1, 2)
    for row in _unlike_pairs(sides, np.sqrt(sides.prod(axis=1)), factor=_SIDE_FACTOR):
        height, width = np.median(sides, axis=0).astype(int)
        yield (
            seen[row],
            f"the image is {seen[row].shape[1]}x{seen[row].shape[0]} pixels, most of the section about "
            f"{width}x{height}.",
            "images of an unusual size",
        )


def _spacings(seen: Sequence[Observation]) -> Iterator[_Finding]:
    known = [entry for entry in seen if entry.spacing_mm is not None]
    spacings = np.array([entry.spacing_mm for entry in known], float).reshape(-1, 2)
    for row in _unlike_pairs(spacings, spacings[:, 0], factor=_SPACING_FACTOR):
        (down, across), usual = spacings[row], np.median(spacings[:, 0])
        what = f"its pixel spacing is {down:g} x {across:g} mm, in most of the section about {usual:.3g} mm."
        yield known[row], what, "images of an unusual pixel spacing"


def _patients(seen: Sequence[Observation]) -> Iterator[_Finding]:
    counts = Counter(entry.case.patient for entry in seen)
    usual = float(np.median(list(counts.values()))) if counts else 0.0
    at_least, at_most = max(_MANY_IMAGES, _MANY_TIMES * usual), len(seen) / 2
    many = [f"{patient!r} has {n}" for patient, n in counts.most_common() if at_least <= n <= at_most]
    if many:
        yield (
            None,
            f"patients have very many images ({listed(many, _SHOWN)}), half of all at most {usual:g}. See "
            "that each is one person.",
            "patients with very many images",
        )


def _unlike(values: NDArray[np.float64], *, factor: float, far: float = 0.0) -> list[int]:
    """Rows whose value is more than a factor and `far` robust standard deviations from the median, if few."""
    if len(values) < _ENOUGH:
        return []
    distance = np.abs(np.log(values) - np.median(np.log(values)))
    deviation = 1.4826 * np.median(distance)
    rows = np.flatnonzero((distance > np.log(factor)) & (distance > far * deviation)).tolist()
    return rows if len(rows) <= _RARE * len(values) else []


def _unlike_pairs(pairs: NDArray[np.float64], lengths: NDArray[np.float64], *, factor: float) -> list[int]:
    """Rows whose length, or ratio of height to width, is unlike the others."""
    ratios = _unlike(pairs[:, 0] / pairs[:, 1], factor=_ASPECT_FACTOR)
    return sorted({*_unlike(lengths, factor=factor), *ratios})


def _equal(seen: Iterable[Observation], attribute: str) -> list[list[Observation]]:
    """Groups of several cases that have one digest of image or mask."""
    groups: dict[str, list[Observation]] = defaultdict(list)
    for entry in seen:
        groups[getattr(entry, attribute)].append(entry)
    return [group for digest, group in groups.items() if digest and len(group) > 1]


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _listed(groups: Sequence[Sequence[Observation]]) -> str:
    """The names of the first groups, and the number of the others."""
    names = (sorted({entry.case.name for entry in group}) for group in groups[:_SHOWN])
    texts = [", ".join(group[:_SHOWN]) + (", ..." if len(group) > _SHOWN else "") for group in names]
    more = [f"{len(groups) - _SHOWN} more"] if len(groups) > _SHOWN else []
    return "; ".join([*texts, *more])
