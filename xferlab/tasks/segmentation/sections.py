"""What a study file may say of segmentation: its network, its training, how weights are taken over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from xferlab import plugins
from xferlab.errors import PluginError
from xferlab.section import Float, Int, Section, null_if
from xferlab.tasks.supervised import Plateau, Rotation, Supervised, SupervisedTraining

Level = Literal[
    "encoder1", "encoder2", "encoder3", "encoder4", "encoder5", "bottleneck",
    "decoder5", "decoder4", "decoder3", "decoder2", "decoder1", "head",
]  # fmt: skip
LAYERS = (
    "encoder1", "encoder2", "encoder3", "encoder4", "encoder5", "bottleneck",
    "decoder5", "decoder4", "decoder3", "decoder2", "decoder1",
)  # fmt: skip
ENCODER = LAYERS[:6]

GROWTH: Mapping[str, int] = {"fc_densenet103": 16, "fc_densenet67": 16, "fc_densenet56": 12}
"""The FC-DenseNets, and how many channels each dense layer of theirs adds by default."""
FCN = ("fcn8s", "fcn32s")
ON_VGG16 = (*FCN, "segnet")
"""Networks made of VGG16, whose channels `width` multiplies."""
NETWORKS = ("unet", "unet_dropout", "unet_instance", *GROWTH, *ON_VGG16)
"""All networks of this task."""
EXCLUSIVE = ("exclusive", "exclusive_first")
"""Outputs that go through one softmax."""
_U_NETS = NETWORKS[:3]
_LACKING: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_U_NETS, ("encoder5", "decoder5")),
    **dict.fromkeys(FCN, LAYERS[6:]),
    "segnet": ("bottleneck",),
}
"""Levels that a network lacks."""

REFERENCED = ("matched", "amplitude")
"""Intensities that learn from the training images what all images are brought to."""

INSTANCE = "unet_instance"
"""Normalises each image by itself, so that one pixel a channel is too few."""

SMALLEST_SIDE = 16
"""Of an image in pixels: the four poolings of a U-Net leave one pixel of it."""


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} is even; the nearest kernels are {value - 1} and {value + 1}")
    return value


def _sixteens(value: int) -> int:
    if value % SMALLEST_SIDE:
        raise ValueError(_indivisible(value, SMALLEST_SIDE))
    return value


def _indivisible(value: int, multiple: int, why: str = "") -> str:
    lower = max(value // multiple, 1) * multiple
    return (
        f"{value} is not divisible by {multiple}{why}; the nearest sizes are {lower} and {lower + multiple}"
    )


def package_of(network: str) -> str | None:
    """Returns name and version of the package that a network comes from; None for one of `NETWORKS`.

    Raises:
        PluginError: The name is declared twice.
    """
    return plugins.release(plugins.NETWORKS, network, built_in=NETWORKS)


def _network(name: str) -> str:
    try:
        known = package_of(name) is not None or name in NETWORKS
    except PluginError as error:
        raise ValueError(str(error)) from error
    if not known:
        accepted = ", ".join(map(repr, (*NETWORKS, *plugins.names(plugins.NETWORKS))))
        raise PydanticKnownError("literal_error", {"expected": accepted})
    return name


def _list_networks(schema: dict[str, Any]) -> None:
    schema["enum"] = [*NETWORKS, *plugins.names(plugins.NETWORKS)]


_Sixteens = Annotated[Int, Field(ge=SMALLEST_SIDE, le=4096), AfterValidator(_sixteens)]


class Tiling(Section):
    """How images of native size are cut into squares."""

    size: _Sixteens
    """Side of a tile in pixels, divisible by 16, or by 32 if the network is no U-Net; no image's side may be
    shorter."""
    overlap: Float = Field(0.5, ge=0, lt=1)
    """Share of the side that neighbouring tiles have in common where they predict."""
    hit: Float = Field(0.5, ge=0, le=1)
    """Share of the tiles to train on that are put where the structure is; the others lie anywhere."""


class Model(Section):
    """The network; all stages of an arm share it unless a stage changes fields of it."""

    name: Annotated[str, AfterValidator(_network)] = Field("unet", json_schema_extra=_list_networks)
    """Architecture; `unet_dropout` has dropout in place of batch norm, and He's first weights
    (arias-garzon2021); `unet_instance` has instance norm. `fc_densenet...` are those of Jégou et al. 2017,
    `fcn...` those of Long et al. 2015 on VGG16, `segnet` that of Badrinarayanan et al. 2017.
    Installed packages may add others."""
    init_features: Int = Field(32, ge=1, le=512)
    """Width of the first level of a U-Net; each level doubles it."""
    growth: Int | None = Field(None, ge=1, le=128)
    """Channels that each dense layer of an FC-DenseNet adds; default: 16, and 12 of `fc_densenet56`."""
    width: Float | None = Field(None, gt=0, le=4)
    """What all numbers of channels of an FCN or a SegNet are multiplied by, in multiples of 8 and at least 8;
    default: 1."""
    in_channels: Int = Field(3, ge=1, le=64)
    """Grey images are repeated over these channels."""
    image_size: _Sixteens | Literal["native"] = 256
    """Side in pixels, divisible by 16, or by 32 if the network is no U-Net; images are stretched to the
    square. `native`: each as it is."""
    tiles: Tiling | None = None
    """With `image_size: native`: train and predict on tiles; null takes images whole."""
    outputs: Literal["exclusive", "exclusive_first", "overlapping"] | None = None
    """`overlapping` (default): a pixel may belong to several structures, a sigmoid each. `exclusive`: to one
    at most, softmax over background and structures, also of a single one; no masks may overlap.
    `exclusive_first`: the same, and where masks overlap, the structure that stands first counts (oh2020)."""

    @property
    def normalises_bottleneck(self) -> bool:
        """Whether its bottleneck has batch norm, and so needs two values of each channel to train."""
        return self.name in ("unet", *GROWTH)

    @property
    def smallest_side(self) -> int:
        """The least side in pixels of an image or tile of one size: of those that `size_multiple` allows."""
        return 2 * SMALLEST_SIDE if self.name == INSTANCE else self.size_multiple

    @property
    def size_multiple(self) -> int:
        """What sides of images are multiples of: its poolings leave one pixel of as many."""
        return 2 * SMALLEST_SIDE if self.name in (*GROWTH, *ON_VGG16) else SMALLEST_SIDE

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of its levels but the head, in the order of the forward pass; none of a package's network."""
        if self.name not in NETWORKS:
            return ()
        return tuple(layer for layer in LAYERS if layer not in _LACKING.get(self.name, ()))

    @model_validator(mode="after")
    def _sizes_that_it_takes(self) -> Model:
        sizes = {"image_size": self.image_size, "tiles.size": self.tiles and self.tiles.size}
        for field, size in sizes.items():
            if isinstance(size, int) and size % self.size_multiple:
                why = f", as {self.name} needs"
                raise ValueError(f"{field} {_indivisible(size, self.size_multiple, why)}")
        return self

    @model_validator(mode="after")
    def _fields_of_its_kind(self) -> Model:
        kinds = {"growth": ("FC-DenseNets", GROWTH), "width": ("networks on VGG16", ON_VGG16)}
        for field, (kind, names) in kinds.items():
            if getattr(self, field) is not None and self.name not in names:
                raise ValueError(
                    f"{field} is for the {kind} ({', '.join(names)}), and name is {self.name}; set {field} "
                    "to null, or name one of these networks"
                )
        return self

    @model_validator(mode="after")
    def _pixels_to_normalise(self) -> Model:
        sizes = {"image_size": self.image_size, "tiles.size": self.tiles and self.tiles.size}
        for field, size in sizes.items():
            if isinstance(size, int) and size < self.smallest_side:
                raise ValueError(
                    f"{field} {size} leaves {self.name} one pixel at its bottleneck, and instance norm needs "
                    f"several; set {field} to {self.smallest_side} or more"
                )
        return self

    @model_validator(mode="after")
    def _tiles_of_native_images(self) -> Model:
        if self.tiles is not None and self.image_size != "native":
            raise ValueError(
                f"tiles are cut from images of native size, and image_size is {self.image_size}; "
                "set image_size to native, or leave tiles out"
            )
        return self


class TranslatorLayers(Section):
    """New layers on the last decoder level's features, in place of the head ("domain translator")."""

    depth: Int = Field(2, ge=1, le=16)
    """Convolutions, each with batch norm and ReLU, before a 1x1 convolution to the output."""
    width: Int = Field(32, ge=1, le=512)
    """Their channels."""
    kernel: Annotated[Int, AfterValidator(_odd)] = Field(3, ge=1, le=15)
    """Side of their kernels, odd."""


class Network(Model):
    """The network of one stage, as adapted by the stage and those before it.

    What a network does not read, and its default spelled out, is null: equal networks are equal.
    """

    name: str = "unet"
    """Architecture; whether a package's is installed is seen where it is built."""
    init_features: Int | None = Field(32, ge=1, le=512)  # type: ignore[assignment]
    """Width of the first level of a U-Net; null for others."""
    translator: TranslatorLayers | None = None
    """New layers at the end."""
    structures: Int | None = Field(None, ge=2)
    """Number of structures; null for one."""
    package: str | None = None
    """Name and version of the package that the network comes from; null for one of `NETWORKS`."""

    @model_validator(mode="before")
    @classmethod
    def _as_one_value(cls, value: Any) -> Any:
        name = value.get("name", "unet") if isinstance(value, Mapping) else "unet"
        if name in _U_NETS:
            return value
        field, default = ("width", 1.0) if name in ON_VGG16 else ("growth", GROWTH.get(name))
        given = value.get(field)
        return {**value, "init_features": None, field: None if given == default else given}

    @property
    def is_exclusive(self) -> bool:
        """Whether a pixel belongs to one of the structures, or to the background."""
        return self.outputs in EXCLUSIVE

    @property
    def out_channels(self) -> int:
        """Channels of the output: one a structure, after one of the background where they are exclusive."""
        return (self.structures or 1) + self.is_exclusive


class Freezing(Section):
    """What of the inherited network does not train, and until when; its batch-norm statistics rest, too."""

    part: Literal["donor", "encoder"]
    """`donor`: everything but a translator; `encoder`: its levels and the bottleneck."""
    unfreeze_after: Annotated[Int, Field(ge=1)] | dict[Level, Annotated[Int, Field(ge=0)]] | None = None
    """Epochs until the part, or each named level, trains; null: to the end."""

    @model_validator(mode="after")
    def _levels_of_the_part(self) -> Freezing:
        if self.part == "encoder" and isinstance(self.unfreeze_after, dict):
            for level in self.unfreeze_after:
                if level not in ENCODER:
                    raise ValueError(
                        f"{level!r} is no level of the encoder ({', '.join(ENCODER)}); name one of these, or "
                        "freeze part: donor"
                    )
        return self

    def thaws_after(self, level: str) -> int | None:
        """Returns the number of epochs after which a level trains; None for never."""
        after = self.unfreeze_after
        return after.get(cast("Level", level)) if isinstance(after, dict) else after

    @property
    def last_thaw(self) -> int:
        """The number of epochs after which all that thaws has thawed; 0 where nothing does."""
        after = self.unfreeze_after
        return max(after.values(), default=0) if isinstance(after, dict) else after or 0


class Adapt(Section):
    """How a stage takes over the weights that it starts from."""

    control: Literal["matched"] | None = None
    """`matched`: every tensor of the weights is shuffled by a seed; same statistics, nothing learnt."""
    fold: Literal["sum", "mean", "luminance"] | None = None
    """Fold the first convolution's three input channels into one, from this stage on."""
    translator: TranslatorLayers | None = None
    """Add layers at the end, from this stage on."""
    head: Literal["new"] | None = None
    """`new`: the last convolution starts from random weights, as it must for other numbers of outputs."""
    freeze: Freezing | None = None
    """Parts that do not train in this stage."""


class Learning(Supervised):
    """How one stage learns: the part of a training that is in a trial's identity."""

    loss: Literal["dice", "dice_as_printed", "cross_entropy", "dice_cross_entropy", "focal_tversky"] = "dice"
    """`dice` is 1 - (2I + s)/(P + T + s); `dice_as_printed` is equation 1 of vidal2021 to the letter."""
    smoothing: Float = Field(1.0, gt=0, le=1e30)
    """The constant s of the loss (lambda in the paper)."""
    class_weights: tuple[Annotated[Float, Field(gt=0)], ...] | None = None
    """Weights of the background and of each structure, in order, in the cross entropy of exclusive outputs;
    null weighs all alike."""
    score: Annotated[Literal["loss", "jaccard"] | None, null_if("loss")] = None
    """By which value of the validation cases the best epoch is chosen: `loss` (default), or `jaccard`, the
    mean over images and structures."""
    plateau: Plateau | None = Field(default_factory=Plateau)
    """Learning-rate reduction; null keeps the rate."""
    rotation: Rotation | None = Field(default_factory=Rotation)
    """Augmentation; null trains on the images as they are."""
    intensity: Literal["zscore", "unit", "minmax", "raw", "equalise", "matched", "amplitude"] = "zscore"
    """`zscore`: each image by its own mean and deviation; `unit`: divided by 255; `minmax`: each by its own
    range; `raw`: 0 to 255; `equalise`: the resized image's histogram is equalised, then gamma 0.5; `matched`:
    each gets the mean histogram of the training images; `amplitude`: their mean amplitude at low frequencies
    (Yang and Soatto 2020)."""


class Training(Learning, SupervisedTraining):
    """One training; everything here except `checkpoint_every_s` is part of a trial's identity."""
