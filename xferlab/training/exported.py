"""What of a learner one graph can hold, and what is done to an image before it, told to other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from xferlab.training.batches import Rows
from xferlab.training.reference import Reference

ABOVE_THRESHOLD = "A pixel is of a structure where its probability is above the threshold."
MOST_PROBABLE = (
    "A pixel is of the most probable one among the structures and the background, whose probability is 1 "
    "minus the sum of theirs."
)
"""Decisions about pixels: of structures that may overlap, or of those of which a pixel has one at most."""


class Probabilities(nn.Module):
    """A network with what makes probabilities of its logits."""

    def __init__(self, network: nn.Module, of_logits: Callable[[Tensor], Tensor]):
        """Takes the network, and the function of what it returns."""
        super().__init__()
        self.network, self.of_logits = network, of_logits

    def forward(self, images: Tensor) -> Tensor:
        """Returns probabilities, (N, classes) or (N, structures, H, W), of normalised images (N, C, H, W)."""
        return self.of_logits(self.network(images))


@dataclass(frozen=True)
class Step:
    """Something that is done to an image on its way into a graph.

    Attributes:
        name: What it is.
        rule: What it does, in a sentence with units.
        values: Its numbers, by names that hold their units.
        expression: The same in PyTorch, of `image`, float32 (C, H, W); empty where it is no expression.
    """

    name: str
    rule: str
    values: Mapping[str, Any] = field(default_factory=dict)
    expression: str = ""


@dataclass(frozen=True)
class Output:
    """A tensor that a graph gives, float32.

    Attributes:
        name: What it is called.
        axes: Names of its axes; `batch`, `height` and `width` are those of the input, `structure` and `class`
            those of the targets.
        meaning: A sentence.
        range: The lowest and the highest value.
    """

    name: str
    axes: tuple[str, ...]
    meaning: str
    range: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Exported:
    """The part of a prediction that one graph holds: from what the network is given to what it tells.

    Attributes:
        module: In evaluation mode; takes `(N, C, H, W)` float32 and returns one tensor for each output.
        inputs: Takes examples and rows; returns what the module is given of them.
        channels: C.
        side: H and W in pixels that it was trained with, or may be tried with.
        multiple: What H and W may be any multiples of; None where they are `side` always.
        outputs: What the module returns, in order.
        steps: What is done to grey levels 0 to 255, float32 (C, H, W), before the module.
        decision: How an answer follows from the outputs, in a sentence.
        thresholds: Numbers that it needs, by name.
        outside: What of a prediction the graph does not hold, a sentence each.
    """

    module: nn.Module
    inputs: Callable[[Any, Rows], Tensor]
    channels: int
    side: int
    multiple: int | None
    outputs: tuple[Output, ...]
    steps: tuple[Step, ...]
    decision: str
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    outside: tuple[str, ...] = ()


_PLAIN = {
    "zscore": (
        "each image and channel less its mean, divided by its population deviation, which is at least 1 grey "
        "level",
        "(image - image.mean((1, 2), keepdim=True)) "
        "/ image.std((1, 2), correction=0, keepdim=True).clamp_min(1.0)",
    ),
    "unit": ("grey levels divided by 255", "image / 255.0"),
    "minmax": (
        "each image and channel stretched to 0..1; its range counts as at least 1 grey level",
        "(image - image.amin((1, 2), keepdim=True)) "
        "/ (image.amax((1, 2), keepdim=True) - image.amin((1, 2), keepdim=True)).clamp_min(1.0)",
    ),
    "raw": ("grey levels as they are, 0 to 255", "image"),
    "equalise": (
        "a grey level becomes the square root of the share of the image's pixels that are at most as bright",
        "torch.stack([(torch.bincount(level.flatten(), minlength=256).cumsum(0).float() / level.numel())"
        ".sqrt()[level] for level in image.round().clamp(0, 255).long()])",
    ),
}
_REFERENCED = {
    "matched": "a grey level becomes the lowest level whose share in `shares` is at least the share of the "
    "image's pixels that are at most as bright; then it is divided by 255",
    "amplitude": "divided by 255; then the amplitudes of the real Fourier transform (rfft2, float64) at the "
    "lowest frequencies become `amplitude`: rows are frequencies from 0 up and then up to -1, columns from "
    "0; phases stay",
}


def intensity_step(name: str, reference: Reference | None = None) -> Step:
    """Returns what an intensity does to grey levels; a reference tells its numbers."""
    if reference is None:
        rule, expression = _PLAIN[name]
        return Step(f"intensity {name}", rule, expression=expression)
    values = {key: value.tolist() for key, value in reference.named_buffers()}
    return Step(f"intensity {name}", _REFERENCED[name], values)


def channels_step(channels: int) -> Step:
    """Returns that a grey image is repeated over channels."""
    rule = "a grey image is repeated over the channels; other images have as many"
    return Step("channels", rule, {"channels": channels}, f"image.expand({channels}, -1, -1)")


def on_whole_image(step: Step) -> Step:
    """Returns a step that is taken of the whole image before something is cut from it."""
    return replace(step, rule=f"{step.rule}; of the whole image, before anything is cut from it")
