"""From grey levels to the numbers a network sees, for whole batches on their device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from xferlab.errors import TrainingError

GREY_LEVELS = 256


def normalise(images: torch.Tensor, intensity: str) -> torch.Tensor:
    """Returns grey levels 0..255, (N, C, H, W) of any type, as the float32 input of a network.

    Args:
        images: uint8, or float32 where they were augmented before.
        intensity: A key of `INTENSITIES`.
    """
    return INTENSITIES[intensity](images.float())


def check_channels(channels: int, accepted: int) -> None:
    """Checks that a network that takes so many channels takes these images; grey ones are repeated.

    Raises:
        TrainingError: It does not.
    """
    if channels not in (1, accepted):
        raise TrainingError(
            f"images have {channels} channels and the network takes {accepted}; only grey images are "
            f"repeated over channels. Set model.in_channels to {channels}, or use grey images."
        )


def zscore(values: torch.Tensor) -> torch.Tensor:
    """Returns each image and channel less its mean, divided by its population deviation.

    The deviation is at least one grey level, so that a constant image gives zeros.
    """
    deviation, mean = torch.std_mean(values, dim=(2, 3), correction=0, keepdim=True)
    return (values - mean) / deviation.clamp_min(1.0)


def unit(values: torch.Tensor) -> torch.Tensor:
    """Returns grey levels divided by 255."""
    return values / 255.0


def minmax(values: torch.Tensor) -> torch.Tensor:
    """Returns each image and channel stretched to 0..1; a constant one gives zeros.

    The range is at least one grey level.
    """
    lowest, highest = values.amin(dim=(2, 3), keepdim=True), values.amax(dim=(2, 3), keepdim=True)
    return (values - lowest) / (highest - lowest).clamp_min(1.0)


def raw(values: torch.Tensor) -> torch.Tensor:
    """Returns grey levels as they are, 0..255."""
    return values


def equalise(values: torch.Tensor) -> torch.Tensor:
    """Returns each image and channel after histogram equalisation to 0..255 and gamma 0.5, divided by 255.

    A grey level v becomes the square root of the share of pixels that are at most v: in (0, 1], the brightest
    1 (oh2020, preprocessing steps 2 and 3, whose range 0..255 is 0..1 here). Levels are rounded to integers
    first, which changes nothing on stored images. A constant image gives ones.
    """
    levels, counts = counted(values)
    # Whole numbers up to here: sums do not depend on their order.
    curve = (counts.cumsum(dim=1).float() / levels.shape[1]).sqrt()
    return curve.gather(1, levels).reshape(values.shape)


def counted(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns grey levels as integers, (N * C, H * W), and how many pixels have each, (N * C, 256)."""
    levels = values.round().clamp(0, GREY_LEVELS - 1).long().flatten(0, 1).flatten(1)
    first = torch.arange(len(levels), device=values.device).unsqueeze(1) * GREY_LEVELS
    places = (levels + first).flatten()
    # `bincount` would wait for a device, to look for the largest.
    counts = torch.zeros(len(levels) * GREY_LEVELS, dtype=torch.int64, device=values.device)
    counts.scatter_add_(0, places, torch.ones_like(places))
    return levels, counts.reshape(-1, GREY_LEVELS)


INTENSITIES: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "zscore": zscore,
    "unit": unit,
    "minmax": minmax,
    "raw": raw,
    "equalise": equalise,
}
