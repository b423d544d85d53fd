"""The parts of one training, the same for a trial and for a sample of a search."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from xferlab.plan.spec import TrialSpec
from xferlab.records.reader import read_selection
from xferlab.training.learner import Examples
from xferlab.training.loop import Trainer
from xferlab.trial.assemble import TrialContext, examples, recipe_of, task_of
from xferlab.trial.origin import freezing_of


def fit_examples(spec: TrialSpec, context: TrialContext) -> tuple[Examples, Examples]:
    """Returns the cases to train and to validate on."""
    rows = read_selection(context.store, spec.selection).rows
    train, validation = (
        examples(spec, spec.section, [row[0] for row in rows if row[1] == part], context)
        for part in ("train", "validation")
    )
    return train, validation


def trainer_of(spec: TrialSpec, model: nn.Module) -> Trainer[Any, Any]:
    """Returns the training that a spec names: compiled and with parts at rest, if it says so."""
    compiled: Any = torch.compile(model) if spec.identity["execution"]["compile"] else None
    return Trainer(
        model,
        task_of(spec.identity),
        recipe_of(spec.identity),
        forward=compiled,
        prepare=freezing_of(spec.identity, model),
    )
