"""The network of classification: a trunk with a head, and the thresholds that validation cases gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from xferlab.networks.build import NAMES, build, initialise
from xferlab.networks.donors import load_strict
from xferlab.networks.head import HEAD, Head
from xferlab.networks.image_network import ImageNetwork, Level
from xferlab.networks.inherit import fold_channels
from xferlab.networks.pretrained import Pretrained
from xferlab.networks.standardise import STANDARDISE, Standardise
from xferlab.tasks.classification.config import Identity
from xferlab.tasks.classification.measures import CHOSEN, NO_THRESHOLD

_INNER = "network."
_THRESHOLDS = "thresholds"
_PUBLISHED = "imagenet"
_NEW_HEAD = "set adapt: {head: new} to start that layer from random weights"


class Classifier(nn.Module):
    """A network of whole images with the thresholds of its classes.

    Attributes:
        name: A key of `build.NETWORKS`.
        network: Gives logits.
        thresholds: (2, K) float32, those of `measures.CHOSEN`; `NO_THRESHOLD` until they are chosen.
    """

    thresholds: Tensor

    def __init__(self, name: str, network: ImageNetwork, *, num_classes: int):
        """Takes the network."""
        super().__init__()
        self.name, self.network = name, network
        self.register_buffer(_THRESHOLDS, torch.full((len(CHOSEN), num_classes), NO_THRESHOLD))

    @staticmethod
    def of(identity: Identity, device: torch.device) -> Classifier:
        """Returns the network of an identity with the seed's random weights, on its device."""
        model, num_classes = identity.model, identity.num_classes or 1
        head = model.head
        network = build(
            model.name,
            in_channels=model.in_channels,
            out_channels=num_classes,
            width=model.width,
            head=None if head == "published" else Head(head.widths, head.dropout),
            standardise=Standardise(model.standardise) if model.standardise in ("training", "code") else None,
        )
        initialise(network, identity.seed)
        classifier = Classifier(model.name, cast("ImageNetwork", network), num_classes=num_classes)
        return classifier.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (N, K) of images (N, C, H, W)."""
        logits: Tensor = self.network(images)
        return logits

    @property
    def standardise(self) -> Standardise | None:
        """What images go through first, where it learns from the training images."""
        return self.network.standardise

    @property
    def last_features(self) -> str:
        """Name of the module that gives the last features of an image."""
        return _INNER + NAMES[self.name].features

    def levels(self) -> Mapping[str, Level]:
        """Returns the levels of the trunk, `level1` to `level5`."""
        return {f"level{number}": level for number, level in enumerate(self.network.levels(), start=1)}

    def freeze_trunk(self, is_frozen: bool) -> None:
        """Lets nothing but the head train, or all; a frozen trunk keeps its batch-norm statistics, too.

        Images are standardised as in all training, so that the trunk sees the same before and after it thaws.
        """
        own_head = NAMES[self.name].head.rstrip(".")
        for name, part in self.network.named_children():
            rests = is_frozen and name not in (HEAD, own_head, STANDARDISE)
            part.requires_grad_(not rests)
            part.train(not rests)


def take_over(
    classifier: Classifier, weights: Mapping[str, Tensor], identity: Identity, *, origin: str
) -> None:
    """Loads a parent's weights or published ones; every name and shape must fit, but for what starts anew.

    Args:
        classifier: Changed in place; unchanged on an error.
        weights: Those of a parent hold the standardisation, which `Learner.prepare` then overwrites.
        identity: Says what is folded, and whether the last layer starts from random weights.
        origin: Where they come from, for messages.

    Raises:
        DonorError: Names or shapes differ.
    """
    adapt, model = identity.adapt, identity.model
    fold, new_head = (adapt.fold, adapt.head == "new") if adapt else (None, False)
    if not any(key.startswith(_INNER) for key in weights):
        asked = Pretrained(model.name, _PUBLISHED, fold, normalised=model.standardise == _PUBLISHED)
        asked.start(classifier.network, weights, origin=origin)
        return
    state = {key.removeprefix(_INNER): value for key, value in weights.items() if key.startswith(_INNER)}
    state = fold_channels(state, fold) if fold else state
    own = classifier.network.state_dict()
    fresh = [f"{STANDARDISE}.", *([_output(own, classifier.name)] if new_head else [])]
    kept = {key: value for key, value in own.items() if key.startswith(tuple(fresh))}
    given = {key: value for key, value in state.items() if not key.startswith(f"{STANDARDISE}.")}
    load_strict(classifier.network, {**given, **kept}, origin=origin, other_head=_NEW_HEAD)


def _output(own: Mapping[str, Tensor], name: str) -> str:
    """Prefix of the last layer."""
    layers = [key for key in own if key.startswith(f"{HEAD}.")]
    return layers[-1].rpartition(".")[0] + "." if layers else NAMES[name].output
