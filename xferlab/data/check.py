"""`xferlab check`: decode everything once and say all that is wrong or odd."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from xferlab.cohort import Case
from xferlab.data.parallel import for_each
from xferlab.data.plausibility import Observation, implausible
from xferlab.data.sources import STRUCTURE, Decoded, Source, open_source
from xferlab.errors import DataError, Problem
from xferlab.study.sections import DataSection, LggData, ManifestData


def check_sections(
    sections: Mapping[str, DataSection],
    *,
    memo_dir: Path,
    progress: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Reads and decodes every case of every section and returns all findings, errors and warnings.

    Errors: unreadable tables and files, missing patients or pathologies, mask values outside of `labels`,
    sizes that disagree. Warnings: what `implausible` lists, labels that never occur, empty masks, images of
    one grey level, repeated rows.

    Args:
        sections: Data sections by name, roots absolute.
        memo_dir: Where digests of known files are kept between runs.
        progress: Told (done, all) after each case.
    """
    sources = {name: open_source(name, config, memo_dir=memo_dir) for name, config in sections.items()}
    problems = [problem for source in sources.values() for problem in source.survey.problems]
    todo = [(name, source, case) for name, source in sources.items() for case in source.survey.cases]
    seen = for_each(todo, lambda item: _look_at(*item), progress=progress)
    problems += [problem for _, found in seen for problem in found]
    by_section: dict[str, list[Observation | None]] = defaultdict(list)
    for (name, _, _), (observation, _) in zip(todo, seen, strict=True):
        by_section[name].append(observation)
    for name, observations in by_section.items():
        config, usable = sections[name], [entry for entry in observations if entry]
        if isinstance(config, ManifestData | LggData):
            problems += implausible(name, usable, empty_targets=sources[name].empty_targets)
        if isinstance(config, ManifestData) and len(usable) == len(observations):
            problems += _absent_labels(name, config, usable)
    return list(dict.fromkeys(problems))


def _look_at(section: str, source: Source, case: Case) -> tuple[Observation | None, Sequence[Problem]]:
    try:
        decoded = source.decode(case)
    except DataError as error:
        return None, error.problems
    where = f"data.{section}: {case.name}"
    return Observation.of(case, decoded), list(_oddities(where, decoded, source))


def _oddities(where: str, decoded: Decoded, source: Source) -> Iterator[Problem]:
    for remark in decoded.remarks:
        yield Problem(where, remark, "warning")
    if not source.empty_targets and not (decoded.target == STRUCTURE).any():
        what = "the mask is empty: no pixel belongs to the structure."
        yield Problem(where, what, "warning", "empty masks")
    if not decoded.remarks and not np.ptp(decoded.image, axis=(0, 1)).any():
        yield Problem(where, "the image has one grey level.", "warning", "images of one grey level")


def _absent_labels(section: str, config: ManifestData, seen: Iterable[Observation]) -> Iterator[Problem]:
    occurring = frozenset[int]().union(*(entry.values for entry in seen))
    for name, values in config.labels.items():
        absent = sorted(set(values) - occurring) if isinstance(values, list) else []
        if absent:
            listed = ", ".join(map(str, absent))
            what = f"no mask of the section has the value {listed} of {name!r}."
            yield Problem(f"data.{section}.labels", what, "warning", "labels that never occur")
