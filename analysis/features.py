"""Deep features of donor, general and portable models compared on the same cases, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from xferlab.analysis.results import StudyResults
from xferlab.records import reader

MOVED = 0.1
"""A filter moved if its kernel changed by more than this share of its norm."""

CKA, DISTANCE, COSINE, SHARE_MOVED = "cka", "distance", "cosine", "share_moved"
VALUE_COLUMNS = ("arm", "repetition", "quantity", "before", "after", "layer", "value")

Gram = NDArray[np.float64]


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


@dataclass(frozen=True)
class _Taken:
    """What one trial stored: the rows of its layers, and n."""

    rows: Mapping[str, Mapping[str, Any]]
    num_cases: int

    def gram(self, layer: str, state: str) -> Gram:
        values = np.asarray(self.rows[layer][f"gram_{state}"], dtype=np.float64)
        return values.reshape(self.num_cases, self.num_cases)


class DeepFeatures:
    """The deep features of a study, where it asked for them and trials are complete.

    Attributes:
        results: The study.
    """

    def __init__(self, results: StudyResults):
        self.results = results
        done = set(results.trials.loc[results.trials["state"] == "complete", "trial_id"])
        self._trials = {
            trial["trial_id"]: trial
            for trial in results.plan["trials"]
            if trial.get("features") and trial["trial_id"] in done
        }
        self._taken: dict[str, _Taken] = {}

    def __bool__(self) -> bool:
        return bool(self._trials)

    @cached_property
    def values(self) -> pd.DataFrame:
        """One row per group of arms, repetition, quantity, pair of stages and layer.

        Columns: arm (first of its group), repetition, quantity, before, after, layer, value. `cka` compares
        the best weights of two stages of a chain; `distance` (||W - W0|| / ||W0||), `cosine` and
        `share_moved` (of filters, by more than 10 %) compare a stage's best weights with those that it
        started from itself.
        """
        rows = [row for arms in self._sharing() for row in self._of_arm(arms[0])]
        return pd.DataFrame(rows, columns=list(VALUE_COLUMNS))

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Mean and sample SD (n - 1) over repetitions of `values`; num_repetitions of num_planned.

        SD is NaN for one repetition. A value that is undefined is left out of both and counted in
        num_undefined.
        """
        keys = ["arm", "quantity", "before", "after", "layer"]
        grouped = self.values.groupby(keys, sort=False)
        frame: pd.DataFrame = grouped["value"].agg(["mean", "std", "size", "count"]).reset_index()
        frame["num_undefined"] = frame["size"] - frame.pop("count")
        frame = frame.rename(columns={"std": "sd_repetitions", "size": "num_repetitions"})
        planned = self.results.planned()
        pairs = zip(frame["arm"], frame["after"], strict=True)
        frame["num_planned"] = [planned[pair] for pair in pairs]
        return frame

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Arms of which something is known, the baseline first; those that share all trials together."""
        known = set(self.values["arm"])
        return tuple(arms for arms in self._sharing() if arms[0] in known)

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Layers in the order of the forward pass."""
        return tuple(dict.fromkeys(self.values["layer"]))

    @property
    def num_cases(self) -> int:
        """Cases that every trial showed its features on."""
        return next(iter(self._taken.values())).num_cases if len(self.values) else 0

    @property
    def has_given_donor(self) -> bool:
        """Whether a stage started from given weights."""
        return any(trial.get("donor") for trial in self._trials.values())

    @property
    def section(self) -> str:
        """Data section of the cases."""
        return str(next(iter(self._trials.values()))["features"]["section"])

    def pairs(self, quantity: str, arm: str | None = None) -> list[tuple[str, str]]:
        """Returns the (before, after) that a quantity is known for, those of neighbours first."""
        own = self.values[self.values["quantity"] == quantity]
        own = own if arm is None else own[own["arm"] == arm]
        order = {stage: place for place, stage in enumerate(self.results.plan["stages"])}
        found = set(zip(own["before"], own["after"], strict=True))
        return sorted(found, key=lambda pair: (order[pair[1]] - order[pair[0]], order[pair[1]]))

    def _sharing(self) -> list[tuple[str, ...]]:
        groups: dict[frozenset[str], list[str]] = {}
        for arm in self.results.arms:
            own = (trial["trial_id"] for trial in self.results.plan["trials"] if arm in trial["arms"])
            groups.setdefault(frozenset(own), []).append(arm)
        return [tuple(arms) for arms in groups.values()]

    def _of_arm(self, arm: str) -> Iterator[tuple[Any, ...]]:
        parents = self.results.plan["arms"][arm]["stages"]
        for trial in self._trials.values():
            if arm not in trial["arms"] or parents[trial["stage"]]["starts_from"] is None:
                continue
            stage, chain = trial["stage"], self._ancestors(trial)
            own = self._of(trial["trial_id"])
            for layer, row in own.rows.items():
                where = (arm, trial["repetition"])
                for before, taken, state in chain:
                    value = linear_cka(taken.gram(layer, state), own.gram(layer, "best"))
                    yield (*where, CKA, before, stage, layer, value)
                origin = parents[stage]["starts_from"]
                moved = float(np.mean(np.asarray(row["filter_changes"]) > MOVED))
                measured = ((DISTANCE, row["distance"]), (COSINE, row["cosine"]), (SHARE_MOVED, moved))
                for quantity, value in measured:
                    yield (*where, quantity, origin, stage, layer, value)

    def _ancestors(self, trial: Mapping[str, Any]) -> list[tuple[str, _Taken, str]]:
        """Returns the networks that a trial descends from: stage, what is stored, and in which state.

        Given weights are no trial: they are what the first trained stage started from.
        """
        found = []
        while parent := self._parent(trial):
            trial = parent
            found.append((str(trial["stage"]), self._of(trial["trial_id"]), "best"))
        if trial.get("donor"):
            found.append((str(trial["donor"]["stage"]), self._of(trial["trial_id"]), "start"))
        return found

    def _parent(self, trial: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Returns the trial that one started from; of several parents, the one that its record names."""
        parents: Sequence[str] = trial["parents"]
        if len(parents) > 1:
            record = reader.read_trial(self.results.store, trial["trial_id"])
            parents = [record.started_from] if record and record.started_from else []
        return self._trials.get(parents[0]) if parents else None

    def _of(self, trial_id: str) -> _Taken:
        if trial_id not in self._taken:
            asked, store = self._trials[trial_id]["features"], self.results.store
            record = reader.read_features_record(store, trial_id, asked["features_id"])
            assert record is not None, "a complete trial has its features"
            table = reader.read_features(store, record)
            columns = [(name, table.column(name)) for name in table.column_names]
            rows = [{name: _plain(column[place]) for name, column in columns} for place in range(len(table))]
            self._taken[trial_id] = _Taken({row["layer"]: row for row in rows}, record.num_cases)
        return self._taken[trial_id]


def _plain(value: pa.Scalar) -> Any:
    """Returns a number or text, or the numbers of a list as an array without a Python object for each."""
    return value.values.to_numpy() if isinstance(value, pa.ListScalar) else value.as_py()
