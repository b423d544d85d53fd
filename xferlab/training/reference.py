"""What all images are brought to have in common: learnt from the training images, held by the weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from xferlab.training.intensity import GREY_LEVELS, counted

REFERENCE = "reference"
"""Name of the part of a network; its buffers are the keys that begin with this and a dot."""

BETA = 0.01
"""Share of the side up to which frequencies count as low (Yang and Soatto 2020, section 3)."""

_ROUNDING = 1e-9
"""Of sums of shares in float64: less than the share of one pixel."""


class Reference(nn.Module):
    """Gives every image a property of the training images. Each image and channel is for itself.

    It is a part of the network so that weights hold its buffer, but no layer of it: `learn` sets it, and
    whoever makes batches applies it.
    """

    def __init__(self, side: int):
        """Takes the side of the images in pixels."""
        super().__init__()
        self.side = side

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Returns grey levels 0..255, `(N, C, H, W)` float32, as a network takes them, divided by 255."""

    @abstractmethod
    def learn(self, batches: Iterable[Tensor]) -> None:
        """Sets the buffer from the training images, the same for any division into batches.

        Args:
            batches: Grey levels 0..255, `(N, C, H, W)`, of at least one image in all; channels count alike.
        """


class MatchedHistogram(Reference):
    """Gives every image the mean histogram of the training images, by cumulative shares.

    A grey level v becomes the lowest level r whose share C(r) of the reference is at least the share F(v) of
    the image's pixels that are at most v. So order is kept, any increasing curve of the image's grey levels
    changes nothing, and the result's shares lie below C by less than those of one grey level of the image.
    Levels are rounded to integers first, which changes nothing on stored images.
    """

    shares: Tensor

    def __init__(self, side: int):
        """Takes the side; until `learn` is called, the reference is flat."""
        super().__init__(side)
        self.register_buffer("shares", torch.arange(1, GREY_LEVELS + 1, dtype=torch.float64) / GREY_LEVELS)

    def forward(self, images: Tensor) -> Tensor:
        """Returns images whose grey levels follow the reference, divided by 255."""
        levels, counts = counted(images)
        at_most = counts.cumsum(dim=1).double() / levels.shape[1]
        matched = torch.searchsorted(self.shares, at_most - _ROUNDING).clamp_max(GREY_LEVELS - 1)
        return (matched.gather(1, levels).float() / (GREY_LEVELS - 1)).reshape(images.shape)

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor]) -> None:
        """Sets `shares`, `(256,)` float64, from the mean histogram of images of one size."""
        counts = torch.stack([counted(batch)[1].sum(dim=0) for batch in batches]).sum(dim=0)
        # Whole numbers up to here: sums do not depend on their order.
        at_most = counts.cumsum(dim=0).double()
        self.shares.copy_(at_most / at_most[-1])


class MeanAmplitude(Reference):
    """Gives every image the mean amplitude of the training images at low frequencies; phases stay.

    These are the frequencies of at most max(1, floor(BETA * side)) cycles an image in both directions, with
    the mean (Yang and Soatto 2020, equation 2; at least one cycle, without which small images would
    exchange their mean alone). Yang and Soatto train on images of the source under the amplitudes of single
    images of the target; here all images, at training and later, get one mean amplitude of the images that
    are trained on, so that no image of another device is needed. Grey levels may leave 0..255.
    """

    amplitude: Tensor

    def __init__(self, side: int):
        """Takes the side; until `learn` is called, images keep their amplitudes."""
        super().__init__(side)
        self.cycles = max(1, int(BETA * side))
        shape = 2 * self.cycles + 1, self.cycles + 1
        self.register_buffer("amplitude", torch.full(shape, -1.0))

    def forward(self, images: Tensor) -> Tensor:
        """Returns images with the reference's amplitudes, divided by 255."""
        # In float64: how an FFT rounds depends on how many images it is given.
        spectrum = torch.fft.rfft2(images.double() / (GREY_LEVELS - 1))
        low = self._low(spectrum)
        wanted = torch.where(self.amplitude < 0, low.abs(), self.amplitude.double())
        exchanged = torch.polar(wanted, low.angle())
        columns = spectrum[..., : self.cycles + 1].clone()
        columns[..., : self.cycles + 1, :] = exchanged[..., : self.cycles + 1, :]
        columns[..., -self.cycles :, :] = exchanged[..., self.cycles + 1 :, :]
        spectrum = torch.cat([columns, spectrum[..., self.cycles + 1 :]], dim=-1)
        result: Tensor = torch.fft.irfft2(spectrum, s=images.shape[-2:]).float()
        return result

    @torch.no_grad()
    def learn(self, batches: Iterable[Tensor]) -> None:
        """Sets `amplitude`, `(2 cycles + 1, cycles + 1)`; rows are frequencies from 0 up, then up to -1."""
        spectra = (torch.fft.rfft2(batch.double() / (GREY_LEVELS - 1)) for batch in batches)
        amplitudes = torch.cat([self._low(spectrum).abs().flatten(0, 1) for spectrum in spectra])
        self.amplitude.copy_(amplitudes.mean(dim=0))

    def _low(self, spectrum: Tensor) -> Tensor:
        columns = spectrum[..., : self.cycles + 1]
        return torch.cat([columns[..., : self.cycles + 1, :], columns[..., -self.cycles :, :]], dim=-2)


REFERENCES: Mapping[str, type[Reference]] = {"matched": MatchedHistogram, "amplitude": MeanAmplitude}
"""Intensities that need a reference."""


def add_reference(network: nn.Module, intensity: str, side: int | str) -> None:
    """Gives a network the reference that an intensity needs, if any."""
    if intensity in REFERENCES:
        assert isinstance(side, int), "checked with the study file"
        network.add_module(REFERENCE, REFERENCES[intensity](side))


def reference_in(network: nn.Module) -> Reference | None:
    """Returns the reference that a network has, or None."""
    part = getattr(network, REFERENCE, None)
    return part if isinstance(part, Reference) else None


def is_reference(key: str) -> bool:
    """Returns whether a name of a state dict is that of a reference's buffer."""
    return key.startswith(f"{REFERENCE}.")


def reference_for(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the buffers of a network's reference, as a parent's weights have them, if they do.

    Those count until the network learns its own.
    """
    own = {key: value for key, value in network.state_dict().items() if is_reference(key)}
    return {
        key: weights[key] if key in weights and weights[key].shape == value.shape else value
        for key, value in own.items()
    }
