"""What no single field can tell: references, hold-outs, repetitions and the trainings of stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from pydantic import ValidationError

from xferlab.cohort import single_sections
from xferlab.study.compose import PAIRING_FIELDS
from xferlab.study.evaluated import Evaluated
from xferlab.study.findings import of_validation
from xferlab.study.schema import Stage, Study
from xferlab.study.sections import choices, evaluated_cases, evaluations, sections_read, sets, structures
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks import registry
from xferlab.tasks.config import Engine, Finding, StageView


def with_repetitions(study: Study, known: Mapping[str, int | None]) -> Study:
    """Returns the study with `repetitions` set for every stage that is trained.

    Where only the data tell the number (`split.is_open`), stages that have the study's number keep None; see
    `with_number`.

    Args:
        study: A validated study.
        known: Repetitions of the stages that the base trains, which an arm keeps. A stage that is not among
            them has 1 if nothing precedes it and another stage starts from it, else the study's number.
    """
    if study.split.num_repetitions and "repetitions" not in study.model_fields_set:
        study = study.model_copy(update={"repetitions": study.split.num_repetitions})
    of_study = None if study.split.is_open else study.repetitions
    parents = {stage.starts_from for stage in study.stages.values()}
    stages = dict(study.stages)
    for name, stage in study.stages.items():
        if stage.weights is None and stage.repetitions is None:
            is_shared_root = stage.starts_from is None and name in parents
            number = known.get(name, 1 if is_shared_root else of_study)
            stages[name] = stage.model_copy(update={"repetitions": number})
    return study.model_copy(update={"stages": stages})


def with_number(study: Study, number: int) -> Study:
    """Returns the study with this number of repetitions, which stages without one of their own get, too."""
    stages = {
        name: stage
        if stage.weights or stage.repetitions
        else stage.model_copy(update={"repetitions": number})
        for name, stage in study.stages.items()
    }
    return study.model_copy(update={"repetitions": number, "stages": stages})


def numbers(study: Study, number: int | None, what: str) -> Iterator[Finding]:
    """Yields what is wrong with the numbers of repetitions where a split decides them.

    Args:
        study: Its repetitions are set as far as they are known.
        number: How many the split has; None where it has any number.
        what: Words for what the split has, such as `5 folds x 2 repeats`.
    """
    if number is None:
        return
    related: tuple[KeyPath, ...] = (("split",),)
    if "repetitions" in study.model_fields_set and study.repetitions != number:
        yield Finding(
            ("repetitions",),
            f"repetitions is {study.repetitions}, and the split has {number} ({what}); leave repetitions out",
            related=related,
        )
        return  # stages without a number of their own have the wrong one
    for name, stage in study.stages.items():
        if stage.repetitions and stage.repetitions > number:
            yield Finding(
                ("stages", name, "repetitions"),
                f"stage {name!r} has {stage.repetitions} repetitions, and the split has {number} ({what}); "
                "give at most so many",
                related=related,
            )


def check(study: Study) -> list[Finding]:
    """Returns what is wrong with a validated study whose repetitions are set."""
    of_stages = [
        finding
        for name, stage in study.stages.items()
        for stage_check in (_references, structures, sets, evaluations, unpaired)
        for finding in stage_check(study, name, stage)
    ]
    of_tasks = [
        replace(finding, related=(*finding.related, ("stages", name, "task")))
        for name, stage in study.stages.items()
        for stage_check in (_parents_task, _labels, _classes, _variants, _sections, _patience, _task)
        for finding in stage_check(study, name, stage)
    ]
    return [*of_stages, *of_tasks, *_folds(study), *_features(study), *_unread(study), *_cycles(study)]


def pairing(base: Study, arm: Study) -> Iterator[Finding]:
    """Yields what an arm changes about hold-outs and same patients by giving a section as a whole."""
    for name, section in arm.data.items():
        for field in PAIRING_FIELDS:
            value = getattr(section, field)
            if name not in base.data and value:
                yield Finding(
                    ("data", name, field),
                    f"a section that only an arm has may not set {field}: "
                    "arms are compared on the same patients; declare the section in the study's own data",
                )
            elif name in base.data and value != (in_study := getattr(base.data[name], field)):
                yield Finding(
                    ("data", name, field),
                    f"this section has {field} {in_study} in the study and {value} in the arm; "
                    "arms are compared on the same patients, so give it as in the study",
                    related=(("data", name),),
                )


def unused(base: Study, arms: Iterable[Study]) -> Iterator[Finding]:
    """Yields a warning for each data section, and each donor of given weights, that no arm makes use of."""
    stages = [stage for study in (base, *arms) for stage in study.stages.values()]
    used = {item.partition(".")[0] for stage in stages for item in stage.evaluate_on or ()}
    used |= {base.features.on.partition(".")[0]} if base.features else set()
    used |= {stage.section for stage in stages if stage.section}
    sections = {section for name in used for section in single_sections(name)}
    parents = {stage.starts_from for stage in stages}
    for name in base.data:
        if name not in sections:
            yield Finding(("data", name), f"no stage trains or evaluates on data section {name!r}", "warning")
    for name, stage in base.stages.items():
        if stage.weights is not None and name not in parents:
            yield Finding(("stages", name), f"no stage starts from the weights of {name!r}", "warning")


def _references(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    for section in single_sections(stage.section) if stage.section else ():
        if section not in study.data:
            yield Finding(
                ("stages", name, "data"),
                f"stage {name!r} trains on {section!r}, which is no data section"
                f"{choices(section, study.data)}",
                related=(("data", section),),
            )
    parent = stage.starts_from
    if parent is not None and parent not in study.stages:
        others = [other for other in study.stages if other != name]
        yield Finding(
            ("stages", name, "starts_from"),
            f"stage {name!r} starts from {parent!r}, which is no stage of this study"
            f"{choices(parent, others)}",
            related=(("stages", parent),),
        )


def _parents_task(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    parent = stage.starts_from
    if parent in study.stages and study.stages[parent].task != stage.task:
        yield Finding(
            ("stages", name, "starts_from"),
            f"stage {name!r} has task {stage.task!r} and starts from {parent!r}, which has task "
            f"{study.stages[parent].task!r}; weights carry over between stages of one task only",
            related=(("stages", parent, "task"),),
        )


def _folds(study: Study) -> Iterator[Finding]:
    """Numbers of repetitions that a cross-validation does not have."""
    folds, repeats = study.split.folds, study.split.repeats
    yield from numbers(study, study.split.num_repetitions, f"{folds} folds x {repeats} repeats")


def unfinished_repeats(study: Study) -> Iterator[Finding]:
    """Yields the stages that have some folds of a repeat and not all; only a search may train such."""
    folds = study.split.folds
    for name, stage in study.stages.items():
        number = stage.repetitions or 1
        if folds and number > 1 and number % folds and number <= folds * study.split.repeats:
            yield Finding(
                ("stages", name, "repetitions"),
                f"stage {name!r} has {number} repetitions, and every {folds} folds of the split test each "
                f"patient once; give {folds}, a multiple of it, or 1",
                related=(("split",),),
            )


def _labels(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.label_fraction == 0:
        yield Finding(
            ("stages", name, "label_fraction"),
            f"stage {name!r} has label_fraction 0, and task {stage.task!r} learns from labels alone; give a "
            "share above 0",
        )


def _classes(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.classes is not None and not study.task_of(name).reads_labels:
        yield Finding(
            ("stages", name, "classes"),
            f"stage {name!r} names classes, and task {stage.task!r} learns no labels; leave classes out",
        )


def _variants(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Variants of an evaluation that the stage's task does not support."""
    accepted = study.task_of(name).variants
    for index, item in enumerate(stage.evaluate_on or ()):
        variant = Evaluated.of(item).variant
        if variant and variant not in accepted:
            yield Finding(
                ("stages", name, "evaluate_on", index),
                f"{item!r}: task {stage.task!r} has no variant {variant!r} of an evaluation (it has "
                f"{', '.join(accepted) or 'none'}); leave @{variant} out",
            )


def _unread(study: Study) -> Iterator[Finding]:
    """Fields for all stages that hold for stages of the default task only, where no stage has that."""
    tasks = _trained_tasks(study)
    if not tasks or registry.DEFAULT in tasks:
        return
    of_training = study.training.model_fields_set - Engine.model_fields.keys()
    for section, fields in (("model", study.model.model_fields_set), ("training", of_training)):
        for field in sorted(fields):
            yield Finding(
                (section, field),
                f"no stage reads {section}.{field}: outside of the stages, it is for task "
                f"{registry.DEFAULT!r}, and the stages have task {', '.join(tasks)}; give it in the "
                f"stages that it is for (stages.NAME.{section}), or leave it out",
                related=(("stages",),),
            )


def _trained_tasks(study: Study) -> list[str]:
    return list(dict.fromkeys(stage.task for stage in study.stages.values() if stage.weights is None))


def _features(study: Study) -> Iterator[Finding]:
    if study.features is None:
        return
    tasks = _trained_tasks(study)
    if tasks and not any(registry.task(task).identity.layers for task in tasks):
        yield Finding(
            ("features",),
            f"task {', '.join(tasks)} names no layers whose features could be stored; leave `features` out",
            related=(("stages",),),
        )
    if "+" in study.features.on:
        what = "features.on names several sections; deep features are compared on the cases of one"
        yield Finding(("features", "on"), what)
    yield from evaluated_cases(study, study.features.on, ("features", "on"))


def _sections(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """What the stage's task finds wrong with single fields of its sections."""
    task = study.task_of(name)
    if stage.adapt is not None and task.adapt is None:
        yield Finding(
            ("stages", name, "adapt"),
            f"stages of task {stage.task!r} take over weights as they are; leave adapt out",
        )
    readers = (
        ("model", task.model, study.model_of),
        ("training", task.training, study.training_of),
        ("adapt", task.adapt, study.adapt_of),
    )
    for field, section, read in readers:
        try:
            read(name)
        except ValidationError as error:
            assert section is not None  # it has just been validated
            yield from of_validation(
                error, getattr(stage, field), model=section, under=("stages", name, field)
            )


def _patience(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """A patience that is longer than the training."""
    view = stage_view(study, name)
    if stage.weights is not None or view is None or view.training.patience <= view.training.max_epochs:
        return
    written = {"patience", "max_epochs"} & set(stage.training)
    path = view.written(min(written, key=list(stage.training).index) if written else "patience")
    yield Finding(
        path,
        f"patience {view.training.patience} never stops a training of at most {view.training.max_epochs} "
        "epochs",
        "warning",
        related=(("training", "patience"), ("training", "max_epochs")),
    )


def training_path(study: Study, stage: str, field: str) -> KeyPath:
    """Returns where a training field of a stage is written: in the stage, or for all stages."""
    return (
        ("stages", stage, "training", field) if field in study.stages[stage].training else ("training", field)
    )


def stage_view(study: Study, name: str) -> StageView | None:
    """Returns a stage as its task checks it; None where it or an ancestor is not valid or does not exist."""
    stage = study.stages[name]
    lineage, end = _walk(study, name)
    if end is not None or any(study.stages[ancestor].task != stage.task for ancestor in lineage):
        return None  # another check says what is wrong
    try:
        parent, network = stage.starts_from, study.network_of(name)
        data = single_sections(stage.section or "")[0]
        return StageView(
            name=name,
            model=study.model_of(name),
            network=network,
            training=study.training_of(name),
            adapt=study.adapt_of(name),
            parent=parent,
            parent_network=study.network_of(parent) if parent else None,
            lineage=tuple(reversed(lineage)),
            channels=_channels(study, name, stage),
            structures=study.section_of(name, data).targets if data in study.data else None,
            parent_targets=study.targets_of(parent) if parent else (),
            written=partial(training_path, study, name),
        )
    except ValidationError:
        return None  # another check says what is wrong


def _channels(study: Study, name: str, stage: Stage) -> dict[tuple[str, KeyPath], int]:
    """The channels of the images of every section that a stage reads, by section and what names it."""
    return {
        (section, path): study.data[section].channels
        for section, path in sections_read(study, name, stage).items()
    }


def _task(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """What the stage's task finds wrong with the stage as a whole."""
    view = stage_view(study, name)
    if stage.weights is None and view is not None:
        yield from study.task_of(name).check(view)


def unpaired(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields what is wrong with the repetitions of a stage and of the one that it starts from."""
    parent = study.stages.get(stage.starts_from or "")
    if parent is None or parent.weights is not None or stage.chaining == "best":
        return
    if study.split.is_open and None in (parent.repetitions, stage.repetitions):
        return  # checked when the data tell the number
    if parent.repetitions not in (1, stage.repetitions):
        yield Finding(
            ("stages", name, "repetitions"),
            f"stage {name!r} has {stage.repetitions} repetitions and starts from {stage.starts_from!r}, "
            f"which has {parent.repetitions}; give both "
            "the same number, the parent 1, or this stage `chaining: best`",
            related=(
                ("stages", stage.starts_from or "", "repetitions"),
                ("stages", name, "chaining"),
                ("stages", name, "starts_from"),
                ("repetitions",),
            ),
        )


def _cycles(study: Study) -> Iterator[Finding]:
    reported: set[str] = set()
    for start in study.stages:
        walk, end = _walk(study, start)
        if end not in walk or end in reported:
            continue
        circle = walk[walk.index(end) :]
        reported.update(circle)
        what = f"stages start from each other in a circle: {' -> '.join([*circle, end])}"
        if len(circle) == 1:
            what = f"stage {end!r} starts from itself; null starts from random weights"
        paths = tuple(("stages", stage, "starts_from") for stage in circle)
        yield Finding(paths[0], what, related=paths)


def _walk(study: Study, name: str) -> tuple[list[str], str | None]:
    """Returns the stages that a stage descends from, itself first, and where the walk ends.

    It ends with None behind a stage that starts from random weights, with a stage that does not exist, or
    with one that it met before.
    """
    walk: list[str] = []
    parent: str | None = name
    while parent in study.stages and parent not in walk:
        walk.append(parent)
        parent = study.stages[parent].starts_from
    return walk, parent
