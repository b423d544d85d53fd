"""`xferlab check`: decode everything once and say all that is wrong or odd."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from xferlab.cohort import Case
from xferlab.data.plausibility import Observation, implausible
from xferlab.data.sources.config import FileConfig
from xferlab.data.sources.registry import DataSection, open_source
from xferlab.data.sources.source import IGNORED, Decoded, Source
from xferlab.errors import DataError, Problem, attempt
from xferlab.parallel import for_each


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
        progress: Called after each case.
    """
    sources = {name: open_source(name, config, memo_dir=memo_dir) for name, config in sections.items()}
    problems = [problem for source in sources.values() for problem in source.survey.problems]
    plain = {name: _plain(name, config, sources[name], memo_dir) for name, config in sections.items()}
    readers = [(name, reader) for name in sections for reader in dict.fromkeys((sources[name], plain[name]))]
    todo = [(name, reader, case) for name, reader in readers for case in reader.survey.cases]
    seen = for_each(todo, lambda item: attempt(_look_at, *item), progress=progress)
    by_section: dict[str, list[Observation | None]] = {name: [] for name in sections}
    for (name, reader, _), result in zip(todo, seen, strict=True):
        observation, oddities = (None, result.problems) if isinstance(result, DataError) else result
        problems += oddities
        if reader is plain[name]:
            by_section[name].append(observation)
    for name, observations in by_section.items():
        usable = [entry for entry in observations if entry]
        problems += _absent_structures(name, sections[name], usable)
        if isinstance(sections[name], FileConfig):
            problems += implausible(name, usable, empty_targets=sections[name].empty_targets)
    problems += _absent_labels(sections, by_section)
    return list(dict.fromkeys(problems))


def _absent_structures(section: str, config: DataSection, seen: Sequence[Observation]) -> Iterator[Problem]:
    """Structures that no mask has; `seen` are the cases of the section."""
    for number, name in enumerate(config.targets):
        if seen and not any(entry.has[number] for entry in seen):
            yield no_structure(section, len(seen), name if len(config.targets) > 1 else "the structure")


def no_structure(section: str, num_masks: int, structure: str = "the structure") -> Problem:
    """Returns what is wrong with masks of which none has a pixel of a structure."""
    return Problem(
        f"data.{section}",
        f"none of the {num_masks} masks has a pixel of {structure}, so there is nothing to learn or "
        "measure. Compare `labels` with the values that the masks hold: where these are 0 and 1, `[1]` is "
        "the structure.",
    )


def _plain(name: str, config: DataSection, source: Source, memo_dir: Path) -> Source:
    """The source of the images before any device simulation: these are what may be implausible."""
    if isinstance(config, FileConfig) and config.simulate:
        return open_source(name, config.model_copy(update={"simulate": None}), memo_dir=memo_dir)
    return source


def _look_at(section: str, source: Source, case: Case) -> tuple[Observation, Sequence[Problem]]:
    decoded = source.decode(case)
    observation = Observation.of(case, decoded)
    where = f"data.{section}: {case.name}"
    return observation, tuple(_oddities(where, decoded, observation, source))


def _oddities(where: str, decoded: Decoded, observation: Observation, source: Source) -> Iterator[Problem]:
    for remark in decoded.remarks:
        yield Problem(where, remark, "warning")
    planes = zip(source.config.targets, decoded.targets, observation.has, strict=True)
    for name, target, has_any in planes:
        if not (source.config.empty_targets or has_any or (target == IGNORED).all()):
            of = f" of {name}" if len(decoded.targets) > 1 else ""
            what = f"the mask{of} is empty: no pixel belongs to the structure."
            yield Problem(where, what, "warning", "empty masks")
    if not decoded.remarks and not observation.image:
        yield Problem(where, "the image has one grey level.", "warning", "images of one grey level")


def _absent_labels(
    sections: Mapping[str, DataSection], seen: Mapping[str, Sequence[Observation | None]]
) -> Iterator[Problem]:
    """Listed mask values that occur nowhere in a folder, whichever of its sections have them."""
    folders: dict[str, list[Observation | None]] = defaultdict(list)
    for section, config in sections.items():
        folders[config.folder] += seen[section]
    for section, config in sections.items():
        observations = [entry for entry in folders[config.folder] if entry]
        if not observations or len(observations) < len(folders[config.folder]):
            continue  # a mask that cannot be used may have them
        occurring = frozenset[tuple[str, int]]().union(*(entry.values for entry in observations))
        for name, values in config.mask_values.items():
            if absent := sorted(value for value in values if (name, value) not in occurring):
                what = f"no mask has the value {', '.join(map(str, absent))} of {name!r}."
                yield Problem(f"data.{section}.labels", what, "warning", "labels that never occur")
