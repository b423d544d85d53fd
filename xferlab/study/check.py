"""What no single field can tell: references, hold-outs, and the sections of stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from xferlab.cohort import single_sections
from xferlab.study import roles
from xferlab.study.compose import PAIRING_FIELDS
from xferlab.study.evaluated import Evaluated
from xferlab.study.findings import of_validation
from xferlab.study.heads import heads
from xferlab.study.repetitions import folds
from xferlab.study.schema import Study
from xferlab.study.sections import choices, evaluated_cases, evaluations, sets, structures
from xferlab.study.stage import Stage
from xferlab.study.views import stage_view
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks import registry
from xferlab.tasks.config import Engine
from xferlab.tasks.task import Finding, StageView


def check(study: Study) -> list[Finding]:
    """Returns what is wrong with a validated study whose repetitions are set."""
    of_stages = [
        finding
        for name, stage in study.stages.items()
        for stage_check in (_references, roles.origins, structures, sets, evaluations, roles.unpaired)
        for finding in stage_check(study, name, stage)
    ]
    of_tasks = [
        replace(finding, related=(*finding.related, ("stages", name, "task")))
        for name, stage in study.stages.items()
        for finding in _of_task(study, name, stage)
    ]
    return [
        *of_stages,
        *of_tasks,
        *folds(study),
        *_features(study),
        *_claims(study),
        *_unread(study),
        *_unmeasured(study),
        *roles.needed_in_circles({"": study}),
    ]


def pairing(base: Study, arm: Study) -> Iterator[Finding]:
    """Yields what an arm changes about hold-outs and same patients by giving a section as a whole.

    It adds no trained stage either: reports order the stages of all arms as the study does.
    """
    for name, stage in arm.stages.items():
        if name not in base.stages and stage.weights is None:
            yield Finding(
                ("stages", name),
                f"stage {name!r} is trained, and only an arm has it; declare it in the study's own stages: "
                "arms that do not start from it share its trials",
            )
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
    used |= {section for stage in stages for section in stage.sections}
    sections = {section for name in used for section in single_sections(name)}
    parents = {parent for stage in stages for parent in stage.origins.values()}
    for name in base.data:
        if name not in sections:
            yield Finding(("data", name), f"no stage trains or evaluates on data section {name!r}", "warning")
    for name, stage in base.stages.items():
        if stage.weights is not None and name not in parents:
            yield Finding(("stages", name), f"no stage starts from the weights of {name!r}", "warning")


def _of_task(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    for stage_check in _OF_TASKS:
        yield from stage_check(study, name, stage)
    view = stage_view(study, name) if stage.weights is None else None
    if view is not None:  # else there is something wrong with the stage, or with those before it
        yield from _patience(view, stage.training)
        yield from heads(study, name, stage)
        yield from study.task_of(name).check(view)


def _references(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    for section in stage.sections:
        if section not in study.data:
            yield Finding(
                ("stages", name, "data"),
                f"stage {name!r} trains on {section!r}, which is no data section"
                f"{choices(section, study.data)}",
                related=(("data", section),),
            )


def _sets(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Sets of cases that the stage's task does not learn from, and those that it lacks."""
    wanted, path = study.task_of(name).sets, ("stages", name, "data")
    if stage.weights is not None or tuple(sorted(stage.sets)) == (tuple(sorted(wanted)) or ("",)):
        yield from _fractions(study, name, stage)
    elif wanted:
        given = ", ".join(f"{each}: SECTION" for each in wanted)
        yield Finding(path, f"task {stage.task!r} learns from {len(wanted)} sets of cases; write {{{given}}}")
    else:
        what = f"task {stage.task!r} learns from one set of cases; name a section, or a list of sections"
        yield Finding(path, what)


def _gated_sets(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.gate is not None and study.task_of(name).sets:
        what = f"stages of task {stage.task!r} train on all images of their sets; leave gate out"
        yield Finding(("stages", name, "gate"), what)


def _evaluated_sets(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Cases that are measured and of no set of a task of several, or of two."""
    if study.task_of(name).sets and stage.weights is None:
        for index, item in enumerate(stage.evaluate_on or ()):
            if stage.set_of(Evaluated.of(item).section) is None:
                given = "; ".join(f"{each}: {cases}" for each, cases in stage.sets.items())
                what = f"{item!r} is not of one set of cases of stage {name!r} ({given}); name such sections"
                yield Finding(("stages", name, "evaluate_on", index), what)


def _fractions(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Shares of the labels of sets that have no such labels."""
    path: KeyPath = ("stages", name, "label_fraction")
    others = study.task_of(name).sets[1:]
    if isinstance(stage.label_fraction, dict) and not others:
        what = f"stages.{name}.label_fraction is a mapping; it must be a number. "
        yield Finding(path, what + f"Task {stage.task!r} learns from one set of cases")
    elif isinstance(stage.label_fraction, dict):
        for each in stage.label_fraction:
            if each not in others:
                what = f"label_fraction names {each!r}, which is no set whose labels a share of may be read"
                yield Finding((*path, each), what + choices(each, others))
        if not study.learns_targets(name):
            what = f"stage {name!r} learns from no labels; leave label_fraction out"
            yield Finding(path, what, related=(("stages", name, "starts_from"),))
    elif stage.label_fraction is not None and others:
        shares = ", ".join(f"{each}: {stage.label_fraction:g}" for each in others)
        yield Finding(path, f"label_fraction is of one of several sets; write {{{shares}}}")


def _labels(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.label_fraction == 0 and not study.task_of(name).sets:
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


def _unmeasured(study: Study) -> Iterator[Finding]:
    """Metrics of packages where no stage is measured by metrics of images."""
    tasks = _trained_tasks(study)
    if study.metrics and all(registry.task(task).image_metrics is None for task in tasks):
        yield Finding(
            ("metrics",),
            f"metrics of packages measure masks, and no stage predicts any (task {', '.join(tasks)}); leave "
            "`metrics` out",
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


def _claims(study: Study) -> Iterator[Finding]:
    if study.contrasts and study.primary is None:
        what = "contrasts are judged by a metric on a set of cases; declare them as `primary`"
        yield Finding(("contrasts",), what)


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
    if stage.structures is not None and task.targets_from:
        yield Finding(
            ("stages", name, "structures"),
            f"stages of task {stage.task!r} learn the structures of the stage that their "
            f"{task.targets_from} starts from; leave structures out",
        )
    elif stage.structures is not None and not task.reads_masks:
        yield Finding(
            ("stages", name, "structures"),
            f"stages of task {stage.task!r} read no masks of the data; leave structures out",
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


def _patience(view: StageView, given: Mapping[str, Any]) -> Iterator[Finding]:
    """A patience that is longer than the training, of which a stage gives some fields."""
    if view.training.patience <= view.training.max_epochs:
        return
    written = [field for field in given if field in ("patience", "max_epochs")]
    path = view.written(written[0] if written else "patience")
    yield Finding(
        path,
        f"patience {view.training.patience} never stops a training of at most {view.training.max_epochs} "
        "epochs",
        "warning",
        related=(("training", "patience"), ("training", "max_epochs")),
    )


_OF_TASKS = (
    roles.origins_task,
    _sets,
    _evaluated_sets,
    _gated_sets,
    _labels,
    _classes,
    roles.producers,
    _variants,
    _sections,
)
"""Checks of a stage whose findings depend on its task."""
