"""Deep features to compare trials by: which cases, which layers, and the identity of what is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from xferlab.cohort import Case, Selection
from xferlab.cohort.dividing import largest_remainder, rank
from xferlab.plan.identity import short_id
from xferlab.plan.selection import CaseSelector, Reading, without_patients
from xferlab.plan.spec import FeaturesSpec, Predicted
from xferlab.study.schema import Study
from xferlab.tasks.config import TrialIdentity

FEATURES_VERSION = 1
"""Raised when what is stored of a layer changes."""


Predict = Callable[[Reading, Mapping[str, str]], tuple[Predicted, ...]]
"""Takes a section, and the unit of each case by its digest; returns who predicts which of the cases."""


class Probe:
    """The few cases on which every trial of a study shows its features; they are the same for all arms."""

    def __init__(self, base: Study, selector: CaseSelector):
        """Chooses from the hold-out that the study itself has: arms may see other pixels of it in training.

        Args:
            base: The study without its arms.
            selector: Gets the selection.
        """
        self._asked = base.features
        if self._asked is None:
            return
        self._section, _, part = self._asked.on.partition(".")
        config = base.data[self._section]
        self._config = without_patients(config)
        self._reading = Reading(self._section, (config,))
        hold_out = selector.selections[selector.select(self._reading, part, 1).digest]
        few = Selection.to_evaluate(self._section, stratified(hold_out.cases(), self._asked.cases))
        self._digest, self._selections = few.identity(), selector.selections
        selector.selections[self._digest] = few

    def of(
        self, trial_id: str, trial_identity: TrialIdentity, data: Mapping[str, Any], predict: Predict
    ) -> tuple[FeaturesSpec | None, Mapping[str, Any]]:
        """Returns what a trial is to store, and the configurations of the sections that it then reads."""
        if self._asked is None or not trial_identity.compared_layers:
            return None, data
        # No arm has an empty name: its own cases under this section's name are not mistaken for these.
        cases = dict.fromkeys(self._selections[self._digest].digests, "")  # nobody trains on their units
        is_same = data.get(self._section, self._config) == self._config
        source = self._section if is_same else f"{self._section}@"
        predicted = predict(self._reading, cases)
        identity: dict[str, Any] = {
            "trial": trial_id,
            "selection": self._digest,
            "resolution": trial_identity.image_size,
            "layers": list(trial_identity.compared_layers),
            "features": FEATURES_VERSION,
        }
        if sets := [each.set_name for each in predicted if each.set_name]:
            identity["sets"] = sets
        return (
            FeaturesSpec(short_id(identity), self._section, self._digest, source, predicted),
            {**data, source: self._config},
        )


def stratified(cases: Iterable[Case], number: int) -> list[Case]:
    """Returns so many of the cases, or all if there are fewer: each pathology by its share, in seeded order.

    A function of the cases alone: no study seed, trial or arm changes it.
    """
    groups: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=lambda case: (rank("features", case.digest), case.digest)):
        groups[case.pathology].append(case)
    strata = [groups[pathology] for pathology in sorted(groups)]
    num_cases = sum(map(len, strata))
    total = min(number, num_cases)
    sizes = largest_remainder([len(stratum) * total / num_cases for stratum in strata], total)
    return [case for stratum, size in zip(strata, sizes, strict=True) for case in stratum[:size]]
