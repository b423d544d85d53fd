"""What all trials of a stage of an arm have in common: it is read from the study once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from xferlab.plan.growing import Growing
from xferlab.plan.identity import encoded, id_of_encoded
from xferlab.plan.other_sets import OtherSets, labels_of
from xferlab.plan.plan import execution
from xferlab.plan.selection import Labels, Reading, without_patients
from xferlab.plan.spec import Reservation, Settings, TrialSpec
from xferlab.study.schema import Study
from xferlab.study.sections import sections_read
from xferlab.study.stage import Producer, Stage
from xferlab.tasks.config import TrialIdentity


@dataclass(frozen=True, eq=False)
class Template:
    """What all trials of a stage have in common.

    Attributes:
        stage: The stage.
        spec: A trial; all that differs between them is empty.
        fields: The canonical JSON of each field of its identity.
        reading: How it reads the cases of `TrialSpec.selection`.
        labels: The share of their labels that it reads; None for all.
        others: The other sets that it learns from.
        producers: The stages whose predictions it takes.
        of_masks: What its task adds to the identity of masks that it takes.
    """

    stage: Stage
    spec: TrialSpec
    fields: Mapping[str, str]
    reading: Reading
    labels: Labels | None
    others: OtherSets
    producers: tuple[Producer, ...]
    of_masks: Mapping[str, Any]

    @staticmethod
    def of(
        study: Study, arm: str, stage_name: str, *, growing: Growing, read: Callable[[str, str], Reading]
    ) -> Template:
        """Returns what the trials of a stage have in common.

        Args:
            study: The study of the arm.
            arm: Its name.
            stage_name: A stage that is trained.
            growing: What all arms have in common.
            read: Returns a section as a stage reads it.
        """
        stage, masks = study.stages[stage_name], study.masks_of(stage_name)
        others = OtherSets(study, stage_name, read)
        spec = _spec(study, arm, stage_name, growing)
        return Template(
            stage,
            replace(spec, data={**spec.data, **others.data}),
            encoded(spec.identity.to_json()),
            read(stage_name, spec.section),
            labels_of(study, stage_name),
            others,
            stage.producers,
            masks.added if masks else {},
        )

    def identified(self, changes: Mapping[str, Any]) -> tuple[TrialIdentity, str]:
        """Returns the identity of a trial, and the trial's id: `short_id(identity.to_json())`.

        Args:
            changes: The fields in which it differs, as JSON; those that are off are null.
        """
        given = {name: value for name, value in changes.items() if value is not None or name == "parent"}
        trial_id = id_of_encoded({**self.fields, **encoded(given)})
        return self.spec.identity.model_copy(update=changes), trial_id


def _spec(study: Study, arm: str, stage_name: str, growing: Growing) -> TrialSpec:
    """A trial of a stage; all that differs between them is empty."""
    stage, task, wandb = study.stages[stage_name], study.task_of(stage_name), study.tracking.wandb
    assert stage.section is not None, "a stage with given weights has no trial"
    training, targets = study.training_of(stage_name), study.targets_of(stage_name)
    identity = task.identity_of(
        model=study.network_of(stage_name),
        training=training,
        adapt=study.adapt_of(stage_name),
        execution=execution(training, growing.setting),
        num_classes=len(targets) if task.reads_labels else None,
    )
    read = sections_read(study, stage_name, stage)
    return TrialSpec(
        trial_id="",
        name="",
        arms=(arm,),
        stage=stage_name,
        repetition=0,
        max_epochs=training.max_epochs,
        identity=identity,
        section=stage.section,
        selection="",
        targets=targets,
        data={
            name: without_patients(study.section_of(stage_name, name)) for name in study.data if name in read
        },
        settings=Settings(
            study=study.study,
            seed=study.seed,
            checkpoint_every_s=training.checkpoint_every_s,
            resources=Reservation(**study.resources_of(stage_name).model_dump()),
            tracking=wandb.model_dump(mode="json") if wandb else None,
            keep_states=study.keep_states,
            profile=growing.loaded.profile,
        ),
    )
