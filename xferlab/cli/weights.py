"""The weights that a study gives by file or by name: stored before a run, checked against the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from xferlab.cli.view import say
from xferlab.errors import DonorError, Problem, StorageError, StudyError
from xferlab.plan.identity import canonical_json
from xferlab.plan.spec import Input, TrialSpec
from xferlab.records.complete import complete_trials
from xferlab.records.layout import donor_path
from xferlab.records.store import Store
from xferlab.study.load import LoadedStudy
from xferlab.study.stage import Weights
from xferlab.tasks.task import Finding

# `xferlab.trial.pretrained` imports torch, which takes seconds: only for a study that gives weights.
T = TypeVar("T")


@dataclass(frozen=True)
class GivenWeights:
    """The weights of all stages that are not trained.

    Attributes:
        loaded: The study.
        store: Its storage.
        cache_dir: Folder with the published weights on this machine.
    """

    loaded: LoadedStudy
    store: Store
    cache_dir: Path

    @cached_property
    def by_name(self) -> dict[str, Weights]:
        """The weights that a stage starts from, by name or path; arms may differ in them.

        Where several stages give the same, a digest that one of them gives holds for all.

        Raises:
            StudyError: Two give different digests of the same; with a line.
        """
        studies = self.loaded.arms.values()
        used = [
            study.stages[parent]
            for study in studies
            for stage in study.stages.values()
            for parent in stage.origins.values()
        ]
        given = dict[str, Weights]()
        for weights in (stage.weights for stage in used if stage.weights):
            name = weights.name or weights.path or ""
            known = given.setdefault(name, weights)
            if known.sha256 is None:
                given[name] = weights
            elif weights.sha256 not in (None, known.sha256):
                what = (
                    f"{name} has SHA-256 {known.sha256} in one stage or arm and {weights.sha256} in this one"
                )
                raise StudyError([self._problem(weights, f"{what}; give the digest of the file in both")])
        return given

    def digests(self) -> dict[str, str]:
        """Returns the digests of those that are on this machine or kept in the storage, by name or path.

        Raises:
            StudyError: A name is unknown, or has two digests; with its line.
        """
        if not self.by_name:
            return {}
        from xferlab.trial.pretrained import at_hand

        digests = self._each(
            lambda weights: at_hand(weights, cache_dir=self.cache_dir) or self._kept(weights)
        )
        return {name: digest for name, digest in digests.items() if digest}

    def refuse_absent(self) -> None:
        """Raises StudyError with all files that the study names by their paths and that do not exist.

        One whose digest the study gives may be gone once the storage has it.
        """
        self._each(self._refuse_absent)

    def store_all(self) -> dict[str, str]:
        """Fetches and stores all, so that ids are known and workers find them.

        Returns:
            Their digests by name or path.

        Raises:
            StudyError: With all that cannot be had or hold no weights, each with its line.
        """
        if not self.by_name:
            return {}
        from xferlab.trial.pretrained import store_weights

        def stored(weights: Weights) -> str:
            if (digest := self._kept(weights)) is not None:
                return digest
            return store_weights(weights, self.store, cache_dir=self.cache_dir, note=say)

        return self._each(stored)

    def _each(self, work: Callable[[Weights], T]) -> dict[str, T]:
        """Returns what is made of each, by name or path; raises StudyError with all DonorErrors."""
        results, problems = dict[str, T](), list[Problem]()
        for name, weights in self.by_name.items():
            try:
                results[name] = work(weights)
            except DonorError as error:
                problems.append(self._problem(weights, str(error)))
        if problems:
            raise StudyError(problems)
        return results

    def _kept(self, weights: Weights) -> str | None:
        """Returns the digest that the study gives of a file that is gone and that the storage has."""
        if weights.path is None or weights.sha256 is None or Path(weights.path).is_file():
            return None
        return weights.sha256 if self.store.exists(donor_path(weights.sha256)) else None

    def _refuse_absent(self, weights: Weights) -> None:
        path = weights.path
        if path is not None and not Path(path).is_file() and self._kept(weights) is None:
            raise DonorError(f"donor {path}: there is no such file; correct `weights.path` in the study")

    def _problem(
        self, weights: Weights, what: str, *, arm: str | None = None, severity: str = "error"
    ) -> Problem:
        """Returns what is wrong with weights, at the line where `arm`, or the first arm, names them."""
        naming = [
            (config.weights, candidate, stage)
            for candidate, study in self.loaded.arms.items()
            for stage, config in study.stages.items()
            if arm in (None, candidate)
            and config.weights
            and (config.weights.name, config.weights.path) == (weights.name, weights.path)
        ]
        # The stage that gives the digest, where several give these weights.
        _, arm, stage = min(naming, key=lambda place: place[0] != weights)
        return self.loaded.problem(arm, Finding(("stages", stage, "weights"), what, severity))

    def problems(self, trials: Sequence[TrialSpec], *, stored: bool) -> Iterator[Problem]:
        """Loads every file into each network that starts from it, and yields what is wrong.

        Args:
            trials: Those that start from given weights are looked at.
            stored: Whether the weights are in the storage; else the files of this machine are read, and
                nothing is written.
        """
        started = _one_a_network(trials)
        if not started:
            return
        from xferlab.trial.pretrained import check_file, check_fits

        for trial, given in started:
            assert given.donor is not None
            weights, arm, notes = self.by_name[given.donor.title], trial.arms[0], list[str]()
            try:
                if stored or self._kept(weights):
                    check_fits(trial, given, self.store, cache_dir=self.cache_dir)
                else:
                    check_file(trial, given, weights, cache_dir=self.cache_dir, note=notes.append)
            except DonorError as error:
                yield self._problem(weights, f"{trial.name}: {error}", arm=arm)
            yield from (self._problem(weights, note, arm=arm, severity="warning") for note in notes)

    def parent_problems(self, trials: Sequence[TrialSpec]) -> Iterator[Problem]:
        """Yields what is wrong with the weights of complete trials from which incomplete trials start.

        A file that is not as its record says is a warning: a run trains that trial again.
        """
        try:
            complete = complete_trials(self.store, self.loaded.base.study, trials)
        except StorageError as error:
            yield Problem(str(self.loaded.path), f"stored weights cannot be checked: {error}", "warning")
            return
        waiting = [trial for trial in reversed(trials) if trial.trial_id not in complete]
        parents = {parent: trial for trial in waiting for parent in trial.parents if parent in complete}
        if not parents:
            return
        from xferlab.trial.pretrained import check_parent

        for parent, trial in parents.items():
            try:
                check_parent(parent, self.store)
            except (DonorError, StorageError) as error:
                severity = "error" if isinstance(error, DonorError) else "warning"
                role = next(given.role for given in trial.inputs if parent in given.trials)
                path = ("stages", trial.stage, *role.split("."))
                yield self.loaded.problem(trial.arms[0], Finding(path, f"{trial.name}: {error}", severity))


def _one_a_network(trials: Sequence[TrialSpec]) -> list[tuple[TrialSpec, Input]]:
    """The first trial for each weights file, network, and way to take it over."""
    ways: dict[str, tuple[TrialSpec, Input]] = {}
    for trial in trials:
        for given in trial.inputs:
            if given.donor:
                identity = trial.identity.to_json()
                way = [given.role, asdict(given.donor), identity["model"], identity.get("adapt")]
                ways.setdefault(canonical_json(way), (trial, given))
    return list(ways.values())
