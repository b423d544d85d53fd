"""All that is known of a study, as one value."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from xferlab.cohort import single_sections
from xferlab.errors import StorageError
from xferlab.metrics.metric import Metric
from xferlab.records import reader
from xferlab.records.schema import EvaluationRecord
from xferlab.records.store import Store

T = TypeVar("T")
TRAINED_ON = {"train_patients": "patients", "num_train": "images", "num_validation": "validation"}
"""Columns of a study's trials, with what they count."""


@dataclass(frozen=True)
class EvaluationSet:
    """What a stage was measured on.

    Attributes:
        stage: The stage whose weights were measured.
        section: Data section of the cases.
        part: `train`, `validation`, `test` or `hold_out`, with `@variant` if there is one.
    """

    stage: str
    section: str
    part: str

    @staticmethod
    def of(stage: str, name: str) -> EvaluationSet:
        """Returns the set that a stage is measured on, by its name."""
        section, _, part = name.partition(".")
        return EvaluationSet(stage, section, part)

    @property
    def name(self) -> str:
        """`section.part`."""
        return f"{self.section}.{self.part}"

    @property
    def stem(self) -> str:
        """`section_part`, for names of files."""
        return f"{self.section}_{self.part}"

    @property
    def plain(self) -> EvaluationSet:
        """The same cases as they are."""
        return replace(self, part=self.part.partition("@")[0])

    @property
    def object(self) -> str:
        """The kind of foreign object on its images; empty where there is none."""
        variant = self.part.partition("@")[2]
        return "" if variant == "original" else variant

    @property
    def is_hold_out(self) -> bool:
        """Whether the cases are held out, in any variant."""
        return is_hold_out(self.part)

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Returns the rows of a frame with columns stage, section and part that belong to this set."""
        rows = (frame["stage"] == self.stage) & (frame["section"] == self.section)
        return frame[rows & (frame["part"] == self.part)]


class PlannedEvaluation(NamedTuple):
    """One evaluation of a trial, as one arm asks for it."""

    arm: str
    evaluated: EvaluationSet
    trial_id: str
    evaluation_id: str
    parent_may_have_seen: bool


class Metrics:
    """The metrics of a study, as its plan declares them."""

    def __init__(self, plan: Mapping[str, Any]):
        """Takes a plan document."""
        self._known = {entry["name"]: Metric.from_json(entry) for entry in plan.get("metrics", ())}

    @property
    def of_sets(self) -> tuple[Metric, ...]:
        """The metrics of sets of cases."""
        return tuple(metric for metric in self._known.values() if metric.computed_by)

    @property
    def apart(self) -> tuple[Metric, ...]:
        """The metrics of one target of which the mean over all targets is a metric, too."""
        return tuple(metric for metric in self._known.values() if metric.of and metric.whole in self._known)

    @property
    def markers(self) -> tuple[Metric, ...]:
        """The metrics that classes of images are compared by."""
        return tuple(metric for metric in self._known.values() if metric.marker)

    def named(self, name: str) -> Metric:
        """Returns the declaration of a metric, or a bare one if the plan has none."""
        told = "Not in the plan."
        bare = Metric(name=name, label=name, better=None, source=told, definition=told, undefined=told)
        return self._known.get(name, bare)

    def label_of(self, target: str) -> str:
        """Returns what readers call a target, such as a structure."""
        return next((metric.of_label for metric in self._known.values() if metric.of == target), target)

    def ordered(self, names: Iterable[str]) -> tuple[Metric, ...]:
        """Returns metrics in the plan's order, unknown ones last; none that metrics of sets are made of."""
        given = set(names).difference(*(metric.made_of for metric in self.of_sets))
        unknown = sorted(given - self._known.keys())
        return tuple(map(self.named, [*(name for name in self._known if name in given), *unknown]))

    def main(self, names: Iterable[str]) -> tuple[Metric, ...]:
        """Returns the metrics of tables of many arms; the first of them stands in figures of many arms."""
        return tuple(metric for metric in self.ordered(names) if metric.prominence == "main")


@dataclass(frozen=True, eq=False)
class StudyResults:
    """All that is known of a study: what was planned, and what is complete.

    Attributes:
        study: Name.
        plan: The plan document.
        store: The storage that it was read from.
        trials: One row per arm and planned trial: arm, stage, repetition, trial_id, state (`complete`,
            `failed`, `damaged` or `not complete`), reason, train_patients, and numbers of images: num_train,
            num_validation; coordinates (`repeat 1, fold 3`, `site north`) where repetitions have any.
        cases: One row per arm, complete trial, evaluation, case and metric; see `load`.
        histories: One row per arm, complete trial and epoch: losses, lr, improved, seconds.
            `attrs["planned"]` has the number of planned repetitions of each `arm/stage`.
        runs: One row per arm and complete trial: device, host, versions, end of the last attempt, seconds (of
            evaluations, and in all), peak memory (GiB), network time per image (ms: mean, SD, n), number of
            attempts, whether it continues a shorter trial, best epoch, number of epochs, and what ended the
            training: `patience` or `max_epochs`, with `without a score` where nothing tells whether it still
            improved.
        problems: What could not be read of complete trials and is left out, a sentence each; grows with use.
    """

    study: str
    plan: Mapping[str, Any]
    store: Store
    trials: pd.DataFrame
    cases: pd.DataFrame
    histories: pd.DataFrame
    runs: pd.DataFrame
    problems: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        states = self.trials.drop_duplicates("trial_id")["state"]  # arms may share a trial
        done = f"{(states == 'complete').sum()} of {len(states)} trials complete"
        return f"StudyResults({self.study!r} in {self.store.shown}: arms {', '.join(self.arms)}; {done})"

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Arms, the baseline first, the others in the study's order; last, those that share all trials."""
        # A stored plan's `arms` are sorted by name; a shared trial comes before the trials of arms between.
        of_trials = [trial["arms"] for trial in self.plan["trials"]]
        names = [*(arms[0] for arms in of_trials), *chain.from_iterable(of_trials), *self.plan["arms"]]
        return tuple(sorted(dict.fromkeys(names), key=lambda arm: arm != "baseline"))

    @property
    def baseline(self) -> str:
        """The arm that others are compared with, `baseline` or else the first."""
        return self.arms[0]

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that are trained, in the study's order."""
        trained = set(self.trials["stage"])
        return tuple(stage for stage in self.plan["stages"] if stage in trained)

    @cached_property
    def metrics(self) -> Metrics:
        """The metrics that it is measured by."""
        return Metrics(self.plan)

    @cached_property
    def simulated(self) -> dict[str, pd.Series]:
        """The simulated device of each case that some trial is measured on, by section."""
        cases = self.cases[["section", "case", "simulated"]].drop_duplicates().astype(str)
        return {str(section): devices for section, devices in cases.groupby("section")["simulated"]}

    @cached_property
    def absent(self) -> list[Mapping[Any, Any]]:
        """The rows of `trials` that are not complete."""
        return [*self.trials[self.trials["state"] != "complete"].to_dict("records")]

    @cached_property
    def ended(self) -> dict[str, pd.DataFrame]:
        """The rows of `runs` of each stage, those of trials that arms share once."""
        return {str(stage): runs for stage, runs in self.runs.drop_duplicates("trial_id").groupby("stage")}

    @cached_property
    def diverged(self) -> list[Mapping[Any, Any]]:
        """The rows of `trials` whose best epoch is noted as `diverged`, those that arms share once."""
        if "diverged" not in self.histories:
            return []
        best = self.runs[["arm", "trial_id", "best_epoch"]]
        kept = best.merge(self.histories, left_on=[*best], right_on=["arm", "trial_id", "epoch"])
        ids = kept.loc[kept["diverged"] == 1, "trial_id"]
        rows = self.trials[self.trials["trial_id"].isin(ids)].drop_duplicates("trial_id")
        return [*rows.to_dict("records")]

    @cached_property
    def trials_by_id(self) -> dict[str, Mapping[str, Any]]:
        """The plan's entry of each trial."""
        return {trial["trial_id"]: trial for trial in self.plan["trials"]}

    @property
    def trial_names(self) -> dict[str, str]:
        """The id of each trial by its names, `arm/stage/rNN`."""
        return {name: trial["trial_id"] for trial in self.plan["trials"] for name in trial["names"]}

    @cached_property
    def training_counts(self) -> pd.DataFrame:
        """What repetitions train on, a row by stage and arm in the study's order.

        Columns: repetitions (planned), complete, and mean, min and max over the planned ones of patients,
        images (both trained on) and validation (images), such as `patients_mean`.
        """
        trials = self.trials.assign(complete=self.trials["state"] == "complete")
        groups = trials.rename(columns=TRAINED_ON).groupby(["stage", "arm"])
        counts = groups[list(TRAINED_ON.values())].agg(["mean", "min", "max"]).astype("float64")
        counts.columns = ["_".join(names) for names in counts.columns]
        counts.insert(0, "repetitions", groups.size())
        counts.insert(1, "complete", groups["complete"].sum())
        order = pd.MultiIndex.from_product([self.stages, self.arms], names=["stage", "arm"])
        return counts.loc[[place for place in order if place in counts.index]]

    def learnt(self) -> list[tuple[str, tuple[str, ...]]]:
        """Returns task and targets of the stages and trials."""
        tasks = self.plan["tasks"]
        trials = [(tasks[trial["stage"]], tuple(trial.get("targets", ()))) for trial in self.plan["trials"]]
        return [*((task, ()) for task in tasks.values()), *trials]

    def several(self, arm: str, stage: str) -> tuple[str, ...]:
        """Returns the names of the several things that an arm's stage learns to tell; empty for one."""
        for trial in self.plan["trials"]:
            if trial["stage"] == stage and arm in trial["arms"]:
                targets = tuple(trial.get("targets", ()))
                return targets if len(targets) > 1 else ()
        return ()

    def marks(self, stage: str, section: str) -> tuple[str, ...]:
        """Returns what a set marks of what a stage learns, or of what is made of that; empty for all."""
        evaluations = (
            each for trial in self.plan["trials"] if trial["stage"] == stage for each in trial["evaluations"]
        )
        marks = (each.get("marks", ()) for each in evaluations if each["section"] == section)
        return tuple(dict.fromkeys(name for names in marks for name in names))

    def sections(self, name: str) -> list[Mapping[str, Any]]:
        """Returns the plan's entry of each section of a set (`a+b`), or of a section."""
        return [self.plan["data"].get(section, {}) for section in single_sections(name)]

    def image_sizes(self, stage: str) -> dict[str, int | str]:
        """Returns the size at which the network of each arm takes images in a stage."""
        trials = [trial for trial in self.plan["trials"] if trial["stage"] == stage]
        return {name.partition("/")[0]: trial["image_size"] for trial in trials for name in trial["names"]}

    def planned(self) -> dict[tuple[str, str], int]:
        """Returns the number of planned repetitions of each (arm, stage)."""
        return Counter(zip(self.trials["arm"], self.trials["stage"], strict=True))

    def planned_evaluations(self) -> dict[tuple[str, ...], int]:
        """Returns the number of planned repetitions of each (arm, stage, section, part).

        Where a split leaves sites out, a set may be evaluated in fewer repetitions than its stage has.
        """
        return {
            (arm, *vars(evaluated).values()): len(ids)
            for (arm, evaluated), ids in self._planned_evaluations.items()
        }

    def planned_repetitions(self, arm: str, evaluated: EvaluationSet) -> frozenset[int]:
        """Returns the repetitions in which an arm is to be measured on a set, complete or not."""
        return frozenset(self._planned_evaluations.get((arm, evaluated), {}).values())

    def grouped_arms(self, key: Callable[[str], Hashable]) -> tuple[tuple[str, ...], ...]:
        """Returns the arms, those of an equal key together; arms whose key is empty are left out."""
        groups: dict[Hashable, list[str]] = {}
        for arm in self.arms:
            groups.setdefault(key(arm), []).append(arm)
        return tuple(tuple(arms) for value, arms in groups.items() if value)

    def trial_ids(self, arm: str, stage: str) -> frozenset[str]:
        """Returns the ids of an arm's trials of a stage, whether complete or not."""
        rows = (self.trials["arm"] == arm) & (self.trials["stage"] == stage)
        return frozenset(self.trials.loc[rows, "trial_id"])

    def arms_by_trials(self, stage: str) -> tuple[tuple[str, ...], ...]:
        """Returns the arms that have a stage, grouped by those that share all trials of it."""
        return self.grouped_arms(lambda arm: self.trial_ids(arm, stage))

    def arms_by_evaluations(self, *sets: EvaluationSet) -> tuple[tuple[str, ...], ...]:
        """Returns the arms measured on all of some sets; those that share all these evaluations together."""

        def ids(arm: str) -> Hashable:
            each = tuple(self.evaluation_ids(arm, evaluated) for evaluated in sets)
            return each if all(each) else None

        return self.grouped_arms(ids)

    def evaluations(self) -> Iterator[PlannedEvaluation]:
        """Yields every planned evaluation of every arm; arms that share it one after the other."""
        for trial in self.plan["trials"]:
            for evaluation in trial["evaluations"]:
                evaluated = EvaluationSet(trial["stage"], evaluation["section"], part_of(evaluation))
                ids, seen = (
                    (trial["trial_id"], evaluation["evaluation_id"]),
                    evaluation["parent_may_have_seen"],
                )
                # Arms may share a trial and measure it on other cases.
                yield from (PlannedEvaluation(arm, evaluated, *ids, seen) for arm in evaluation["arms"])

    def evaluation_ids(self, arm: str, evaluated: EvaluationSet) -> frozenset[str]:
        """Returns the ids of an arm's evaluations on a set, complete or not; equal ids are equal numbers."""
        return frozenset(self._planned_evaluations.get((arm, evaluated), ()))

    @cached_property
    def _planned_evaluations(self) -> dict[tuple[str, EvaluationSet], dict[str, int]]:
        """The repetition of each evaluation of an arm on a set, by its id."""
        found = defaultdict[tuple[str, EvaluationSet], dict[str, int]](dict)
        for each in self.evaluations():
            found[each.arm, each.evaluated][each.evaluation_id] = self.trials_by_id[each.trial_id][
                "repetition"
            ]
        return found

    def note(self, problem: str) -> None:
        """Adds a problem, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def outputs(self, trial_id: str, *, arm: str, evaluated: EvaluationSet) -> pd.DataFrame:
        """Returns the stored arrays of one evaluation, a row per case; empty where there are none.

        A column for each array that the task stores; see the task's `outputs`.
        """
        cases = self._shown(trial_id, reader.read_outputs, arm=arm, evaluated=evaluated) or []
        rows = [{**vars(case), **case.arrays} for case in cases]
        return pd.DataFrame(rows).drop(columns="arrays") if rows else pd.DataFrame()

    def pictures(self, trial_id: str, *, arm: str, evaluated: EvaluationSet) -> Mapping[str, bytes]:
        """Returns the stored pictures (JPEG) of one evaluation by case: of the worst, median and best."""
        return self._shown(trial_id, reader.read_pictures, arm=arm, evaluated=evaluated) or {}

    def _shown(
        self,
        trial_id: str,
        read: Callable[[Store, EvaluationRecord], T],
        *,
        arm: str,
        evaluated: EvaluationSet,
    ) -> T | None:
        """Returns what is stored of an evaluation to look at; None where it is absent or damaged."""
        planned = {evaluation["evaluation_id"] for evaluation in self.trials_by_id[trial_id]["evaluations"]}
        try:
            for evaluation_id in planned & self.evaluation_ids(arm, evaluated):
                record = reader.read_evaluation(self.store, trial_id, evaluation_id)
                return read(self.store, record) if record else None
        except StorageError as error:
            # Pixels illustrate; a study without them still has all its numbers.
            self.note(f"{error}; figures leave its images out")
        return None


def is_drawn(data: Mapping[str, Any]) -> bool:
    """Returns whether the images of a section are drawn, by its entry in the plan."""
    return str(data.get("source") or "").startswith("phantom")


def part_of(evaluation: Mapping[str, Any]) -> str:
    """Returns the part of an evaluation, with `@variant` where its cases are looked at in another way."""
    return "@".join(filter(None, (evaluation["part"], evaluation["variant"])))


def is_gated(trial: Mapping[str, Any]) -> bool:
    """Returns whether a trial trains on what a gate lets pass, by its entry in the plan."""
    return any(given["role"] == "gate" for given in trial["inputs"])


def is_hold_out(part: str) -> bool:
    """Returns whether a part is a hold-out, in any variant."""
    return part.partition("@")[0] == "hold_out"


def origin_of(trial: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns what a planned trial's training starts from: ids of `trials`, or a given `donor`."""
    nothing = {"trials": (), "donor": None}
    return next((given for given in trial["inputs"] if given["role"] == "starts_from"), nothing)
