"""What a search runs: the samples of one stage of one arm, each with the trials of its repetitions.

Samples differ from the untuned arm in the tuned stage alone. Their parents are the study's own trials, and
what they are judged by (validation cases, loss, batch size) is the untuned arm's, whatever they vary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from xferlab.cohort import Case, Selection
from xferlab.data.sources.registry import DataSection
from xferlab.errors import Problem, StudyError, UsageError, suggest
from xferlab.plan.expand import Setting, expand, stages_in_order
from xferlab.plan.identity import canonical_json, sha256_of, short_id
from xferlab.plan.sample_spec import TUNING_VERSION, SampleSpec
from xferlab.plan.spec import TrialSpec
from xferlab.study.load import LoadedStudy
from xferlab.study.schema import Study
from xferlab.study.space import Space

Index = Callable[[str, DataSection], Sequence[Case]]

REDUCTION = 3


@dataclass(frozen=True)
class Wanted:
    """What a search is asked to do.

    Attributes:
        arm: Arm whose stage is tuned.
        stage: The stage.
        repetitions: A sample trains the first so many repetitions of it.
        search: `random` or `optuna`.
        asha: Whether a sample may be stopped early (asynchronous successive halving).
        seed: Of the search, not of any training.
    """

    arm: str
    stage: str
    repetitions: int
    search: str
    asha: bool
    seed: int


class Tuning:
    """A search over one stage; makes samples of parameters.

    Attributes:
        wanted: What is asked.
        space: The parameters.
        base: The untuned trials of the stage, which are not run.
        selections: What the samples train and validate on, by digest.
        tuning_id: Hash of all that decides what a sample of some number may be and how it is judged.
    """

    def __init__(self, loaded: LoadedStudy, space: Space, wanted: Wanted, *, index: Index, setting: Setting):
        """Plans the untuned stage and one sample at every bound of the space.

        Raises:
            StudyError: A parameter changes nothing in the stage, or what samples must have in common.
        """
        self.wanted, self.space = wanted, space
        self._loaded, self._setting = loaded, setting
        self._study = only(loaded.arms[wanted.arm], wanted.stage, wanted.repetitions)
        self._index = _indexed_once(index)
        self.selections: dict[str, Selection] = {}
        self._names: dict[str, str] = {}
        self.base = self._expanded(self._study)
        identity = self.base[0].identity
        self._judge = {name: getattr(identity.training, name) for name in identity.judged_by}
        self.tuning_id = short_id(self._identity())
        self._probe()

    def sample(self, number: int, parameters: Mapping[str, Any]) -> SampleSpec:
        """Returns the sample of a number.

        Raises:
            StudyError: The parameters are valid one by one and not together.
        """
        trials = self._expanded(self.space.applied(self._study, parameters))
        ids = [trial.trial_id for trial in trials]
        sample_id = short_id({"tuning": self.tuning_id, "number": number, "trials": ids})
        return SampleSpec(sample_id, self.tuning_id, number, dict(parameters), trials, self._judge)

    @property
    def parents(self) -> dict[str, str]:
        """The study's trials that samples start from: id -> `arm/stage/rNN`."""
        return {parent: self._names[parent] for trial in self.base for parent in trial.parents}

    @property
    def asha(self) -> dict[str, int] | None:
        """First rung (epochs) and reduction factor, or None if no sample is stopped early."""
        if not self.wanted.asha:
            return None
        longest = max(trial.max_epochs for trial in self.base)
        return {"grace_epochs": max(1, longest // REDUCTION**3), "reduction": REDUCTION}

    def to_json(self) -> dict[str, Any]:
        """Returns the document of the search, for reports."""
        return {
            "version": TUNING_VERSION,
            "tuning_id": self.tuning_id,
            "study": self._loaded.base.study,
            "profile": self._loaded.profile,
            **asdict(self.wanted),
            "asha": self.asha,
            "judge": self._judge,
            "space": self.space.to_json(),
            "space_sha256": sha256_of(self.space.to_json()),
            "untuned": [trial.trial_id for trial in self.base],
            "validated_on": self._validated_on(),
        }

    def _identity(self) -> dict[str, Any]:
        return {
            "version": TUNING_VERSION,
            "untuned": [trial.trial_id for trial in self.base],
            "space": self.space.to_json(),
            "search": self.wanted.search,
            "asha": self.asha,
            "seed": self.wanted.seed,
        }

    def _expanded(self, study: Study) -> tuple[TrialSpec, ...]:
        alone = replace(self._loaded, arms={self.wanted.arm: study})
        plan = expand(alone, self._index, self._setting)
        trials = [trial for trial in plan.trials if trial.stage == self.wanted.stage]
        self.selections |= {one.selection: plan.selections[one.selection] for one in trials}
        self._names |= {trial_id: name for name, trial_id in plan.names.items()}
        kept = [
            replace(one, data={one.section: one.data[one.section]}, evaluations=(), features=None)
            for one in trials
        ]
        return tuple(kept)

    def _probe(self) -> None:
        problems = []
        for one in self.space.parameters:
            alone = replace(self.space, parameters=(one,))
            studies = [alone.applied(self._study, {one.path: value}) for value in one.values]
            probed = [self._expanded(study) for study in studies]
            if what := next((said for trials in probed if (said := self._differs(trials))), ""):
                problems.append((one, what))
            elif len(probed) > 1 and _ids(probed[0]) == _ids(probed[-1]):
                problems.append(
                    (one, f"changes nothing in a training of stage {self.wanted.stage!r}; leave it out")
                )
        if problems:
            raise StudyError(
                [Problem(f"{self.space.name}:{one.line}", f"{one.written} {what}") for one, what in problems]
            )

    def _differs(self, trials: Sequence[TrialSpec]) -> str:
        """Returns what a sample has and may not have, or an empty string."""
        stage = self.wanted.stage
        for own, untuned in zip(trials, self.base, strict=False):
            if own.parents != untuned.parents or own.donor != untuned.donor:
                return (
                    f"changes the trials that stage {stage!r} starts from; a search tunes one stage on given "
                    "parents: vary `training.*`, or tune a stage that starts from nothing"
                )
            if self._validation(own) != self._validation(untuned):
                return "changes the validation cases, by which samples are compared"
            if own.identity.image_size != untuned.identity.image_size:
                return "changes the image size, at which samples are compared"
        if len(trials) != len(self.base):
            return "changes the number of repetitions; give it by --repeats"
        return ""

    def _validation(self, trial: TrialSpec) -> list[str]:
        rows = self.selections[trial.selection].rows
        return [row[0] for row in rows if row[1] == "validation"]

    def _validated_on(self) -> list[dict[str, Any]]:
        """What the samples were compared on, repetition by repetition."""
        sections = self._study.data.items()
        cases = {case.digest: case for name, config in sections for case in self._index(name, config)}
        told = []
        for trial in self.base:
            digests = self._validation(trial)
            patients = {cases[digest].patient for digest in digests}
            told.append(
                {
                    "repetition": trial.repetition,
                    "seed": trial.identity.seed,
                    "section": trial.section,
                    "cases": len(digests),
                    "patients": len(patients),
                    "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
                }
            )
        return told


def wanted_stage(study: Study, stage: str | None) -> str:
    """Returns the stage to tune: the one asked for, else the last that is trained.

    Raises:
        UsageError: There is no such stage, or its weights are given.
    """
    trained = [name for name in stages_in_order(study) if study.stages[name].weights is None]
    if stage is None:
        return trained[-1]
    if stage not in trained:
        raise UsageError(
            f"--stage: {stage!r} is no trained stage ({', '.join(trained)}).{suggest(stage, trained)}"
        )
    return stage


def only(study: Study, stage: str, repetitions: int) -> Study:
    """Returns a study with one stage and its ancestors, so many repetitions of it, and nothing to evaluate.

    Raises:
        UsageError: The stage has fewer repetitions.
    """
    planned = study.stages[stage].repetitions or study.repetitions
    if not 1 <= repetitions <= planned:
        raise UsageError(f"--repeats {repetitions}: stage {stage!r} has {planned} repetitions in this study")
    stages, name, paired = {}, stage, True
    while True:
        one = study.stages[name]
        number = repetitions if paired and one.repetitions and one.repetitions > 1 else one.repetitions
        quiet: dict[str, Any] = {} if one.weights else {"repetitions": number, "evaluate_on": []}
        stages[name] = one.model_copy(update=quiet)
        paired = paired and one.chaining == "paired"
        if one.starts_from is None:
            return study.model_copy(update={"stages": dict(reversed(stages.items()))})
        name = one.starts_from


def _ids(trials: Sequence[TrialSpec]) -> list[str]:
    return [trial.trial_id for trial in trials]


def _indexed_once(index: Index) -> Index:
    """Every section is indexed once for all samples."""
    known: dict[str, Sequence[Case]] = {}

    def indexed(name: str, config: DataSection) -> Sequence[Case]:
        key = canonical_json([name, config.model_dump(mode="json")])
        if key not in known:
            known[key] = index(name, config)
        return known[key]

    return indexed
