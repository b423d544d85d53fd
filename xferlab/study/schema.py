"""The study file as frozen values: every field a line, every default the one of methods vidal2021.

The same models validate `jobs/*.yaml` and give editors their JSON Schema (`xferlab schema`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from xferlab.study.adapt import Adapt, Augmentations, Sixteens, Tiling
from xferlab.study.evaluated import Evaluated
from xferlab.study.section import NO_BOOL, Count, Float, Int, Name, Scalar, Section

NAMING_COLUMNS = ("patient_id", "image", "mask", "name")
"""Columns whose values tell who somebody is."""


class _Data(Section):
    hold_out: Float = Field(0.0, ge=0.0, le=1.0)
    """Share of this section's patients that no stage trains, stops or selects on; 1.0: a test set only."""
    where: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    """Keep the cases whose column has this value (or one of these values)."""
    same_patient: list[list[str]] = Field(default_factory=list)
    """Groups of patient ids that are one person."""
    different_patients: list[list[str]] = Field(default_factory=list)
    """Groups of patient ids that are different people, though the audit takes images of theirs for one."""
    simulate: Literal["portable"] | None = None
    """Pass every image through the portable-device simulation; the cases are then marked `simulated`."""
    shareable: bool = False
    """Whether pixels may leave for Weights & Biases, and records name patients and images.

    Elsewhere they hold pseudonyms; `xferlab plan --cases FILE` writes who is who.
    """
    note: str | None = None
    """A sentence that stands under every table that uses this section."""


class _Files(_Data):
    @model_validator(mode="after")
    def _filters_name_nobody(self) -> _Files:
        named = [column for column in NAMING_COLUMNS if column in self.where]
        if named and not self.shareable:
            raise ValueError(
                f"where.{named[0]} names patients or images, and records, which hold `where`, name none "
                "unless the section is `shareable: true`; mark the cases in a column of their own and "
                "filter by that, or leave the others out of the folder"
            )
        return self


class ManifestData(_Files):
    """A folder with `metadata.csv` or `.parquet`: columns image, mask, patient_id, pathology, any others."""

    source: Literal["manifest"]
    """Kind of this section."""
    root: str
    """The folder; `${NAME}` is taken from the environment, relative paths start at the study file."""
    table: str | None = None
    """The table's file name; default: `metadata.csv`, else `metadata.parquet`."""
    labels: dict[Name, list[Int]] = Field(default_factory=lambda: {"lung": [255]})
    """Mask values of the structure to segment, and of `ignore` (counted nowhere); 0 is background."""

    @model_validator(mode="after")
    def _one_structure(self) -> ManifestData:
        check_labels(self.labels)
        return self


class LggData(_Files):
    """The LGG MRI set in its published layout, `kaggle_3m/<patient>/<patient>_<slice>[_mask].tif`."""

    source: Literal["lgg"]
    """Kind of this section."""
    root: str
    """The folder that holds `kaggle_3m`, or `kaggle_3m` itself."""
    drop_ends: Int = Field(1, ge=0)
    """Slices dropped at each end of a volume."""


class PhantomMriData(_Data):
    """Procedural brain MRI with FLAIR-like lesions, three channels."""

    source: Literal["phantom_mri"]
    """Kind of this section."""
    count: Count
    """Number of slices."""
    seed: Int = Field(0, ge=0)
    """Another seed gives other patients."""
    size_px: Int = Field(256, ge=32, le=1024)
    """Side of the rendered image."""


class PhantomCxrData(_Data):
    """Procedural chest X-rays of clear, COVID-19-like and otherwise pathological lungs."""

    source: Literal["phantom_cxr"]
    """Kind of this section."""
    count: Count | Annotated[dict[Literal["covid19", "normal", "pathological"], Count], Field(min_length=1)]
    """Number of images: one number, shared equally, or a number for each pathology."""
    seed: Int = Field(0, ge=0)
    """Another seed gives other patients."""
    size_px: Int = Field(256, ge=32, le=1024)
    """Side of the rendered image."""


DataSection = Annotated[
    ManifestData | LggData | PhantomMriData | PhantomCxrData, Field(discriminator="source")
]


COLOUR_SOURCES = ("lgg", "phantom_mri")
"""Kinds of sections whose images have three channels; all others are grey."""


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


class Rotation(Section):
    """Rotation about the image centre, uniform in ±degrees."""

    degrees: Float = Field(10.0, ge=0, le=180)
    """Largest angle."""
    probability: Float = Field(0.75, ge=0, le=1)
    """Share of samples that are rotated, drawn anew in each epoch."""


class Plateau(Section):
    """Reduce the learning rate when the validation loss stalls."""

    factor: Float = Field(0.1, gt=0, lt=1)
    """The learning rate is multiplied by it."""
    patience: Int = Field(10, ge=1)
    """The rate falls at the first epoch without improvement beyond this many in a row (as in PyTorch)."""


class Training(Section):
    """One training; everything here except `checkpoint_every_s` is part of a trial's identity."""

    loss: Literal["dice", "dice_as_printed", "cross_entropy", "dice_cross_entropy", "focal_tversky"] = "dice"
    """`dice` is 1 - (2I + s)/(P + T + s); `dice_as_printed` is equation 1 of vidal2021 to the letter."""
    smoothing: Float = Field(1.0, gt=0)
    """The constant s of the loss (lambda in the paper)."""
    optimizer: Literal["adam"] = "adam"
    """Optimizer."""
    lr: Float = Field(1e-3, gt=0)
    """Initial learning rate."""
    batch_size: Int = Field(16, ge=1)
    """Images in a batch."""
    max_epochs: Int = Field(200, ge=1)
    """Upper bound on epochs."""
    patience: Int = Field(20, ge=1)
    """Stop at this many consecutive validations without improvement."""
    plateau: Plateau | None = Field(default_factory=Plateau)
    """Learning-rate reduction; null keeps the rate."""
    rotation: Rotation | None = Field(default_factory=Rotation)
    """Augmentation; null trains on the images as they are."""
    augmentation: Augmentations | None = None
    """What else varies between epochs."""
    intensity: Literal["zscore", "unit", "minmax", "equalise"] = "zscore"
    """`zscore`: each image by its own mean and deviation; `unit`: divided by 255; `minmax`: each by its own
    range; `equalise`: histogram equalisation, then gamma 0.5 (oh2020)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Resolved when planning; results are bit-equal on the CPU only."""
    threads: Int = Field(1, ge=1, le=256)
    """CPU threads of the network, independent of `resources`; another number gives other bits."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the forward and backward pass; loss and evaluation are float32 always."""
    deterministic: bool = True
    """On CUDA: deterministic algorithms, somewhat slower."""
    compile: bool = False
    """Use torch.compile."""
    checkpoint_every_s: Float = Field(60.0, gt=0)
    """Seconds between two checkpoints of the state needed to resume."""


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


class Resources(Section):
    """What Ray reserves for one trial; never part of an identity."""

    cpu: Float = Field(1.0, gt=0)
    """CPU cores."""
    gpu: Float = Field(0.0, ge=0)
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


class Wandb(Section):
    """The mirror in Weights & Biases."""

    project: str = "xferlab"
    """Project name."""
    entity: str | None = None
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
    """Folder or URI (`s3://bucket/prefix`); relative paths start where the command runs."""
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


def check_labels(labels: dict[str, list[int]]) -> None:
    """Raises ValueError unless labels name one structure, and each value (1 to 255) once."""
    structures = [name for name in labels if name != "ignore"]
    if len(structures) != 1:
        raise ValueError(f"name one structure to segment (and `ignore`), not {len(structures)}: {structures}")
    values = [value for group in labels.values() for value in group]
    if not labels[structures[0]] or len(set(values)) != len(values) or not all(0 < v < 256 for v in values):
        raise ValueError("each structure needs mask values from 1 to 255, and no value may stand twice")


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in changes.items()
    }
    return {**base, **inner}
