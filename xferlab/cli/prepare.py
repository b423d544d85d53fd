"""What a run does before its first trial, so that bad data and misfit weights end it with one message."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from xferlab.cli.findings import absent_weights, refuse_absent_weights, trial_reads, unusable_files
from xferlab.cli.session import Session, given_weights
from xferlab.cohort import Selection
from xferlab.data.cache import ImageTable, NativeTable, open_cases
from xferlab.data.check import no_structure
from xferlab.data.sources.source import STRUCTURE
from xferlab.errors import DataError, DonorError, Problem, StorageError, StudyError, UsageError
from xferlab.plan.expand import Plan
from xferlab.plan.identity import canonical_json
from xferlab.plan.spec import TrialSpec
from xferlab.records.complete import complete_trials
from xferlab.study.adapt import SMALLEST_SIDE
from xferlab.study.findings import Finding
from xferlab.study.sections import DataSection
from xferlab.study.yaml_lines import KeyPath

Progress = Callable[[str, int, int], None]
"""Told what is prepared, how much of it is done, and how much there is."""

Selections = Mapping[str, Selection]
SIZE_MULTIPLE, SHOWN_NAMES = 16, 4

_SECTION: TypeAdapter[DataSection] = TypeAdapter(DataSection)


def store_donors(session: Session) -> dict[str, str]:
    """Fetches and stores given weights, so that ids are known and workers find them.

    Returns:
        Their digests by name or path.

    Raises:
        StudyError: Weights cannot be had, or files hold none: all of them, with their lines.
    """
    if not given_weights(session.loaded.arms):
        return {}
    refuse_absent_weights(session)
    from xferlab.trial.pretrained import store_weights

    return session.each_weights(
        lambda given: store_weights(given, session.store, cache_dir=session.cache_dir, note=_say)
    )


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def check_donors(session: Session, trials: Iterable[TrialSpec]) -> None:
    """Loads every given weights file into each network that starts from it, once for each way.

    Raises:
        StudyError: With all whose names or shapes differ, at the lines of their trials' arms.
    """
    started = _started_from_donors(trials)
    if not started:
        return
    from xferlab.trial.pretrained import check_fits

    problems = []
    for trial in started:
        try:
            check_fits(trial, session.store, cache_dir=session.cache_dir)
        except DonorError as error:
            problems.append(_donor_problem(session, trial, f"{trial.name}: {error}"))
    if problems:
        raise StudyError(problems)


def donor_problems(session: Session, plan: Plan) -> Iterator[Problem]:
    """Yields what is wrong with the given weights on this machine, writing nothing."""
    started = _started_from_donors(plan.trials)
    if not started:
        return
    from xferlab.trial.pretrained import check_file

    weights_by_name = given_weights(session.loaded.arms)
    yield from absent_weights(session)
    for trial in started:
        assert trial.donor is not None
        weights = weights_by_name[trial.donor["name"] or trial.donor["path"]]
        if weights.path is not None and not Path(weights.path).is_file():
            continue
        told: list[str] = []
        try:
            check_file(trial, weights, cache_dir=session.cache_dir, note=told.append)
        except DonorError as error:
            yield _donor_problem(session, trial, f"{trial.name}: {error}")
        for sentence in told:
            yield _donor_problem(session, trial, sentence, severity="warning")


def _donor_problem(session: Session, trial: TrialSpec, what: str, *, severity: str = "error") -> Problem:
    assert trial.donor is not None
    name = trial.donor["name"] or trial.donor["path"]
    return session.weights_problem(name, what, arm=trial.arms[0], severity=severity)


def parent_problems(session: Session, plan: Plan) -> Iterator[Problem]:
    """Yields what is wrong with the weights of complete trials from which trials that are not start.

    A file that is not as its record says is a warning: a run trains that trial again.
    """
    try:
        complete = complete_trials(session.store, plan.loaded.base.study, plan.trials)
    except StorageError as error:
        yield Problem(str(session.loaded.path), f"stored weights cannot be checked: {error}", "warning")
        return
    waiting = [trial for trial in plan.trials if trial.trial_id not in complete]
    parents = {one: trial for trial in reversed(waiting) for one in trial.parents if one in complete}
    if not parents:
        return
    from xferlab.trial.pretrained import check_parent

    for parent, trial in parents.items():
        path: KeyPath = ("stages", trial.stage, "starts_from")
        try:
            check_parent(parent, session.store)
        except (DonorError, StorageError) as error:
            severity = "error" if isinstance(error, DonorError) else "warning"
            yield session.loaded.problem(trial.arms[0], Finding(path, f"{trial.name}: {error}", severity))


def _started_from_donors(trials: Iterable[TrialSpec]) -> list[TrialSpec]:
    """One trial for each given weights file, network, and way to take it over."""
    ways = {
        canonical_json([trial.donor, trial.identity["model"], trial.identity.get("adapt")]): trial
        for trial in reversed(list(trials))
        if trial.donor
    }
    return list(reversed(ways.values()))


def check_device(trials: Iterable[TrialSpec]) -> None:
    """Refuses trials on CUDA where they are to run in this process and it has no such device.

    Raises:
        UsageError: Names the first stage.
    """
    stage = next((one.stage for one in trials if one.identity["execution"]["device"] == "cuda"), None)
    if stage is None:
        return
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            f"stage {stage!r} trains on cuda, and PyTorch finds no CUDA device here; set training.device to "
            "cpu, or run on a machine with a GPU, its driver, and a PyTorch built for it"
        )


def decode_images(
    session: Session, selections: Selections, trials: Iterable[TrialSpec], *, progress: Progress
) -> None:
    """Decodes every image that the trials read into this machine's cache, unless it is there.

    Args:
        session: The study.
        selections: The cases that the trials read, by the digests that they know them by.
        trials: Any of the study's or of a search's.
        progress: Told of each section.

    Raises:
        DataError: With all cases of all sections that cannot be decoded, or that tiles do not fit into.
        StorageError: The cache cannot be written.
    """
    unusable: list[Problem] = []
    problems: list[Problem] = []
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
        problems += _without_structure(wanted, table)
        if isinstance(table, NativeTable):
            problems += (*_too_small(session, wanted, table), *_single(session, wanted, table))
    if unusable or problems:
        raise DataError([*unusable_files(session, unusable), *dict.fromkeys(problems)])


def check_tiles(session: Session, plan: Plan, *, progress: Progress) -> None:
    """Decodes the images that arms cut into tiles or train on one at a time, to see that they are not small.

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

    @property
    def section(self) -> DataSection:
        """The configuration, validated."""
        return _SECTION.validate_python(self.config)


def _wanted(selections: Selections, trials: Iterable[TrialSpec]) -> Iterable[_Wanted]:
    """The cases to decode, by section and size; arms that agree on a section share its table."""
    tables: dict[str, _Wanted] = {}
    for trial in trials:
        model = trial.identity["model"]
        for name, selection, size in trial_reads(trial):
            config = trial.data[name]
            empty = _Wanted(name, config, size)
            wanted = tables.setdefault(f"{size} {canonical_json(config)}", empty)
            wanted.digests.update(selections[selection].digests)
            wanted.tiles.update([model["tiles"]["size"]] if "tiles" in model else [])
            if _trains_singly(trial) and selection == trial.selection:
                rows = selections[selection].rows
                wanted.single.update(row[0] for row in rows if row[1] == "train")
    return tables.values()


def _without_structure(wanted: _Wanted, table: ImageTable | NativeTable) -> Iterator[Problem]:
    rows = table.rows(sorted(wanted.digests))
    if not any((table.case(row)[1] == STRUCTURE).any() for row in rows):
        yield no_structure(wanted.name, len(rows))


def _too_small(session: Session, wanted: _Wanted, table: NativeTable) -> Iterator[Problem]:
    """Yields a problem for each tile size that is larger than a side of some images."""
    digests = sorted(wanted.digests)
    sizes = table.sizes[table.rows(digests)]
    sides = sizes.min(axis=1)
    for size in sorted(wanted.tiles):
        small = (sides < size).nonzero()[0]
        if not len(small):
            continue
        names = _names(session, wanted, [digests[row] for row in small])
        smallest = small[sides[small].argmin()]
        height, width = sizes[smallest].tolist()
        fitting = int(sides[smallest]) // SIZE_MULTIPLE * SIZE_MULTIPLE
        remedy = (
            f"set model.tiles.size to {fitting} at most, keep larger images only (`where`), "
            if fitting
            else "keep larger images only (`where`), "
        )
        what = (
            f"tiles of {size} px are larger than {len(small)} of {len(digests)} images ({names}; the "
            f"smallest has {width} x {height} px); {remedy}"
            "or leave model.tiles out: images are then taken whole"
        )
        yield Problem(f"data.{wanted.name}", what)


def _single(session: Session, wanted: _Wanted, table: NativeTable) -> Iterator[Problem]:
    """Yields a problem if images that are trained on one at a time leave one pixel at the bottleneck."""
    digests = sorted(wanted.single)
    small = (table.sizes[table.rows(digests)].max(axis=1) <= SMALLEST_SIDE).nonzero()[0]
    if len(small):
        names = _names(session, wanted, [digests[row] for row in small])
        what = (
            f"{len(small)} of {len(digests)} training images have at most {SMALLEST_SIDE} px ({names}) and "
            "are trained on one at a time: their bottleneck is one pixel, and batch norm needs two values of "
            "each channel; set training.batch_size to 2 or more, or keep larger images only (`where`)"
        )
        yield Problem(f"data.{wanted.name}", what)


def _names(session: Session, wanted: _Wanted, digests: Sequence[str]) -> str:
    cases = session.index(wanted.name, wanted.section)
    known = {case.digest: case.name for case in cases}
    names = sorted({known.get(digest, digest[:16]) for digest in digests})
    return ", ".join(names[:SHOWN_NAMES]) + (" and others" if len(names) > SHOWN_NAMES else "")
