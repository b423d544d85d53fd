"""The state of one expansion: the growing graph, and what was met so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from xferlab.errors import Problem
from xferlab.plan.features import Probe
from xferlab.plan.labels import in_arms
from xferlab.plan.left_out import LeftOut
from xferlab.plan.plan import Setting
from xferlab.plan.selection import CaseSelector, Index
from xferlab.plan.spec import Input, TrialSpec
from xferlab.study.load import LoadedStudy
from xferlab.tasks.task import Finding


class Growing:
    """What the arms of a study have in common while it is expanded.

    Attributes:
        loaded: The study, with the number of repetitions that its split has.
        setting: Machine and code.
        selector: The cases of all sections, and their parts.
        left_out: What a split that leaves sites out leaves without cases.
        probe: The cases on which all trials show their features.
        trials: Trials by id, parents before children.
        trained_units: Units of the cases to train on and to select by, by trial id.
        names: `arm/stage/rNN` -> trial id.
        folds: Arm and stage whose masks are asked for out of fold -> number of folds, and who asks first.
        problems: What prevents the study from running, by key.
    """

    def __init__(self, loaded: LoadedStudy, index: Index, setting: Setting):
        self.setting = setting
        self.selector = CaseSelector(loaded, index)
        self.loaded = self.selector.loaded
        self.left_out = LeftOut(self.selector.cohort.rule, self.warn)
        self.probe = Probe(loaded.base, self.selector)
        self.trials: dict[str, TrialSpec] = {}
        self.trained_units: dict[str, frozenset[str]] = {}
        self.names: dict[str, str] = {}
        self.folds: dict[tuple[str, str], tuple[int, str]] = {}
        self.problems: dict[str, Problem] = {}
        self._warnings: dict[str, tuple[Problem, dict[str, None]]] = {}

    def warn(self, key: str, where: str, what: str, *, kind: str, arm: str = "") -> None:
        """Notes what a reader of the results should know of an arm (empty: of all), once under each key."""
        _, arms = self._warnings.setdefault(key, (Problem(where, what, "warning", kind), {}))
        arms[arm] = None

    @property
    def warnings(self) -> Iterator[Problem]:
        """What a reader of the results should know; names arms where it does not hold for all."""
        for problem, arms in self._warnings.values():
            some = () if "" in arms or len(arms) == len(self.loaded.arms) else tuple(arms)
            yield replace(problem, what=in_arms(some) + problem.what)

    def refuse(self, key: str, arm: str, finding: Finding) -> None:
        """Notes what is wrong with an arm (empty: with the study itself), once under each key."""
        if key not in self.problems:
            self.problems[key] = self.loaded.problem(arm, finding)


def ancestors(
    inputs: Iterable[Input], trials: Mapping[str, TrialSpec], *, origins_only: bool = False
) -> Iterator[TrialSpec]:
    """Yields each trial that another one descends from, once.

    Args:
        inputs: What the other one takes.
        trials: All of them, by id.
        origins_only: Only those whose weights it goes back to, without those that predict.
    """
    seen, ahead = set[str](), [inputs]
    while ahead:
        taken = ahead.pop()
        given = {each for i in taken if i.network is not None or not origins_only for each in i.trials}
        found = [trials[each] for each in sorted(given - seen)]
        seen |= given
        ahead += [trial.inputs for trial in found]
        yield from found
