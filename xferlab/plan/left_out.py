"""Where a split that leaves sites out leaves a stage without cases: no trial, or nothing that is measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from xferlab.cohort.rules import Rule
from xferlab.tasks.task import Finding

NO_TRIAL = "stages without a trial for some sites"
NO_CASE = "evaluations without a case for some sites"
Warn = Callable[..., None]
"""Takes a key, under which only the first warning is kept, then place, words and kind."""


class LeftOut:
    """Tells and remembers what there is not; under any other rule, everything is there."""

    def __init__(self, rule: Rule, warn: Warn):
        self._rule, self._warn = rule, warn

    def lacks_trial(self, stage: str, repetition: int, *, has_parent: bool, has_cases: bool) -> bool:
        """Returns whether a stage has no trial in a repetition, and warns if so.

        Args:
            stage: Its name.
            repetition: From 1.
            has_parent: Whether there is all that it takes from other trials.
            has_cases: Whether it has cases to train on.
        """
        if not self._rule.may_lack_cases or (has_parent and has_cases):
            return False
        why = "has no case to train on" if has_parent else "needs one that has no trial"
        self._warn(
            f"no trial {stage} {repetition} {why}",
            f"stages.{stage}",
            f"where {self._site(repetition)} is left out, the stage {why}; it has no trial there",
            kind=NO_TRIAL,
        )
        return True

    def lacks_cases(self, stage: str, item: str, repetition: int) -> bool:
        """Returns whether an evaluation on `section.part` may lack cases in a repetition, and warns if so."""
        if not self._rule.may_lack_cases:
            return False
        self._warn(
            f"no case {stage} {item} {repetition}",
            f"stages.{stage}",
            f"where {self._site(repetition)} is left out, {item} has no case; nothing is measured there",
            kind=NO_CASE,
        )
        return True

    def problems(
        self, stage: str, *, num_trials: int, asked: Iterable[str], measured: Collection[str]
    ) -> Iterator[Finding]:
        """Yields what is there in no repetition at all.

        Args:
            stage: A stage all of whose trials are known.
            num_trials: How many there are.
            asked: What it is to be evaluated on.
            measured: What it is evaluated on in any repetition.
        """
        if not self._rule.may_lack_cases:
            return
        if not num_trials:
            what = f"stage {stage!r} has no trial in any repetition: no case, or one that it needs has none"
            yield Finding(("stages", stage, "data"), what)
            return
        for item in asked:
            if item not in measured:
                what = (
                    f"stage {stage!r} is evaluated on {item}, which has no case in any of its repetitions; "
                    "take it out of evaluate_on"
                )
                yield Finding(("stages", stage, "evaluate_on"), what)

    def _site(self, repetition: int) -> str:
        return repr(self._rule.coordinates(repetition)["site"])
