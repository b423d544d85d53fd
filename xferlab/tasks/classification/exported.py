"""The graph of a classification: from normalised images, or patches of them, to probabilities of classes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from xferlab.metrics.classes import NAMED_THRESHOLDS, THRESHOLD
from xferlab.networks.normalisation import Normalisation
from xferlab.tasks.classification.config import Identity
from xferlab.tasks.classification.measures import CHOSEN, NO_THRESHOLD
from xferlab.tasks.classification.network import Classifier
from xferlab.tasks.classification.views import View
from xferlab.training.exported import Exported, Output, Probabilities, Step, channels_step, intensity_step

OUTPUT = Output("probability", ("batch", "class"), "Probability that an image is of a class.")


def probabilities(logits: Tensor, *, is_exclusive: bool) -> Tensor:
    """Returns the probability of each class, (N, K), of a network's logits."""
    return torch.softmax(logits, dim=1) if is_exclusive else torch.sigmoid(logits)


def exported(network: Classifier, identity: Identity, view: View) -> Exported:
    """Returns the graph of a network, with what its view does before and after it; into evaluation mode."""
    model = identity.model
    patches = model.patches
    return Exported(
        module=Probabilities(
            network.network, partial(probabilities, is_exclusive=identity.is_exclusive)
        ).eval(),
        inputs=view.judged,
        channels=model.in_channels,
        side=patches.size_px if patches else model.image_size,
        multiple=None,
        outputs=(OUTPUT,),
        steps=tuple(_steps(identity, view)),
        decision=_decision(identity),
        thresholds=_thresholds(network, identity),
        outside=tuple(_outside(identity)),
    )


_EXCLUSIVE = "An image is of the most probable class, of equal ones the first."
_INDEPENDENT = "An image is of each class whose probability is above the threshold."
_VOTED = (
    "A patch votes for its most probable class, of equal ones the first. An image is of the class with most "
    "votes, of equally many the one with the largest sum of probabilities over the patches."
)


def _decision(identity: Identity) -> str:
    if identity.model.patches:
        return _VOTED
    return _EXCLUSIVE if identity.is_exclusive else _INDEPENDENT


def _thresholds(network: Classifier, identity: Identity) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        f"{name.lower()}: {NAMED_THRESHOLDS[name]}": [
            value if value < NO_THRESHOLD else None for value in values
        ]
        for name, values in zip(CHOSEN, network.thresholds.tolist(), strict=True)
    }
    return chosen if identity.is_exclusive else {"probability": THRESHOLD, **chosen}


def _steps(identity: Identity, view: View) -> Iterator[Step]:
    model, region = identity.model, view.region
    if model.patches:
        rule = (
            "what lies in the image of a square around a pixel that is seen, stretched to the size, bilinear"
        )
        yield Step("patch", rule, {"size_px": model.patches.size_px, "patches": model.patches.number})
    if not region.is_whole:
        structures = ", ".join(region.structures or ("all that the stage takes",))
        rule = f"what is not {region.keep} of masks of {structures} becomes 0"
        yield Step("masks", rule, {"keep": region.keep, "structures": list(region.structures or ())})
    yield intensity_step(region.intensity)
    if region.normalisation:
        yield normalisation_step(region.normalisation)
    yield channels_step(model.in_channels)


def normalisation_step(normalisation: Normalisation) -> Step:
    """Returns what published weights expect of an image whose grey levels are 0 to 1."""
    mean, deviation = list(normalisation.mean), list(normalisation.deviation)
    return Step(
        "normalise",
        "times `white`, less the mean of each channel, divided by its deviation; a grey image is repeated",
        {"white": normalisation.white, "mean": mean, "deviation": deviation},
        f"(image * {normalisation.white} - torch.tensor({mean}).reshape(-1, 1, 1)) "
        f"/ torch.tensor({deviation}).reshape(-1, 1, 1)",
    )


def _outside(identity: Identity) -> Iterator[str]:
    if identity.model.patches:
        number = identity.model.patches.number
        yield (
            f"The graph tells one patch. Of an image, {number} patches are told: they vote for its class, "
            "and the probability of a class is the mean over them."
        )
    if identity.masks:
        yield "Another network predicts the masks."
    yield "The map of where the network looks is not in the graph."
