"""How a study's patients are divided: the rule that `split` asks for, with what only the data tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xferlab.cohort import Cohort
from xferlab.cohort.rules import Folds, HoldOuts, Rule, Sites
from xferlab.errors import StudyError, suggest
from xferlab.plan.split_file import read_split
from xferlab.study.load import LoadedStudy
from xferlab.study.repetitions import numbers, with_number
from xferlab.study.roles import of_other_arms, producers, unpaired
from xferlab.study.schema import Study
from xferlab.tasks.task import Finding

BY = ("split", "by")


def rule_of(loaded: LoadedStudy, cohort: Cohort) -> Rule:
    """Returns the rule by which a study divides its patients.

    Args:
        loaded: The study.
        cohort: Its patients, under any rule.

    Raises:
        StudyError: No data section has the column, or the file does not fit the patients.
    """
    split = loaded.base.split
    if split.folds is not None:
        return Folds(split.folds, split.repeats)
    if split.file is not None:
        return read_split(Path(split.file), cohort)
    if split.by is None:
        return HoldOuts((split.train, split.validation, split.test), split.seeds_per_split)
    findings = list(_unfit(split.by, cohort))
    rule = Sites(_sites(split.by, cohort), (split.train, split.validation, split.test))
    findings = findings or list(_no_sites(split.by, rule))
    if findings:
        raise StudyError([loaded.problem("", finding) for finding in findings])
    return rule


def _sites(column: str, cohort: Cohort) -> dict[str, frozenset[str]]:
    """The sites of every unit that is not held out and whose section has the column."""
    sites: dict[str, set[str]] = defaultdict(set)
    for cases in cohort.sections.values():
        for case in cases:
            if column in case.columns:
                sites[cohort.unit(case)].add(case.columns[column])
    held_out = cohort.held_out()
    return {unit: frozenset(names) for unit, names in sites.items() if unit not in held_out}


def _unfit(column: str, cohort: Cohort) -> Iterator[Finding]:
    """What is wrong with a column of sites in single sections."""
    known = {name for cases in cohort.sections.values() for case in cases for name in case.columns}
    if column not in known:
        listed = ", ".join(sorted(known)) or "none"
        what = f"no data section has a column {column!r} (columns: {listed}).{suggest(column, known)}"
        yield Finding(BY, f"split.by: {what}")
    for name, cases in cohort.sections.items():
        empty = [case.name for case in cases if not case.columns.get(column, "-")]
        if empty:
            what = (
                f"split.by: column {column!r} is empty for {len(empty)} of {len(cases)} cases of "
                f"data.{name}, such as {empty[0]}; fill it in, or leave these cases out with `where`"
            )
            yield Finding(BY, what, related=(("data", name),))


def _no_sites(column: str, rule: Sites) -> Iterator[Finding]:
    """What is wrong with the sites of all sections together."""
    if len(rule.names) < 2:
        listed = "".join(f", {name!r}" for name in rule.names)
        yield Finding(
            BY, f"split.by: column {column!r} has {len(rule.names)} value{listed}; to leave one out takes two"
        )
    elif 2 * len(rule.names) > len(rule.sites):
        what = (
            f"split.by: column {column!r} has {len(rule.names)} values for {len(rule.sites)} patients; a "
            "site has several patients. Divide single patients into `folds`"
        )
        yield Finding(BY, what)


def settled(loaded: LoadedStudy, rule: Rule) -> LoadedStudy:
    """Returns a study with its number of repetitions, where only the data or a file tell it.

    Raises:
        StudyError: The study, or a stage of it, asks for another number.
    """
    if not loaded.base.split.is_open:
        return loaded
    what = f"values of {loaded.base.split.by!r}" if isinstance(rule, Sites) else "in its file"
    number = rule.num_repetitions or loaded.base.repetitions
    arms = {arm: with_number(study, number) for arm, study in loaded.arms.items()}
    problems = [
        loaded.problem(arm, finding)
        for arm, study in {"": loaded.base, **loaded.arms}.items()
        for finding in (*numbers(study, rule.num_repetitions, what), *_unpaired(with_number(study, number)))
    ]
    problems += [loaded.problem(arm, finding) for arm in arms for finding in of_other_arms(arms, arm)]
    # Loading the study told its warnings.
    if errors := dict.fromkeys(problem for problem in problems if problem.severity == "error"):
        raise StudyError(tuple(errors))
    return replace(loaded, base=with_number(loaded.base, number), arms=arms)


def _unpaired(study: Study) -> Iterator[Finding]:
    for name, stage in study.stages.items():
        yield from unpaired(study, name, stage)
        yield from producers(study, name, stage)
