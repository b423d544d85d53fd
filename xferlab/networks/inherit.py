"""What a network takes over from its parent, and what is done to a donor's weights before that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from xferlab.errors import DonorError
from xferlab.networks.build import NAMES, network_in
from xferlab.networks.donors import load_strict
from xferlab.networks.names import LayerNames
from xferlab.networks.normalisation import Normalisation
from xferlab.networks.state_dicts import RUNNING_MEAN
from xferlab.networks.translator import TRANSLATOR
from xferlab.networks.vgg_levels import FIRST, under_levels

Fold = Literal["sum", "mean", "luminance"]
"""How three input channels become one; `fold_channels` says what each gives."""

FOLDS: Mapping[Fold, tuple[float, float, float]] = {
    "sum": (1.0, 1.0, 1.0),
    "mean": (1 / 3, 1 / 3, 1 / 3),
    "luminance": (0.2989, 0.5870, 0.1140),
}
"""How much of each input channel's kernels the folded kernels are made of."""

_FOLDED_CHANNELS = 3
_NEW_HEAD = "set adapt: {head: new} to start that layer from random weights"


def inherit(model: nn.Module, state: Mapping[str, Tensor], *, origin: str, new_head: bool = False) -> None:
    """Loads a parent's weights; every name and shape must fit, but a parent may lack the whole translator.

    A network that is made of VGG16 also takes over the weights of a VGG16, and keeps its own for the rest.

    Args:
        model: Changed in place; unchanged on an error. A translator that the parent lacks keeps its weights.
        state: Names to tensors. With a translator, the model's must be the same.
        origin: Where the weights come from, for the message.
        new_head: Whether the last layer keeps its weights, too, whatever the parent's shape is.

    Raises:
        DonorError: They are of another network, or names or shapes differ; lists the first of each kind.
    """
    own, kept = model.state_dict(), list[str]()
    if FIRST in own and network_in(state) == "vgg16":
        state = under_levels(state, own, origin)
    _check_network(own, state, origin)
    prefix = f"{TRANSLATOR}."
    if not any(key.startswith(prefix) for key in state):
        kept.append(prefix)
    if new_head:
        known = (*NAMES.values(), *filter(None, [getattr(model, "NAMES", None)]))
        kept += [f"{prefix}head.", *(names.output for names in known if names.first in own)]
    fresh = {key: value for key, value in own.items() if key.startswith(tuple(kept))}
    load_strict(model, {**state, **fresh}, origin=origin, other_head=_NEW_HEAD)


def _check_network(own: Mapping[str, Tensor], state: Mapping[str, Tensor], origin: str) -> None:
    expected, given = network_in(own), network_in(state)
    if given is not None and expected is not None and given != expected:
        raise DonorError(
            f"{origin}: these are weights of a {given}, and the network is a {expected}; start from weights "
            f"of a {expected}, or set model.name to {given} if the stage's task has that network"
        )


def fold_channels(
    state: Mapping[str, Tensor], how: Fold, *, normalisation: Normalisation | None = None
) -> dict[str, Tensor]:
    """Returns a state whose first convolution takes one channel in place of three; the rest is the same.

    Of the responses r1, r2 and r3 of the three kernels that make up a filter, `sum` gives r1 + r2 + r3,
    `mean` a third of that, and `luminance` 0.2989 r1 + 0.5870 r2 + 0.1140 r3 (arias-garzon2021,
    classification). So `sum` is what the donor gives on a grey image that is repeated three times; the
    others are smaller, while biases and running statistics stay those of three channels.

    Without `normalisation`, each kernel responds to the one channel as it comes. With it, the channel is an
    image normalised by `normalisation.grey()`, and each kernel responds to that image normalised by the mean
    and deviation of its own channel: deviations go into the kernels, and means into the bias of the
    convolution, or the running mean of the batch normalisation that follows it. Where the three means
    differ, that is exact but for pixels so near to the border that the convolution's padding counts: it
    stands for the mean of each channel in the donor, and for the one of `grey()` here.

    Args:
        state: A state dict of a network of `build.NETWORKS`; unchanged.
        how: A key of `FOLDS`.
        normalisation: How images of three channels are normalised for the weights; None folds kernels alone.

    Returns:
        Sums are added in float64 and rounded once, to the type of the weights.

    Raises:
        DonorError: There is no first convolution, or it has not three input channels.
    """
    names = _input_names(state, how)
    kernels = state[names.first].double()
    shares = torch.tensor(FOLDS[how], dtype=torch.float64, device=kernels.device)
    if normalisation is None:
        return {**state, names.first: _weighted(kernels, shares).to(state[names.first].dtype)}
    mean, deviation = (
        torch.tensor(values, dtype=torch.float64, device=kernels.device)
        for values in (normalisation.mean, normalisation.deviation)
    )
    grey = normalisation.grey()
    constants = _weighted(kernels, shares * (grey.mean[0] - mean) / deviation).sum(dim=(1, 2, 3))
    if (offset := state.get(names.offset)) is None:
        raise DonorError(f"fold: {how} moves means into {names.offset!r}, which the weights lack.")
    sign = -1.0 if names.offset.endswith(RUNNING_MEAN) else 1.0
    return {
        **state,
        names.first: _weighted(kernels, shares * grey.deviation[0] / deviation).to(state[names.first].dtype),
        names.offset: (offset.double() + sign * constants).to(offset.dtype),
    }


def _weighted(kernels: Tensor, shares: Tensor) -> Tensor:
    return (kernels * shares.reshape(1, -1, 1, 1)).sum(dim=1, keepdim=True)


def _input_names(state: Mapping[str, Tensor], how: str) -> LayerNames:
    """Returns the names of the network that the state is of; refuses one without three input channels."""
    name = network_in(state)
    names = NAMES[name] if name else next((names for names in NAMES.values() if names.first in state), None)
    first = None if names is None else state[names.first]
    if names is None or first is None or first.ndim != 4:
        accepted = ", ".join(dict.fromkeys(repr(names.first) for names in NAMES.values()))
        shape = "none" if first is None else f"one of shape {tuple(first.shape)}"
        raise DonorError(
            f"fold: {how} needs a first convolution of shape (width, 3, height, width), which is one of "
            f"{accepted}; found {shape}. Fold the weights of one of these networks ({', '.join(NAMES)}), or "
            "leave `fold` out."
        )
    if first.shape[1] != _FOLDED_CHANNELS:
        raise DonorError(
            f"fold: {how} makes one input channel of {_FOLDED_CHANNELS}; found {first.shape[1]} in "
            f"{names.first!r}. Leave `fold` out and set in_channels: {first.shape[1]}."
        )
    return names


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
