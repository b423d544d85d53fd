"""The data sections that the stages of a study read, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from xferlab.cohort import single_sections
from xferlab.errors import suggest
from xferlab.study.evaluated import Evaluated
from xferlab.study.schema import Study
from xferlab.study.stage import Stage
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.task import Finding


def sections_read(study: Study, name: str, stage: Stage) -> dict[str, KeyPath]:
    """Returns the sections of the study that a stage reads, and what names each of them first."""
    paths: dict[str, KeyPath] = dict.fromkeys(stage.sections, ("stages", name, "data"))
    for index, item in enumerate(stage.evaluate_on or ()):
        for section in single_sections(Evaluated.of(item).section):
            paths.setdefault(section, ("stages", name, "evaluate_on", index))
    return {section: path for section, path in paths.items() if section in study.data}


def paths_of(cases: str) -> tuple[KeyPath, ...]:
    """Returns the paths of the sections that are one set of cases (`a+b`)."""
    return tuple(("data", section) for section in single_sections(cases))


def structures(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields the structures that a section that the stage reads does not have."""
    field = "data" if stage.structures is None else "structures"
    path: KeyPath = ("stages", name, field)
    trained = single_sections(stage.section or "")
    for section, names_it in sections_read(study, name, stage).items():
        if section not in trained and study.task_of(name).composed and len(study.targets_of(name)) > 1:
            yield from _measurable(study, name, section, names_it)
            continue
        markable, related = study.data[section].markable, (("data", section),)
        for structure in study.section_of(name, section).targets:
            if structure not in markable:
                yield Finding(
                    path,
                    f"stage {name!r} reads the structure {structure!r}; section {section!r} has "
                    f"{', '.join(markable)}.{suggest(structure, markable)}",
                    related=related,
                )


def _measurable(study: Study, name: str, section: str, path: KeyPath) -> Iterator[Finding]:
    """What is wrong with a section that a stage of several structures is only evaluated on.

    It may mark some of them. A name that is only nearly one of those that it lacks is a warning.
    """
    task, learnt, markable = study.task_of(name), study.targets_of(name), study.data[section].markable
    made = task.composed(learnt) if task.composed else {}
    read = task.marked(learnt, markable)
    known = {*read, *(part for target in read for part in made.get(target, ()))}
    lacking = [target for target in learnt if target not in known]
    lacking += [target for target, parts in made.items() if known.isdisjoint((target, *parts))]
    hints = {other: suggest(other, lacking) for other in markable if other not in read}
    related: tuple[KeyPath, ...] = (("data", section), ("stages", name, "structures"))
    if not read:
        as_one = "".join(f", or {target}: {' and '.join(parts)} as one" for target, parts in made.items())
        what = (
            f"stage {name!r} is evaluated on section {section!r}, which has {', '.join(markable)} and marks "
            f"nothing that the stage learns ({', '.join(learnt)}{as_one})."
        )
        yield Finding(path, what + next(filter(None, hints.values()), ""), related=related)
        return
    for other, hint in hints.items():
        if hint:
            what = f"section {section!r} marks {other!r}, which stage {name!r} does not learn.{hint}"
            yield Finding(path, what, "warning", related=related)


def sets(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields what cannot be one set of cases: sections of other channels, or read with other structures."""
    named: dict[str, KeyPath] = dict.fromkeys(stage.sets.values(), ("stages", name, "data"))
    for index, item in enumerate(stage.evaluate_on or ()):
        named.setdefault(Evaluated.of(item).section, ("stages", name, "evaluate_on", index))
    for cases, path in named.items():
        sections = [section for section in single_sections(cases) if section in study.data]
        related = paths_of(cases)
        channels = {section: str(study.data[section].channels) for section in sections}
        if len(set(channels.values())) > 1:
            what = (
                f"stage {name!r} joins sections whose images have different numbers of channels "
                f"({_each(channels)}); one set of cases has one"
            )
            yield Finding(path, what, related=related)
        read = {section: " and ".join(study.section_of(name, section).targets) for section in sections}
        if len(set(read.values())) > 1:
            trains = cases in stage.sets.values()
            what = (
                f"stage {name!r} joins sections of which it reads different structures ({_each(read)}); "
                + ("name those that all have in its `structures`" if trains else "evaluate on each by itself")
            )
            yield Finding(path, what, related=related)


def _each(values: Mapping[str, str]) -> str:
    return ", ".join(f"{section}: {value}" for section, value in values.items())


def evaluations(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields what is wrong with what a stage is evaluated on."""
    if stage.evaluate_on is None and stage.data is not None and not study.split.has_test:
        yield Finding(
            ("stages", name),
            f"split.test is 0, so stage {name!r} has no test part; set its evaluate_on",
            related=(("split",),),
        )
    for index, item in enumerate(stage.evaluate_on or ()):
        yield from evaluated_cases(study, item, ("stages", name, "evaluate_on", index))


def evaluated_cases(study: Study, item: str, path: KeyPath) -> Iterator[Finding]:
    """Yields what is wrong with the sections and the part that an item at `path` names."""
    name, part, _ = Evaluated.of(item)
    sections = single_sections(name)
    related: tuple[KeyPath, ...] = tuple(
        path for section in sections for path in (("data", section, "hold_out"), ("data", section))
    )
    unknown = [section for section in sections if section not in study.data]
    if unknown:
        which = f" ({unknown[0]!r})" if len(sections) > 1 else ""
        what = f"{item!r} names no data section of this study{which}{choices(unknown[0], study.data)}"
        yield Finding(path, what, related=related)
    elif part == "hold_out" and not any(study.data[section].hold_out for section in sections):
        what = f"{item!r} is empty: set data.{sections[0]}.hold_out to the share of patients to hold out"
        yield Finding(path, what, related=related)
    elif part == "test" and not study.split.has_test:
        yield Finding(path, f"{item!r} is empty: split.test is 0", related=(("split",),))


def choices(name: str, accepted: Collection[str]) -> str:
    """Returns the end of a message about a name that does not exist: those that do, and the nearest."""
    return f" (there is {', '.join(accepted) or 'no other'}).{suggest(name, accepted)}"
