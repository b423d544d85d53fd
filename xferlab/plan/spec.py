"""Hand-over values of the plan: one trial, and what it is measured on. JSON round trip, no torch.

`PLAN_VERSION` is that of the document that `plan.document` makes; it stands here for readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from xferlab.cohort import single_sections
from xferlab.errors import other_version
from xferlab.plan.identity import short_id
from xferlab.tasks import registry
from xferlab.tasks.config import ORIGINAL, TrialIdentity

WEIGHTS, MASKS, GATE = "starts_from", "masks", "gate"
"""Roles: the weights that a training starts from, masks that another stage predicts, and who may train."""

SPEC_VERSION = 3
PLAN_VERSION = 4


@dataclass(frozen=True)
class Predicted:
    """Cases of which a trial needs what another one predicts.

    Attributes:
        role: What the predictions are to it: `masks` or `gate`.
        trial: Id of the trial that predicts.
        selection: Digest of the stored selection with the predicted cases.
        set_name: The set of the predicting trial's task that the cases are of; empty where that has one, and
            for cases of the set that it is to predict, or of none.
    """

    role: str
    trial: str
    selection: str
    set_name: str = ""

    @property
    def of(self) -> tuple[str, ...]:
        """The trial, and the set if it has a name."""
        return (self.trial, self.set_name) if self.set_name else (self.trial,)


LABELLED = "labelled"
"""Behind the name of a set of cases: those of it whose masks are read, `b.labelled`."""


@dataclass(frozen=True)
class OtherSet:
    """More cases that a trial trains and selects with, beside those of `TrialSpec.selection`.

    Attributes:
        name: What they are to the task: a name of `Task.sets`, with `.labelled` behind it for those whose
            masks are read; the others are images alone.
        section: Data section, or set of sections, of the cases.
        source: Keys of the cases' configuration in `TrialSpec.data`, joined by `+`.
        selection: Digest of the stored selection.
    """

    name: str
    section: str
    source: str
    selection: str


@dataclass(frozen=True)
class EvaluationSpec:
    """One set of cases that a trial's best weights are measured on.

    Attributes:
        evaluation_id: Hash of the trial's id, the evaluated cases, output kind and metrics version.
        section: Data section of the cases.
        part: `train`, `validation`, `test` or `hold_out`.
        selection: Digest of the stored selection.
        overlay_cases: Cases per pathology whose image, target and output are stored.
        parent_may_have_seen: An ancestor of another repetition trained on some of these patients.
        arms: The arms that ask for it; a trial that arms share may be measured on other cases for each.
        source: Key of the cases' configuration in `TrialSpec.data`; empty: the section's name.
        variant: Foreign object laid on the images, or `original` to measure at the images' own size; empty:
            the cases as the network takes them.
        predicted: Predictions that it needs: every case once for each role.
        marks: What the cases mark of what the trial learns, or of what its task makes of it; empty for all.
        set_name: The set of the trial's task that the cases are of; empty where that has one.
        metrics: Name of each metric of an installed package that they are measured by, with name and version
            of the package.
    """

    evaluation_id: str
    section: str
    part: str
    selection: str
    overlay_cases: int
    parent_may_have_seen: bool = False
    arms: tuple[str, ...] = ()
    source: str = ""
    variant: str = ""
    predicted: tuple[Predicted, ...] = ()
    marks: tuple[str, ...] = ()
    set_name: str = ""
    metrics: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """`section.part`, with `@variant` if there is one."""
        return f"{self.section}.{self.part}" + (f"@{self.variant}" if self.variant else "")

    @property
    def read_as(self) -> str:
        """Key of the cases' configuration in `TrialSpec.data`; of a set the keys, joined by `+`."""
        return self.source or self.section

    @property
    def read_name(self) -> str:
        """The name with `read_as` in the place of the section: no two sets of a trial share it."""
        return self.read_as + self.name.removeprefix(self.section)

    @property
    def at_original_size(self) -> bool:
        """Whether outputs are stretched back to the images' own size before they are measured."""
        return self.variant == ORIGINAL

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value, without what it does not have of the fields that few evaluations have."""
        value = {**vars(self), "arms": list(self.arms), "predicted": list(map(asdict, self.predicted))}
        return without_nothing(value, "predicted", "marks", "set_name", "metrics")


@dataclass(frozen=True)
class FeaturesSpec:
    """The few cases on which a trial's network shows its features, before and after training.

    Attributes:
        features_id: Hash of the trial's id, the cases, the resolution, the layers and the version.
        section: Data section of the cases.
        selection: Digest of the stored selection, the same for all trials of a study.
        source: Key of the cases' configuration in `TrialSpec.data`.
        predicted: Predictions that are needed of the cases.
    """

    features_id: str
    section: str
    selection: str
    source: str
    predicted: tuple[Predicted, ...] = ()


@dataclass(frozen=True)
class Donor:
    """Weights from outside the study that a trial starts from.

    Attributes:
        stage: Name of the stage that gives them.
        name: Their published name; None for a file.
        path: The file; None for published weights.
        sha256: Digest of the file; None while it is not known.
    """

    stage: str
    name: str | None = None
    path: str | None = None
    sha256: str | None = None

    @property
    def title(self) -> str:
        """What messages call them: the published name or the path."""
        return self.name or self.path or ""

    @property
    def digest(self) -> str:
        """The digest, which is known of every trial that runs."""
        assert self.sha256 is not None
        return self.sha256


@dataclass(frozen=True)
class Input:
    """What a trial takes from other trials, or from outside the study.

    Attributes:
        role: What it is to the trial: `starts_from` for the weights that its training starts from, or
            `starts_from.NAME` for those of one of several networks; `masks` or `gate` for predictions.
        trials: Ids of the trials that give it; several with chaining `best`, of which one is chosen. Of
            predictions, the trial of the same repetition, and behind it those that predict out of fold.
        donor: Given weights in their place.
        names: What is taken of predictions: structures, or the classes that a gate lets pass.
        places: The places of `names` among the targets of the trials that predict, from 0.
        threshold: From which probability on a structure is there; None where none is predicted.
    """

    role: str
    trials: tuple[str, ...] = ()
    donor: Donor | None = None
    names: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    threshold: float | None = None

    @property
    def network(self) -> str | None:
        """The network whose weights it gives; empty for all of the trial's; None for another role."""
        role, _, name = self.role.partition(".")
        return name if role == WEIGHTS else None

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Input:
        """Returns the input that `to_json` wrote."""
        given: Input = _adapter(Input).validate_python(value)
        return given

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value, without what is about predictions where it gives none."""
        value = {**vars(self), "trials": list(self.trials), "donor": self.donor and asdict(self.donor)}
        about_predictions = {"names", "places", "threshold"} if self.network is not None else set()
        return {name: item for name, item in value.items() if name not in about_predictions}


@dataclass(frozen=True)
class Reservation:
    """What an executor reserves for a trial: CPU cores, GPUs, and host memory in GiB."""

    cpu: float = 1.0
    gpu: float = 0.0
    memory_gib: float | None = None


@dataclass(frozen=True)
class Settings:
    """What a trial needs besides its identity; nothing here changes its weights.

    Attributes:
        study: Name of the study.
        seed: The study's seed.
        checkpoint_every_s: Time between two checkpoints.
        resources: What an executor reserves.
        tracking: The study's section `tracking.wandb`; None without a mirror.
        keep_states: Whether the state at the end of the training is kept, for a longer one.
        profile: The study's profile; None without one.
    """

    study: str = ""
    seed: int = 0
    checkpoint_every_s: float = 60.0
    resources: Reservation = Reservation()
    tracking: Mapping[str, Any] | None = None
    keep_states: bool = False
    profile: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """What the last plan of a study says of a trial: enough to know its state, not to run it.

    Attributes:
        trial_id: First 16 hex digits of the SHA-256 of its identity.
        name: `arm/stage/rNN` of the first arm that uses it, with `/fN` behind it for one out of fold.
        arms: All arms that use it.
        stage: Stage name.
        repetition: From 1.
        max_epochs: Upper bound on epochs.
        inputs: What it takes from other trials and from outside the study; nothing from scratch.
        evaluations: What to measure when trained.
        features: What to store of its deep features; None where the study does not ask for them.
        coordinates: What the repetition is: `repeat` and `fold` (from 1), or the `site` that is left out;
            empty where it is nothing but a repetition.
        targets: Names of what it learns to tell, such as structures in the order of their masks; empty where
            its task names nothing. In no identity of a trial.
        fold: Of a trial that only predicts, out of fold: the part (from 1) of the training cases that it does
            not train on; it has no evaluations and is in no result. None for all other trials.
    """

    trial_id: str
    name: str
    arms: tuple[str, ...]
    stage: str
    repetition: int
    max_epochs: int
    inputs: tuple[Input, ...] = ()
    evaluations: tuple[EvaluationSpec, ...] = ()
    features: FeaturesSpec | None = None
    coordinates: Mapping[str, int | str] = field(default_factory=dict, hash=False)
    targets: tuple[str, ...] = ()
    fold: int | None = None

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids of all trials that it takes anything from: it is ready when they are complete."""
        return tuple(dict.fromkeys(trial for given in self.inputs for trial in given.trials))

    @property
    def origins(self) -> tuple[Input, ...]:
        """What its training starts from: one for all of its networks, or one a network; none from scratch."""
        return tuple(given for given in self.inputs if given.network is not None)

    def input(self, role: str) -> Input | None:
        """Returns what it takes in a role; None for nothing."""
        return next((given for given in self.inputs if given.role == role), None)

    @property
    def donors(self) -> tuple[Donor, ...]:
        """All given weights that it starts from."""
        return tuple(given.donor for given in self.inputs if given.donor is not None)

    @staticmethod
    def from_entry(entry: Mapping[str, Any]) -> PlannedTrial:
        """Returns a trial of a plan document."""
        trial: PlannedTrial = _adapter(PlannedTrial).validate_python({**entry, "name": entry["names"][0]})
        return trial


@dataclass(frozen=True, kw_only=True)
class TrialSpec(PlannedTrial):
    """Everything needed to run one trial, anywhere, again.

    Attributes:
        identity: What can change the weights.
        section: Data section to train on.
        selection: Digest of the stored selection with the training and validation cases.
        data: Configuration of every section it reads, by name, or by `name@arm` where an arm that shares this
            trial has another configuration under that name; outside the identity.
        settings: What it needs besides its identity.
        predicted: Predictions that it trains and selects with: each of its cases once for each role.
        others: The other sets of cases that it learns from, for a task of several.
    """

    identity: TrialIdentity
    section: str
    selection: str
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Settings = Settings()
    predicted: tuple[Predicted, ...] = ()
    others: tuple[OtherSet, ...] = ()

    @property
    def trained(self) -> tuple[OtherSet, ...]:
        """All sets of cases that it learns from; that of `selection` comes first, without a name."""
        return (OtherSet("", self.section, self.section, self.selection), *self.others)

    @property
    def trained_selections(self) -> tuple[str, ...]:
        """The digests of the selections of `trained`."""
        return (self.selection, *(cases.selection for cases in self.others))

    @property
    def shown(self) -> str:
        """The section, or set of sections, of the validation cases that are shown: those it is to predict."""
        return self.trained[1 if self.others else 0].section

    @property
    def first_set(self) -> str:
        """What its task calls the cases of `selection`; empty where they are all that it learns from."""
        return next(iter(registry.task(self.identity.task).sets), "")

    def set_of(self, section: str) -> str:
        """Returns as what its task predicts the cases of a data section; empty for those it is to predict.

        These are the cases of its second set, and all of sections that it does not learn from.
        """
        return self.first_set if self.others and section in single_sections(self.section) else ""

    @property
    def read_as(self) -> str:
        """Keys in `data` of all sections that it learns from, joined by `+`."""
        return "+".join(dict.fromkeys(cases.source for cases in self.trained))

    @property
    def gpus(self) -> float:
        """The GPUs that it reserves: one on CUDA where its resources name none."""
        return (self.settings.resources.gpu or 1.0) if self.identity.execution.device == "cuda" else 0.0

    @property
    def course_id(self) -> str:
        """Hash of the identity without what only ends the training: what trials share that can continue."""
        return short_id(self.identity.course_of(self.identity.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON value; `from_json` is its inverse."""
        value = {"version": SPEC_VERSION, **asdict(self), "identity": self.identity.to_json()}
        value["inputs"] = [given.to_json() for given in self.inputs]
        value["evaluations"] = [evaluation.to_json() for evaluation in self.evaluations]
        if self.features:
            value["features"] = without_nothing(value["features"], "predicted")
        value["settings"] = without_nothing(value["settings"], "keep_states", "profile")
        return without_nothing(value, "features", "coordinates", "fold", "predicted", "others")

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> TrialSpec:
        """Returns the spec that `to_json` wrote.

        Raises:
            RecordError: Another version of xferlab wrote it.
        """
        if value.get("version") != SPEC_VERSION:
            raise other_version(
                f"the spec of trial {value.get('trial_id')}", value.get("version"), SPEC_VERSION
            )
        identity = registry.identity_of(value["identity"])
        spec: TrialSpec = _adapter(TrialSpec).validate_python({**value, "identity": identity})
        return spec


def without_nothing(value: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    """Returns a JSON value without those of some fields that are null or empty."""
    return {name: item for name, item in value.items() if item or name not in fields}


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    """Reads nested dataclasses from JSON; other fields than theirs are left out."""
    return TypeAdapter(kind)
