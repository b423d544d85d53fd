"""What a network takes over from its parent, and what is done to a donor's weights before that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from xferlab.errors import DonorError
from xferlab.networks.donors import load_strict
from xferlab.networks.translator import TRANSLATOR
from xferlab.networks.unet import FIRST_CONVOLUTION

FOLDS: Mapping[str, tuple[float, float, float]] = {
    "sum": (1.0, 1.0, 1.0),
    "mean": (1 / 3, 1 / 3, 1 / 3),
    "luminance": (0.2989, 0.5870, 0.1140),
}
"""How much of each input channel's kernels the folded kernels are made of."""

_FOLDED_CHANNELS = 3


def inherit(model: nn.Module, state: Mapping[str, Tensor], *, origin: str) -> None:
    """Loads a parent's weights; every name and shape must fit, but a parent may lack the whole translator.

    Args:
        model: Changed in place; unchanged on an error. A translator that the parent lacks keeps its weights.
        state: Names to tensors. With a translator, the model's must be the same.
        origin: Where the weights come from, for the message.

    Raises:
        DonorError: Names or shapes differ; lists the first of each kind.
    """
    prefix = TRANSLATOR + "."
    fresh: dict[str, Tensor] = {}
    if not any(key.startswith(prefix) for key in state):
        fresh = {key: value for key, value in model.state_dict().items() if key.startswith(prefix)}
    load_strict(model, {**state, **fresh}, origin=origin)


def fold_channels(state: Mapping[str, Tensor], how: str) -> dict[str, Tensor]:
    """Returns a state whose first convolution takes one channel in place of three; the rest is the same.

    Args:
        state: A donor's state dict; unchanged.
        how: `sum` gives, on one channel, what the donor gives on that channel repeated three times, to the
            precision of the numbers; `mean` a third of that; `luminance` the sum weighted by 0.2989, 0.5870
            and 0.1140 (arias-garzon2021, classification). Added in float64, rounded once.

    Raises:
        DonorError: There is no first convolution, or it has not three input channels.
    """
    first = state.get(FIRST_CONVOLUTION)
    if first is None or first.ndim != 4:
        shape = "none" if first is None else f"one of shape {tuple(first.shape)}"
        raise DonorError(
            f"fold: {how} needs {FIRST_CONVOLUTION!r} of shape (width, 3, height, width); found {shape}. "
            "Fold the weights of a unet, or leave `fold` out."
        )
    if first.shape[1] != _FOLDED_CHANNELS:
        raise DonorError(
            f"fold: {how} makes one input channel of {_FOLDED_CHANNELS}; found {first.shape[1]} in "
            f"{FIRST_CONVOLUTION!r}. Leave `fold` out and set in_channels: {first.shape[1]}."
        )
    shares = torch.tensor(FOLDS[how], dtype=torch.float64).reshape(1, _FOLDED_CHANNELS, 1, 1)
    folded = (first.double() * shares.to(first.device)).sum(dim=1, keepdim=True).to(first.dtype)
    return {**state, FIRST_CONVOLUTION: folded}


def matched_control(state: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Returns a donor that has learnt nothing: the elements of each tensor are shuffled within it.

    Each tensor keeps its histogram, and with it mean and deviation; a variance stays above 0. Only the
    position of each weight is lost. Running statistics no longer fit the activations; training corrects that,
    a frozen part keeps them.

    Args:
        state: A donor's state dict; unchanged.
        seed: Together with a tensor's name it seeds the tensor's shuffle, so that no other tensor matters.

    Returns:
        New tensors of the same names, shapes and types; those that hold no floating-point numbers are copies.
    """
    return {
        name: _shuffled(value, f"{seed}\x1f{name}") if value.is_floating_point() else value.clone()
        for name, value in state.items()
    }


def _shuffled(value: Tensor, stream: str) -> Tensor:
    # PyTorch's CPU generator looks at 32 bits of its seed.
    seed = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:4], "big")
    order = torch.randperm(value.numel(), generator=torch.Generator().manual_seed(seed))
    return value.flatten()[order.to(value.device)].reshape(value.shape)
