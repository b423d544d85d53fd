"""Several trained networks that predict together: those of the repetitions of a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from xferlab.data.pixels import Picture
from xferlab.errors import UsageError
from xferlab.tasks import registry
from xferlab.training.learner import Array, Presented
from xferlab.trial.predictor import Predictor


@dataclass(frozen=True)
class Ensemble(Predictor):
    """Networks that read images alike; all are in memory at once, and each image goes through every one.

    Its prediction of an image is that of each network, (N, ...); `present` takes their mean.

    Attributes:
        members: The networks, by trial id, one at least; its other attributes are those of the first.
    """

    members: Mapping[str, Predictor] = field(default_factory=dict)

    @staticmethod
    def of(members: Mapping[str, Predictor], *, origin: str) -> Ensemble:
        """Returns the ensemble of trials of one stage.

        Raises:
            UsageError: Their task does not average outputs.
        """
        first = next(iter(members.values()))
        if registry.task(first.identity.task).ensemble_files is None:
            raise UsageError(
                f"{origin}: outputs of task {first.identity.task!r} are not averaged over networks; name one "
                "repetition, such as arm/stage/r01"
            )
        made_by = f"trials={' '.join(members)}"
        return Ensemble(**{**vars(first), "origin": origin, "made_by": made_by, "members": members})

    def only(self, trials: Sequence[str]) -> Ensemble:
        """Returns the ensemble of some of the trials."""
        return Ensemble.of({trial: self.members[trial] for trial in trials}, origin=self.origin)

    @property
    def files(self) -> Mapping[str, str]:
        """The endings of the files that `present` returns, by their columns."""
        return {**super().files, **(registry.task(self.identity.task).ensemble_files or {})}

    def predictions(
        self, prepared: Sequence[npt.NDArray[np.uint8]], pictures: Sequence[Picture] = ()
    ) -> Sequence[Array]:
        """Returns the outputs of all networks for each prepared image, (N, ...)."""
        of_each = [member.predictions(prepared, pictures) for member in self.members.values()]
        return [np.stack(outputs) for outputs in zip(*of_each, strict=True)]

    def present(self, image: npt.NDArray[np.uint8], prediction: Array, *, threshold: float) -> Presented:
        """Returns what is written of the mean, how far the networks agree, and how many there are."""
        shown = self.learner.present_ensemble(
            image, list(prediction), height=self.seen(image), targets=self.targets, threshold=threshold
        )
        return replace(shown, columns={**shown.columns, "networks": len(self.members)})

    def passed(self, pictures: Sequence[Picture]) -> list[dict[str, float]]:
        """Returns of each picture the share of the networks whose gate it passes, as a column."""
        of_each = [member.passed(pictures) for member in self.members.values()]
        return [
            {name: round(float(np.mean([each[name] for each in columns])), 6) for name in columns[0]}
            for columns in zip(*of_each, strict=True)
        ]
