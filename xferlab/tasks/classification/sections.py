"""What a study file may say of classification: network, training, masks, how weights are taken over."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from xferlab.errors import suggest
from xferlab.section import Float, Int, Name, Section
from xferlab.tasks import roles
from xferlab.tasks.supervised import Supervised, SupervisedTraining

SMALLEST_SIDE = 32
"""Of an image in pixels: five halvings leave one pixel of it."""
LAYERS = ("level1", "level2", "level3", "level4", "level5")
"""One for each resolution of a trunk, in the order of the forward pass."""


class HeadLayers(Section):
    """Global average pooling, then fully connected layers with ReLU between them."""

    widths: tuple[Annotated[Int, Field(ge=1, le=16384)], ...] = ()
    """Outputs of the hidden layers; none for a single layer."""
    dropout: tuple[Annotated[Float, Field(ge=0, lt=1)], ...] = ()
    """Before each fully connected layer, from the first one on."""


class Patches(Section):
    """Squares of an image that the network takes in place of it (oh2020)."""

    size_px: Annotated[Int, Field(ge=SMALLEST_SIDE, le=4096)] = 224
    """Side of a patch; it goes into the network at this size."""
    number: Int = Field(100, ge=1, le=10_000)
    """Patches of an image that vote where it is predicted; in training it is one an image and epoch."""
    validation: Int = Field(4, ge=1, le=10_000)
    """Patches of a validation image by which epochs are judged: always the same, the first of those above."""
    centre: Literal["pixel", "row_and_column"] = "pixel"
    """`pixel`: a pixel of what masks leave, all equally likely. `row_and_column`: each is drawn by itself, as
    the code of oh2020 does, so that a centre may lie between the lungs."""


class Model(Section):
    """The network of a stage."""

    name: Literal["vgg16", "vgg19", "resnet18", "efficientnet_lite0"] = "resnet18"
    """Architecture."""
    width: Float = Field(1.0, gt=0, le=4)
    """What all numbers of channels are multiplied by, in multiples of 8 and at least 8."""
    in_channels: Int = Field(1, ge=1, le=64)
    """Grey images are repeated over these channels."""
    image_size: Annotated[Int, Field(ge=SMALLEST_SIDE, le=4096)] = 224
    """Side in pixels; images are stretched to the square."""
    patches: Patches | None = None
    """What the network takes of this square in place of all of it; null for whole images."""
    head: HeadLayers | Literal["published"] = HeadLayers()
    """What makes logits of the features; `published` is the architecture's own head."""
    outputs: Literal["exclusive", "independent"] = "exclusive"
    """`exclusive`: an image is of one class (softmax). `independent`: of several or none, as `separator` of
    `classes` says (a sigmoid each)."""
    intensity: Literal["minmax", "unit", "raw"] = "minmax"
    """`minmax`: each image by its own range; `unit`: divided by 255; `raw`: as they are, 0 to 255."""
    standardise: Literal["training", "code", "imagenet"] | None = "training"
    """`training`: less the mean of all pixels of the training images, by their deviation. `code`: as the code
    of arias-garzon2021 does. `imagenet`: as published weights expect it. null: not at all."""


class Masks(roles.Masks):
    """What of an image is seen, by masks that another stage predicts."""

    keep: Literal["inside", "outside", "whole"] = "inside"
    """What of an image is left; the rest is set to 0. `whole` leaves all, and measures where heat lies."""
    region: Annotated[list[Name], Field(min_length=1), AfterValidator(roles.each_once)] | None = None
    """Those of `structures` that `keep` is about, where more are taken; null for all of them."""

    @model_validator(mode="after")
    def _region_is_taken(self) -> Masks:
        if self.region is not None and self.structures is None:
            raise ValueError("region chooses among `structures`; name these, too")
        for name in self.region or ():
            if name not in (taken := self.structures or []):
                raise ValueError(
                    f"region names {name!r}, which is none of the structures ({', '.join(taken)})."
                    f"{suggest(name, taken)}"
                )
        return self


class Freezing(Section):
    """What of the inherited network does not train, and until when; its batch-norm statistics rest, too."""

    part: Literal["trunk"] = "trunk"
    """All but the head."""
    unfreeze_after: Annotated[Int, Field(ge=1)] | None = None
    """Epochs until it trains; null: to the end."""


class Adapt(Section):
    """How a stage takes over the weights that it starts from."""

    fold: Literal["sum", "mean", "luminance"] | None = None
    """Fold the first convolution's three input channels into one."""
    head: Literal["new"] | None = None
    """`new`: the last layer starts from random weights, as it must for another number of classes."""
    freeze: Freezing | None = None
    """Parts that do not train in this stage."""


class Learning(Supervised):
    """How one stage learns: the part of a training that is in a trial's identity."""

    lr: Float = Field(1e-4, gt=0)
    """Initial learning rate."""
    loss: Literal["cross_entropy"] = "cross_entropy"
    """Of the softmax, or the mean over the classes of that of each sigmoid."""
    sampling: Literal["balanced"] | None = None
    """`balanced`: an epoch draws as many images as there are, with replacement, so that each class is seen as
    often as the others. null: each image once."""
    class_weights: Literal["balanced"] | None = "balanced"
    """`balanced`: a class of n_c of n training images, among K, counts n / (K n_c); where classes are
    independent, its images count as much as all others together."""
    score: Literal["loss", "accuracy", "mean_f1"] = "loss"
    """By which value of the validation cases the best epoch is chosen."""
    sensitivity: Float = Field(0.95, gt=0, lt=1)
    """What the threshold `sensitive` of each class reaches on the validation cases."""


class Training(Learning, SupervisedTraining):
    """One training; everything here except `checkpoint_every_s` is part of a trial's identity."""
