"""What a run does before its first trial, so that bad data and misfit weights end it with one message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from xferlab.cli.findings import trial_reads, unusable_files
from xferlab.cli.session import Session, of_arms
from xferlab.cli.view import say_if_slow
from xferlab.cohort import Selection, single_sections
from xferlab.data.cache import open_table
from xferlab.data.case_table import CaseTable
from xferlab.data.check import no_structure
from xferlab.data.sources.registry import DataSection, read_section
from xferlab.data.sources.source import STRUCTURE
from xferlab.errors import DataError, Problem, StudyError, UsageError
from xferlab.plan.identity import canonical_json
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.tasks.config import CaseProblem, Size, TrialIdentity

Progress = Callable[[str, int, int], None]
"""Called with what is prepared, how much of it is done, and how much there is."""

Selections = Mapping[str, Selection]
SHOWN_NAMES = 4


def check_device(trials: Iterable[TrialSpec]) -> None:
    """Refuses trials on CUDA where they are to run in this process and it has no such device.

    Raises:
        UsageError: Names the first stage.
    """
    on_cuda = [trial.stage for trial in trials if trial.identity.execution.device == "cuda"]
    if not on_cuda:
        return
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            f"stage {on_cuda[0]!r} trains on cuda, and PyTorch finds no CUDA device here; set "
            "training.device to cpu, or run on a machine with a GPU, its driver, and a PyTorch built for it"
        )


def with_weights(session: Session, plan: Plan, arms: str | None = None) -> tuple[Plan, dict[str, str]]:
    """Fetches and stores the weights that a study gives, and loads them into the networks that take them.

    Args:
        session: The study.
        plan: As it was made without them.
        arms: Whose networks are checked (`A,B`); None for all.

    Returns:
        The plan with their digests, and the digests by name or path.

    Raises:
        StudyError: With all that cannot be had, or do not fit.
    """
    with say_if_slow("fetching and reading the weights that are given"):
        if donors := session.weights.store_all():
            plan = session.plan(donors)
        if problems := list(session.weights.problems(of_arms(plan, arms), stored=True)):
            raise StudyError(problems)
    return plan, donors


def decode_images(
    session: Session,
    selections: Selections,
    trials: Iterable[TrialSpec],
    planned: Mapping[str, TrialSpec],
    *,
    progress: Progress,
) -> None:
    """Decodes every image that the trials read into this machine's cache, unless it is there.

    Args:
        session: The study.
        selections: The cases that the trials read, by the digests that they know them by.
        trials: Any of the study's or of a search's.
        planned: These and all that predict for them, by id.
        progress: Called for each section.

    Raises:
        DataError: With all cases of all sections that cannot be decoded, or that tiles do not fit into.
        StorageError: The cache cannot be written.
    """
    _decode(session, _wanted(selections, trials, planned), progress)


def _decode(session: Session, tables: Iterable[_Wanted], progress: Progress) -> None:
    unusable: list[Problem] = []
    problems: dict[Problem, None] = {}
    for wanted in tables:
        try:
            table = open_table(
                wanted.sections,
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


def check_cases(session: Session, plan: Plan, *, progress: Progress) -> None:
    """Decodes the images whose sizes matter, and those whose structures may not overlap, to see that all fit.

    Raises:
        DataError: With what does not fit, section by section.
        StorageError: The cache cannot be written.
    """
    tables = _wanted(plan.selections, plan.trials, plan.by_id)
    _decode(session, [wanted for wanted in tables if wanted.checks], progress)


@dataclass(frozen=True)
class _CaseCheck:
    """Cases that trials with one network read, and those of them that they train on."""

    identity: TrialIdentity
    read: set[str] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Wanted:
    """Cases to decode at one size.

    Attributes:
        name: Of the section or set, for messages.
        configs: The configuration of each section.
        size: Side of the square; `native` for the cases' own.
        digests: The cases.
        checks: What of them is checked once they are decoded, by network.
    """

    name: str
    configs: Mapping[str, Any]
    size: Size
    digests: set[str] = field(default_factory=set)
    checks: dict[str, _CaseCheck] = field(default_factory=dict)

    @cached_property
    def sections(self) -> dict[str, DataSection]:
        """The configurations, validated."""
        return {name: read_section(config) for name, config in self.configs.items()}


def _wanted(
    selections: Selections, trials: Iterable[TrialSpec], planned: Mapping[str, TrialSpec]
) -> Iterable[_Wanted]:
    """The cases to decode, by section and size; arms that agree on a section share its table."""
    tables: dict[str, _Wanted] = {}
    for trial in trials:
        for identity, name, selection, size in trial_reads(trial, planned):
            configs = {key: trial.data[key] for key in single_sections(name)}
            key = f"{size} {canonical_json(list(configs.values()))}"
            wanted = tables.setdefault(key, _Wanted(name, configs, size))
            wanted.digests.update(selections[selection].digests)
            if identity.needs_sizes or identity.exclusive_targets:
                network = canonical_json(
                    [identity.model.model_dump(mode="json"), identity.training.batch_size]
                )
                check = wanted.checks.setdefault(network, _CaseCheck(identity))
                check.read.update(selections[selection].digests)
                if identity is trial.identity and selection in {each.selection for each in trial.trained}:
                    check.trained.update(selections[selection].part("train").digests)
    return tables.values()


def _problems(session: Session, wanted: _Wanted, table: CaseTable) -> Iterator[Problem]:
    is_marked = any(section.targets for section in wanted.sections.values())
    if is_marked and not any((table.case(digest)[1] == STRUCTURE).any() for digest in wanted.digests):
        yield no_structure(wanted.name, len(wanted.digests))
    for check in wanted.checks.values():
        for problem in (*_unfit_sizes(wanted, check, table), *_overlaps(wanted, check, table)):
            names = _names(session, wanted, problem.digests)
            yield Problem(f"data.{wanted.name}", problem.what.format(names=names))


def _unfit_sizes(wanted: _Wanted, check: _CaseCheck, table: CaseTable) -> Iterator[CaseProblem]:
    if wanted.size == "native" and check.identity.needs_sizes:
        digests = sorted(check.read)
        sizes = dict(zip(digests, map(tuple, table.sizes[table.rows(digests)].tolist()), strict=True))
        yield from check.identity.check_sizes(sizes, check.trained)


def _overlaps(wanted: _Wanted, check: _CaseCheck, table: CaseTable) -> Iterator[CaseProblem]:
    """Training cases with a pixel of two structures, where that may not be; names the structures."""
    if not check.identity.exclusive_targets:
        return
    names = next(iter(wanted.sections.values())).targets  # all sections of a set have the same
    meeting: dict[str, set[str]] = {}
    for digest in check.trained:
        inside = table.case(digest)[1] == STRUCTURE
        shared = inside[:, inside.sum(axis=0) > 1].any(axis=1).tolist()
        if any(shared):
            meeting[digest] = {name for name, meets in zip(names, shared, strict=True) if meets}
    if meeting:
        met = set[str]().union(*meeting.values())
        structures = ", ".join(name for name in names if name in met)
        yield CaseProblem(
            tuple(meeting),
            f"pixels of {len(meeting)} of {len(check.trained)} training cases ({{names}}) belong to several "
            f"of the structures {structures}, and the outputs of the network are exclusive; let them overlap "
            "(`outputs: overlapping`), let the one that stands first in `structures` count "
            "(`outputs: exclusive_first`), or read structures that do not",
        )


def _names(session: Session, wanted: _Wanted, digests: Sequence[str]) -> str:
    known = {
        case.digest: case.name
        for name, section in wanted.sections.items()
        for case in session.index(name, section)
    }
    names = sorted({known.get(digest, digest[:16]) for digest in digests})
    return ", ".join(names[:SHOWN_NAMES]) + (" and others" if len(names) > SHOWN_NAMES else "")
