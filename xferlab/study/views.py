"""A stage as its task checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from pydantic import ValidationError

from xferlab.cohort import single_sections
from xferlab.study.roles import walk
from xferlab.study.schema import Study
from xferlab.study.sections import sections_read
from xferlab.study.stage import Stage
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.task import Finding, StageView


def training_path(study: Study, stage: str, field: str) -> KeyPath:
    """Returns where a training field of a stage is written: in the stage, or for all stages."""
    return (
        ("stages", stage, "training", field) if field in study.stages[stage].training else ("training", field)
    )


def stage_view(study: Study, name: str) -> StageView | None:
    """Returns a stage as its task checks it; None where it or an ancestor is not valid or does not exist."""
    stage = study.stages[name]
    lineage, end = walk(study, name)
    if end is not None or any(study.stages[ancestor].task != stage.task for ancestor in lineage):
        return None  # another check says what is wrong
    try:
        network, data = study.network_of(name), single_sections(stage.section or "")[0]
        ends = {key: parent for key, parent in stage.origins.items() if walk(study, parent)[1] is None}
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
            parent_targets=study.targets_of(stage.origins[""]) if "" in origins else (),
            has_several=bool((classes := study.classes_of(name)) and classes.separator),
            masks=study.masks_of(name),
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


def predicted(arms: Mapping[str, Study], arm: str) -> Iterator[Finding]:
    """Yields the images of an arm's stages that those whose predictions they take cannot read.

    Args:
        arms: All arms that are valid by themselves.
        arm: One of them.
    """
    for name, stage in arms[arm].stages.items():
        for producer in stage.producers:
            giving = arms.get(producer.arm or arm)
            view = stage_view(giving, producer.stage) if giving and producer.stage in giving.stages else None
            if giving is not None and view is not None:
                images = _channels(arms[arm], name, stage)
                found = giving.task_of(producer.stage).check(replace(view, channels=images))
                causes = (("stages", name, producer.role), ("stages", producer.stage, "model"))
                for finding in found:
                    if finding.path in {path for _, path in images}:
                        yield replace(finding, related=(*finding.related, *causes))
