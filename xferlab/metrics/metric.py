"""What a metric is called, what it means, where it comes from, and what 0/0 gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from xferlab.metrics.image import ScoredImage

VIDAL = "vidal2021"
"""The paper that defines most metrics of images: Vidal et al. 2021."""
GARZON = "arias-garzon2021"
"""Arias-Garzon et al. 2021, and the public code of its authors."""
OH = "oh2020"
"""Oh et al. 2020, and the public code of its authors."""
OF_WHITE = "of white"
"""Unit of grey levels as shares of white, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of a case or of a set of cases, as plans store it and reports describe it.

    Attributes:
        name: Key in records and tables.
        label: Heading in tables and axes of figures.
        unit: Such as `px` or `mm`; `count` for whole numbers, empty for a dimensionless value.
        better: Whether `higher` or `lower` is better; None if neither.
        source: Paper and equation.
        prominence: `main` metrics also stand in tables of many arms, the first of them in figures of many
            arms; `headline` ones in the first table of a stage; `further` ones in a second table. A paper
            that a study compares itself to may name other headline metrics.
        definition: One sentence. Masks hold counted pixels only; predicted means probability > threshold.
        undefined: What 0/0 gives, and when the value is NaN. All are NaN where every pixel is ignored.
        computed_by: For a metric of a set of cases, such as AUC: the name of its function in `metrics.sets`;
            `macro` for the mean of the metrics of single targets of which this is the `whole`. Empty for a
            metric of a case, which `Learner.measure` returns.
        made_of: The values of a case that this function takes, in its order, the true class (a whole number)
            first; `Learner.measure` returns them.
        margin: A difference that is held to be none where a study names no other; None for no such.
        of: What it is measured of, where a trial learns several things: a structure, or a class. Empty for
            all of them.
        of_words: The same for readers, where that is more than its name: `lungs (left and right as one)`.
        marker: Whether it describes the image and not the network, so that classes of images are compared
            by it. It stands in tables and figures of markers alone.
    """

    name: str
    label: str
    unit: str = ""
    better: Literal["higher", "lower"] | None
    source: str
    prominence: Literal["main", "headline", "further"] = "further"
    definition: str
    undefined: str = "Always defined."
    computed_by: str = ""
    made_of: tuple[str, ...] = ()
    margin: float | None = None
    of: str = ""
    of_words: str = ""
    marker: bool = False

    @property
    def of_label(self) -> str:
        """What readers call `of`."""
        return self.of_words or self.of

    @property
    def whole(self) -> str:
        """The name of the metric over all targets: `DICE` of `DICE_heart`; its own where it is of none."""
        return self.name.removesuffix(f"_{self.of}") if self.of else self.name

    def to_json(self) -> dict[str, Any]:
        """Returns the declaration as plans store it."""
        value = {field.name: getattr(self, field.name) for field in fields(Metric)}
        absent = {name for name in ("of", "of_words", "margin", "marker") if not value[name]}
        kept = {name: each for name, each in value.items() if name not in absent}
        return {**kept, "made_of": list(self.made_of)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Metric:
        """Returns the declaration that `to_json` gave."""
        return cls(**{**value, "made_of": tuple(value["made_of"])})


PASSED = Metric(
    name="passed",
    label="Passed the gate",
    better=None,
    source="-",
    definition="1 where the gate lets the case pass, else 0. Only those that pass train; all are measured.",
)
"""What is recorded of every case that a stage with a gate is measured on, beside what its task measures."""


@dataclass(frozen=True)
class ImageMetric(Metric):
    """A metric of one image: `@partial(ImageMetric, name=..., ...)` declares it where its function is."""

    function: Callable[[ScoredImage], float]
