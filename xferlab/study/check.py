"""What no single field can tell: references, hold-outs, and the sections of stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from pydantic import ValidationError

from xferlab.errors import suggest
from xferlab.study import roles
from xferlab.study.compose import PAIRING_FIELDS
from xferlab.study.evaluated import Evaluated
from xferlab.study.findings import of_validation
from xferlab.study.repetitions import folds
from xferlab.study.schema import Stage, Study
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks import registry
from xferlab.tasks.config import Engine, Finding, StageView


def check(study: Study) -> list[Finding]:
    """Returns what is wrong with a validated study whose repetitions are set."""
    of_stages = [
        finding
        for name, stage in study.stages.items()
        for stage_check in (_references, roles.origins, _structures, _evaluations, roles.unpaired)
        for finding in stage_check(study, name, stage)
    ]
    of_tasks = [
        replace(finding, related=(*finding.related, ("stages", name, "task")))
        for name, stage in study.stages.items()
        for stage_check in _OF_TASKS
        for finding in stage_check(study, name, stage)
    ]
    return [
        *of_stages,
        *of_tasks,
        *folds(study),
        *_features(study),
        *_unread(study),
        *roles.own_circles(study),
    ]


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
    evaluated = {item.partition(".")[0] for stage in stages for item in stage.evaluate_on or ()}
    evaluated |= {base.features.on.partition(".")[0]} if base.features else set()
    sections = evaluated | {stage.data for stage in stages}
    parents = {parent for stage in stages for parent in stage.origins.values()}
    for name in base.data:
        if name not in sections:
            yield Finding(("data", name), f"no stage trains or evaluates on data section {name!r}", "warning")
    for name, stage in base.stages.items():
        if stage.weights is not None and name not in parents:
            yield Finding(("stages", name), f"no stage starts from the weights of {name!r}", "warning")


def _references(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.data is not None and stage.data not in study.data:
        yield Finding(
            ("stages", name, "data"),
            f"stage {name!r} trains on {stage.data!r}, which is no data section"
            f"{roles.choices(stage.data, study.data)}",
            related=(("data", stage.data),),
        )


def _evaluations(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.evaluate_on is None and stage.data is not None and not study.split.has_test:
        yield Finding(
            ("stages", name),
            f"split.test is 0, so stage {name!r} has no test part; set its evaluate_on",
            related=(("split",),),
        )
    for index, item in enumerate(stage.evaluate_on or ()):
        yield from _cases(study, item, ("stages", name, "evaluate_on", index))


def _cases(study: Study, item: str, path: KeyPath) -> Iterator[Finding]:
    """What is wrong with the section and the part that an item at `path` names."""
    section, part, _ = Evaluated.of(item)
    related: tuple[KeyPath, ...] = (("data", section, "hold_out"), ("data", section))
    if section not in study.data:
        choices = roles.choices(section, study.data)
        yield Finding(path, f"{item!r} names no data section of this study{choices}", related=related)
    elif part == "hold_out" and study.data[section].hold_out == 0:
        what = f"{item!r} is empty: set data.{section}.hold_out to the share of patients to hold out"
        yield Finding(path, what, related=related)
    elif part == "test" and not study.split.has_test:
        yield Finding(path, f"{item!r} is empty: split.test is 0", related=(("split",),))


def _labels(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.label_fraction == 0:
        yield Finding(
            ("stages", name, "label_fraction"),
            f"stage {name!r} has label_fraction 0, and task {stage.task!r} learns from labels alone; give a "
            "share above 0",
        )


def _structures(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Structures that a section that the stage reads does not have."""
    path: KeyPath = ("stages", name, "structures")
    for section in _sections_read(study, name, stage):
        markable, related = study.data[section].markable, (("data", section),)
        for structure in stage.structures or ():
            if structure not in markable:
                yield Finding(
                    path,
                    f"stage {name!r} reads the structure {structure!r}; section {section!r} has "
                    f"{', '.join(markable)}.{suggest(structure, markable)}",
                    related=related,
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
    yield from _cases(study, study.features.on, ("features", "on"))


def _sections(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """What the stage's task finds wrong with single fields of its sections."""
    task = study.task_of(name)
    if stage.adapt is not None and task.adapt is None:
        yield Finding(
            ("stages", name, "adapt"),
            f"stages of task {stage.task!r} take over weights as they are; leave adapt out",
        )
    if stage.masks is not None and task.masks is None:
        yield Finding(
            ("stages", name, "masks"),
            f"stages of task {stage.task!r} read no masks that another stage predicts; leave masks out",
        )
    readers = (
        ("model", task.model, study.model_of),
        ("training", task.training, study.training_of),
        ("adapt", task.adapt, study.adapt_of),
        ("masks", task.masks, study.masks_of),
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
    lineage, end = roles.walk(study, name)
    if end is not None or any(study.stages[ancestor].task != stage.task for ancestor in lineage):
        return None  # another check says what is wrong
    try:
        network, data = study.network_of(name), stage.data or ""
        ends = {key: parent for key, parent in stage.origins.items() if roles.walk(study, parent)[1] is None}
        origins = {key: study.network_of(parent) for key, parent in ends.items() if parent in study.stages}
        return StageView(
            name=name,
            model=study.model_of(name),
            network=network,
            training=study.training_of(name),
            adapt=study.adapt_of(name),
            parent=stage.origins.get(""),
            parent_network=origins.get(""),
            origins=origins,
            lineage=tuple(reversed(lineage)),
            channels=_channels(study, name, stage),
            structures=study.section_of(name, data).targets if data in study.data else None,
            written=partial(training_path, study, name),
        )
    except ValidationError:
        return None  # another check says what is wrong


def _channels(study: Study, name: str, stage: Stage) -> dict[tuple[str, KeyPath], int]:
    """The channels of the images of every section that a stage reads, by section and what names it."""
    return {
        (section, path): study.data[section].channels
        for section, path in _sections_read(study, name, stage).items()
    }


def _sections_read(study: Study, name: str, stage: Stage) -> dict[str, KeyPath]:
    """The sections of the study that a stage trains or is evaluated on, and what names each of them first."""
    paths: dict[str, KeyPath] = {stage.data: ("stages", name, "data")} if stage.data else {}
    for index, item in enumerate(stage.evaluate_on or ()):
        paths.setdefault(Evaluated.of(item).section, ("stages", name, "evaluate_on", index))
    return {section: path for section, path in paths.items() if section in study.data}


def _task(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """What the stage's task finds wrong with the stage as a whole."""
    view = stage_view(study, name)
    if stage.weights is None and view is not None:
        yield from study.task_of(name).check(view)


_OF_TASKS = (roles.origins_task, _labels, roles.producers, _variants, _sections, _patience, _task)
"""Checks of a stage whose findings depend on its task."""
