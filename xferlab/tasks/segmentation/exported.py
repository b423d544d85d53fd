"""The graph of a segmentation: from normalised images to the probability of each structure."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from xferlab.metrics.measuring import THRESHOLD
from xferlab.tasks.segmentation.native import NativeBatch, NativeSegmentation
from xferlab.tasks.segmentation.resized import ImageBatch, ResizedSegmentation
from xferlab.tasks.segmentation.tiled import TiledSegmentation
from xferlab.training.exported import (
    ABOVE_THRESHOLD,
    MOST_PROBABLE,
    Exported,
    Output,
    Probabilities,
    Step,
    channels_step,
    intensity_step,
    on_whole_image,
)
from xferlab.training.pixel_losses import probabilities

OUTPUT = Output(
    "probability", ("batch", "structure", "height", "width"), "Probability that a pixel is of a structure."
)
_EXAMPLE_SIDES = 4
"""Multiples of what a network takes that make an image to try it with, where it takes any size."""


def exported(
    network: nn.Module,
    view: ResizedSegmentation | NativeSegmentation | TiledSegmentation,
    *,
    side: int | str,
    structures: int,
) -> Exported:
    """Returns the graph of a network, with what its view does before and after it.

    Args:
        network: In any mode; it is put into evaluation mode.
        view: How images become batches.
        side: At which the network takes images; `native` for their own.
        structures: How many it tells.
    """
    base = view if isinstance(view, ResizedSegmentation) else view.base
    shares = base.is_exclusive and structures > 1
    return Exported(
        module=Probabilities(network, partial(probabilities, is_exclusive=base.is_exclusive)).eval(),
        inputs=lambda examples, rows: _first(view.batch(examples, rows, None)),
        channels=base.in_channels,
        side=_side(view, side),
        multiple=base.size_multiple,
        outputs=(OUTPUT,),
        steps=(*_steps(view, base), channels_step(base.in_channels)),
        decision=MOST_PROBABLE if shares else ABOVE_THRESHOLD,
        thresholds={} if shares else {"probability": THRESHOLD},
        outside=tuple(_outside(view)),
    )


def _first(batch: ImageBatch | NativeBatch) -> Tensor:
    return (batch.parts[0] if isinstance(batch, NativeBatch) else batch).inputs


def _side(view: object, side: int | str) -> int:
    if isinstance(view, TiledSegmentation):
        return view.tiles.size
    if isinstance(view, NativeSegmentation):
        return _EXAMPLE_SIDES * view.base.size_multiple
    return int(side)


def _steps(view: object, base: ResizedSegmentation) -> tuple[Step, ...]:
    intensity = intensity_step(base.intensity, base.reference)
    if isinstance(view, ResizedSegmentation):
        return (intensity,)
    if isinstance(view, TiledSegmentation):
        tile = Step(
            "tile",
            "squares that overlap are cut out; outside of the image they have its lowest value",
            {"size_px": view.tiles.size, "overlap_share": view.tiles.overlap},
        )
        return (on_whole_image(intensity), tile)
    multiple = base.size_multiple
    pad = Step(
        "pad",
        "below and to the right, by the image's lowest value, to the next multiple",
        {"multiple_px": multiple},
        f"torch.nn.functional.pad(image, (0, -image.shape[2] % {multiple}, 0, -image.shape[1] % {multiple}), "
        "value=float(image.min()))",
    )
    return (intensity, pad)


def _outside(view: object) -> tuple[str, ...]:
    if isinstance(view, TiledSegmentation):
        return ("The graph tells one tile. Images are cut into tiles before it and blended after it.",)
    if isinstance(view, NativeSegmentation):
        return ("What was padded is cut off from the output.",)
    return ("The output is stretched to the size that the image had before the step `resize`, bilinear.",)
