"""The training of a trial, and weights back into its networks: the same for a trial and a search's sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from xferlab.networks.donors import load_each, load_strict, save_weights
from xferlab.tasks.config import TrialIdentity
from xferlab.training.learner import Learner
from xferlab.training.loop import Schedule, Trainer, weights_of

AnyLearner = Learner[Any, Any]
"""A learner of any task."""


def trainer_of(identity: TrialIdentity, learner: AnyLearner) -> Trainer[Any, Any]:
    """Returns the training that an identity names."""
    loop = identity.training
    return Trainer(learner, Schedule(identity.seed, loop.max_epochs, loop.patience, identity.score))


def finished(learner: AnyLearner, validation: Any) -> bytes:
    """Lets a learner that has its best weights learn what they tell of the validation cases; returns them."""
    learner.finish(validation)
    return save_weights(weights_of(learner))


def load_weights(learner: AnyLearner, weights: Mapping[str, torch.Tensor], *, origin: str) -> None:
    """Loads what `training.loop.weights_of` gave into a learner's networks; every name and shape must fit.

    Raises:
        DonorError: They do not fit; the message names `origin`.
    """
    networks = learner.networks
    if len(networks) == 1:
        load_strict(next(iter(networks.values())), weights, origin=origin)
        return
    load_each(networks, weights, origin=origin)
