"""Two studies, or two versions of one: what differs in their plans, and what both have measured."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
from pandas.api.types import union_categoricals

from xferlab.analysis.comparison import NO_CLAIM, Contrast
from xferlab.analysis.contents import Contents
from xferlab.analysis.design import Side
from xferlab.analysis.results import EvaluationSet, StudyResults, part_of
from xferlab.analysis.tuning import tuned_on
from xferlab.plan.identity import differing, flattened
from xferlab.records import reader

REASONS = {
    "no common repetition": "no repetition is complete in both studies",
    "same trials": "both studies have the same trainings and measurements",
    "other targets": "the stages learn to tell other things",
    "other images": "the studies are measured on other images",
    "tuned on these": NO_CLAIM["tuned on these"],
    "other splits": "a repetition has other patients in the other study, so that repetitions are no pairs",
}
"""Why a difference between two studies has no interval."""
_PLANNED = (
    "study", "profile", "planned", "seed", "repetitions", "note", "compare_to", "claims", "split", "machine",
    "data", "tasks",
)  # fmt: skip
"""What of a plan a reader knows from the study file."""
_OF_PAIR = ("seed", "selection", "parent", "masks", "gate")
"""What of an identity is a digest, or follows from the plan."""
_MARK = " (other study)"


def of_other(arm: str) -> str:
    """Returns the name of an arm of the other study."""
    return arm + _MARK


class Difference(NamedTuple):
    """A setting in which the studies differ, with both values; None: not there."""

    setting: str
    here: Any
    there: Any


class _Measured(NamedTuple):
    """A planned evaluation of one repetition: its id, and the digest of its images."""

    evaluation_id: str
    selection: str


@dataclass(frozen=True, eq=False)
class TwoStudies:
    """A study and another one.

    Attributes:
        here: The study of the report.
        there: The other one.
    """

    here: StudyResults
    there: StudyResults

    @cached_property
    def contents(self) -> Contents:
        """What is known of both, as if they were one study; arms of the other one are called `of_other`."""
        return Contents(_joined(self.here, self.there))

    @cached_property
    def differences(self) -> list[Difference]:
        """The settings in which they differ, of arms and stages that both have."""
        arms = [arm for arm in self.here.arms if arm in self.there.arms]
        values = [flattened(_settings(results, arms)) for results in (self.here, self.there)]
        return [Difference(name, *(each.get(name) for each in values)) for name in differing(*values)]

    @cached_property
    def common(self) -> dict[EvaluationSet, list[str]]:
        """The arms that both studies have measured, by what they are measured on."""
        frame = self.contents.aggregated
        measured = set(frame[["arm", "stage", "section", "part"]].itertuples(index=False, name=None))
        arms_by_set: dict[EvaluationSet, list[str]] = {}
        for arm, evaluated in self._measured[0]:
            key = tuple(vars(evaluated).values())
            if {(arm, *key), (of_other(arm), *key)} <= measured and not evaluated.object:
                arms_by_set.setdefault(evaluated, []).append(arm)
        return dict(
            sorted(arms_by_set.items(), key=lambda item: (not item[0].is_hold_out, *vars(item[0]).values()))
        )

    @cached_property
    def only(self) -> tuple[list[str], list[str]]:
        """What only the first and only the second plans to measure: `arm/stage on section.part`."""
        here, there = (
            dict.fromkeys(f"{arm}/{evaluated.stage} on {evaluated.name}" for arm, evaluated in measured)
            for measured in self._measured
        )
        return [name for name in here if name not in there], [name for name in there if name not in here]

    def told(self) -> Iterator[str | tuple[str, ...]]:
        """Yields which studies they are and what only one of them has, as paragraphs and lists."""
        for name, results in (("This study", self.here), ("The other study", self.there)):
            plan, trials = results.plan, results.trials.drop_duplicates("trial_id")
            planned, done = plan.get("planned", {}), int((trials["state"] == "complete").sum())
            profile = f", profile {plan['profile']}" if plan.get("profile") else ""
            when = f", planned {planned['at']}, digest {planned['digest']}" if planned else ""
            yield f"{name}: {results.study}{profile}{when}; {done} of {len(trials)} trials are complete."
        if not self.differences:
            yield "Their plans do not differ."
        for name, items in zip(("this study", "the other one"), self.only, strict=True):
            yield from (f"Only {name} measures:", tuple(items)) if items else ()
        if not self.common:
            yield "No arm of the same name is measured on the same section and part in both."

    def reason(self, arm: str, evaluated: EvaluationSet) -> str:
        """Returns why an arm's difference has no interval, a key of `REASONS`; empty where it may."""
        if self.here.several(arm, evaluated.stage) != self.there.several(arm, evaluated.stage):
            return "other targets"
        done = (self.contents.done(name, evaluated) for name in (arm, of_other(arm)))
        if not (common := frozenset.intersection(*done)):
            return "no common repetition"
        here, there = (measured[arm, evaluated] for measured in self._measured)
        if all(here[number] == there[number] for number in common):
            return "same trials"
        if any(here[number].selection != there[number].selection for number in common):
            return "other images"
        if any(arm in tuned_on(results.plan, evaluated) for results in (self.here, self.there)):
            return "tuned on these"
        return "" if self._same_splits(arm, evaluated.stage, common) else "other splits"

    def _same_splits(self, arm: str, stage: str, common: Collection[int]) -> bool:
        """Whether these repetitions test the same images; where they test no same section, train on them."""
        trials = [_by_repetition(results.plan, arm, stage) for results in (self.here, self.there)]
        if self.here.plan.get("split") != self.there.plan.get("split"):
            return False
        for number in common:
            here, there = (each[number] for each in trials)
            tests, others = _tests(here), _tests(there)
            if tests.keys() & others.keys():
                same = all(tests[name] == others[name] for name in tests.keys() & others.keys())
            else:
                same = "selection" in here and here["selection"] == there.get("selection")
            if not same:
                return False
        return True

    def contrast(self, arm: str, evaluated: EvaluationSet) -> Contrast:
        """Returns an arm of this study compared with the arm of that name of the other: this minus other."""
        return self.contents.compare(Side(of_other(arm), evaluated), Side(arm, evaluated))

    @cached_property
    def _measured(self) -> tuple[dict[tuple[str, EvaluationSet], dict[int, _Measured]], ...]:
        return tuple(_measured(results.plan) for results in (self.here, self.there))


def _measured(plan: Mapping[str, Any]) -> dict[tuple[str, EvaluationSet], dict[int, _Measured]]:
    evaluations: dict[tuple[str, EvaluationSet], dict[int, _Measured]] = {}
    for trial in plan["trials"]:
        for evaluation in trial["evaluations"]:
            evaluated = EvaluationSet(trial["stage"], evaluation["section"], part_of(evaluation))
            measured = _Measured(evaluation["evaluation_id"], evaluation["selection"])
            for arm in evaluation["arms"]:
                evaluations.setdefault((arm, evaluated), {})[trial["repetition"]] = measured
    return evaluations


def _by_repetition(plan: Mapping[str, Any], arm: str, stage: str) -> dict[int, Mapping[str, Any]]:
    trials = (trial for trial in plan["trials"] if trial["stage"] == stage and arm in trial["arms"])
    return {trial["repetition"]: trial for trial in trials}


def _tests(trial: Mapping[str, Any]) -> dict[str, str]:
    """Returns the digest of the images that test a trial, by their section."""
    tests = (each for each in trial["evaluations"] if part_of(each) == "test")
    return {each["section"]: each["selection"] for each in tests}


def _settings(results: StudyResults, arms: list[str]) -> dict[str, Any]:
    """Returns the settings of a study: those of its plan, and those that its first trainings had."""
    plan = results.plan
    hold_outs = {
        evaluated.name: next(iter(measured.values())).selection[:12]
        for (_, evaluated), measured in _measured(plan).items()
        if evaluated.is_hold_out
    }
    claims = plan.get("claims") or {}
    return {
        **{name: plan[name] for name in _PLANNED if name in plan},
        "claims": claims if claims.get("declared") else None,
        "images": hold_outs,
        "arms": {arm: plan["arms"][arm] for arm in arms if arm in plan["arms"]},
        **dict(_trained(results, arms)),
    }


def _trained(results: StudyResults, arms: list[str]) -> Iterator[tuple[str, Any]]:
    """Yields what the first complete training of each arm and stage was made of, and by what software."""
    software: dict[str, set[str]] = {}
    for (arm, stage), runs in results.runs.groupby(["arm", "stage"], sort=False):
        trial_id = str(runs["trial_id"].iloc[0])
        record = reader.read_trial(results.store, trial_id)
        if arm in arms and record:
            kept = {name: value for name, value in record.identity.items() if name not in _OF_PAIR}
            yield f"{arm}/{stage}", {**kept, "images": str(record.identity.get("selection", ""))[:12]}
        for name, version in (runs["versions"].iloc[0] or {}).items():
            software.setdefault(name, set()).add(version)
    yield "software", {name: ", ".join(sorted(versions)) for name, versions in software.items()}


def _joined(here: StudyResults, there: StudyResults) -> StudyResults:
    """Returns both as one study, which compares itself to no paper and claims nothing.

    What cannot be read of the other one is a problem of the first, whose report shows it.
    """
    for problem in there.problems:
        here.note(problem)
    trials = [_renamed(trial) for trial in there.plan["trials"]]
    arms = {of_other(arm): entry for arm, entry in there.plan["arms"].items()}
    plan = {
        **here.plan,
        "compare_to": None,
        "claims": None,
        "stages": list(dict.fromkeys([*here.plan["stages"], *there.plan["stages"]])),
        "trials": [*here.plan["trials"], *trials],
        "arms": {**here.plan["arms"], **arms},
        **{name: {**there.plan[name], **here.plan[name]} for name in ("data", "tasks")},
    }
    return replace(
        here,
        plan=plan,
        trials=_stacked(here.trials, there.trials),
        cases=_stacked(here.cases, there.cases),
        histories=_stacked(here.histories, there.histories),
        runs=_stacked(here.runs, there.runs),
    )


def _renamed(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a trial's entry in a plan with other names of its arms."""
    names = (name.partition("/") for name in trial["names"])
    return {
        **trial,
        "names": [f"{of_other(arm)}/{rest}" for arm, _, rest in names],
        "arms": [*map(of_other, trial["arms"])],
        "evaluations": [
            {**evaluation, "arms": [*map(of_other, evaluation["arms"])]}
            for evaluation in trial["evaluations"]
        ],
    }


def _stacked(here: pd.DataFrame, there: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of both; texts stay categories, which a million rows need."""
    if not len(there):
        return here
    if isinstance(there["arm"].dtype, pd.CategoricalDtype):
        there = there.assign(arm=there["arm"].cat.rename_categories(of_other))
    else:
        there = there.assign(arm=[of_other(arm) for arm in there["arm"]])
    categories = {
        name: union_categoricals([here[name], there[name]])
        for name in here.columns.intersection(there.columns)
        if all(isinstance(frame[name].dtype, pd.CategoricalDtype) for frame in (here, there))
    }
    rest = [frame.drop(columns=[*categories]) for frame in (here, there)]
    both = pd.concat(rest, ignore_index=True).assign(**categories)
    return both[[*dict.fromkeys([*here.columns, *there.columns])]]
