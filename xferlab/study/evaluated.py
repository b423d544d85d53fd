"""What a stage is evaluated on: `section.part`, or `section.part@variant` for the same cases otherwise."""

from __future__ import annotations

from typing import NamedTuple

from xferlab.cohort import single_sections
from xferlab.cohort.rules import usual_part
from xferlab.errors import suggest
from xferlab.tasks.config import OBJECTS, ORIGINAL

PARTS = ("train", "validation", "test", "hold_out")
VARIANTS = (*OBJECTS, ORIGINAL)


class Evaluated(NamedTuple):
    """An item of `evaluate_on`.

    Attributes:
        section: Data section of the cases.
        part: One of `PARTS`.
        variant: One of `VARIANTS`; empty for the cases as they are.
    """

    section: str
    part: str
    variant: str = ""

    @staticmethod
    def of(item: str) -> Evaluated:
        """Returns an item's parts.

        Raises:
            ValueError: It is not of this form, or names an unknown part or variant.
        """
        cases, at, variant = item.partition("@")
        section, _, part = cases.partition(".")
        if not section or part not in PARTS:
            hint = suggest(usual_part(part), PARTS) if section else ""
            raise ValueError(
                f"{item!r} is not `section.part` with a part out of {', '.join(PARTS)}"
                + (f".{hint}" if hint else "")
            )
        sections = single_sections(section)
        if len(set(sections)) != len(sections):
            raise ValueError(f"{item!r} names a section twice")
        if at and variant not in VARIANTS:
            raise ValueError(
                f"{item!r} has the variant {variant!r}; accepted after `@`: {', '.join(VARIANTS)}."
                f"{suggest(variant, VARIANTS)}"
            )
        return Evaluated(section, part, variant)
