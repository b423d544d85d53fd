"""Which point of a space a sample is: at random, or as Optuna suggests from what was found before."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from xferlab.errors import UsageError
from xferlab.plan.identity import canonical_json, seed_for, sha256_of
from xferlab.study.space import Parameter, Space

ENUMERABLE = 100_000
"""Spaces of at most so many points are drawn from without replacement."""


class Sampler(Protocol):
    """Chooses the parameters of samples, numbered from 1."""

    def draw(self, number: int) -> dict[str, Any]:
        """Returns the value of every path for a new sample."""
        ...

    def resume(self, number: int, parameters: Mapping[str, Any]) -> None:
        """Notes a sample that an earlier run drew and did not finish."""
        ...

    def tell(
        self, number: int, parameters: Mapping[str, Any], curve: Sequence[float], *, outcome: str
    ) -> None:
        """Notes a finished sample: its losses by epoch, and `complete`, `stopped` or `diverged`."""
        ...


class RandomSampler:
    """A pure function of space, seed and number; distinct points as long as there are any.

    Points of the grids take turns; the other parameters are drawn for each anew.
    """

    def __init__(self, space: Space, seed: int):
        """Takes the space and the seed of the search."""
        self._space, self._seed = space, seed
        self._grids = grid_points(space)
        free = [one for one in space.parameters if one.kind != "grid"]
        numbers = [one.num_values for one in free]
        self._order: list[tuple[int, ...]] | None = None
        if None not in numbers and math.prod(n or 0 for n in numbers) <= ENUMERABLE:
            places = itertools.product(*(range(n or 0) for n in numbers))
            self._order = sorted(places, key=lambda point: sha256_of([seed, "order", list(point)]))
        self._free = free

    def draw(self, number: int) -> dict[str, Any]:
        """Returns the parameters of a sample."""
        turn, grid = divmod(number - 1, len(self._grids))
        values = dict(self._grids[grid])
        if self._order is not None:
            point = self._order[turn % len(self._order)]
            values |= {one.path: one.value(place) for one, place in zip(self._free, point, strict=True)}
        else:
            values |= {one.path: _drawn(one, self._uniform(number, one.path)) for one in self._free}
        return {one.path: values[one.path] for one in self._space.parameters}

    def resume(self, number: int, parameters: Mapping[str, Any]) -> None:
        """Needs to know nothing."""

    def tell(
        self, number: int, parameters: Mapping[str, Any], curve: Sequence[float], *, outcome: str
    ) -> None:
        """Learns nothing."""

    def _uniform(self, number: int, path: str) -> float:
        return int(sha256_of([self._seed, "sample", number, path])[:13], 16) / 16**13


class OptunaSampler:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011, Algorithms for hyper-parameter
    optimization, section 4), told all that earlier runs found.

    What it suggests depends on the order in which samples finish, so it is the stored sample that says what a
    number stands for.
    """

    def __init__(self, space: Space, seed: int, *, num_known: int = 0):
        """Takes the space, the seed of the search, and how many samples earlier runs drew.

        Raises:
            UsageError: Optuna is not installed.
        """
        try:
            import optuna
        except ImportError:
            raise UsageError("--search optuna needs Optuna: pip install 'xferlab[tune]'") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._space = optuna, space
        self._grids = grid_points(space)
        self._distributions = {one.path: distribution(one) for one in space.parameters}
        # With the seed of the first run, a resumed search would suggest its first points again.
        own_seed = seed_for(seed, purpose="optuna", known=num_known) % 2**32
        sampler = optuna.samplers.TPESampler(seed=own_seed, constant_liar=True)
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._numbers: dict[int, int] = {}

    def draw(self, number: int) -> dict[str, Any]:
        """Returns the parameters that Optuna suggests; those of the grids take turns."""
        grid = self._grids[(number - 1) % len(self._grids)]
        if grid:
            self._study.enqueue_trial(self._encoded(grid))
        trial = self._study.ask(self._distributions)
        self._numbers[number] = trial.number
        return {one.path: _decoded(one, trial.params[one.path]) for one in self._space.parameters}

    def resume(self, number: int, parameters: Mapping[str, Any]) -> None:
        """Adds a running trial."""
        state = self._optuna.trial.TrialState.RUNNING
        self._study.add_trial(
            self._optuna.trial.create_trial(
                state=state, params=self._encoded(parameters), distributions=self._distributions
            )
        )
        self._numbers[number] = self._study.trials[-1].number

    def tell(
        self, number: int, parameters: Mapping[str, Any], curve: Sequence[float], *, outcome: str
    ) -> None:
        """Adds a result: a stopped sample is pruned at its last epoch, one that diverged before the first."""
        states = self._optuna.trial.TrialState
        complete = outcome == "complete"
        steps = {} if complete or outcome == "diverged" else dict(enumerate(curve, start=1))
        result = self._optuna.trial.create_trial(
            state=states.COMPLETE if complete else states.PRUNED,
            value=curve[-1] if complete else None,
            params=self._encoded(parameters),
            distributions=self._distributions,
            intermediate_values=steps,
        )
        if number in self._numbers:
            # The running trial keeps no intermediate values: it makes room for the one that has them.
            self._study.tell(self._numbers.pop(number), state=states.FAIL)
        self._study.add_trial(result)

    def _encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Choices by place: Optuna's categories are plain scalars, ours may be mappings."""
        by_path = {one.path: one for one in self._space.parameters}
        return {path: encoded(by_path[path], value) for path, value in values.items()}


def sampler_of(search: str, space: Space, seed: int, *, num_known: int = 0) -> Sampler:
    """Returns the sampler of that name: `random` or `optuna`."""
    if search == "random":
        return RandomSampler(space, seed)
    return OptunaSampler(space, seed, num_known=num_known)


def grid_points(space: Space) -> list[dict[str, Any]]:
    """Returns every combination of the grids' values, the last turning fastest; one empty without grids."""
    grids = [one for one in space.parameters if one.kind == "grid"]
    points = itertools.product(*(one.values for one in grids))
    return [dict(zip([one.path for one in grids], point, strict=True)) for point in points]


def encoded(parameter: Parameter, value: Any) -> Any:
    """Returns a value as a number: a choice by its place, any other as it is."""
    if parameter.kind not in ("choice", "grid"):
        return value
    texts = [canonical_json(one) for one in parameter.values]
    return texts.index(canonical_json(value))


def distribution(parameter: Parameter) -> Any:
    """Returns Optuna's distribution of a parameter; choices and grids are categories by place."""
    from optuna import distributions

    low, high = parameter.values[0], parameter.values[-1]
    if parameter.kind == "int":
        return distributions.IntDistribution(low, high)
    if parameter.kind in ("uniform", "loguniform"):
        return distributions.FloatDistribution(low, high, log=parameter.kind == "loguniform")
    return distributions.CategoricalDistribution(range(len(parameter.values)))


def _decoded(parameter: Parameter, value: Any) -> Any:
    return parameter.values[value] if parameter.kind in ("choice", "grid") else value


def _drawn(parameter: Parameter, draw: float) -> Any:
    """Returns the value at a draw from [0, 1)."""
    if parameter.num_values is not None:
        return parameter.value(int(draw * parameter.num_values))
    low, high = map(float, parameter.values)
    if parameter.kind == "uniform":
        return min(high, low + draw * (high - low))
    inside = math.exp(math.log(low) + draw * (math.log(high) - math.log(low)))
    return min(high, max(low, inside))
