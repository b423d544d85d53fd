"""What a run does before its first trial, so that bad data and misfit weights end it with one message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

from pydantic import TypeAdapter

from xferlab.cli.findings import trial_reads, unusable_files
from xferlab.cli.session import Session
from xferlab.cohort import Selection
from xferlab.data.cache import ImageTable, NativeTable, open_cases
from xferlab.data.check import no_structure
from xferlab.data.sources.source import STRUCTURE
from xferlab.errors import DataError, Problem, UsageError
from xferlab.plan.expand import Plan
from xferlab.plan.identity import canonical_json
from xferlab.plan.spec import TrialSpec
from xferlab.study.adapt import SMALLEST_SIDE
from xferlab.study.sections import DataSection

Progress = Callable[[str, int, int], None]
"""Called with what is prepared, how much of it is done, and how much there is."""

Selections = Mapping[str, Selection]
SIZE_MULTIPLE, SHOWN_NAMES = 16, 4

_SECTION: TypeAdapter[DataSection] = TypeAdapter(DataSection)


def check_device(trials: Iterable[TrialSpec]) -> None:
    """Refuses trials on CUDA where they are to run in this process and it has no such device.

    Raises:
        UsageError: Names the first stage.
    """
    on_cuda = [trial.stage for trial in trials if trial.identity["execution"]["device"] == "cuda"]
    if not on_cuda:
        return
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            f"stage {on_cuda[0]!r} trains on cuda, and PyTorch finds no CUDA device here; set "
            "training.device to cpu, or run on a machine with a GPU, its driver, and a PyTorch built for it"
        )


def decode_images(
    session: Session, selections: Selections, trials: Iterable[TrialSpec], *, progress: Progress
) -> None:
    """Decodes every image that the trials read into this machine's cache, unless it is there.

    Args:
        session: The study.
        selections: The cases that the trials read, by the digests that they know them by.
        trials: Any of the study's or of a search's.
        progress: Called for each section.

    Raises:
        DataError: With all cases of all sections that cannot be decoded, or that tiles do not fit into.
        StorageError: The cache cannot be written.
    """
    unusable: list[Problem] = []
    problems: dict[Problem, None] = {}
    for wanted in _wanted(selections, trials):
        try:
            table = open_cases(
                wanted.name,
                wanted.section,
                size=wanted.size,
                digests=sorted(wanted.digests),
                cache_dir=session.cache_dir,
                progress=partial(progress, f"images of {wanted.name}"),
            )
        except DataError as error:
            unusable += error.problems
            continue
        problems |= dict.fromkeys(_problems(session, wanted, table))
    if unusable or problems:
        raise DataError([*unusable_files(session, unusable), *problems])


def check_tiles(session: Session, plan: Plan, *, progress: Progress) -> None:
    """Decodes the images that are cut into tiles or trained on one at a time, to see that none is too small.

    Raises:
        DataError: With what is too small, section by section.
        StorageError: The cache cannot be written.
    """
    sized = [trial for trial in plan.trials if "tiles" in trial.identity["model"] or _trains_singly(trial)]
    decode_images(session, plan.selections, sized, progress=progress)


def _trains_singly(trial: TrialSpec) -> bool:
    """Whether a trial trains on single images of their own size."""
    model = trial.identity["model"]
    whole = model["image_size"] == "native" and "tiles" not in model
    return whole and trial.identity["training"]["batch_size"] == 1


@dataclass(frozen=True)
class _Wanted:
    """Cases to decode at one size.

    Attributes:
        name: Section, for messages.
        config: Its configuration.
        size: Side of the square; `native` for the cases' own.
        digests: The cases.
        tiles: Sides of the tiles that they are cut into.
        single: Those that are trained on one at a time, whole.
    """

    name: str
    config: Any
    size: int | Literal["native"]
    digests: set[str] = field(default_factory=set)
    tiles: set[int] = field(default_factory=set)
    single: set[str] = field(default_factory=set)

    @cached_property
    def section(self) -> DataSection:
        """The configuration, validated."""
        return _SECTION.validate_python(self.config)


def _wanted(selections: Selections, trials: Iterable[TrialSpec]) -> Iterable[_Wanted]:
    """The cases to decode, by section and size; arms that agree on a section share its table."""
    tables: dict[str, _Wanted] = {}
    for trial in trials:
        tiles = trial.identity["model"].get("tiles")
        for name, selection, size in trial_reads(trial):
            config = trial.data[name]
            wanted = tables.setdefault(f"{size} {canonical_json(config)}", _Wanted(name, config, size))
            wanted.digests.update(selections[selection].digests)
            if tiles:
                wanted.tiles.add(tiles["size"])
            if _trains_singly(trial) and selection == trial.selection:
                wanted.single.update(row[0] for row in selections[selection].rows if row[1] == "train")
    return tables.values()


def _problems(session: Session, wanted: _Wanted, table: ImageTable | NativeTable) -> Iterator[Problem]:
    rows = table.rows(sorted(wanted.digests))
    if not any((table.case(row)[1] == STRUCTURE).any() for row in rows):
        yield no_structure(wanted.name, len(rows))
    if isinstance(table, NativeTable):
        problems = (*_too_small(session, wanted, table), *_single(session, wanted, table))
        yield from (Problem(f"data.{wanted.name}", what) for what in problems)


def _too_small(session: Session, wanted: _Wanted, table: NativeTable) -> Iterator[str]:
    """Yields a message for each tile size that is larger than a side of some images."""
    digests = sorted(wanted.digests)
    sizes = table.sizes[table.rows(digests)]
    sides = sizes.min(axis=1)
    smallest = int(sides.min())
    height, width = sizes[sides.argmin()].tolist()
    fitting = smallest // SIZE_MULTIPLE * SIZE_MULTIPLE
    remedy = f"set model.tiles.size to {fitting} at most, " if fitting else ""
    for size in sorted(tile for tile in wanted.tiles if tile > smallest):
        small = [digests[row] for row in (sides < size).nonzero()[0]]
        yield (
            f"tiles of {size} px are larger than {len(small)} of {len(digests)} images "
            f"({_names(session, wanted, small)}; the smallest has {width} x {height} px); {remedy}keep "
            "larger images only (`where`), or leave model.tiles out: images are then taken whole"
        )


def _single(session: Session, wanted: _Wanted, table: NativeTable) -> Iterator[str]:
    """Yields a message if images that are trained on one at a time leave one pixel at the bottleneck."""
    digests = sorted(wanted.single)
    sides = table.sizes[table.rows(digests)].max(axis=1)
    small = [digests[row] for row in (sides <= SMALLEST_SIDE).nonzero()[0]]
    if small:
        yield (
            f"{len(small)} of {len(digests)} training images have at most {SMALLEST_SIDE} px "
            f"({_names(session, wanted, small)}) and are trained on one at a time: their bottleneck is one "
            "pixel, and batch norm needs two values of each channel; set training.batch_size to 2 or more, "
            "or keep larger images only (`where`)"
        )


def _names(session: Session, wanted: _Wanted, digests: Sequence[str]) -> str:
    known = {case.digest: case.name for case in session.index(wanted.name, wanted.section)}
    names = sorted({known.get(digest, digest[:16]) for digest in digests})
    return ", ".join(names[:SHOWN_NAMES]) + (" and others" if len(names) > SHOWN_NAMES else "")
