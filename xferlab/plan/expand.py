"""Expansion of a study into trials: everything is decided here, before an accelerator starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from xferlab.cohort import Selection
from xferlab.cohort.rules import Given, Sites
from xferlab.errors import Problem, StudyError, suggest
from xferlab.plan.features import Probe
from xferlab.plan.identity import seed_for, short_id
from xferlab.plan.left_out import LeftOut
from xferlab.plan.selection import CaseSelector, Index, Labels, PartCases, without_patients
from xferlab.plan.spec import Donor, EvaluationSpec, Reservation, Settings, TrialSpec
from xferlab.study.check import stage_view, training_path
from xferlab.study.evaluated import Evaluated
from xferlab.study.load import LoadedStudy
from xferlab.study.schema import Stage, Study
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.config import OBJECTS, Execution, Finding, Size, Training

UNKNOWN_DONOR = "unknown until the donor is fetched"


@dataclass(frozen=True)
class Setting:
    """What planning must know of the machine and the code.

    Attributes:
        device: What `device: auto` means here: `cpu` or `cuda`.
        bfloat16: Whether bfloat16 pays on this machine's CPU.
        objects_version: Version of the foreign objects that evaluations lay on images.
        donors: Digest of every file of given weights on this machine, by its name or path. Arms may give one
            stage different weights.
    """

    device: str
    bfloat16: bool
    objects_version: int = 1
    donors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The graph of trials, parents before children.

    Attributes:
        loaded: The study that was asked for.
        setting: Machine and code that it was planned for.
        trials: Every trial once, however many arms use it.
        names: `arm/stage/rNN` -> trial id.
        selections: Every choice of cases that trials refer to, by digest.
        selector: The cases of all sections, with their parts and with what records call them.
        warnings: What a reader of the results should know.
    """

    loaded: LoadedStudy
    setting: Setting
    trials: tuple[TrialSpec, ...]
    names: Mapping[str, str]
    selections: Mapping[str, Selection]
    selector: CaseSelector = field(repr=False)
    warnings: tuple[Problem, ...] = ()

    @cached_property
    def by_id(self) -> dict[str, TrialSpec]:
        """Trials by id."""
        return {trial.trial_id: trial for trial in self.trials}

    @cached_property
    def part_sizes(self) -> dict[str, Counter[str]]:
        """Cases by part of every selection to train on, by its digest."""
        trained = {trial.selection for trial in self.trials}
        return {digest: Counter(row[1] for row in self.selections[digest].rows) for digest in trained}

    @cached_property
    def train_patients(self) -> dict[str, frozenset[str]]:
        """Patients of the training part of every selection to train on, by its digest."""
        patients = {case.digest: case.patient for _, case, _ in self.selector.listed()}
        trained = {trial.selection: self.selections[trial.selection].rows for trial in self.trials}
        return {
            digest: frozenset(patients[row[0]] for row in rows if row[1] == "train")
            for digest, rows in trained.items()
        }

    @cached_property
    def provisional(self) -> frozenset[str]:
        """Ids that will be others once an absent donor is fetched: of all that descends from it."""
        ids: set[str] = set()
        for trial in self.trials:
            absent = trial.donor is not None and not trial.donor.sha256
            if absent or not ids.isdisjoint(trial.parents):
                ids.add(trial.trial_id)
        return frozenset(ids)


def expand(loaded: LoadedStudy, index: Index, setting: Setting) -> Plan:
    """Returns the plan of a study.

    Args:
        loaded: The study with its arms.
        index: Section name and configuration -> its cases; called once for each distinct configuration.
        setting: Machine and code.

    Raises:
        StudyError: A part that is trained or evaluated on is empty, or lacks a required class.
    """
    return _Expansion(loaded, index, setting).plan()


class _Expansion:
    """State of one expansion: the growing graph, and the problems met so far."""

    def __init__(self, loaded: LoadedStudy, index: Index, setting: Setting):
        self.setting = setting
        self.selector = CaseSelector(loaded, index)
        self.loaded = self.selector.loaded
        self.left_out = LeftOut(self.selector.cohort.rule, self.warn)
        self.probe = Probe(loaded.base, self.selector)
        self.trials: dict[str, TrialSpec] = {}
        self.trained_units: dict[str, frozenset[str]] = {}
        self.names: dict[str, str] = {}
        self.problems: dict[str, Problem] = {}
        self.warnings: dict[str, Problem] = {}

    def plan(self) -> Plan:
        for arm, study in self.loaded.arms.items():
            _Arm(self, arm, study).expand()
        self._check_required()
        self._report_rule()
        if self.problems:
            raise StudyError(tuple(self.problems.values()))
        self._report_straddling()
        return Plan(
            loaded=self.loaded,
            setting=self.setting,
            trials=tuple(self.trials.values()),
            names=self.names,
            selections=self.selector.selections,
            selector=self.selector,
            warnings=(*self.loaded.warnings, *self.warnings.values()),
        )

    def _check_required(self) -> None:
        sections = self.selector.cohort.sections
        known = sorted({case.pathology for cases in sections.values() for case in cases})
        for pathology in sorted(set(self.loaded.base.split.require_classes).difference(known)):
            what = (
                f"split.require_classes asks for {pathology!r}, which no case has (pathologies: "
                f"{', '.join(known)}).{suggest(pathology, known)}"
            )
            self.problems[f"require {pathology}"] = self.loaded.problem(
                "", Finding(("split", "require_classes"), what)
            )

    def _report_straddling(self) -> None:
        if self.selector.cohort.by_patient:
            return
        for name, (straddling, number) in self.selector.straddling().items():
            self.warn(
                f"straddle {name}",
                f"data.{name}",
                f"split.group_by is null: in repetition 1, {straddling} of {number} patients "
                "have images in more than one part; test results are optimistic",
                kind="sections whose patients straddle parts",
            )

    def _report_rule(self) -> None:
        rule, split = self.selector.cohort.rule, self.loaded.base.split
        if isinstance(rule, Sites) and rule.num_of_several:
            self.warn(
                "several sites",
                "split.by",
                f"patients with images of several values of {split.by!r}: {rule.num_of_several}; each tests, "
                "with all images, wherever one of these is left out, and does not train there",
                kind="patients of several sites",
            )
        if isinstance(rule, Given) and rule.unused:
            self.warn(
                "held out",
                "split.file",
                f"{rule.unused} of those in the file are held out (`hold_out` of their data section); their "
                "parts are not used",
                kind="held out in spite of a part",
            )

    def warn(self, key: str, where: str, what: str, *, kind: str) -> None:
        """Notes what a reader of the results should know, once under each key."""
        self.warnings.setdefault(key, Problem(where, what, "warning", kind))


class _Arm:
    """The expansion of one arm."""

    def __init__(self, expansion: _Expansion, name: str, study: Study):
        self.expansion, self.name, self.study = expansion, name, study
        self.ids: dict[tuple[str, int], str] = {}
        self._read = cache(study.section_of)

    def expand(self) -> None:
        if self._has_strangers():
            return
        for stage_name in stages_in_order(self.study):
            stage = self.study.stages[stage_name]
            if stage.data is not None:
                template = self._template(stage_name, stage.data)
                for repetition in range(1, (stage.repetitions or self.study.repetitions) + 1):
                    self._add(template, stage, repetition)
                self._check_everywhere(stage_name, stage)

    def _add(self, template: TrialSpec, stage: Stage, repetition: int) -> None:
        stage_name, section = template.stage, template.section
        fraction = stage.label_fraction
        selected = self.expansion.selector.select(
            section,
            self._read(stage_name, section),
            "fit",
            repetition,
            labels=None if fraction is None else Labels(fraction, stage.stratified),
        )
        origin = self._origin(stage, repetition)
        has_cases = bool(selected.counts["train"])
        lacks = self.expansion.left_out.lacks_trial
        if lacks(stage_name, repetition, has_parent=origin is not None, has_cases=has_cases):
            return
        assert origin is not None, "only a parent that has no trial gives none"
        self._check(stage_name, section, selected, repetition)
        parents, donor = origin
        identity = template.identity.model_copy(
            update={
                "selection": selected.digest,
                "seed": seed_for(self.study.seed, stage=stage_name, repetition=repetition),
                "parent": _parent_identity(parents, donor),
            }
        )
        trial_id = short_id(identity.to_json())
        name = f"{self.name}/{stage_name}/r{repetition:02d}"
        features, data = self.expansion.probe.of(trial_id, identity, dict(template.data))
        spec = replace(
            template,
            trial_id=trial_id,
            name=name,
            repetition=repetition,
            coordinates=self.expansion.selector.cohort.rule.coordinates(repetition),
            identity=identity,
            selection=selected.digest,
            parents=parents,
            donor=donor,
            data=data,
            features=features,
        )
        spec = replace(spec, evaluations=tuple(self._evaluations(spec, stage)))
        known = self.expansion.trials.get(trial_id)
        self.expansion.trials[trial_id] = _merged(known, spec) if known else spec
        self.expansion.trained_units[trial_id] = selected.units
        self.expansion.names[name] = self.ids[stage_name, repetition] = trial_id

    def _template(self, stage_name: str, section: str) -> TrialSpec:
        """What all repetitions of a stage have in common; all else is empty."""
        study, task = self.study, self.study.task_of(stage_name)
        training = study.training_of(stage_name)
        resolved = execution(training, self.expansion.setting)
        self._check_execution(stage_name, resolved)
        identity = task.identity_of(
            model=study.network_of(stage_name),
            training=training,
            adapt=study.adapt_of(stage_name),
            execution=resolved,
        )
        evaluated = self._evaluated(study.stages[stage_name])
        read = {section, *(item.partition(".")[0] for item in evaluated)}
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
            data={
                name: without_patients(self._read(stage_name, name)) for name in study.data if name in read
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
        strangers = self.expansion.selector.strangers(self.study)
        for section, number in strangers.items():
            what = (
                f"the arm adds {number} patients to data section {section!r}; a split by a column or from a "
                "file divides the study's own patients only: declare them in the study's own data"
            )
            self._add_problem(f"strangers {self.name} {section}", Finding(("data", section), what))
        return bool(strangers)

    def _check_everywhere(self, stage_name: str, stage: Stage) -> None:
        trials = [self.expansion.trials[id_] for (name, _), id_ in self.ids.items() if name == stage_name]
        findings = self.expansion.left_out.problems(
            stage_name,
            num_trials=len(trials),
            asked=self._evaluated(stage),
            measured={e.name for trial in trials for e in trial.evaluations if self.name in e.arms},
        )
        for finding in findings:
            self._add_problem(f"{stage_name} {finding.what}", finding)

    def _origin(self, stage: Stage, repetition: int) -> tuple[tuple[str, ...], Donor | None] | None:
        """Parents' ids, or the given weights, to start from; None where the parent has no trial."""
        if stage.starts_from is None:
            return (), None
        parent = self.study.stages[stage.starts_from]
        if parent.weights is not None:
            name, path = parent.weights.name, parent.weights.path
            digest = self.expansion.setting.donors.get(name or path or "") or parent.weights.sha256
            return (), Donor(stage.starts_from, name, path, digest)
        available = {r: trial_id for (name, r), trial_id in self.ids.items() if name == stage.starts_from}
        paired = repetition if (parent.repetitions or 1) > 1 else 1
        if not available or (stage.chaining == "paired" and paired not in available):
            return None
        if stage.chaining == "best":
            self.expansion.warn(
                f"best {stage.starts_from}",
                f"stages.{stage.starts_from}",
                f"the best of {len(available)} repetitions feeds all trials that start from it; "
                "another number of repetitions renews those trials and their descendants",
                kind="stages that start from the best",
            )
            return tuple(sorted(available.values())), None
        return (available[paired],), None

    def _evaluated(self, stage: Stage) -> list[str]:
        default = [f"{stage.data}.test"] if self.study.split.has_test else []
        return default if stage.evaluate_on is None else list(dict.fromkeys(stage.evaluate_on))

    def _evaluations(self, spec: TrialSpec, stage: Stage) -> Iterator[EvaluationSpec]:
        stage_name, repetition, image_size = spec.stage, spec.repetition, spec.identity.image_size
        for item in self._evaluated(stage):
            section, part, variant = Evaluated.of(item)
            config = self._read(stage_name, section)
            selected = self.expansion.selector.select(section, config, part, repetition)
            if not sum(selected.counts.values()):
                if self.expansion.left_out.lacks_cases(stage_name, item, repetition):
                    continue
                what = (
                    f"stage {stage_name!r} is evaluated on {item}, which has no case in repetition "
                    f"{repetition}; add patients, or change `split` or `hold_out`"
                )
                self._add_problem(
                    f"{item} empty",
                    Finding(("stages", stage_name, "evaluate_on"), what, related=(("data", section),)),
                )
            self._check_classes(section, selected, repetition)
            identity = {
                "trial": spec.trial_id,
                "selection": selected.digest,
                "output": "probability",
                "resolution": image_size,
                "metrics": self.study.task_of(stage_name).metrics_version,
                "overlay_cases": self.study.overlay_cases,
                **self._variant_identity(variant, image_size),
            }
            seen = part != "hold_out" and self._may_have_seen(spec.parents, repetition, selected.units)
            if seen:
                self._warn_seen(stage_name, item, repetition)
            yield EvaluationSpec(
                evaluation_id=short_id(identity),
                section=section,
                part=part,
                selection=selected.digest,
                overlay_cases=self.study.overlay_cases,
                parent_may_have_seen=seen,
                arms=(self.name,),
                variant=variant,
            )

    def _warn_seen(self, stage_name: str, item: str, repetition: int) -> None:
        self.expansion.warn(
            f"seen {stage_name} {item}",
            f"stages.{stage_name}",
            f"{item} enters no table in some repetitions (first: {repetition}), because a network that the "
            "stage descends from trained on some of these patients in another repetition; give the stages "
            "before it as many repetitions as it has, with `chaining: paired`",
            kind="evaluations on patients that a parent may have seen",
        )

    def _variant_identity(self, variant: str, image_size: Size) -> dict[str, Any]:
        """What a variant adds to an evaluation's identity: nothing where it measures the same."""
        if variant in OBJECTS:
            return {"objects": variant, "objects_version": self.expansion.setting.objects_version}
        return {"variant": variant} if variant and image_size != "native" else {}

    def _may_have_seen(self, parents: Iterable[str], repetition: int, units: frozenset[str]) -> bool:
        for parent in parents:
            spec, trained = self.expansion.trials[parent], self.expansion.trained_units[parent]
            has_seen = spec.repetition != repetition and not trained.isdisjoint(units)
            if has_seen or self._may_have_seen(spec.parents, repetition, units):
                return True
        return False

    def _check(self, stage_name: str, section: str, selected: PartCases, repetition: int) -> None:
        path: KeyPath = ("stages", stage_name, "data")
        for part, count in selected.counts.items():
            if not count:
                what = (
                    f"stage {stage_name!r}: the {part} part of section {section!r} is empty in repetition "
                    f"{repetition}; add patients, widen `where`, or change `split` or `hold_out`"
                )
                self._add_problem(
                    f"{stage_name} {section} {part}", Finding(path, what, related=(("data", section),))
                )
        view = stage_view(self.study, stage_name) if selected.counts["train"] == 1 else None
        if view is not None:
            why = f"its training part is one image in repetition {repetition}"
            for finding in self.study.task_of(stage_name).check_single(view, path, why, "add patients"):
                self._add_problem(f"{stage_name} single", finding)
        self._check_classes(section, selected, repetition)

    def _check_execution(self, stage_name: str, resolved: Execution) -> None:
        if resolved.precision == "tf32" and resolved.device == "cpu":
            what = (
                f"stage {stage_name!r} trains in tf32 on the CPU, which only CUDA devices have; set "
                "training.precision to float32, bfloat16 or auto, or training.device to cuda"
            )
            precision, device = (training_path(self.study, stage_name, f) for f in ("precision", "device"))
            self._add_problem("tf32", Finding(precision, what, related=(device,)))

    def _check_classes(self, section: str, selected: PartCases, repetition: int) -> None:
        for part, pathology in selected.missing:
            what = f"pathology {pathology!r} is in no {part} case of section {section!r}"
            key = f"{section} {part} {pathology}"
            if pathology in self.study.split.require_classes:
                required = f"{what} in repetition {repetition}, and split.require_classes asks for it"
                self._add_problem(key, Finding(("split", "require_classes"), required))
            self.expansion.warn(
                key,
                f"data.{section}",
                f"{what} in some repetitions (first: {repetition})",
                kind="pathologies missing from a part",
            )

    def _add_problem(self, key: str, finding: Finding) -> None:
        """Notes what is wrong, once under each key."""
        if key not in self.expansion.problems:
            self.expansion.problems[key] = self.expansion.loaded.problem(self.name, finding)


def _parent_identity(parents: Sequence[str], donor: Donor | None) -> dict[str, Any] | None:
    if donor is not None:
        # While a donor is absent, its name keeps the provisional ids of different donors apart.
        return {"weights": donor.sha256 or {"unknown": donor.title}}
    return {"trials": list(parents)} if parents else None


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
        section, config = evaluation.section, other.data[evaluation.section]
        differs = data.setdefault(section, config) != config
        source = f"{section}@{other.arms[0]}" if differs else ""
        data[source or section] = config
        evaluations[key] = replace(evaluation, source=source)
    return replace(known, arms=known.arms + other.arms, evaluations=tuple(evaluations.values()), data=data)


def stages_in_order(study: Study) -> list[str]:
    """Returns stage names with parents before children: by generation, then in file order."""
    return sorted(study.stages, key=lambda name: len(study.lineage(name)))


def execution(training: Training, setting: Setting) -> Execution:
    """Returns how a trial computes, with `auto` resolved."""
    device = setting.device if training.device == "auto" else training.device
    automatic = "bfloat16" if device == "cuda" or setting.bfloat16 else "float32"
    precision = automatic if training.precision == "auto" else training.precision
    on_cpu = device == "cpu"
    return Execution(
        device=device,
        precision=precision,
        compile=training.compile,
        threads=training.threads if on_cpu else None,
        deterministic=None if on_cpu else training.deterministic,
        float32=None if on_cpu else "ieee",
    )
