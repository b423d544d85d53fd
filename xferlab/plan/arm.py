"""Expansion of one arm into its trials."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

from xferlab.cohort import single_sections
from xferlab.plan.evaluations import Evaluations
from xferlab.plan.growing import Growing
from xferlab.plan.identity import seed_for, short_id
from xferlab.plan.origins import Origins, identity_of
from xferlab.plan.plan import execution
from xferlab.plan.selection import Labels, PartCases, Reading, without_patients
from xferlab.plan.spec import Reservation, Settings, TrialSpec
from xferlab.study.check import stage_view, training_path
from xferlab.study.schema import Stage, Study
from xferlab.study.sections import sections_read
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.config import Execution, Finding


class ArmExpansion:
    """The expansion of one arm."""

    def __init__(self, growing: Growing, name: str, study: Study):
        self.growing, self.name, self.study = growing, name, study
        self.ids: dict[tuple[str, int], str] = {}
        self._read = cache(partial(Reading.of, study))
        self._origins = Origins(growing, study, self.ids)
        self._evaluations = Evaluations(growing, name, study, read=self._read)

    def expand(self) -> None:
        """Adds the arm's trials, evaluations, problems and warnings."""
        if self._has_strangers():
            return
        for stage_name in stages_in_order(self.study):
            stage = self.study.stages[stage_name]
            if stage.section is not None:
                template = self._template(stage_name, stage.section)
                for repetition in range(1, (stage.repetitions or self.study.repetitions) + 1):
                    self._add(template, stage, repetition)
                self._check_everywhere(stage_name, stage)

    def _add(self, template: TrialSpec, stage: Stage, repetition: int) -> None:
        stage_name, section = template.stage, template.section
        fraction = stage.label_fraction
        selected = self.growing.selector.select(
            self._read(stage_name, section),
            "fit",
            repetition,
            labels=None if fraction is None else Labels(fraction, stage.stratified),
        )
        inputs = self._origins.of(stage, repetition)
        has_cases = bool(selected.counts["train"])
        lacks = self.growing.left_out.lacks_trial
        if lacks(stage_name, repetition, has_parent=inputs is not None, has_cases=has_cases):
            return
        assert inputs is not None, "only a parent that has no trial gives none"
        self._check(stage_name, section, selected, repetition)
        identity = template.identity.model_copy(
            update={
                "selection": selected.digest,
                "seed": seed_for(self.study.seed, stage=stage_name, repetition=repetition),
                **identity_of(inputs),
            }
        )
        trial_id = short_id(identity.to_json())
        name = f"{self.name}/{stage_name}/r{repetition:02d}"
        features, data = self.growing.probe.of(trial_id, identity, dict(template.data))
        spec = replace(
            template,
            trial_id=trial_id,
            name=name,
            repetition=repetition,
            coordinates=self.growing.selector.cohort.rule.coordinates(repetition),
            identity=identity,
            selection=selected.digest,
            inputs=inputs,
            data=data,
            features=features,
        )
        spec = replace(spec, evaluations=tuple(self._evaluations.of(spec, stage)))
        known = self.growing.trials.get(trial_id)
        if known and known.targets != spec.targets:
            self._refuse_names(known, spec)
        self.growing.trials[trial_id] = _merged(known, spec) if known else spec
        self.growing.trained_units[trial_id] = selected.units
        self.growing.names[name] = self.ids[stage_name, repetition] = trial_id

    def _template(self, stage_name: str, section: str) -> TrialSpec:
        """What all repetitions of a stage have in common; all else is empty."""
        study, task = self.study, self.study.task_of(stage_name)
        training = study.training_of(stage_name)
        resolved = execution(training, self.growing.setting)
        self._check_execution(stage_name, resolved)
        identity = task.identity_of(
            model=study.network_of(stage_name),
            training=training,
            adapt=study.adapt_of(stage_name),
            execution=resolved,
            num_classes=len(study.targets_of(stage_name)) if task.reads_labels else None,
        )
        read = sections_read(study, stage_name, study.stages[stage_name])
        wandb = study.tracking.wandb
        return TrialSpec(
            trial_id="",
            name="",
            arms=(self.name,),
            stage=stage_name,
            repetition=0,
            max_epochs=training.max_epochs,
            identity=identity,
            section=section,
            selection="",
            targets=study.targets_of(stage_name),
            data={
                name: without_patients(study.section_of(stage_name, name))
                for name in study.data
                if name in read
            },
            settings=Settings(
                study=study.study,
                seed=study.seed,
                checkpoint_every_s=training.checkpoint_every_s,
                resources=Reservation(**study.resources_of(stage_name).model_dump()),
                tracking=wandb.model_dump(mode="json") if wandb else None,
                keep_states=study.keep_states,
            ),
        )

    def _has_strangers(self) -> bool:
        """Notes patients that only this arm has, where the split can give them no part."""
        strangers = self.growing.selector.strangers(self.study)
        for section, number in strangers.items():
            what = (
                f"the arm adds {number} patients to data section {section!r}; a split by a column or from a "
                "file divides the study's own patients only: declare them in the study's own data"
            )
            self._refuse(f"strangers {self.name} {section}", Finding(("data", section), what))
        return bool(strangers)

    def _check_everywhere(self, stage_name: str, stage: Stage) -> None:
        trials = [self.growing.trials[id_] for (name, _), id_ in self.ids.items() if name == stage_name]
        findings = self.growing.left_out.problems(
            stage_name,
            num_trials=len(trials),
            asked=self._evaluations.asked(stage),
            measured={e.name for trial in trials for e in trial.evaluations if self.name in e.arms},
        )
        for finding in findings:
            self._refuse(f"{stage_name} {finding.what}", finding)

    def _check(self, stage_name: str, section: str, selected: PartCases, repetition: int) -> None:
        path: KeyPath = ("stages", stage_name, "data")
        for part, count in selected.counts.items():
            if not count:
                what = (
                    f"stage {stage_name!r}: the {part} part of section {section!r} is empty in repetition "
                    f"{repetition}; add patients, widen `where`, or change `split` or `hold_out`"
                )
                self._refuse(
                    f"{stage_name} {section} {part}", Finding(path, what, related=(("data", section),))
                )
        view = stage_view(self.study, stage_name) if selected.counts["train"] == 1 else None
        if view is not None:
            why = f"its training part is one image in repetition {repetition}"
            for finding in self.study.task_of(stage_name).check_single(view, path, why, "add patients"):
                self._refuse(f"{stage_name} single", finding)
        self._evaluations.check_classes(section, selected, repetition)
        self._check_labels(stage_name, section, selected, repetition)

    def _check_labels(self, stage_name: str, section: str, selected: PartCases, repetition: int) -> None:
        for part, name in selected.missing_labels if selected.counts["train"] else ():
            key = f"{stage_name} {section} {part} class {name}"
            what = f"stage {stage_name!r}: class {name!r} is in no {part} case of section {section!r}"
            if part == "train":
                remedy = "add patients of it, join it with another class (`classes`), or change `split`"
                finding = Finding(
                    ("stages", stage_name, "data"),
                    f"{what} in repetition {repetition}; {remedy}",
                    related=(("stages", stage_name, "classes"), ("split",)),
                )
                self._refuse(key, finding)
            else:
                self.growing.warn(
                    key,
                    f"stages.{stage_name}",
                    f"{what} in some repetitions (first: {repetition})",
                    kind="classes missing from a part",
                )

    def _refuse_names(self, known: TrialSpec, other: TrialSpec) -> None:
        """One training is measured under one set of names."""
        names = (", ".join(spec.targets) for spec in (known, other))
        what = (
            f"stage {other.stage!r} learns {' and '.join(f'{named!r}' for named in names)} in one "
            f"and the same training ({known.name}); name them alike in all arms"
        )
        field = "classes" if self.study.stages[other.stage].classes else "structures"
        self._refuse(f"names {other.stage}", Finding(("stages", other.stage, field), what))

    def _check_execution(self, stage_name: str, resolved: Execution) -> None:
        if resolved.precision == "tf32" and resolved.device == "cpu":
            what = (
                f"stage {stage_name!r} trains in tf32 on the CPU, which only CUDA devices have; set "
                "training.precision to float32, bfloat16 or auto, or training.device to cuda"
            )
            precision, device = (training_path(self.study, stage_name, f) for f in ("precision", "device"))
            self._refuse("tf32", Finding(precision, what, related=(device,)))

    def _refuse(self, key: str, finding: Finding) -> None:
        self.growing.refuse(key, self.name, finding)


def _merged(known: TrialSpec, other: TrialSpec) -> TrialSpec:
    """A trial that several arms use, with all of their evaluations.

    An arm may have other cases under a section's name. Its evaluations then read another configuration.
    """
    data = dict(known.data)
    evaluations = {
        (evaluation.evaluation_id, evaluation.name): evaluation for evaluation in known.evaluations
    }
    for evaluation in other.evaluations:
        key = evaluation.evaluation_id, evaluation.name
        if same := evaluations.get(key):
            evaluations[key] = replace(same, arms=same.arms + evaluation.arms)
            continue
        sources = []
        for section in single_sections(evaluation.section):
            config = other.data[section]
            differs = data.setdefault(section, config) != config
            sources.append(f"{section}@{other.arms[0]}" if differs else section)
            data[sources[-1]] = config
        source = "+".join(sources)
        evaluations[key] = replace(evaluation, source="" if source == evaluation.section else source)
    return replace(known, arms=known.arms + other.arms, evaluations=tuple(evaluations.values()), data=data)


def stages_in_order(study: Study) -> list[str]:
    """Returns stage names with parents before children: by generation, then in file order."""
    return sorted(study.stages, key=lambda name: len(study.lineage(name)))
