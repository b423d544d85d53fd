"""Deep features of the stages of a chain compared on the same cases, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xferlab.analysis.results import StudyResults, origin_of
from xferlab.records import reader

MOVED = 0.1
"""A filter moved if its kernel changed by more than this share of its norm."""

CKA, DISTANCE, COSINE, SHARE_MOVED = "cka", "distance", "cosine", "share_moved"
VALUE_COLUMNS = ("arm", "repetition", "quantity", "before", "after", "layer", "value")

Gram = NDArray[np.float64]
Layers = Mapping[str, Mapping[str, Any]]
"""What a trial stored of each layer."""


def linear_cka(first: Gram, second: Gram) -> float:
    """Returns the linear CKA of two networks' features of the same n cases, from their Gram matrices.

    <K, L> / (||K|| ||L||) with Frobenius product and norms, K = H X X^T H, L = H Y Y^T H, H = I - 1/n: the
    centred kernel alignment of Kornblith et al. 2019 (Similarity of neural network representations revisited,
    section 3), where HSIC cancels (n - 1)^2. From 0 to 1, up to rounding; the same for features that are
    rotated or scaled as a whole. Biased upwards where n is small against the number of features.

    Args:
        first: K (n, n), centred.
        second: L (n, n), centred.

    Returns:
        NaN where one of them is zero: its features do not differ between cases.
    """
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(np.sum(first * second)) / size if size else float("nan")


class DeepFeatures:
    """The deep features of a study, where it asked for them and trials are complete; true if any are known.

    Attributes:
        results: The study.
    """

    def __init__(self, results: StudyResults):
        self.results = results
        done = set(results.trials.loc[results.trials["state"] == "complete", "trial_id"])
        self._trials = {
            trial_id: trial
            for trial_id, trial in results.trials_by_id.items()
            if trial.get("features") and trial_id in done
        }
        self._layers = cache(self._read)

    def __bool__(self) -> bool:
        return len(self.values) > 0

    @cached_property
    def values(self) -> pd.DataFrame:
        """One row per group of arms, repetition, quantity, pair of stages and layer.

        Columns: arm (first of its group), repetition, quantity, before, after, layer, value. `cka` compares
        the best weights of two stages of a chain; `distance` (||W - W0|| / ||W0||), `cosine` and
        `share_moved` (of filters, by more than 10 %) compare a stage's best weights with those that it
        started from itself.
        """
        rows = [row for arms in self._groups for row in self._of_arm(arms[0])]
        return pd.DataFrame(rows, columns=list(VALUE_COLUMNS))

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Mean and sample SD (n - 1) over repetitions of `values`; num_repetitions of num_planned.

        SD is NaN for one repetition. A value that is undefined is left out of both and counted in
        num_undefined.
        """
        grouped = self.values.groupby(["arm", "quantity", "before", "after", "layer"], sort=False)["value"]
        frame = grouped.agg(mean="mean", sd_repetitions="std", num_repetitions="size", defined="count")
        frame["num_undefined"] = frame["num_repetitions"] - frame.pop("defined")
        planned = self.results.planned()
        frame["num_planned"] = [planned[arm, after] for arm, _, _, after, _ in frame.index]
        return frame.reset_index()

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Arms of which something is known, the baseline first; those that share all trials together."""
        known = set(self.values["arm"])
        return tuple(arms for arms in self._groups if arms[0] in known)

    @property
    def _groups(self) -> tuple[tuple[str, ...], ...]:
        ids = self.results.trials.groupby("arm")["trial_id"].agg(frozenset)
        return self.results.grouped_arms(ids.get)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Layers in the order of the forward pass."""
        return tuple(dict.fromkeys(self.values["layer"]))

    @property
    def num_cases(self) -> int:
        """Cases that every trial showed its features on."""
        first = next(iter(self._layers(next(iter(self._trials))).values()))
        return len(_square(first["gram_best"]))

    @property
    def has_given_donor(self) -> bool:
        """Whether a stage started from given weights."""
        return any(origin_of(trial)["donor"] for trial in self._trials.values())

    @property
    def section(self) -> str:
        """Data section of the cases."""
        return str(next(iter(self._trials.values()))["features"]["section"])

    def pairs(self, quantity: str, arm: str | None = None) -> list[tuple[str, str]]:
        """Returns the (before, after) that a quantity is known for, those of neighbours first."""
        values = self.values[self.values["quantity"] == quantity]
        values = values if arm is None else values[values["arm"] == arm]
        order = {stage: position for position, stage in enumerate(self.results.plan["stages"])}
        pairs = set(zip(values["before"], values["after"], strict=True))
        return sorted(pairs, key=lambda pair: (order[pair[1]] - order[pair[0]], order[pair[1]]))

    def _of_arm(self, arm: str) -> Iterator[tuple[Any, ...]]:
        parents = self.results.plan["arms"][arm]["stages"]
        for trial_id, trial in self._trials.items():
            stage, repetition = trial["stage"], trial["repetition"]
            if arm not in trial["arms"] or parents[stage]["starts_from"] is None:
                continue
            chain = list(self._ancestors(trial))
            for layer, row in self._layers(trial_id).items():
                for before, ancestor, state in chain:
                    grams = (ancestor[layer][f"gram_{state}"], row["gram_best"])
                    yield arm, repetition, CKA, before, stage, layer, linear_cka(*map(_square, grams))
                moved = float(np.mean(np.asarray(row["filter_changes"], np.float32) > MOVED))  # as stored
                changes = {DISTANCE: row["distance"], COSINE: row["cosine"], SHARE_MOVED: moved}
                for quantity, value in changes.items():
                    yield arm, repetition, quantity, parents[stage]["starts_from"], stage, layer, value

    def _ancestors(self, trial: Mapping[str, Any]) -> Iterator[tuple[str, Layers, str]]:
        """Yields the networks that a trial descends from: stage, stored layers, and in which state.

        Given weights are no trial: they are what the first trained stage started from.
        """
        while parent := self._parent(trial):
            trial = parent
            yield str(trial["stage"]), self._layers(trial["trial_id"]), "best"
        if donor := origin_of(trial)["donor"]:
            yield str(donor["stage"]), self._layers(trial["trial_id"]), "start"

    def _parent(self, trial: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Returns the trial that one started from; of several parents, the one that its record names."""
        parents: Sequence[str] = origin_of(trial)["trials"]
        if len(parents) > 1:
            record = reader.read_trial(self.results.store, trial["trial_id"])
            parents = [record.started_from] if record and isinstance(record.started_from, str) else []
        return self._trials.get(parents[0]) if parents else None

    def _read(self, trial_id: str) -> Layers:
        features_id, store = self._trials[trial_id]["features"]["features_id"], self.results.store
        record = reader.read_features_record(store, trial_id, features_id)
        assert record is not None, "a complete trial has its features"
        return {row["layer"]: row for row in reader.read_features(store, record).to_pylist()}


def _square(gram: NDArray[Any]) -> Gram:
    size = math.isqrt(len(gram))
    return np.asarray(gram, dtype=np.float64).reshape(size, size)
