"""What a study is to show, declared before it runs: a metric on some cases, and what is compared by it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from xferlab.section import NAME_PATTERN, Float, Name, Section
from xferlab.study.evaluated import Evaluated

_JUDGED = ("hold_out", "test")
_NAME = NAME_PATTERN.strip("^$")


class Primary(Section):
    """The metric by which the contrasts of a study are judged, and where it is measured."""

    metric: Annotated[str, Field(pattern=r"\S")]
    """Its name in records, such as `DICE`; of one structure or class, such as `DICE_heart`."""
    stage: Name
    """The stage whose weights are measured, where a contrast names no other."""
    on: str
    """`section.hold_out` or `section.test`, which these stages are evaluated on."""
    margin: Float | None = Field(None, gt=0)
    """A difference whose interval lies within ± this is held to be none; default: the metric's, if any."""
    strict: bool = False
    """true takes the overlap of training samples at its upper bound, as without noise of seeds."""

    @field_validator("on")
    @classmethod
    def _judged(cls, value: str) -> str:
        if (part := Evaluated.of(value).part) not in _JUDGED:
            raise ValueError(f"{value!r} names the part {part}; a claim is about cases that no training saw")
        return value


_Side = Annotated[str, Field(pattern=rf"^{_NAME}(\.{_NAME})?$")]
Contrast = Annotated[list[_Side], Field(min_length=2, max_length=2)]
"""`[x, y]`: x minus y."""


def _each_once(value: list[list[str]]) -> list[list[str]]:
    pairs = [frozenset(contrast) for contrast in value]
    for contrast, pair in zip(value, pairs, strict=True):
        if len(pair) == 1:
            raise ValueError(f"{contrast[0]!r} is compared with itself")
        if pairs.count(pair) > 1:
            raise ValueError(f"{' and '.join(contrast)} are compared twice; name each pair once")
    return value


Contrasts = Annotated[list[Contrast], Field(min_length=1), AfterValidator(_each_once)]
