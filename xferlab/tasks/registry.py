"""The tasks by name: each folder here is one. Parts are imported when they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from xferlab import tasks
from xferlab.errors import DonorError, UsageError, suggest
from xferlab.tasks.config import Task, TrialIdentity
from xferlab.tasks.segmentation.config import Model as DefaultModel
from xferlab.tasks.segmentation.config import Training as DefaultTraining

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
    "pictures_of",
    "task",
]

DEFAULT = "segmentation"
"""The task of a stage that names none."""


@cache
def names() -> tuple[str, ...]:
    """Returns the names of all tasks, the default first."""
    folders = sorted(module.name for module in iter_modules(tasks.__path__) if module.ispkg)
    return tuple(sorted(folders, key=lambda name: name != DEFAULT))


@cache
def task(name: str) -> Task:
    """Returns a task.

    Raises:
        UsageError: There is no such task.
    """
    if name not in names():
        raise UsageError(f"task: found {name!r}; accepted: {', '.join(names())}.{suggest(name, names())}")
    declared: Task = import_module(f"xferlab.tasks.{name}.config").TASK
    return declared


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
    for module, _, name in (task(known).of_weights.partition(":") for known in names()):
        if module:
            try:
                identity: TrialIdentity = getattr(import_module(module), name)(
                    weights, origin=origin, options=options
                )
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
        yield from import_module(module).pictures(contents)


def learner_of(
    identity: TrialIdentity, device: torch.device, *, share: Learner[Any, Any] | None = None
) -> Learner[Any, Any]:
    """Returns the learner of a trial, its networks on the device with the seed's random weights.

    Args:
        identity: Of the trial.
        device: Where it computes.
        share: Another learner of the task whose networks it uses in place of its own.
    """
    module, _, name = task(identity.task).learner.partition(":")
    made: Learner[Any, Any] = getattr(import_module(module), name)(identity, device, share=share)
    return made
