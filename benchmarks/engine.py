"""The engine's learners, called as its training loop calls them; no step waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

import torch
from turns import Setting
from works import WORKS

from xferlab.tasks.config import TrialIdentity
from xferlab.tasks.registry import learner_of
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import AugmentationSeed, Learner
from xferlab.trial.environment import prepare


def endless(learner: Learner[Any, Any], train: Any) -> Iterator[tuple[int, Mapping[str, torch.Tensor]]]:
    """Trains in one epoch after the other; yields the number of cases and the losses of each step."""
    for epoch in count(1):
        learner.begin_epoch(epoch)
        draw = AugmentationSeed(0, epoch)
        for rows in learner.batches(train, epoch):
            yield len(rows), learner.train_step(learner.load(train, rows, draw))


class LearnerWay:
    """The learner of a trial; steps do not tell their losses."""

    def __init__(self, identity: TrialIdentity, cases: Callable[[torch.device], ImageExamples]):
        """Starts from random weights; `cases` gives what is trained on."""
        device = prepare(identity.execution)
        self.learner, self.train = learner_of(identity, device), cases(device)
        self.learner.prepare(self.train)
        self._steps = endless(self.learner, self.train)

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains on from where the last round ended."""
        return ((number, 0.0) for number, _ in self._steps)

    @property
    def network(self) -> torch.nn.Module:
        """Its network."""
        return next(iter(self.learner.networks.values()))


class EngineWay(LearnerWay):
    """That of a work, on the images of a setting."""

    def __init__(self, setting: Setting, **execution: Any):
        """Takes fields of the trial's execution."""
        work = WORKS[setting.task]
        super().__init__(work.engine(setting, **execution), partial(work.examples, setting))


def wait() -> None:
    """Waits until the device, or this thread's stream of it, has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()
