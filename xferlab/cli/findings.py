"""What `plan`, `run` and `check` say of bad and odd data: many findings of one kind as one."""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from xferlab.cli.session import Session
from xferlab.cli.view import count_of
from xferlab.errors import DataError, Problem
from xferlab.plan.plan import Plan
from xferlab.plan.spec import TrialSpec
from xferlab.tasks.config import Size, TrialIdentity

_SHOWN = 3
"""Persons with several ids that `plan` and `run` name in full; `check` names all."""
_SHOWN_PLACES = 5
_UNREAD = "unusable images or masks that no chosen trial reads"
_OF_A_FILE = re.compile(r"'[^']*'|`[^`]*`|\S*[\d/]\S*")
"""What differs between messages of one kind: quotations, numbers, paths."""


def grouped(problems: Iterable[Problem], *, shown: int = _SHOWN_PLACES) -> list[Problem]:
    """Returns one problem for each kind, in the order in which kinds first appear.

    Problems are of one kind if they say so, or if their words agree but for numbers, paths and quotations.
    The first of a kind stands for all, with the number and the places of the others; so several problems of
    one place, which say different things about it, remain.

    Args:
        problems: Any number of them.
        shown: How many places of the others are listed.
    """
    groups: dict[tuple[str, str, int], list[Problem]] = defaultdict(list)
    at_place: Counter[tuple[str, str, str]] = Counter()
    for problem in problems:
        kind = problem.kind or _OF_A_FILE.sub("#", problem.what)
        number = at_place[problem.severity, kind, problem.where]
        at_place[problem.severity, kind, problem.where] += 1
        groups[problem.severity, kind, number].append(problem)
    return [_joined(*group, shown=shown) for group in groups.values()]


def _joined(first: Problem, *others: Problem, shown: int) -> Problem:
    if not others:
        return first
    # The section or folder that a place shares with the first is left out.
    section, folder = f"{first.where.rpartition(': ')[0]}: ", f"{first.where.rpartition('/')[0]}/"
    places = [problem.where.removeprefix(folder).removeprefix(section) for problem in others[:shown]]
    listed = ", ".join([*places, "..."] if len(others) > shown else places)
    return replace(first, what=f"{first.what} ({len(others)} more like this: {listed})")


def counted(problems: Sequence[Problem]) -> str:
    """Returns how many warnings of each kind there are: `3 warnings: repeated rows (2), others (1)`."""
    counts = Counter(problem.kind or "others" for problem in problems)
    listed = ", ".join(f"{kind} ({count})" for kind, count in counts.items())
    number = count_of(len(problems), "warning")
    return number if set(counts) == {"others"} else f"{number}: {listed}"


def refuse_unusable(session: Session, plan: Plan, trials: Iterable[TrialSpec]) -> None:
    """Ends a verb if trials read images or masks that cannot be used, or given weights are not there.

    Raises:
        DataError: One problem for each kind.
        StudyError: Weights files that the study names do not exist.
    """
    session.weights.refuse_absent()
    unusable = session.index.unusable
    if wanted := unusable.keys() & _digests(plan, trials):
        raise DataError(
            unusable_files(session, (problem for digest in wanted for problem in unusable[digest]))
        )


def _digests(plan: Plan, trials: Iterable[TrialSpec]) -> set[str]:
    """The cases that trials read."""
    selections = {selection for trial in trials for _, _, selection, _ in trial_reads(trial, plan.by_id)}
    return {digest for selection in selections for digest in plan.selections[selection].digests}


def trial_reads(
    trial: TrialSpec, planned: Mapping[str, TrialSpec]
) -> Iterator[tuple[TrialIdentity, str, str, Size]]:
    """Yields all that a trial reads: the identity whose network reads it, section, selection and size.

    Args:
        trial: The trial.
        planned: It and those that predict for it, by id: the networks of these read its images, too.
    """
    own, predicted = trial.identity, [(trial.section, trial.predicted)]
    for cases in trial.trained:
        yield own, cases.source, cases.selection, own.image_size
    for evaluation in trial.evaluations:
        yield own, evaluation.read_as, evaluation.selection, own.image_size
        if evaluation.at_original_size:
            yield own, evaluation.read_as, evaluation.selection, "native"
        predicted.append((evaluation.read_as, evaluation.predicted))
    if trial.features:
        yield own, trial.features.source, trial.features.selection, own.image_size
        predicted.append((trial.features.source, trial.features.predicted))
    for section, items in predicted:
        for item in items:
            identity = planned[item.trial].identity
            yield identity, section, item.selection, identity.image_size


def unusable_files(session: Session, problems: Iterable[Problem]) -> list[Problem]:
    """Returns one problem for each kind; if these are fewer, the last says which command lists all."""
    unique = sorted(dict.fromkeys(problems), key=lambda problem: problem.where)
    kinds = grouped(unique)
    if len(kinds) < len(unique):
        kinds[-1] = replace(
            kinds[-1], what=f"{kinds[-1].what}. `xferlab check {session.loaded.path}` lists all."
        )
    return kinds


def print_warnings(session: Session, plan: Plan, trials: Iterable[TrialSpec]) -> None:
    """Prints who stands under several patient ids, and counts all other warnings, to standard error."""
    audit, unusable = session.index.audit, session.index.unusable
    by_image = [warning for warning in audit.warnings if warning.kind]
    by_spelling = [warning for warning in audit.warnings if not warning.kind]  # one for all persons
    for warning in (*by_image[:_SHOWN], *by_spelling):
        print(warning, file=sys.stderr)
    rest = (warning for warning in plan.warnings if warning not in audit.summary)
    unread = unusable.keys() - _digests(plan, trials) if unusable else ()
    not_read = dict.fromkeys(problem for digest in unread for problem in unusable[digest])
    not_read_as_warnings = (replace(problem, severity="warning", kind=_UNREAD) for problem in not_read)
    others = [*by_image[_SHOWN:], *session.index.warnings, *rest, *not_read_as_warnings]
    if others:
        print(f"{counted(others)}; `xferlab check {session.words}` shows them", file=sys.stderr)
