"""The ensemble that `xferlab predict ARM/STAGE` means, and which of its networks predict which image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xferlab.cli.seen import SeenPatients
from xferlab.cli.view import count_of
from xferlab.data.cache import default_cache_dir
from xferlab.data.memo import FileMemo
from xferlab.data.sources.registry import DataSection
from xferlab.errors import Problem, UsageError
from xferlab.records import reader
from xferlab.records.store import Store

if TYPE_CHECKING:
    import torch

    from xferlab.trial.ensemble import Ensemble
    from xferlab.trial.predictor import Predictor

Images = Mapping[str, Path]


@dataclass(frozen=True)
class Repetitions:
    """The complete repetitions of a stage of an arm.

    Attributes:
        store: Their storage.
        name: `arm/stage`.
        trials: Their ids, in order.
        num_planned: How many the plan has.
        declared: The sections of the study file, by name, where it is given.
    """

    store: Store
    name: str
    trials: tuple[str, ...]
    num_planned: int
    declared: Mapping[str, DataSection] = field(default_factory=dict)

    @staticmethod
    def of(
        store: Store, name: str, ids: Mapping[str, str], declared: Mapping[str, DataSection]
    ) -> Repetitions:
        """Takes the ids of all repetitions by their names.

        Raises:
            UsageError: None is complete.
        """
        planned = tuple(dict.fromkeys(ids.values()))
        complete = tuple(trial for trial in planned if reader.read_trial(store, trial) is not None)
        if not complete:
            raise UsageError(
                f"{name}: none of {count_of(len(planned), 'repetition')} is complete; run the study"
            )
        return Repetitions(store, name, complete, len(planned), declared)

    def load(self, device: torch.device) -> Ensemble:
        """Returns the networks."""
        from xferlab.trial.ensemble import Ensemble
        from xferlab.trial.predictor import Predictor

        number = f"{len(self.trials)} of " if len(self.trials) < self.num_planned else ""
        origin = f"{self.name} ({number}{count_of(self.num_planned, 'repetition')})"
        members = {trial: Predictor.of_trial(self.store, trial, device) for trial in self.trials}
        return Ensemble.of(members, origin=origin)

    def parts(
        self, predictor: Predictor, images: Images
    ) -> tuple[list[tuple[Predictor, Images]], list[Problem]]:
        """Returns who predicts which images, by the names of their outputs, and what is wrong.

        An image of the study is predicted by those networks only that did not learn from its patient. What no
        network predicts is an error; that not all patients are known is a warning.
        """
        from xferlab.trial.ensemble import Ensemble

        assert isinstance(predictor, Ensemble), "what `load` returns"
        seen = SeenPatients.of(self.store, self.trials, self.declared)
        parts = defaultdict[tuple[str, ...], dict[str, Path]](dict)
        memo = FileMemo(default_cache_dir() / "digests", Path())
        digests, _ = memo.digests(map(str, images.values()))  # whoever predicts the others says what is wrong
        for name, image in images.items():
            parts[seen.unseen_by(digests.get(str(image), ""))][name] = image
        problems = [Problem(str(image), self._refusal) for image in parts.pop((), {}).values()]
        number = sum(digests.get(str(image)) in seen.of_images for image in images.values())
        if seen.num_unknown:
            problems.append(self._warning(seen))
        elif number:
            print(
                f"{count_of(number, 'image')} of the study's data: predicted by those networks only that did "
                "not learn from the patient"
            )
        return [(predictor.only(trials), group) for trials, group in parts.items()], problems

    @property
    def _refusal(self) -> str:
        return (
            f"is of the study's data, and all networks of {self.name} learned from its patient (training or "
            "validation), so that an ensemble would look too good; it is left out. A single repetition, such "
            f"as {self.name}/r01, predicts any image."
        )

    def _warning(self, seen: SeenPatients) -> Problem:
        why = f" ({seen.why})" if seen.why else ""
        number = f"{seen.num_unknown} of {count_of(seen.num_cases, 'case')}"
        text = (
            f"{number} that these networks learned from are not found on this machine{why}, so images of "
            "these patients are not recognised: all networks predict them. Give --study with a study file "
            "whose data sections name the folders that hold the data now."
        )
        return Problem(self.name, text, severity="warning")
