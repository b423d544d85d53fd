"""Last layers that a stage takes over from one that learns other targets, or the same in another order."""

from __future__ import annotations

from collections.abc import Iterator

from xferlab.study.schema import Study
from xferlab.study.stage import Stage
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.task import Finding

_FIELDS = ("structures", "classes", "data", "adapt", "starts_from")


def heads(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields what does not fit where a stage takes over the last layer of another one of its task.

    Single targets may have any names: to carry over from one to another is what stages are for. A task with
    `Task.new_head` finds other numbers of outputs itself.
    """
    for network, parent in stage.origins.items():
        if parent in study.stages and study.stages[parent].task == stage.task:
            yield from _head(study, name, stage, network)


def _head(study: Study, name: str, stage: Stage, network: str) -> Iterator[Finding]:
    """What does not fit of one of its networks, or of all where `network` is empty."""
    task, parent = study.task_of(name), stage.origins[network]
    now, before = study.targets_of(name), study.targets_of(parent)
    is_new = bool(stage.adapt and task.new_head and task.new_head(study.adapt_of(name)))
    if not (now and before) or now == before or is_new:
        return
    path: KeyPath = ("stages", name, "starts_from", *([network] if network else []))
    related = tuple(("stages", each, field) for each in (name, parent) for field in _FIELDS)
    which = f" (network {network!r})" if network else ""
    what = (
        f"stage {name!r} learns {', '.join(now)}, and {parent!r}, which it starts from{which}, "
        f"{', '.join(before)}: "
    )
    if len(now) != len(before) and task.new_head is None:
        what += f"its last layer does not fit; let both learn as many {task.targets}"
        yield Finding(path, what, related=related)
    elif len(now) == len(before) > 1:
        what += f"each output starts as that of another one; name the same {task.targets} in the same order"
        what += ", or start that layer anew (adapt: {head: new})" if task.new_head else ""
        yield Finding(path, what, "warning", related=related)
