"""The study file as frozen values: every field a line, every default the one of methods vidal2021.

The same models validate `jobs/*.yaml` and give editors their JSON Schema (`xferlab schema`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from xferlab.data.sources.registry import DataSection
from xferlab.section import NO_BOOL, Float, Int, Name, Section
from xferlab.study.adapt import Adapt, Sixteens, Tiling
from xferlab.study.evaluated import Evaluated
from xferlab.study.training import Training


class Split(Section):
    """How patients are divided in every repetition; a split knows no stage."""

    train: Float = Field(0.6, gt=0, lt=1)
    """Share of patients to train on."""
    validation: Float = Field(0.2, gt=0, lt=1)
    """Share of patients to stop and select on."""
    test: Float = Field(0.2, ge=0, lt=1)
    """Share of patients for the unbiased test."""
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


class Model(Section):
    """The network; all stages of an arm share it."""

    name: Literal["unet"] = "unet"
    """Architecture."""
    init_features: Int = Field(32, ge=1, le=512)
    """Width of the first level; each level doubles it."""
    in_channels: Int = Field(3, ge=1, le=64)
    """Grey images are repeated over these channels."""
    image_size: Sixteens | Literal["native"] = 256
    """Side in pixels, divisible by 16; images are stretched to the square. `native`: each as it is."""
    tiles: Tiling | None = None
    """With `image_size: native`: train and predict on tiles; null takes images whole."""

    @model_validator(mode="after")
    def _tiles_of_native_images(self) -> Model:
        if self.tiles is not None and self.image_size != "native":
            raise ValueError(
                f"tiles are cut from images of native size, and image_size is {self.image_size}; "
                "set image_size to native, or leave tiles out"
            )
        return self


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


def _or_bare_name(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "string"})


class Stage(Section):
    """One training phase, or (with `weights`) a donor that is not trained here."""

    data: str | None = None
    """The data section to train on."""
    weights: Weights | None = Field(None, json_schema_extra=_or_bare_name)
    """Published or local weights in place of a training; a bare name is enough."""
    starts_from: str | None = None
    """The stage whose best weights this one starts from; null starts from random weights."""
    chaining: Literal["paired", "best"] = "paired"
    """`paired`: repetition k from repetition k. `best`: all from the parent of lowest validation loss."""
    adapt: Adapt | None = None
    """How the weights it starts from are taken over."""
    label_fraction: Float | None = Field(None, gt=0, le=1)
    """Train on this share of the training patients only; smaller shares are subsets of larger ones."""
    evaluate_on: list[str] | None = None
    """`section.part` names; default: the stage's own test part. `@implant`, `@cable`, `@electrode` or
    `@marker` behind a part lays such an object on every image; `@original` measures at the original size."""
    repetitions: Annotated[int, Field(ge=1, le=10_000), NO_BOOL] | None = None
    """Default: the study's number; 1 for a stage that nothing precedes and that others start from."""
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
        trained = (self.starts_from, self.evaluate_on, self.training, self.adapt, self.label_fraction)
        if self.weights is not None and any(trained):
            raise ValueError(
                "a stage with given weights has no starts_from, evaluate_on, training, adapt or "
                "label_fraction"
            )
        if self.adapt is not None and self.starts_from is None:
            raise ValueError(
                "there is nothing to adapt in a stage that starts from random weights; give starts_from"
            )
        return self


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
    if refused := "".join(dict.fromkeys(one for one in value if one in _NOT_IN_WANDB_NAMES)):
        listed = " ".join(_NOT_IN_WANDB_NAMES)
        hint = "; give the team as `entity`" if "/" in refused else ""
        raise ValueError(f"{value!r} has {refused!r}, and W&B refuses {listed} in names{hint}")
    return value


def _wandb_entity(value: str) -> str:
    if any(one.isspace() for one in value):
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
    model: Model = Field(default_factory=Model)
    """The network."""
    stages: dict[Name, Stage] = Field(min_length=1)
    """Stages by name, each after the one that it starts from."""
    training: Training = Field(default_factory=Training)
    """Defaults of all stages."""
    resources: Resources = Field(default_factory=Resources)
    """Defaults of all stages."""
    retries: Int = Field(1, ge=0, le=100)
    """How often a failed trial is tried again before its descendants are blocked."""
    overlay_cases: Int = Field(4, ge=0, le=64)
    """Cases per pathology whose image, target and output are stored with each evaluation."""
    features: Features | None = None
    """What is stored for the analysis of deep features; null: nothing."""
    tracking: Tracking = Field(default_factory=Tracking)
    """Mirrors."""
    compare_to: Literal["vidal2021"] | None = None
    """Published values to print beside this study's."""
    note: str | None = None
    """A sentence that stands under every table."""

    def training_of(self, stage: str) -> Training:
        """Returns the training of one stage: the study's, with the fields that the stage changes.

        Raises:
            pydantic.ValidationError: The stage changes a field that does not exist, or to a bad value; never
                in a study that was loaded.
        """
        return Training.model_validate(_merged(self.training.model_dump(), self.stages[stage].training))

    def lineage(self, stage: str) -> list[str]:
        """Returns a stage and what it starts from, from the root down."""
        names = [stage]
        while (parent := self.stages[names[0]].starts_from) is not None:
            names.insert(0, parent)
        return names

    def network_of(self, stage: str) -> dict[str, Any]:
        """Returns the network of one stage: the study's, as adapted by the stage and what precedes it."""
        network = self.model.model_dump(mode="json", exclude_none=True)
        for name in self.lineage(stage):
            adapt = self.stages[name].adapt
            if adapt is not None and adapt.fold is not None:
                network["in_channels"] = 1
            if adapt is not None and adapt.translator is not None:
                network["translator"] = adapt.translator.model_dump(mode="json")
        return network

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
