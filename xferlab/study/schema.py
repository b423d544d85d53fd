"""The study file as frozen values: every field a line with its default.

The same models validate `jobs/*.yaml` and give editors their JSON Schema (`xferlab schema`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field, field_validator, model_validator

from xferlab.analysis.published import papers
from xferlab.cohort import Labelling, single_sections
from xferlab.data.sources.registry import NAMING_COLUMNS, DataSection
from xferlab.errors import suggest
from xferlab.section import NO_BOOL, Float, Int, Name, Scalar, Section
from xferlab.study.evaluated import Evaluated
from xferlab.tasks import registry
from xferlab.tasks.config import Engine, Task, Training
from xferlab.tasks.roles import Gate, Masks

if TYPE_CHECKING:
    PaperName = str
else:  # papers are folders, so their names are known at run time only
    PaperName = Literal[papers()]


class Split(Section):
    """How patients are divided in every repetition; a split knows no stage."""

    train: Float = Field(0.6, gt=0, lt=1)
    """Share of patients to train on."""
    validation: Float = Field(0.2, gt=0, lt=1)
    """Share of patients to stop and select on; with `by`, of those who do not test."""
    test: Float = Field(0.2, ge=0, lt=1)
    """Share of patients for the unbiased test."""
    folds: Annotated[int, Field(ge=3, le=1_000), NO_BOOL] | None = None
    """Cross-validation: one of so many folds tests, the next one selects, the others train."""
    repeats: Int = Field(1, ge=1, le=1_000)
    """How often `folds` divide all patients anew; a study has repeats x folds repetitions."""
    by: str | None = Field(None, pattern=r"\S")
    """A column of the data, such as of hospitals: in each repetition, the patients of another one test."""
    file: str | None = Field(None, pattern=r"\S")
    """Somebody else's split: CSV with the columns patient_id (or image), part and, if wanted, repetition."""
    group_by: Literal["patient_id"] | None = "patient_id"
    """null splits images as the paper does; the plan then reports how many patients straddle."""
    require_classes: list[str] = Field(default_factory=list)
    """Pathologies that every part must contain; elsewhere a missing one is a warning."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + validation + test is {total:g}; it must be 1")
        return self

    @model_validator(mode="after")
    def _one_rule(self) -> Split:
        rules = [name for name in ("folds", "by", "file") if getattr(self, name) is not None]
        shares = [name for name in ("train", "validation", "test") if name in self.model_fields_set]
        if len(rules) > 1:
            raise ValueError(f"{' and '.join(rules)} each divide the patients; give one of them")
        if rules and rules != ["by"] and shares:
            raise ValueError(f"with {rules[0]} there are no shares; leave {', '.join(shares)} out")
        if self.repeats > 1 and self.folds is None:
            raise ValueError("repeats are for folds; give `folds`, or leave repeats out")
        if self.by in NAMING_COLUMNS:
            raise ValueError(
                f"by: {self.by} names patients or images, and records would hold these names; give a column "
                "of sites, such as hospitals, or divide patients into `folds`"
            )
        return self

    @property
    def num_repetitions(self) -> int | None:
        """Repetitions of a study with `folds`; None where the study or its data decide."""
        return self.folds * self.repeats if self.folds else None

    @property
    def has_test(self) -> bool:
        """Whether there is a test part."""
        return self.test > 0 or self.by is not None

    @property
    def is_open(self) -> bool:
        """Whether only the data or a file tell how many repetitions there are."""
        return self.by is not None or self.file is not None


class Weights(Section):
    """Weights from outside the study."""

    name: str | None = None
    """Published weights by name, such as `buda2019`."""
    path: str | None = None
    """A local file; `${NAME}` is taken from the environment."""
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """The digest that the file must have."""

    @model_validator(mode="after")
    def _one_origin(self) -> Weights:
        if (self.name is None) == (self.path is None):
            raise ValueError("give either a name or a path")
        return self


def _of_ten_thousandths(value: float) -> float:
    if value != round(value, 4):
        raise ValueError(f"{value:g} is finer than Ray divides a resource; give a multiple of 0.0001")
    return value


def _whole_above_one(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError(f"{value:g} is neither a share of one GPU nor a whole number of them")
    return value


class Resources(Section):
    """What Ray reserves for one trial; never part of an identity."""

    cpu: Annotated[Float, AfterValidator(_of_ten_thousandths)] = Field(1.0, gt=0)
    """CPU cores."""
    gpu: Annotated[Float, AfterValidator(_of_ten_thousandths), AfterValidator(_whole_above_one)] = Field(
        0.0, ge=0
    )
    """GPUs; 0.25 packs four trials on one. A CUDA trial that names none gets a whole one; CPU trials none."""
    memory_gib: Annotated[float, Field(gt=0), NO_BOOL] | None = None
    """Host memory to reserve."""


def _known_task(name: str) -> str:
    if name not in registry.names():
        names = registry.names()
        raise ValueError(f"{name!r} is no task ({', '.join(names)}).{suggest(name, names)}")
    return name


def _or_bare_name(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string"})


MASKS, GATE = "masks", "gate"


class Producer(NamedTuple):
    """A stage whose predictions another stage takes: in which role, and of which arm (empty: its own)."""

    role: str
    arm: str
    stage: str


class Classes(Section):
    """What whole images are labelled with."""

    column: str = Field("pathology", pattern=r"\S")
    """The column of the data sections that tells the class of an image."""
    names: dict[Name, Annotated[list[Scalar], Field(min_length=1)]] | None = None
    """The values of each class, in the order of the labels; images with other values take no part. Default:
    a class for each value of the column, by name."""

    @model_validator(mode="after")
    def _each_value_once(self) -> Classes:
        if self.names is not None and len(self.names) < 2:
            raise ValueError("names has fewer than two classes; to tell classes apart takes two")
        seen: dict[str, str] = {}
        for name, values in (self.names or {}).items():
            for value in values:
                if (other := seen.setdefault(str(value), name)) != name:
                    raise ValueError(f"the value {value!r} is in the classes {other!r} and {name!r}")
        return self

    @property
    def labelling(self) -> Labelling:
        """What it says of a case; there are names."""
        named = (self.names or {}).items()
        return Labelling(self.column, tuple((name, tuple(values)) for name, values in named))


class Stage(Section):
    """One training phase, or (with `weights`) a donor that is not trained here."""

    task: Annotated[str, AfterValidator(_known_task)] = registry.DEFAULT
    """What is learnt."""
    data: str | Annotated[list[str], Field(min_length=1)] | None = None
    """The data section to train on; several are one set of cases, `a+b`."""
    structures: list[Name] | None = None
    """Structures whose masks it reads, in this order; default: those that the section reads."""
    classes: Classes | None = None
    """What whole images are labelled with, for tasks that learn labels; default: their pathology."""
    model: dict[str, Any] = Field(default_factory=dict)
    """Fields of the network that differ in this stage."""
    weights: Weights | None = Field(None, json_schema_extra=_or_bare_name)
    """Published or local weights in place of a training; a bare name is enough."""
    starts_from: str | Annotated[dict[Name, str], Field(min_length=1)] | None = None
    """The stage whose best weights this one starts from; null starts from random weights. `{NETWORK: STAGE}`
    starts single networks of a task that has several."""
    chaining: Literal["paired", "best"] = "paired"
    """`paired`: repetition k from repetition k. `best`: all from the parent of the best score."""
    adapt: dict[str, Any] | None = None
    """How the weights it starts from are taken over."""
    masks: dict[str, Any] | None = None
    """Masks that another stage predicts, for tasks that read such masks."""
    gate: Gate | None = None
    """Train only on what another stage takes for one of some classes; all cases are measured."""
    label_fraction: Float | None = Field(None, ge=0, le=1)
    """Train on this share of the training patients only, drawn anew in each repetition, where smaller shares
    are subsets of larger ones; 0 keeps none."""
    stratified: bool = True
    """false takes `label_fraction` of all training patients together, not of each section and pathology."""
    evaluate_on: list[str] | None = None
    """`section.part` names; default: the stage's own test part. `@implant`, `@cable`, `@electrode` or
    `@marker` behind a part lays such an object on every image; `@original` measures at the original size."""
    repetitions: Annotated[int, Field(ge=1, le=10_000), NO_BOOL] | None = None
    """Default: the study's number; 1 for a stage that needs no other and whose weights others start from, if
    no stage takes its predictions."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Training fields that differ in this stage; of a mapping such as `plateau`, the fields that differ."""
    resources: Resources | None = None
    """Default: the study's."""

    @field_validator("weights", mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("evaluate_on")
    @classmethod
    def _section_and_part(cls, value: list[str] | None) -> list[str] | None:
        for item in value or []:
            Evaluated.of(item)
        return value

    @model_validator(mode="after")
    def _trained_or_given(self) -> Stage:
        if (self.data is None) == (self.weights is None):
            raise ValueError("a stage has either `data` to train on or `weights` that are given")
        trained = (
            self.starts_from, self.evaluate_on, self.model, self.training, self.adapt, self.structures,
            self.classes, self.masks, self.gate,
        )  # fmt: skip
        if self.weights is not None and (any(trained) or self.label_fraction is not None):
            raise ValueError(
                "a stage with given weights has no starts_from, evaluate_on, structures, classes, model, "
                "training, adapt, masks, gate or label_fraction"
            )
        if self.adapt is not None and self.starts_from is None:
            raise ValueError(
                "there is nothing to adapt in a stage that starts from random weights; give starts_from"
            )
        if isinstance(self.data, list) and len(set(self.data)) != len(self.data):
            raise ValueError(f"data names a section twice: {', '.join(self.data)}")
        if not self.stratified and self.label_fraction is None:
            raise ValueError("stratified is about label_fraction, which this stage lacks; leave it out")
        return self

    @property
    def section(self) -> str | None:
        """What it trains on: a data section, or a set of several (`a+b`)."""
        return self.data if self.data is None or isinstance(self.data, str) else "+".join(self.data)

    @property
    def origins(self) -> dict[str, str]:
        """The stages that it starts from, by the network that does; an empty name is all of its networks."""
        if self.starts_from is None or isinstance(self.starts_from, str):
            return {"": self.starts_from} if self.starts_from else {}
        return self.starts_from

    @property
    def producers(self) -> tuple[Producer, ...]:
        """The stages whose predictions it takes; of masks, those that its fields name if they are valid."""
        source = self.masks.get("from") if self.masks else None
        named = {MASKS: source, GATE: self.gate and self.gate.source}
        return tuple(
            Producer(role, *name.rpartition(".")[::2])
            for role, name in named.items()
            if isinstance(name, str)
        )


class Features(Section):
    """Deep features of every trial on the same few cases, so that stages can be compared layer by layer."""

    on: str
    """`section.hold_out`: cases that no stage has trained on; of each pathology by its share."""
    cases: Int = Field(64, ge=4, le=64)
    """Number of cases; all that are held out if there are fewer."""

    @field_validator("on")
    @classmethod
    def _hold_out(cls, value: str) -> str:
        section, _, part = value.partition(".")
        if not section or part != "hold_out":
            raise ValueError(
                f"{value!r} is not `section.hold_out`; only a hold-out is the same for all trials"
            )
        return value


_NOT_IN_WANDB_NAMES = "/\\#?%:"
_LONGEST_WANDB_NAME = 128


def _wandb_name(value: str) -> str:
    """What W&B checks itself (`wandb.Settings.validate_project`), but not before a trial runs."""
    if not value.strip():
        raise ValueError("the name is empty")
    if len(value) > _LONGEST_WANDB_NAME:
        raise ValueError(f"the name has {len(value)} characters; W&B takes at most {_LONGEST_WANDB_NAME}")
    if refused := "".join(dict.fromkeys(letter for letter in value if letter in _NOT_IN_WANDB_NAMES)):
        listed = " ".join(_NOT_IN_WANDB_NAMES)
        hint = "; give the team as `entity`" if "/" in refused else ""
        raise ValueError(f"{value!r} has {refused!r}, and W&B refuses {listed} in names{hint}")
    return value


def _wandb_entity(value: str) -> str:
    if any(letter.isspace() for letter in value):
        raise ValueError(f"{value!r} has a blank; the name of a W&B team or user has none")
    return _wandb_name(value)


class Wandb(Section):
    """The mirror in Weights & Biases."""

    project: Annotated[str, AfterValidator(_wandb_name)] = "xferlab"
    """Project name."""
    entity: Annotated[str, AfterValidator(_wandb_entity)] | None = None
    """Team or user; default: the account's own."""
    mode: Literal["online", "offline", "disabled"] = "offline"
    """`offline` writes files that `wandb sync` uploads."""
    images: Int = Field(4, ge=0, le=64)
    """Validation overlays a trial logs, of shareable sections only."""


class Tracking(Section):
    """Where records are mirrored; the records themselves are the truth."""

    wandb: Wandb | None = None
    """null: no mirror."""


class Study(Section):
    """One study: stages x arms x repetitions. Arms and profiles are overrides by dotted path."""

    study: Name
    """Name; the folder of the study's plan and the key of its tables."""
    seed: Int = Field(0, ge=0)
    """All randomness descends from it."""
    repetitions: Int = Field(25, ge=1, le=10_000)
    """Independent seeded reruns of every stage."""
    storage: str = "./xferlab-results"
    """Folder or URI (`s3://bucket/prefix`); relative paths start at the study file."""
    data: dict[Name, DataSection] = Field(min_length=1)
    """Data sections by name."""
    split: Split = Field(default_factory=Split)
    """Division of patients in each repetition."""
    model: registry.DefaultModel = Field(default_factory=registry.DefaultModel)
    """The network of the stages of the default task."""
    stages: dict[Name, Stage] = Field(min_length=1)
    """Stages by name, each after the one that it starts from."""
    training: registry.DefaultTraining = Field(default_factory=registry.DefaultTraining)
    """Defaults of all stages; those of another task take from it where and how exactly they compute."""
    resources: Resources = Field(default_factory=Resources)
    """Defaults of all stages."""
    retries: Int = Field(1, ge=0, le=100)
    """How often a failed trial is tried again before its descendants are blocked."""
    keep_states: bool = False
    """Keep the full state at the end of each training, so that a longer one continues there."""
    overlay_cases: Int = Field(4, ge=0, le=64)
    """Cases per pathology whose image, target and output are stored with each evaluation."""
    features: Features | None = None
    """What is stored for the analysis of deep features; null: nothing."""
    tracking: Tracking = Field(default_factory=Tracking)
    """Mirrors."""
    compare_to: PaperName | None = None
    """Published values to print beside this study's."""
    note: str | None = None
    """A sentence that stands under every table."""

    def task_of(self, stage: str) -> Task:
        """Returns the task of a stage."""
        return registry.task(self.stages[stage].task)

    def classes_of(self, stage: str) -> Classes | None:
        """Returns what a stage's images are labelled with; None where its task learns no labels."""
        return (self.stages[stage].classes or Classes()) if self.task_of(stage).reads_labels else None

    def section_of(self, stage: str, section: str) -> DataSection:
        """Returns a data section as a stage reads it: the images, and the masks of its structures.

        A stage without `structures` reads those of the section that it trains on in all others, too. Where
        each has one by itself, its name does not matter.
        """
        config, structures = self.data[section], self.stages[stage].structures
        if not self.task_of(stage).reads_masks:
            return config.reading(())
        if structures is not None:
            return config.reading(structures)
        trained = self.data.get(single_sections(self.stages[stage].section or "")[0], config).targets
        return config if len(trained) == len(config.targets) == 1 else config.reading(trained)

    def targets_of(self, stage: str) -> tuple[str, ...]:
        """Returns the names of what a stage learns to tell, in order; empty where its task names nothing."""
        section = single_sections(self.stages[stage].section or "")[0]
        if section not in self.data or not self.task_of(stage).targets:
            return ()
        if classes := self.classes_of(stage):
            return classes.labelling.names
        return self.section_of(stage, section).targets

    def training_of(self, stage: str) -> Training:
        """Returns the training of one stage: the study's, with the fields that the stage changes.

        Raises:
            pydantic.ValidationError: The stage changes a field that does not exist, or to a bad value; never
                in a study that was loaded.
        """
        shared = None if self.stages[stage].task == registry.DEFAULT else set(Engine.model_fields)
        base = self.training.model_dump(include=shared)
        return self.task_of(stage).training.model_validate(_merged(base, self.stages[stage].training))

    def model_of(self, stage: str) -> Section:
        """Returns the section `model` of one stage: the study's, with the fields that the stage changes.

        Raises:
            pydantic.ValidationError: As in `training_of`.
        """
        base = self.model.model_dump() if self.stages[stage].task == registry.DEFAULT else {}
        return self.task_of(stage).model.model_validate(_merged(base, self.stages[stage].model))

    def adapt_of(self, stage: str) -> Section | None:
        """Returns how a stage takes over weights; None where it says nothing.

        Raises:
            pydantic.ValidationError: As in `training_of`.
        """
        section, value = self.task_of(stage).adapt, self.stages[stage].adapt
        return section.model_validate(value) if section is not None and value is not None else None

    def masks_of(self, stage: str) -> Masks | None:
        """Returns the masks that a stage takes from another one; None where it takes none.

        Raises:
            pydantic.ValidationError: As in `training_of`.
        """
        section, value = self.task_of(stage).masks, self.stages[stage].masks
        return section.model_validate(value) if section is not None and value is not None else None

    def lineage(self, stage: str) -> list[str]:
        """Returns a stage and what all of its networks start from, from the root down."""
        names = [stage]
        while (parent := self.stages[names[0]].origins.get("")) is not None:
            names.insert(0, parent)
        return names

    def needs(self, stage: str) -> list[str]:
        """Returns the stages of the study that a stage needs in any role."""
        producers = (producer.stage for producer in self.stages[stage].producers if not producer.arm)
        return list(dict.fromkeys([*self.stages[stage].origins.values(), *producers]))

    def generation(self, stage: str) -> int:
        """Returns how many stages stand above a stage, in its longest line; 0 if it needs none."""
        return max((1 + self.generation(needed) for needed in self.needs(stage)), default=0)

    def network_of(self, stage: str) -> Any:
        """Returns the network of one stage: its model, as adapted by the stage and those before it."""
        adaptations = [self.adapt_of(name) for name in self.lineage(stage)]
        return self.task_of(stage).network(self.model_of(stage), adaptations, self.targets_of(stage))

    def resources_of(self, stage: str) -> Resources:
        """Returns what one stage reserves: its own `resources`, else the study's."""
        return self.stages[stage].resources or self.resources


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in changes.items()
    }
    return {**base, **inner}
