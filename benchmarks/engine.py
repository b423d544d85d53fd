"""The engine's learners, called as its training loop calls them; no step waits for the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import torch
from turns import Setting
from works import WORKS

from xferlab.tasks.registry import learner_of
from xferlab.training.learner import AugmentationSeed, Learner
from xferlab.trial.environment import prepare


def endless(learner: Learner[Any, Any], train: Any) -> Iterator[tuple[int, Mapping[str, torch.Tensor]]]:
    """Trains in one epoch after the other; yields the number of cases and the losses of each step."""
    for epoch in count(1):
        learner.begin_epoch(epoch)
        draw = AugmentationSeed(0, epoch)
        for rows in learner.batches(train, epoch):
            yield len(rows), learner.train_step(learner.load(train, rows, draw))


class EngineWay:
    """A trial's learner on the images of a setting; steps do not tell their losses."""

    def __init__(self, setting: Setting, **execution: Any):
        """Starts from random weights; `execution` are fields of the trial's."""
        self.identity = WORKS[setting.task].engine(setting, **execution)
        device = prepare(self.identity.execution)
        self.learner = learner_of(self.identity, device)
        self.train = WORKS[setting.task].examples(setting, device)
        self.learner.prepare(self.train)
        self._steps = endless(self.learner, self.train)

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains on from where the last round ended."""
        return ((number, 0.0) for number, _ in self._steps)

    @property
    def network(self) -> torch.nn.Module:
        """Its network."""
        return next(iter(self.learner.networks.values()))


def wait() -> None:
    """Waits until the device, or this thread's stream of it, has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()
