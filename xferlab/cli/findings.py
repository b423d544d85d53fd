"""What `plan` and `run` say of bad and odd data: a line for each kind that ends them, and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from xferlab.cli.grouping import counted, grouped
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session, given_weights
from xferlab.errors import DataError, Problem, StudyError
from xferlab.plan.expand import Plan
from xferlab.plan.spec import TrialSpec

_SHOWN = 3
"""Persons whose ids are joined, of whom `plan` and `run` tell in full; `check` tells of all."""
_UNREAD = "unusable images or masks that no chosen trial reads"


def refuse_unusable(session: Session, plan: Plan, trials: Iterable[TrialSpec]) -> None:
    """Ends a verb if trials read images or masks that cannot be used, or given weights are not there.

    Raises:
        DataError: One problem for each kind.
        StudyError: Weights files that the study names do not exist.
    """
    refuse_absent_weights(session)
    unusable = session.index.unusable
    if wanted := unusable.keys() & _digests(plan, trials):
        raise DataError(unusable_files(session, (one for key in wanted for one in unusable[key])))


def _digests(plan: Plan, trials: Iterable[TrialSpec]) -> set[str]:
    """The cases that trials read."""
    selections = {selection for trial in trials for _, selection, _ in trial_reads(trial)}
    return {digest for selection in selections for digest in plan.selections[selection].digests}


def trial_reads(trial: TrialSpec) -> Iterator[tuple[str, str, int | Literal["native"]]]:
    """Yields section, selection and size of all that a trial reads."""
    size = trial.identity["model"]["image_size"]
    yield trial.section, trial.selection, size
    for one in trial.evaluations:
        name = one.source or one.section
        yield name, one.selection, size
        if one.at_original_size:
            yield name, one.selection, "native"
    if trial.features:
        yield trial.features.source, trial.features.selection, size


def unusable_files(session: Session, problems: Iterable[Problem]) -> list[Problem]:
    """Returns one problem for each kind, and where all can be read if these are fewer."""
    unique = sorted(dict.fromkeys(problems), key=lambda problem: problem.where)
    kinds = grouped(unique)
    if len(kinds) < len(unique):
        what = f"{kinds[-1].what}. `xferlab check {session.loaded.path}` lists all."
        kinds[-1] = replace(kinds[-1], what=what)
    return kinds


def refuse_absent_weights(session: Session) -> None:
    """Ends a verb if the study names weights files by paths where there are none.

    Raises:
        StudyError: With all of them.
    """
    if absent := absent_weights(session):
        raise StudyError(absent)


def absent_weights(session: Session) -> list[Problem]:
    """Returns a problem for each weights file that the study names by its path and that does not exist."""
    paths = (weights.path for weights in given_weights(session.loaded.arms).values())
    what = "there is no such file. Correct the path, or copy the file there."
    absent = (Problem(path, what) for path in paths if path is not None and not Path(path).is_file())
    return [session.loaded.located.locate(problem) for problem in absent]


def print_warnings(
    session: Session, plan: Plan, options: StudyOptions, *, trials: Iterable[TrialSpec]
) -> None:
    """Prints who stands under several patient ids, and counts all other warnings, to standard error."""
    audit = session.index.audit
    by_image = [warning for warning in audit.warnings if warning.kind]
    by_spelling = [warning for warning in audit.warnings if not warning.kind]  # one for all persons
    for warning in (*by_image[:_SHOWN], *by_spelling):
        print(warning, file=sys.stderr)
    rest = (warning for warning in plan.warnings if warning not in audit.summary)
    others = [*by_image[_SHOWN:], *session.index.warnings, *rest, *_unread(session, plan, trials)]
    if others:
        same = f"{options.study} --profile {options.profile}" if options.profile else options.study
        print(f"{counted(others)}; `xferlab check {same}` shows them", file=sys.stderr)


def _unread(session: Session, plan: Plan, trials: Iterable[TrialSpec]) -> list[Problem]:
    """What is wrong with cases that no trial reads, as warnings."""
    unusable = session.index.unusable
    unread = unusable.keys() - _digests(plan, trials) if unusable else set()
    problems = dict.fromkeys(problem for digest in unread for problem in unusable[digest])
    return [replace(one, severity="warning", kind=_UNREAD) for one in problems]
