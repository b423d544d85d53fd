"""The tasks by name: each folder here is one. Parts are imported when they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xferlab import plugins, tasks
from xferlab.errors import DonorError, TaskError, UsageError, check_names, suggest
from xferlab.metrics.metric import PASSED, Metric
from xferlab.tasks.config import TrialIdentity
from xferlab.tasks.segmentation.sections import Model as DefaultModel
from xferlab.tasks.segmentation.sections import Training as DefaultTraining
from xferlab.tasks.task import Task

if TYPE_CHECKING:
    import torch

    from xferlab.analysis.contents import Contents
    from xferlab.analysis.figures.style import Picture
    from xferlab.training.learner import Learner

__all__ = [
    "DEFAULT",
    "DefaultModel",
    "DefaultTraining",
    "identity_of",
    "identity_of_weights",
    "learner_of",
    "names",
    "picture_of",
    "pictures_of",
    "task",
]

DEFAULT = "segmentation"
"""The task of a stage that names none."""


def _folders() -> frozenset[str]:
    configs = (config for folder in tasks.__path__ for config in Path(folder).glob("*/config.py"))
    return frozenset(config.parent.name for config in configs)


@cache
def names() -> tuple[str, ...]:
    """Returns the names of all tasks, the default first; those of installed packages are among them."""
    known = sorted(_folders().union(plugins.names(plugins.TASKS)))
    return tuple(sorted(known, key=lambda name: name != DEFAULT))


@cache
def task(name: str) -> Task:
    """Returns a task.

    Raises:
        UsageError: There is no such task.
        TaskError: What it declares cannot be.
        PluginError: A package declares it, and it cannot be used.
    """
    if name not in names():
        raise UsageError(f"task: found {name!r}; accepted: {', '.join(names())}.{suggest(name, names())}")
    if plugin := plugins.find(plugins.TASKS, name, built_in=_folders()):
        return _added(plugin)
    declared: Task = import_module(f"xferlab.tasks.{name}.config").TASK
    if declared.name != name:
        raise TaskError(f"the task in folder {name!r} has the name {declared.name!r}; name it as its folder")
    return declared


def _added(plugin: plugins.Plugin) -> Task:
    """Returns the task of an installed package; identities of its trials name the package and its version."""
    declared: Task = plugin.load(
        lambda value: isinstance(value, Task) and value.name == plugin.name,
        expected=f"an xferlab.tasks.task.Task with the name {plugin.name!r}",
    )
    return replace(declared, package=plugin.release)


def declared_metrics(
    learnt: Iterable[tuple[str, tuple[str, ...]]], *, gated: bool = False, added: tuple[str, ...] = ()
) -> tuple[Metric, ...]:
    """Returns what is reported of trials, each metric once: as it is declared for the most targets.

    Args:
        learnt: Task and targets of trials.
        gated: Whether some stage has a gate: who passed is recorded then.
        added: Names of the metrics of installed packages that they are measured by.
    """
    declared: dict[str, Metric] = {}
    for name, targets in sorted(dict.fromkeys(learnt), key=lambda kind: len(kind[1])):
        declared |= {metric.name: metric for metric in task(name).declared(targets, added)}
    return (*declared.values(), *([PASSED] if gated else []))


def declares(name: str, section: type) -> bool:
    """Returns whether a section of a study file is one of a task's."""
    if name in _folders():
        return section.__module__.startswith(f"xferlab.tasks.{name}.")
    return plugins.is_from(section.__module__, plugins.TASKS, name)


def _part(name: str, part: str) -> Any:
    """Returns the `module:name` that a task names as one of its parts.

    Raises:
        TaskError: There is none, or it cannot be imported.
    """
    module, _, attribute = part.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise TaskError(f"task {name!r} names {part!r}, which cannot be imported: {error}") from error


def identity_of(value: Mapping[str, Any]) -> TrialIdentity:
    """Returns the typed identity of a trial from its JSON value; `to_json` is its inverse."""
    return task(value["task"]).identity.from_json(value)


def identity_of_weights(
    weights: Mapping[str, torch.Tensor], *, origin: str, options: Mapping[str, Any]
) -> TrialIdentity:
    """Returns an identity that bare weights fit, of the first task that knows them; for prediction alone.

    Args:
        weights: A state dict.
        origin: Where it comes from, for messages.
        options: What weights do not tell, such as `image_size`; None for those that are not given.

    Raises:
        DonorError: They are not those of a network of a task with `of_weights`.
        UsageError: An option is absent, or has a value that the task does not take.
    """
    refusals = []
    for name in names():
        if path := task(name).of_weights:
            try:
                identity: TrialIdentity = _part(name, path)(weights, origin=origin, options=options)
                return identity
            except DonorError as error:
                refusals.append(str(error))
    raise DonorError(
        f"{' '.join(refusals)} Weights of another task need the record of their trial: copy its record.json "
        "into the folder of the weights, or give the trial by name or id."
    )


def pictures_of(name: str, contents: Contents) -> Iterator[Picture]:
    """Yields the figures of a report that only this task draws."""
    if module := task(name).report:
        yield from _part(name, f"{module}:pictures")(contents)


def picture_of(name: str, outputs: Mapping[str, Any]) -> bytes:
    """Returns a JPEG of what `Learner.outputs` returned of a case; empty where the task draws none."""
    from xferlab.tasks.pictures import encoded  # Pillow is for those alone who draw

    panels = task(name).panels
    return encoded(_part(name, panels)(outputs)) if panels and outputs else b""


def learner_of(
    identity: TrialIdentity, device: torch.device, *, share: Learner[Any, Any] | None = None
) -> Learner[Any, Any]:
    """Returns the learner of a trial, its networks on the device with the seed's random weights.

    Args:
        identity: Of the trial.
        device: Where it computes.
        share: Another learner of the task whose networks it uses in place of its own.

    Raises:
        TaskError: It cannot be imported, or lacks layers that the identity names.
        PluginError: The package that it comes from is not the one that the identity names.
    """
    plugins.check_release(plugins.TASKS, identity.task, identity.package, built_in=_folders())
    make = _part(identity.task, task(identity.task).learner)
    learner: Learner[Any, Any] = make(identity, device, share=share)
    names = identity.compared_layers
    check_names("Learner.layers", learner.layers(), declared_in="Identity.layers", required=names)
    return learner
