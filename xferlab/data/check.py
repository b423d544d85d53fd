"""`xferlab check`: decode everything once and say all that is wrong or odd."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xferlab.cohort import Case
from xferlab.data.parallel import for_each
from xferlab.data.sources import STRUCTURE, Decoded, Source, open_source
from xferlab.errors import DataError, Problem
from xferlab.study.sections import DataSection


@dataclass(frozen=True)
class _Seen:
    """What decoding one case told: its findings, and the SHA-256 of its image's pixels."""

    section: str
    case: Case
    problems: tuple[Problem, ...]
    pixels: str = ""


def check_sections(
    sections: Mapping[str, DataSection],
    *,
    memo_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Reads and decodes every case of every section and returns all findings, errors and warnings.

    Errors: unreadable tables and files, missing patients or pathologies, mask values outside of `labels`,
    sizes that disagree. Warnings: empty masks, images of one grey level, doubled rows, one image with
    several masks.

    Args:
        sections: Data sections by name, roots absolute.
        memo_dir: Where digests of known files are kept between runs.
        progress: Told (done, all) after each case.
    """
    sources = {name: open_source(name, config, memo_dir=memo_dir) for name, config in sections.items()}
    problems = [problem for source in sources.values() for problem in source.survey.problems]
    todo = [(name, source, case) for name, source in sources.items() for case in source.survey.cases]
    seen = for_each(todo, lambda item: _look_at(*item), progress=progress)
    problems += [problem for one in seen for problem in one.problems]
    problems += _same_pixels(seen)
    return list(dict.fromkeys(problems))


def _look_at(section: str, source: Source, case: Case) -> _Seen:
    try:
        decoded = source.decode(case)
    except DataError as error:
        return _Seen(section, case, error.problems)
    oddities = _oddities(f"data.{section}: {case.name}", decoded, empty_is_odd=not source.empty_targets)
    return _Seen(section, case, tuple(oddities), _fingerprint(decoded.image))


def _fingerprint(image: NDArray[np.uint8]) -> str:
    """SHA-256 of shape and pixels; empty for an even image, which resembles others by chance."""
    if not np.ptp(image, axis=(0, 1)).any():
        return ""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()


def _oddities(where: str, decoded: Decoded, *, empty_is_odd: bool) -> list[Problem]:
    found = list(decoded.remarks)
    if empty_is_odd and not (decoded.target == STRUCTURE).any():
        found.append("the mask is empty: no pixel belongs to the structure.")
    if not np.ptp(decoded.image, axis=(0, 1)).any():
        found.append("the image has one grey level.")
    return [Problem(where, what, "warning") for what in found]


def _same_pixels(seen: Sequence[_Seen]) -> list[Problem]:
    """Images that are equal pixel by pixel, though their files may differ; equal masks make one case."""
    groups: dict[str, list[_Seen]] = defaultdict(list)
    for one in seen:
        if one.pixels:
            groups[one.pixels].append(one)
    problems = []
    for group in groups.values():
        for section in sorted({one.section for one in group}):
            cases = [one.case for one in group if one.section == section]
            if len(cases) > 1:
                what = f"one image has {len(cases)} different masks ({_names(cases)}); keep the right one."
                problems.append(Problem(f"data.{section}", what, "warning"))
    return problems


def _names(cases: Sequence[Case]) -> str:
    return ", ".join(sorted({case.name for case in cases}))
