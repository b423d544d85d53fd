"""What a network of segmentation is, told by weights without a record beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from xferlab.errors import DonorError, UsageError, suggest
from xferlab.networks.build import NAMES, network_in
from xferlab.networks.fc_densenet import design_in
from xferlab.networks.translator import translator_in
from xferlab.networks.unet import FIRST_CONVOLUTION
from xferlab.networks.vgg_levels import width_of
from xferlab.tasks.config import Execution
from xferlab.tasks.segmentation.config import Identity
from xferlab.tasks.segmentation.sections import (
    NETWORKS,
    ON_VGG16,
    Learning,
    Model,
    Network,
    TranslatorLayers,
)
from xferlab.training.intensity import INTENSITIES
from xferlab.training.reference import REFERENCES


def identity_of_weights(
    weights: Mapping[str, torch.Tensor], *, origin: str, options: Mapping[str, Any]
) -> Identity:
    """Returns an identity whose network has the shapes of given weights; its seed and cases mean nothing.

    Raises:
        DonorError: They are not the weights of a network of segmentation.
        UsageError: `image_size` or `intensity` is absent, or not one that the network can be trained with.
    """
    shape = _shape_in(weights)
    if shape is None:
        raise DonorError(
            f"{origin}: found no {FIRST_CONVOLUTION!r} of four dimensions; accepted: the weights of a "
            f"{', '.join(NETWORKS)}, such as checkpoint/best.safetensors of a trial."
        )
    outputs = max(
        (len(value) for key, value in weights.items() if key.startswith(NAMES[shape["name"]].output)),
        default=1,
    )
    if outputs > 1:
        raise DonorError(
            f"{origin}: has {outputs} outputs, and only the record of their trial says whether these are "
            "overlapping structures, or exclusive ones with the background."
        )
    model = Model(name=shape["name"], image_size="native")
    size_px, intensity = _preprocessing(
        options, origin=origin, multiple=model.size_multiple, smallest=model.smallest_side
    )
    translator = translator_in(weights)
    return Identity(
        task="segmentation",
        version=0,
        model=Network(
            **shape,
            image_size=size_px,
            translator=TranslatorLayers(**vars(translator)) if translator else None,
        ),
        training=Learning(intensity=intensity),
        execution=Execution(device="cpu", precision="float32", compile=False),
        selection="",
        seed=0,
    )


def _shape_in(weights: Mapping[str, torch.Tensor]) -> dict[str, Any] | None:
    """What weights tell of their network's section; None if they are of no network of segmentation."""
    name = network_in(weights) or "unet"
    first = weights.get(NAMES[name].first)
    if name not in NETWORKS or first is None or first.ndim != 4:
        return None
    size: dict[str, float | None]
    if dense := design_in(weights):
        size = {"growth": dense[1]}
    elif name in ON_VGG16:
        size = {"width": width_of(weights)}
    else:
        size = {"init_features": len(first)}
    return {"name": name, "in_channels": first.shape[1], **size}


def _preprocessing(
    options: Mapping[str, Any], *, origin: str, multiple: int, smallest: int
) -> tuple[int, Any]:
    size_px, intensity = options["image_size"], options["intensity"]
    intensities = (*INTENSITIES, *REFERENCES)
    accepted = ", ".join(intensities)
    if size_px is None or intensity is None:
        raise UsageError(
            f"{origin}: no record beside these weights says how they were trained; give --image-size PX and "
            f"--intensity (one of {accepted}; zscore is a study's default). A trial's record.json, copied "
            "into the folder of its weights, says both."
        )
    if intensity not in intensities:
        raise UsageError(
            f"--intensity: found {intensity!r}; accepted: {accepted}.{suggest(intensity, intensities)}"
        )
    if size_px < smallest or size_px % multiple:
        nearest = max(smallest, round(size_px / multiple) * multiple)
        raise UsageError(
            f"--image-size: found {size_px}; accepted: multiples of {multiple}, such as {nearest}"
        )
    return size_px, intensity
