"""What a trial starts from: given weights or a parent's best, taken over as the stage says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from xferlab.errors import RecordError
from xferlab.networks.donors import read_weights
from xferlab.networks.published import PUBLISHED
from xferlab.networks.state_dicts import check_usable
from xferlab.plan.identity import joint_digest
from xferlab.plan.spec import Donor, Input, TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.schema import TrialRecord
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.trial.examples import TrialContext
from xferlab.trial.training import AnyLearner, load_weights

_RECREATED = "run the study again, which recreates it"


@dataclass(frozen=True)
class Origin:
    """What a trial starts from.

    Attributes:
        name: The parent's trial id, or the donor's digest.
        weights_sha256: Digest of the weights.
    """

    name: str
    weights_sha256: str


def load_origins(spec: TrialSpec, learner: AnyLearner, context: TrialContext) -> dict[str, Origin]:
    """Gives a learner the weights that its trial starts from.

    Returns:
        Where they come from, by role; nothing from scratch.

    Raises:
        DonorError: They do not fit the network.
        RecordError: They are missing or altered.
    """
    origins = {}
    for given in spec.origins:
        if donor := given.donor:
            origin, weights = Origin(donor.digest, donor.digest), _donor_weights(donor, context)
        else:
            parent = best_parent(spec, given, context.store)
            origin = Origin(parent.trial_id, parent.weights_sha256)
            weights = trained_weights(context.store, parent.trial_id)
        give(learner, given, weights, title=f"donor {donor.title}" if donor else f"trial {origin.name}")
        origins[given.role] = origin
    return origins


def give(learner: AnyLearner, given: Input, weights: Mapping[str, torch.Tensor], *, title: str) -> None:
    """Gives a learner the weights of all of its networks, or of the one that an input is for.

    Raises:
        DonorError: They do not fit; the message names them by `title`.
    """
    if given.network:
        learner.start_network_from(given.network, weights, origin=title)
    else:
        learner.start_from(weights, origin=title)


def names_of(origins: Mapping[str, Origin]) -> str | dict[str, str] | None:
    """Returns what a record says of where a trial started: a name, or names by role; None from scratch."""
    names = {role: origin.name for role, origin in origins.items()}
    return names if len(names) > 1 else next(iter(names.values()), None)


def weights_of(origins: Mapping[str, Origin]) -> str | None:
    """Returns the digest of all the weights that a trial started from; None from scratch."""
    return joint_digest({role: origin.weights_sha256 for role, origin in origins.items()})


def _donor_weights(donor: Donor, context: TrialContext) -> dict[str, torch.Tensor]:
    path = Path(donor.path or PUBLISHED[donor.title].file_name)
    name = layout.donor_path(donor.digest)
    return read_weights(path, _verified(context.store, name, donor.digest), origin=context.store.path(name))


def best_parent(spec: TrialSpec, origin: Input, store: Store) -> TrialRecord:
    """Returns the parent with the best score (the only one, where trials are paired).

    Raises:
        RecordError: One of them is not complete.
    """
    records = [reader.read_trial(store, parent) for parent in origin.trials]
    complete = [record for record in records if record is not None]
    if len(complete) < len(records):
        raise RecordError(f"{spec.name}: a parent is not complete; run the study again")
    score = registry.identity_of(complete[0].identity).score
    worse = -1.0 if score is not None and score.better == "higher" else 1.0
    return min(complete, key=lambda record: (worse * (record.best_score or 0.0), record.trial_id))


def trained_weights(store: Store, trial_id: str) -> dict[str, torch.Tensor]:
    """Returns the best weights of a complete trial.

    Raises:
        RecordError: The trial is not complete, or its weights differ from the digest in its record; they are
            set aside then, so that it counts as not complete, and a rerun trains it again.
        DonorError: A tensor holds NaN or infinity.
    """
    record = reader.read_trial(store, trial_id)
    if record is None:
        raise RecordError(f"{store.path(layout.TrialFiles(trial_id).folder)}: is no complete trial")
    name = layout.TrialFiles(trial_id).weights
    try:
        weights = dict(load_safetensors(_verified(store, name, record.weights_sha256)))
    except SafetensorError as error:
        raise RecordError(
            f"{store.path(name)}: is no safetensors file ({error}); delete it and run again"
        ) from error
    check_usable(weights, origin=store.path(name))
    return weights


def trained_learner(spec: TrialSpec, context: TrialContext) -> AnyLearner:
    """Returns the learner of a complete trial with its best weights.

    Raises:
        RecordError: The trial is not complete, or its weights were altered.
    """
    learner: AnyLearner = registry.learner_of(spec.identity, context.device)
    load_weights(learner, trained_weights(context.store, spec.trial_id), origin=f"trial {spec.trial_id}")
    return learner


def _verified(store: Store, name: str, sha256: str) -> bytes:
    """Returns a file whose digest is known; sets an altered one aside, so that a rerun recreates it."""
    data = store.read(name)
    if data is None:
        raise RecordError(f"{store.path(name)}: is missing; {_RECREATED}")
    if not codec.matches(data, sha256):
        problem = "is altered (its digest is not the recorded one)"
        raise codec.set_aside(store, name, problem, remedy=_RECREATED)
    return data
