"""What a study is to show, as its plan stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

MIN_REPETITIONS = 5
"""Paired repetitions below which a comparison has no p, and so no verdict."""


class Place(NamedTuple):
    """One side of a contrast.

    Attributes:
        arm: Name of the arm.
        stage: The stage whose weights are measured; empty for that of `primary`.
    """

    arm: str
    stage: str

    @staticmethod
    def of(text: str) -> Place:
        """Returns what `arm` or `arm.stage` names."""
        arm, _, stage = text.partition(".")
        return Place(arm, stage)


@dataclass(frozen=True)
class Claims:
    """What is compared, and by what.

    Attributes:
        metric: Name of the metric.
        on: `section.part` of the cases, with `@variant` if there is one.
        margin: A difference whose interval lies within ± this is held to be none; None: none is.
        contrasts: Pairs of arm and stage; the second is subtracted from the first.
        strict: Whether the overlap of training samples is taken at its upper bound.
        declared: Whether the study file says so; otherwise all of it is exploratory.
    """

    metric: str
    on: str
    margin: float | None
    contrasts: tuple[tuple[Place, Place], ...]
    declared: bool
    strict: bool = False

    def to_json(self) -> dict[str, Any]:
        """Returns the claims as plans store them."""
        return {**asdict(self), "contrasts": [[list(place) for place in pair] for pair in self.contrasts]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Claims:
        """Returns the claims that `to_json` gave."""
        pairs = tuple((Place(*first), Place(*second)) for first, second in value["contrasts"])
        return Claims(**{**value, "contrasts": pairs})

    def words(self, place: Place) -> str:
        """Returns a side of a contrast: the arm, with its stage where contrasts are of several stages."""
        return f"{place.arm}.{place.stage}" if self._has_stages else place.arm

    def title(self, pair: tuple[Place, Place]) -> str:
        """Returns a contrast: `arm − arm`; of one arm, `arm, stage − stage`."""
        one, other = pair
        if one.arm == other.arm:
            return f"{one.arm}, {one.stage} − {other.stage}"
        if one.stage == other.stage:
            return f"{one.arm} − {other.arm}" + (f", {one.stage}" if self._has_stages else "")
        return f"{one.arm}.{one.stage} − {other.arm}.{other.stage}"

    @cached_property
    def _has_stages(self) -> bool:
        return len({place.stage for pair in self.contrasts for place in pair}) > 1
