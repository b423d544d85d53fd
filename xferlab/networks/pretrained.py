"""A network that starts from published weights: what a task asks for, and what the network takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from xferlab.errors import DonorError
from xferlab.networks.build import NAMES, build, initialise
from xferlab.networks.donors import load_strict
from xferlab.networks.head import HEAD, Head
from xferlab.networks.inherit import Fold, fold_channels
from xferlab.networks.names import LayerNames
from xferlab.networks.normalisation import Normalisation
from xferlab.networks.published import PublishedWeights, published
from xferlab.networks.standardise import STANDARDISE
from xferlab.networks.state_dicts import COUNTER


@dataclass(frozen=True)
class Taken:
    """What became of the names of published weights, and of the network's.

    Attributes:
        dropped: Tensors of the weights that the network has no use for.
        fresh: Tensors of the network that keep what they were initialised with.
    """

    dropped: tuple[str, ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        """The names, for a log."""
        return f"left out: {', '.join(self.dropped) or 'nothing'}; new: {', '.join(self.fresh) or 'nothing'}"


@dataclass(frozen=True)
class Pretrained:
    """Published weights for a network, as a task asks for them.

    A task makes the network with `build`, gets the weights as any given weights, by the name `name`, and
    hands them to `start`. Images are normalised by `normalisation`.

    Attributes:
        network: A key of `build.NETWORKS`.
        weights: Their name, such as `imagenet`.
        fold: How the three input channels become one; None keeps them.
        normalised: Whether images are normalised as the weights expect. False: the task does it in its own
            way, and a fold adds up kernels alone.
    """

    network: str
    weights: str = "imagenet"
    fold: Fold | None = None
    normalised: bool = True

    @property
    def name(self) -> str:
        """Under which the weights are published: a key of `published.PUBLISHED`."""
        return f"{self.weights}/{self.network}"

    @property
    def published(self) -> PublishedWeights:
        """What is known of the weights.

        Raises:
            DonorError: There are none of that name for that network.
        """
        return published(self.name)

    @property
    def in_channels(self) -> int:
        """Channels of the images that the network takes."""
        return self.published.in_channels if self.fold is None else 1

    @property
    def normalisation(self) -> Normalisation | None:
        """How images are normalised for the network; None where the task does it in its own way."""
        normalisation = self.published.normalisation if self.normalised else None
        return normalisation.grey() if normalisation is not None and self.fold else normalisation

    def build(self, seed: int, *, out_channels: int | None = None, head: Head | None = None) -> nn.Module:
        """Returns the network with the seed's random weights, on the CPU.

        Args:
            seed: At least 0.
            out_channels: Number of outputs; None for those of the weights.
            head: In place of the network's own; None for its own.
        """
        outputs = self.published.out_channels if out_channels is None else out_channels
        network = build(self.network, in_channels=self.in_channels, out_channels=outputs, head=head)
        initialise(network, seed)
        return network

    def start(
        self, network: nn.Module, state: Mapping[str, Tensor], *, origin: str, keep_outputs: bool = False
    ) -> Taken:
        """Loads published weights; every name and shape must fit, but for the head, which is replaced.

        A head that was given to `build` stays as it is, and the weights' own head is left out, if they have
        one. Of the network's own head, the last layer stays as it is.

        Args:
            network: As `build` returns it; changed in place, but unchanged on an error.
            state: The weights, as they were published.
            origin: Where they come from, for messages.
            keep_outputs: Load the last layer, too: the network then answers as the published one does.

        Raises:
            DonorError: Names or shapes differ, the network has another width than the published one, or there
                are no three channels to fold.
        """
        if self.fold is not None:
            expected = self.published.normalisation if self.normalised else None
            state = fold_channels(state, self.fold, normalisation=expected)
        return _take_over(network, state, NAMES[self.network], origin=origin, keep_outputs=keep_outputs)


def _take_over(
    network: nn.Module, state: Mapping[str, Tensor], names: LayerNames, *, origin: str, keep_outputs: bool
) -> Taken:
    expected = network.state_dict()
    _check_width(expected, state, names, origin=origin)
    is_given = any(key.startswith(f"{HEAD}.") for key in expected)
    if is_given and keep_outputs:
        raise DonorError(
            f"{origin}: keep_outputs loads the published outputs, and the network was built with another "
            "head. Leave keep_outputs out, or build the network without `head`."
        )
    unused = (names.head,) if is_given else () if keep_outputs else (names.output,)
    dropped = tuple(key for key in state if key.startswith(unused))
    fresh = tuple(
        key
        for key in expected
        if key.startswith((f"{HEAD}.", f"{STANDARDISE}.", *unused)) or _is_absent_counter(key, state)
    )
    kept = {key: value for key, value in state.items() if key not in dropped}
    # Where no name fits, nothing is added, so that the message can say what the weights are.
    added = {key: expected[key] for key in fresh} if kept.keys() & expected.keys() else {}
    load_strict(network, kept | added, origin=origin)
    return Taken(dropped, fresh)


def _check_width(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], names: LayerNames, *, origin: str
) -> None:
    """Refuses a network whose convolutions have other numbers of filters than the published ones."""
    convolutions = [key for key, value in expected.items() if value.ndim == 4 and key in state]
    other = next((key for key in convolutions if len(state[key]) != len(expected[key])), None)
    if other is not None and names.first in state:
        raise DonorError(
            f"{origin}: published weights are of a network of width 1 ({len(state[other])} filters in "
            f"{other!r}), and this network has {len(expected[other])} there; set model.width to 1, or start "
            "from random weights"
        )


def _is_absent_counter(key: str, state: Mapping[str, Tensor]) -> bool:
    """Whether it is a counter of batches in weights that have none, as PyTorch wrote them before 0.4.1."""
    return key.endswith(COUNTER) and not any(name.endswith(COUNTER) for name in state)
