"""Which point of a space a sample is: at random, or as Optuna suggests from what earlier samples gave."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

from xferlab.errors import UsageError
from xferlab.plan.identity import canonical_json, seed_for, sha256_of
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records.samples import SampleRecord
from xferlab.study.space import RANGES, Parameter, Space

ENUMERABLE = 100_000
"""Spaces of at most so many points are drawn from without replacement."""


class Sampler:
    """A pure function of space, seed and number; distinct points as long as there are any.

    Points of the grids take turns; the other parameters are drawn at random for each sample.
    """

    def __init__(self, space: Space, seed: int):
        self._space, self._seed = space, seed
        self._grids = grid_points(space)
        self._free = [parameter for parameter in space.parameters if parameter.kind != "grid"]
        numbers = [parameter.num_values for parameter in self._free]
        self._order: list[tuple[int, ...]] | None = None
        if None not in numbers and math.prod(number or 0 for number in numbers) <= ENUMERABLE:
            points = itertools.product(*(range(number or 0) for number in numbers))
            self._order = sorted(points, key=lambda point: sha256_of([seed, "order", list(point)]))

    def draw(self, number: int) -> dict[str, Any]:
        """Returns the value of every path for a new sample, numbered from 1."""
        turn, grid = divmod(number - 1, len(self._grids))
        values = dict(self._grids[grid])
        if self._order is not None:
            point = self._order[turn % len(self._order)]
            drawn = [parameter.value(place) for parameter, place in zip(self._free, point, strict=True)]
        else:
            drawn = [_drawn(parameter, self._uniform(number, parameter.path)) for parameter in self._free]
        values |= zip((parameter.path for parameter in self._free), drawn, strict=True)
        return {parameter.path: values[parameter.path] for parameter in self._space.parameters}

    def resume(self, sample: SampleSpec) -> None:
        """Notes a sample that an earlier run drew and did not finish."""

    def tell(self, record: SampleRecord) -> None:
        """Notes a finished sample."""

    def _uniform(self, number: int, path: str) -> float:
        return int(sha256_of([self._seed, "sample", number, path])[:13], 16) / 16**13


class OptunaSampler(Sampler):
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
        super().__init__(space, seed)
        self._optuna = optuna
        self._distributions = {parameter.path: _distribution(parameter) for parameter in space.parameters}
        # With the seed of the first run, a resumed search would suggest its first points again.
        resumed_seed = seed_for(seed, purpose="optuna", known=num_known) % 2**32
        sampler = optuna.samplers.TPESampler(seed=resumed_seed, constant_liar=True)
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._running: dict[int, int] = {}

    def draw(self, number: int) -> dict[str, Any]:
        """Returns the parameters that Optuna suggests; those of the grids take turns."""
        grid = self._grids[(number - 1) % len(self._grids)]
        if grid:
            self._study.enqueue_trial(self._encoded(grid))
        trial = self._study.ask(self._distributions)
        self._running[number] = trial.number
        return {
            parameter.path: _decoded(parameter, trial.params[parameter.path])
            for parameter in self._space.parameters
        }

    def resume(self, sample: SampleSpec) -> None:
        """Adds a running trial."""
        self._add(sample.parameters, state=self._optuna.trial.TrialState.RUNNING)
        self._running[sample.number] = self._study.trials[-1].number

    def tell(self, record: SampleRecord) -> None:
        """Adds a result: a stopped sample is pruned at its last epoch, one that diverged before the first."""
        states = self._optuna.trial.TrialState
        if record.number in self._running:
            # The running trial keeps no intermediate values: it makes room for the one that has them.
            self._study.tell(self._running.pop(record.number), state=states.FAIL)
        if record.outcome == "complete":
            self._add(record.parameters, state=states.COMPLETE, value=record.costs[-1])
        else:
            steps = dict(enumerate(record.costs, start=1)) if record.outcome == "stopped" else {}
            self._add(record.parameters, state=states.PRUNED, intermediate_values=steps)

    def _add(self, parameters: Mapping[str, Any], **facts: Any) -> None:
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params=self._encoded(parameters), distributions=self._distributions, **facts
            )
        )

    def _encoded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        by_path = {parameter.path: parameter for parameter in self._space.parameters}
        return {path: _encoded(by_path[path], value) for path, value in values.items()}


def sampler_of(search: str, space: Space, seed: int, *, num_known: int = 0) -> Sampler:
    """Returns the sampler of that name: `random` or `optuna`."""
    return Sampler(space, seed) if search == "random" else OptunaSampler(space, seed, num_known=num_known)


def grid_points(space: Space) -> list[dict[str, Any]]:
    """Returns every combination of the grids' values, the last turning fastest; one empty without grids."""
    grids = [parameter for parameter in space.parameters if parameter.kind == "grid"]
    points = itertools.product(*(parameter.values for parameter in grids))
    return [dict(zip([parameter.path for parameter in grids], point, strict=True)) for point in points]


def _encoded(parameter: Parameter, value: Any) -> Any:
    """A choice by its place, since Optuna's categories are plain scalars; any other value as it is."""
    if parameter.kind in RANGES:
        return value
    texts = [canonical_json(choice) for choice in parameter.values]
    return texts.index(canonical_json(value))


def _decoded(parameter: Parameter, value: Any) -> Any:
    return value if parameter.kind in RANGES else parameter.values[value]


def _distribution(parameter: Parameter) -> Any:
    from optuna import distributions

    low, high = parameter.values[0], parameter.values[-1]
    if parameter.kind not in RANGES:
        return distributions.CategoricalDistribution(range(len(parameter.values)))
    if parameter.kind == "int":
        return distributions.IntDistribution(low, high)
    return distributions.FloatDistribution(low, high, log=parameter.kind == "loguniform")


def _drawn(parameter: Parameter, draw: float) -> Any:
    """Returns the value at a draw from [0, 1)."""
    if parameter.num_values is not None:
        return parameter.value(int(draw * parameter.num_values))
    low, high = map(float, parameter.values)
    if parameter.kind == "uniform":
        return min(high, low + draw * (high - low))
    inside = math.exp(math.log(low) + draw * (math.log(high) - math.log(low)))
    return min(high, max(low, inside))
