"""What the trials of an arm are measured on, and who of it may have been seen before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from xferlab.plan.growing import Growing, ancestors
from xferlab.plan.identity import encoded, id_of_encoded
from xferlab.plan.inputs import Taken
from xferlab.plan.selection import PartCases, Reading
from xferlab.plan.spec import EvaluationSpec, Input, TrialSpec
from xferlab.plan.template import Template
from xferlab.study.evaluated import Evaluated
from xferlab.study.schema import Study
from xferlab.study.sections import paths_of
from xferlab.study.stage import Stage
from xferlab.tasks.config import OBJECTS, Size
from xferlab.tasks.task import Finding


class Asked(NamedTuple):
    """What all trials of a stage of an arm are evaluated on.

    Attributes:
        item: As in the study file.
        cases: It, in its parts.
        reading: How the stage reads the section.
        set_name: The set of the stage's task that the cases are of; empty where that has one.
        marks: What the cases mark of what is learnt, or of what is made of it; empty where that is all.
        fields: The canonical JSON of each field of the evaluations' identities that is the same for all.
    """

    item: str
    cases: Evaluated
    reading: Reading
    set_name: str
    marks: tuple[str, ...]
    fields: Mapping[str, str]


class Evaluations:
    """The evaluations of each trial of an arm."""

    def __init__(self, growing: Growing, arm: str, study: Study, *, read: Callable[[str, str], Reading]):
        """Takes the arm, and what returns a section as a stage reads it."""
        self._growing, self._arm, self._study, self._read = growing, arm, study, read
        self._asked = cache(self._make_asked)

    def asked(self, stage: Stage) -> list[str]:
        """Returns what a stage is evaluated on, as in the study file."""
        default = [f"{cases}.test" for cases in stage.sets.values()] if self._study.split.has_test else []
        return default if stage.evaluate_on is None else list(dict.fromkeys(stage.evaluate_on))

    def _make_asked(self, template: Template) -> list[Asked]:
        stage, spec = template.stage, template.spec
        image_size, asked, added = spec.identity.image_size, [], self._study.metrics_of(spec.stage)
        for item in self.asked(stage):
            cases = Evaluated.of(item)
            reading, set_name = self._read(spec.stage, cases.section), stage.set_of(cases.section) or ""
            marks = self._marks(reading, spec)
            identity = {
                "output": "probability",
                "resolution": image_size,
                "metrics": self._study.task_of(spec.stage).metrics_version,
                "overlay_cases": self._study.overlay_cases,
                **self._variant_identity(cases.variant, image_size),
                **({"targets": list(spec.targets)} if len(spec.targets) > 1 else {}),
                **({"marks": list(marks)} if marks else {}),
                **({"set": set_name} if set_name else {}),
                **({"added": dict(added)} if added else {}),
            }
            asked.append(Asked(item, cases, reading, set_name, marks, encoded(identity)))
        return asked

    def units(self, template: Template, repetition: int) -> frozenset[str]:
        """Returns all units that a stage's trial is measured on."""
        select = self._growing.selector.select
        selected = [select(each.reading, each.cases.part, repetition) for each in self._asked(template)]
        return frozenset[str]().union(*(cases.units for cases in selected))

    def of(
        self, template: Template, trial_id: str, repetition: int, taken: Taken
    ) -> Iterator[EvaluationSpec]:
        """Yields the evaluations of a trial.

        Args:
            template: What it has in common with the others of its stage.
            trial_id: Its id.
            repetition: From 1.
            taken: What it takes from others.
        """
        stage_name, selector = template.spec.stage, self._growing.selector
        trained_elsewhere = self._trained_elsewhere(taken.inputs, repetition)
        for item, (section, part, variant), reading, set_name, marks, fields in self._asked(template):
            selected = selector.select(reading, part, repetition)
            if not sum(selected.counts.values()):
                if self._growing.left_out.lacks_cases(stage_name, item, repetition):
                    continue
                what = (
                    f"stage {stage_name!r} is evaluated on {item}, which has no case in repetition "
                    f"{repetition}; add patients, or change `split` or `hold_out`"
                )
                self._growing.refuse(
                    f"{item} empty",
                    self._arm,
                    Finding(("stages", stage_name, "evaluate_on"), what, related=paths_of(section)),
                )
            self.check_classes(section, selected, repetition)
            units = selector.units_of(reading, selected) if taken.givings else {}
            predicted = taken.predicted(reading, units)
            own: dict[str, Any] = {"trial": trial_id, "selection": selected.digest}
            if predicted:
                own["predicted"] = [[each.role, *each.of, each.selection] for each in predicted]
            seen = part != "hold_out" and not all(map(selected.units.isdisjoint, trained_elsewhere))
            if seen:
                self._warn_seen(stage_name, item, repetition)
            yield EvaluationSpec(
                evaluation_id=id_of_encoded({**fields, **encoded(own)}),
                section=section,
                part=part,
                selection=selected.digest,
                overlay_cases=self._study.overlay_cases,
                parent_may_have_seen=seen,
                arms=(self._arm,),
                variant=variant,
                predicted=predicted,
                marks=marks,
                set_name=set_name,
                metrics=self._study.metrics_of(stage_name),
            )

    def _marks(self, reading: Reading, spec: TrialSpec) -> tuple[str, ...]:
        """What cases mark of what a trial learns, or of what is made of it; empty where that is all."""
        read = reading.sections[0].targets
        composes = self._study.task_of(spec.stage).composed is not None
        return read if composes and len(spec.targets) > 1 and read != spec.targets else ()

    def _warn_seen(self, stage_name: str, item: str, repetition: int) -> None:
        self._growing.warn(
            f"seen {stage_name} {item}",
            f"stages.{stage_name}",
            f"{item} enters no table in some repetitions (first: {repetition}), because a network that the "
            "stage descends from trained on some of these patients in another repetition; give the stages "
            "before it as many repetitions as it has, with `chaining: paired`",
            kind="evaluations on patients that a parent may have seen",
            arm=self._arm,
        )

    def _variant_identity(self, variant: str, image_size: Size) -> dict[str, Any]:
        """What a variant adds to an evaluation's identity: nothing where it measures the same."""
        if variant in OBJECTS:
            return {"objects": variant, "objects_version": self._growing.setting.objects_version}
        return {"variant": variant} if variant and image_size != "native" else {}

    def _trained_elsewhere(self, inputs: Iterable[Input], repetition: int) -> list[frozenset[str]]:
        """The units that each ancestor of another repetition trains on."""
        trained, known = self._growing.trained_units, ancestors(inputs, self._growing.trials)
        return [trained[each.trial_id] for each in known if each.repetition != repetition]

    def check_classes(self, section: str, selected: PartCases, repetition: int) -> None:
        """Notes the pathologies of a section that a part lacks."""
        for part, pathology in selected.missing:
            what = f"pathology {pathology!r} is in no {part} case of section {section!r}"
            key = f"{section} {part} {pathology}"
            if pathology in self._study.split.require_classes:
                required = f"{what} in repetition {repetition}, and split.require_classes asks for it"
                self._growing.refuse(key, self._arm, Finding(("split", "require_classes"), required))
            self._growing.warn(
                key,
                f"data.{section}",
                f"{what} in some repetitions (first: {repetition})",
                kind="pathologies missing from a part",
                arm=self._arm,
            )
