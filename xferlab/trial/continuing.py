"""A training that starts at the end of a shorter one, whose state was kept."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from xferlab.errors import RecordError
from xferlab.networks.donors import save_weights
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec
from xferlab.records.states import KeptState, starts_for
from xferlab.training.loop import Trainer
from xferlab.trial.checkpoint import Checkpoints
from xferlab.trial.examples import TrialContext

log = logging.getLogger("xferlab.trial")


def continue_shorter(
    spec: TrialSpec, trainer: Trainer[Any, Any], context: TrialContext, *, origin: str | None
) -> KeptState | None:
    """Restores the longest kept state that a training passes through, if that is ahead of where it stands.

    Args:
        spec: The trial.
        trainer: Its training, resumed from its own checkpoints if it has any.
        context: Storage and device.
        origin: Digest of the weights that it starts from; None from scratch.

    Returns:
        The state; None where there is none. A damaged one is set aside.
    """
    for kept in starts_for(context.store, spec):
        if kept.num_epochs <= len(trainer.cursor.history):
            break
        try:
            trainer.restore(_load(kept, context, origin))
        except RecordError as error:
            log.warning("%s: does not continue trial %s: %s", spec.name, kept.record.trial_id, error)
            continue
        return kept
    return None


def _load(kept: KeptState, context: TrialContext, origin: str | None) -> dict[str, Any]:
    """Returns a state that belongs to its record and to the weights that both trainings start from."""
    store = context.store
    try:
        state = Checkpoints(store, kept.record.trial_id).load(kept.name, context.device)
    except RecordError as error:
        raise _damaged(kept, context, "is damaged") from error
    weights = hashlib.sha256(save_weights(state["best"])).hexdigest()
    if weights != kept.record.weights_sha256:
        raise _damaged(kept, context, "holds other weights than those of its trial's record")
    if state.get("origin") != origin:
        raise RecordError(f"{store.path(kept.name)}: goes on from other weights than this trial starts from")
    return state


def _damaged(kept: KeptState, context: TrialContext, problem: str) -> RecordError:
    return codec.set_aside(context.store, kept.name, problem, remedy="trainings start without it")
