"""All that is known of a study, as one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from xferlab.errors import StorageError
from xferlab.records import reader
from xferlab.records.store import Store


class PlannedEvaluation(NamedTuple):
    """One evaluation of a trial, as one arm asks for it."""

    arm: str
    stage: str
    section: str
    part: str
    trial_id: str
    evaluation_id: str
    parent_may_have_seen: bool


@dataclass(frozen=True, eq=False)
class StudyResults:
    """All that is known of a study: what was planned, and what is complete.

    Attributes:
        study: Name.
        plan: The plan document.
        store: The storage that it was read from.
        trials: One row per arm and planned trial: arm, stage, repetition, trial_id, state (`complete`,
            `failed`, `damaged` or `not complete`) and reason.
        cases: One row per arm, complete trial, evaluation, case and metric; see `load`.
        histories: One row per arm, complete trial and epoch: losses, lr, improved, seconds.
        runs: One row per arm and complete trial: device, seconds, peak memory (GiB), network time per image
            (ms: mean, SD, n), number of attempts, best epoch.
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

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms, the baseline first, the others in the plan's order."""
        names = list(dict.fromkeys([*self.trials["arm"], *self.plan["arms"]]))
        return tuple(sorted(names, key=lambda arm: arm != "baseline"))

    @property
    def baseline(self) -> str:
        """The arm that others are compared with: `baseline`, else the first."""
        return self.arms[0]

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages that are trained, in the study's order."""
        trained = set(self.trials["stage"])
        return tuple(stage for stage in self.plan["stages"] if stage in trained)

    @cached_property
    def trials_by_id(self) -> dict[str, Mapping[str, Any]]:
        """The plan's entry of each trial."""
        return {trial["trial_id"]: trial for trial in self.plan["trials"]}

    def planned(self) -> dict[tuple[str, str], int]:
        """Returns the number of planned repetitions of each (arm, stage)."""
        return planned_repetitions(self.trials)

    def counts(self) -> pd.DataFrame:
        """Returns arm, stage, num_planned and num_done, in the study's order."""
        rows = [
            (arm, stage, len(group), int((group["state"] == "complete").sum()))
            for (arm, stage), group in self.trials.groupby(["arm", "stage"], sort=False)
        ]
        return pd.DataFrame(rows, columns=["arm", "stage", "num_planned", "num_done"])

    def shared_arms(self, stage: str) -> tuple[tuple[str, ...], ...]:
        """Returns the arms that have a stage, grouped by those that share all trials of it."""
        groups: dict[frozenset[str], list[str]] = {}
        for arm in self.arms:
            own = self.trials[(self.trials["arm"] == arm) & (self.trials["stage"] == stage)]
            if len(own):
                groups.setdefault(frozenset(own["trial_id"]), []).append(arm)
        return tuple(tuple(arms) for arms in groups.values())

    def evaluations(self) -> Iterator[PlannedEvaluation]:
        """Yields every planned evaluation of every arm; arms that share it one after the other."""
        for trial in self.plan["trials"]:
            for one in trial["evaluations"]:
                for arm in arms_of(trial, one):
                    yield PlannedEvaluation(
                        arm,
                        trial["stage"],
                        one["section"],
                        part_of(one),
                        trial["trial_id"],
                        one["evaluation_id"],
                        bool(one["parent_may_have_seen"]),
                    )

    def evaluation_ids(self, arm: str, *, stage: str, section: str, part: str) -> frozenset[str]:
        """Returns the ids of an arm's evaluations of a stage on one set, whether complete or not."""
        return frozenset(self._evaluation_ids.get((arm, stage, section, part), ()))

    @cached_property
    def _evaluation_ids(self) -> dict[tuple[str, str, str, str], set[str]]:
        found: dict[tuple[str, str, str, str], set[str]] = {}
        for one in self.evaluations():
            found.setdefault(one[:4], set()).add(one.evaluation_id)
        return found

    def note(self, problem: str) -> None:
        """Adds a problem, once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def outputs(self, trial_id: str, *, arm: str, section: str, part: str) -> pd.DataFrame:
        """Returns the stored arrays of one evaluation, a row per case; empty where there are none.

        A column for each array that the task stores; see the task's `outputs`.
        """
        wanted = (arm, section, part, trial_id)
        ids = [e.evaluation_id for e in self.evaluations() if (e.arm, *e[2:5]) == wanted]
        try:
            record = reader.read_evaluation(self.store, trial_id, ids[0]) if ids else None
            if record is None:
                return pd.DataFrame()
            cases = reader.read_outputs(self.store, record)
        except StorageError as error:
            # Pixels illustrate; a study without them still has all its numbers.
            self.note(f"{error}; figures leave its images out")
            return pd.DataFrame()
        rows = [{**vars(case), **case.arrays} for case in cases]
        return pd.DataFrame(rows).drop(columns="arrays") if rows else pd.DataFrame()


def planned_repetitions(trials: pd.DataFrame) -> dict[tuple[str, str], int]:
    """Returns the number of planned repetitions of each (arm, stage), from one row per arm and trial."""
    return {
        (str(arm), str(stage)): len(g) for (arm, stage), g in trials.groupby(["arm", "stage"], sort=False)
    }


def part_of(evaluation: Mapping[str, Any]) -> str:
    """Returns the part of an evaluation, with `@variant` where its cases are looked at in another way."""
    variant = evaluation.get("variant")
    return f"{evaluation['part']}@{variant}" if variant else str(evaluation["part"])


def is_hold_out(part: str) -> bool:
    """Returns whether a part is a hold-out, in whatever variant."""
    return part.partition("@")[0] == "hold_out"


def arms_of(trial: Mapping[str, Any], evaluation: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the arms that ask for an evaluation; arms may share a trial and measure it on other cases."""
    return tuple(evaluation.get("arms") or trial["arms"])
