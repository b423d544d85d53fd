"""Items of `evaluate_on`."""

from __future__ import annotations

import re

import pytest

from xferlab.phantoms.foreign_objects import DRAWERS
from xferlab.study.evaluated import OBJECTS, PARTS, VARIANTS, Evaluated


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("variant", ["", *VARIANTS])
def test_every_part_has_every_variant(part: str, variant: str) -> None:
    item = f"cxr.{part}" + (f"@{variant}" if variant else "")
    assert Evaluated.of(item) == ("cxr", part, variant)


def test_the_objects_are_those_that_can_be_laid_on_images() -> None:
    assert tuple(DRAWERS) == OBJECTS


@pytest.mark.parametrize(
    ("item", "what"),
    [
        ("cxr", "'cxr' is not `section.part` with a part out of train, validation, test, hold_out"),
        ("cxr.val", "train, validation, test, hold_out. Did you mean 'validation'?"),
        (".test", "'.test' is not `section.part`"),
        ("cxr@implant.test", "'cxr@implant.test' is not `section.part`"),
        ("cxr.hold_uot", "hold_out. Did you mean 'hold_out'?"),
        ("cxr.test@", "has the variant ''; accepted after `@`: cable, electrode, marker, implant, original."),
        ("cxr.test@orignal", "Did you mean 'original'?"),
        ("cxr.test@implant@original", "has the variant 'implant@original'"),
    ],
)
def test_anything_else_is_refused(item: str, what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        Evaluated.of(item)
