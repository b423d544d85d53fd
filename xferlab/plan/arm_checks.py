"""What is wrong with an arm that only its cases tell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from xferlab.plan.evaluations import Evaluations
from xferlab.plan.growing import Growing, ancestors
from xferlab.plan.selection import PartCases
from xferlab.plan.spec import LABELLED, TrialSpec
from xferlab.study.schema import Study
from xferlab.study.sections import paths_of
from xferlab.study.views import stage_view, training_path
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.config import Execution
from xferlab.tasks.task import Finding


class ArmChecks:
    """Notes the problems of an arm, each once."""

    def __init__(self, growing: Growing, name: str, study: Study, evaluations: Evaluations):
        self.growing, self.name, self.study, self._evaluations = growing, name, study, evaluations

    @cached_property
    def has_strangers(self) -> bool:
        """Whether it has patients to whom the split can give no part, which is noted."""
        strangers = self.growing.selector.strangers(self.study)
        for section, number in strangers.items():
            what = (
                f"the arm adds {number} patients to data section {section!r}; a split by a column or from a "
                "file divides the study's own patients only: declare them in the study's own data"
            )
            self._refuse(f"strangers {self.name} {section}", Finding(("data", section), what))
        return bool(strangers)

    def everywhere(self, stage_name: str, trials: Sequence[TrialSpec]) -> None:
        """Notes what is there in none of the repetitions of a stage, given all of its trials."""
        stage = self.study.stages[stage_name]
        findings = self.growing.left_out.problems(
            stage_name,
            num_trials=len(trials),
            asked=self._evaluations.asked(stage),
            measured={e.name for trial in trials for e in trial.evaluations if self.name in e.arms},
        )
        for finding in findings:
            self._refuse(f"{stage_name} {finding.what}", finding)

    def cases(
        self, stage_name: str, section: str, selected: PartCases, repetition: int, *, set_name: str = ""
    ) -> None:
        """Notes what is wrong with the cases to train and to select with; of several sets, those of one."""
        path: KeyPath = ("stages", stage_name, "data")
        for part, count in selected.counts.items():
            if not count:
                what = (
                    f"stage {stage_name!r}: the {part} part of section {section!r} is empty in repetition "
                    f"{repetition}; add patients, widen `where`, or change `split` or `hold_out`"
                )
                self._refuse(f"{stage_name} {section} {part}", Finding(path, what, related=paths_of(section)))
        if not set_name:
            self.single(stage_name, selected, f"its training part is one image in repetition {repetition}")
        elif set_name.endswith(f".{LABELLED}"):
            why = (
                f"one image of {set_name.removesuffix(f'.{LABELLED}')} has labels in repetition {repetition}"
            )
            self.single(stage_name, selected, why, remedy="add patients, raise label_fraction")
        self._evaluations.check_classes(section, selected, repetition)
        self._check_labels(stage_name, section, selected, repetition)

    def single(self, stage_name: str, selected: PartCases, why: str, *, remedy: str = "add patients") -> None:
        """Notes that a network would train on one image."""
        view = stage_view(self.study, stage_name) if selected.counts["train"] == 1 else None
        if view is not None:
            path: KeyPath = ("stages", stage_name, "data")
            for finding in self.study.task_of(stage_name).check_single(view, path, why, remedy):
                self._refuse(f"{stage_name} single", finding)

    def _check_labels(self, stage_name: str, section: str, selected: PartCases, repetition: int) -> None:
        for part, name in selected.missing_labels if selected.counts["train"] else ():
            key = f"{stage_name} {section} {part} class {name}"
            what = f"stage {stage_name!r}: class {name!r} is in no {part} case of section {section!r}"
            if part == "train":
                remedy = "add patients of it, join it with another class (`classes`), or change `split`"
                finding = Finding(
                    ("stages", stage_name, "data"),
                    f"{what} in repetition {repetition}; {remedy}",
                    related=(("stages", stage_name, "classes"), ("split",), *paths_of(section)),
                )
                self._refuse(key, finding)
            else:
                self.growing.warn(
                    key,
                    f"stages.{stage_name}",
                    f"{what} in some repetitions (first: {repetition})",
                    kind="classes missing from a part",
                    arm=self.name,
                )

    def names(self, known: TrialSpec, other: TrialSpec) -> None:
        """Notes that one training would be measured under two sets of names."""
        names = (", ".join(spec.targets) for spec in (known, other))
        what = (
            f"stage {other.stage!r} learns {' and '.join(f'{named!r}' for named in names)} in one "
            f"and the same training ({known.name}); name them alike in all arms"
        )
        field = "classes" if self.study.stages[other.stage].classes else "structures"
        self._refuse(f"names {other.stage}", Finding(("stages", other.stage, field), what))

    def execution(self, stage_name: str, resolved: Execution) -> None:
        """Notes what a machine cannot do."""
        if resolved.precision == "tf32" and resolved.device == "cpu":
            what = (
                f"stage {stage_name!r} trains in tf32 on the CPU, which only CUDA devices have; set "
                "training.precision to float32, bfloat16 or auto, or training.device to cuda"
            )
            precision, device = (training_path(self.study, stage_name, f) for f in ("precision", "device"))
            self._refuse("tf32", Finding(precision, what, related=(device,)))

    def few_units(self, stage_name: str, repetition: int, number: int, units: int) -> None:
        """Notes that a trial trains on fewer units than there are to be folds."""
        what = (
            f"stage {stage_name!r} trains on {units} patients in repetition {repetition}, and another stage "
            f"asks for its masks out of {number} folds; add patients, or ask for fewer folds (`out_of_fold`)"
        )
        self._refuse(f"few {stage_name}", Finding(("stages", stage_name, "data"), what))

    def fold(self, spec: TrialSpec, unseen: frozenset[str]) -> None:
        """Warns where a trial that predicts out of fold starts from one that knew these units."""
        for ancestor in ancestors(spec.inputs, self.growing.trials, origins_only=True):
            if not unseen.isdisjoint(self.growing.trained_units[ancestor.trial_id]):
                what = (
                    f"stage {spec.stage!r} predicts out of fold, and starts from stage {ancestor.stage!r}, "
                    "which trained on patients that it predicts: these predictions are better than those of "
                    "new patients"
                )
                self.growing.warn(
                    f"fold {spec.stage}",
                    f"stages.{spec.stage}",
                    what,
                    kind="folds that a parent has seen",
                    arm=self.name,
                )

    def _refuse(self, key: str, finding: Finding) -> None:
        self.growing.refuse(key, self.name, finding)
