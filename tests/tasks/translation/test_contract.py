"""The learner of translation does what the loop, evaluation and prediction rely on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.tasks.contract import LearnerContract
from tests.tasks.translation.learners import examples, identity
from xferlab.tasks.config import TrialIdentity
from xferlab.training.batches import Rows
from xferlab.training.sets import CaseSets


class TestCycleGan(LearnerContract):
    targets = ("structure",)
    rounding = 1e-4  # of instance norm, in weights that are still arbitrary

    @property
    def identity(self) -> TrialIdentity:
        return identity(
            weights={"identity": 5.0}, weight_decay=1e-4, decay={"after": 1, "over": 1}, score="jaccard"
        )

    def examples(self) -> CaseSets:
        return examples()

    def assert_an_epoch(self, batches: Sequence[Rows]) -> None:
        """Each batch has three of each set, or all of fewer; the images of a set are seen equally often."""
        sets = self.examples()
        for name, own in sets.sets.items():
            parts = [sets.divided(rows)[name].tolist() for rows in batches]
            assert list(map(len, parts)) == [min(3, len(own))] * 2
            seen = Counter(row for part in parts for row in part)
            assert set(seen) == set(range(len(own)))
            assert max(seen.values()) - min(seen.values()) <= 1


class TestMunit(TestCycleGan):
    @property
    def identity(self) -> TrialIdentity:
        return identity(model={"name": "munit_small"}, segmenter=None, labelled=False)

    def examples(self) -> CaseSets:
        return examples(labelled=False, masks=False)
