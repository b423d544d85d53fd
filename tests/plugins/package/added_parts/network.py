"""A network of two convolutions."""

from torch import Tensor, nn


class Tiny(nn.Sequential):
    """An image of logits; no levels, no batch norm."""

    def __init__(self, *, in_channels: int, out_channels: int):
        super().__init__(
            nn.Conv2d(in_channels, 4, 3, padding=1), nn.ReLU(), Scale(4), nn.Conv2d(4, out_channels, 1)
        )


class Scale(nn.Module):
    """A factor for each channel: a kind of layer that xferlab has no first weights for."""

    def __init__(self, channels: int):
        super().__init__()
        self.factors = nn.Parameter(nn.init.ones_(nn.Conv2d(channels, 1, 1).weight.detach()[0, :, 0, 0]))

    def initialise(self, generator: object) -> None:
        """Sets the first weights, which are not drawn."""
        nn.init.ones_(self.factors)

    def forward(self, features: Tensor) -> Tensor:
        """Returns the features times the factors."""
        return features * self.factors[:, None, None]
