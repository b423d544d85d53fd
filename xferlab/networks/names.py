"""Names in the state dict of a network that taking over weights needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerNames:
    """Where a network's first and last layers are.

    Attributes:
        first: Weight of the first convolution; its second dimension is the number of channels of the images.
        offset: What a constant behind the first convolution goes into: the convolution's bias (it is added),
            or the running mean of the batch normalisation that follows (it is subtracted).
        head: Prefix of the network's own head.
        output: Prefix of the head's last layer, whose size is the number of outputs.
        features: Module that gives the last features of a network of whole images, after their ReLU; empty
            for others.
    """

    first: str
    offset: str
    head: str
    output: str
    features: str = ""
