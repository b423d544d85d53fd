"""What a search runs: the samples of one stage of one arm, each with the trials of its repetitions.

Samples differ from the untuned arm in the tuned stage alone. Their parents are the study's own trials, and
what they are judged by (validation cases, loss, batch size) is the untuned arm's in all of them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from xferlab.cohort import Selection, single_sections
from xferlab.errors import Problem, StudyError, UsageError, suggest
from xferlab.plan.arm import stages_in_order
from xferlab.plan.expand import expand
from xferlab.plan.identity import sha256_of, short_id
from xferlab.plan.plan import Setting
from xferlab.plan.sample_spec import SampleSpec
from xferlab.plan.selection import Index
from xferlab.plan.spec import TrialSpec
from xferlab.records.samples import SampleRecord
from xferlab.records.schema import RECORD_VERSION
from xferlab.study.load import LoadedStudy
from xferlab.study.schema import Study
from xferlab.study.space import Parameter, Space
from xferlab.study.stage import Stage
from xferlab.study.tuned import Tuned, with_parameters

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
        planned: Trials of the stage, untuned and probed, and all that they take anything from, by id.
        asha: First rung (`grace_epochs`) and `reduction` factor; None if no sample is stopped early.
        score: What samples are compared by.
        held_out: Digest of the held-out images of each section, of which no sample reads any.
        tuning_id: Hash of all that decides what a sample of some number may be and how it is judged.
    """

    def __init__(self, loaded: LoadedStudy, space: Space, wanted: Wanted, *, index: Index, setting: Setting):
        """Plans the untuned stage and one sample at every bound of the space.

        Raises:
            StudyError: A parameter changes nothing in the stage, or what samples must have in common.
            UsageError: The stage has no score, or fewer repetitions.
        """
        self.wanted, self.space = wanted, space
        self._loaded, self._index, self._setting = loaded, index, setting
        self._study = loaded.arms[wanted.arm]
        planned = self._repetitions(self._study)
        if not 1 <= wanted.repetitions <= planned:
            raise UsageError(
                f"--repeats {wanted.repetitions}: stage {wanted.stage!r} has {planned} repetitions in this "
                "study"
            )
        self.selections: dict[str, Selection] = {}
        self.planned: dict[str, TrialSpec] = {}
        self.base = self._expanded(self._study)
        identity = self.base[0].identity
        if identity.score is None:
            raise UsageError(
                f"--stage: stage {wanted.stage!r} has no score by which samples could be compared"
            )
        self._judge = identity.training.model_dump(mode="json", include=set(identity.judged_by))
        self.score = identity.score
        longest = max(trial.max_epochs for trial in self.base)
        halving = {"grace_epochs": max(1, longest // REDUCTION**3), "reduction": REDUCTION}
        self.asha = halving if wanted.asha else None
        self.tuning_id = short_id(self._identity())
        self._probe()

    def sample(self, number: int, parameters: Mapping[str, Any]) -> SampleSpec:
        """Returns the sample of a number.

        Raises:
            StudyError: The parameters are valid one by one and not together.
        """
        trials = self._expanded(self.space.applied(self._study, parameters))
        sample_id = short_id({"tuning": self.tuning_id, "number": number, "trials": _ids(trials)})
        return SampleSpec(sample_id, self.tuning_id, number, dict(parameters), trials, self._judge)

    def invalid(self, number: int, parameters: Mapping[str, Any], error: StudyError) -> SampleRecord:
        """Returns the record of a sample whose parameters are not valid together."""
        return SampleRecord(
            sample_id=short_id({"tuning": self.tuning_id, "number": number, "trials": []}),
            tuning_id=self.tuning_id,
            number=number,
            parameters=dict(parameters),
            outcome="invalid",
            max_epochs=max(trial.max_epochs for trial in self.base),
            better=self.score.better,
            repetitions=(),
            reason="; ".join(problem.what for problem in error.problems),
        )

    def overrides(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns what the searched arm with these parameters changes: dotted path -> value."""
        draft = self._loaded.drafts.get(self.wanted.arm)
        own = {".".join(override.path): override.value for override in draft.written} if draft else {}
        return with_parameters(own, parameters)

    @property
    def earlier(self) -> tuple[Tuned, ...]:
        """The searches that values of the searched arm come from."""
        return self._loaded.tuned.get(self.wanted.arm, ())

    @property
    def parents(self) -> dict[str, str]:
        """The study's trials that samples start from: id -> `arm/stage/rNN`."""
        return {parent: self.planned[parent].name for trial in self.base for parent in trial.parents}

    def to_json(self) -> dict[str, Any]:
        """Returns the document of the search, for reports."""
        return {
            "version": RECORD_VERSION,
            "tuning_id": self.tuning_id,
            "study": self._loaded.base.study,
            "profile": self._loaded.profile,
            **asdict(self.wanted),
            **self._identity(),
            "judge": self._judge,
            "score": {**asdict(self.score), "label": self.score.label},
            "space_sha256": sha256_of(self.space.to_json()),
            "validated_on": [self._validated_on(trial) for trial in self.base],
            "held_out": self.held_out,
        }

    def _identity(self) -> dict[str, Any]:
        return {
            "untuned": _ids(self.base),
            "space": self.space.to_json(),
            "search": self.wanted.search,
            "asha": self.asha,
            "seed": self.wanted.seed,
        }

    def _expanded(self, study: Study) -> tuple[TrialSpec, ...]:
        """The trials of the stage in the arm's study, with nothing to evaluate."""
        arm, stage = self.wanted.arm, self.wanted.stage
        needed_arms = taken_from({**self._loaded.arms, arm: study}, arm)
        arms = {name: config for name, config in self._loaded.arms.items() if name in needed_arms}
        by_others = {
            producer.stage
            for name, config in arms.items()
            for each in config.stages.values()
            for producer in each.producers
            if name != arm and producer.arm == arm
        }
        number = min(self.wanted.repetitions, self._repetitions(study))
        arms[arm] = only(study, stage, number, arm=arm, others=sorted(by_others))
        plan = expand(replace(self._loaded, arms=arms), self._index, self._setting)
        trials = [
            trial
            for trial in plan.trials
            if trial.stage == stage and arm in trial.arms and trial.fold is None
        ]
        for trial in trials:
            needed = [cases.selection for cases in trial.trained]
            needed += [each.selection for each in trial.predicted]
            self.selections |= {digest: plan.selections[digest] for digest in needed}
        self.planned |= plan.by_id
        self.held_out = plan.selector.hold_outs
        return tuple(
            replace(
                trial,
                data={
                    name: trial.data[name]
                    for cases in trial.trained
                    for name in single_sections(cases.source)
                },
                evaluations=(),
                features=None,
            )
            for trial in trials
        )

    def _repetitions(self, study: Study) -> int:
        return study.stages[self.wanted.stage].repetitions or study.repetitions

    def _probe(self) -> None:
        problems = [
            Problem(f"{self.space.name}:{parameter.line}", f"{parameter.written} {what}")
            for parameter in self.space.parameters
            if (what := self._misuse(parameter))
        ]
        if problems:
            raise StudyError(problems)

    def _misuse(self, parameter: Parameter) -> str:
        """Returns why a parameter may not vary; empty if it may."""
        alone = replace(self.space, parameters=(parameter,))
        studies = [alone.applied(self._study, {parameter.path: value}) for value in parameter.values]
        probed = [self._expanded(study) for study in studies]
        for trials in probed:
            if difference := self._difference(trials):
                return difference
        if len(probed) > 1 and _ids(probed[0]) == _ids(probed[-1]):
            return f"changes nothing in a training of stage {self.wanted.stage!r}; leave it out"
        return ""

    def _difference(self, trials: Sequence[TrialSpec]) -> str:
        """Returns what samples must have in common and trials have not; empty if they have."""
        for trial, untuned in zip(trials, self.base, strict=False):
            if trial.inputs != untuned.inputs:
                return (
                    f"changes what stage {self.wanted.stage!r} takes from other trials; a search tunes one "
                    "stage on given weights, masks and gates: vary `training.*`, or tune the other stage"
                )
            if self._validation(trial) != self._validation(untuned):
                return "changes the validation cases, by which samples are compared"
            if trial.identity.image_size != untuned.identity.image_size:
                return "changes the image size, at which samples are compared"
        if len(trials) != len(self.base):
            return "changes the number of repetitions; give it by --repeats"
        return ""

    def _validation(self, trial: TrialSpec) -> list[str]:
        rows = (row for cases in trial.trained for row in self.selections[cases.selection].rows)
        return [row[0] for row in rows if row[1] == "validation"]

    def _validated_on(self, trial: TrialSpec) -> dict[str, Any]:
        """What samples are compared on in the repetition of an untuned trial."""
        digests = self._validation(trial)
        sections = [
            (name, read)
            for cases in trial.trained
            for name in single_sections(cases.section)
            for read in (self._study.section_of(trial.stage, name), self._study.data[name].reading(()))
        ]
        patients = {case.digest: case.patient for name, own in sections for case in self._index(name, own)}
        return {
            "repetition": trial.repetition,
            "seed": trial.identity.seed,
            "section": trial.section,
            "cases": len(digests),
            "patients": len({patients[digest] for digest in digests}),
            "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        }


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


def taken_from(arms: Mapping[str, Study], arm: str) -> frozenset[str]:
    """Returns an arm and all arms whose predictions its stages take, and theirs."""
    found, left = {arm}, [arm]
    while left:
        stages = arms[left.pop()].stages.values()
        others = {each.arm for stage in stages for each in stage.producers} - found - {""}
        found |= others
        left += sorted(others)
    return frozenset(found)


def only(study: Study, stage: str, repetitions: int, *, arm: str = "", others: Sequence[str] = ()) -> Study:
    """Returns a study with one stage and all it needs, so many repetitions of it, and nothing to evaluate.

    Args:
        study: Of an arm.
        stage: The stage.
        repetitions: Of the stage.
        arm: Name of the arm, by which stages may call their own arm.
        others: Stages whose predictions other arms take; they are kept, too.
    """
    stages: dict[str, Stage] = {}
    needed = deque([(stage, True), *((name, False) for name in others if name != stage)])
    while needed:
        name, paired = needed.popleft()
        if name in stages:
            continue
        config = study.stages[name]
        number = (
            repetitions if paired and config.repetitions and config.repetitions > 1 else config.repetitions
        )
        changes: dict[str, Any] = {} if config.weights else {"repetitions": number, "evaluate_on": []}
        stages = {name: config.model_copy(update=changes), **stages}
        origins = ((parent, paired and config.chaining == "paired") for parent in config.origins.values())
        producers = ((producer.stage, paired) for producer in config.producers if producer.arm in ("", arm))
        needed += [each for each in (*origins, *producers) if each[0] not in stages]
    return study.model_copy(update={"stages": stages})


def _ids(trials: Sequence[TrialSpec]) -> list[str]:
    return [trial.trial_id for trial in trials]
