"""How a data section reads its images, as JSON that names no file and no person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xferlab.cohort import STEPS
from xferlab.data.sources.config import SourceConfig
from xferlab.data.sources.registry import DataSection

_OF_THE_KIND = ("channels", "contents", "modalities")
_FIELDS = ("simulate", *STEPS)


class DescribedSection(SourceConfig):
    """A data section of which only this is known: its steps, and what its images are; it has no cases."""

    source: str
    """Kind of the section."""


def description(section: DataSection | DescribedSection) -> dict[str, Any]:
    """Returns the JSON value from which `described` reads images as the section does."""
    steps = section.model_dump(mode="json", include=set(_FIELDS), exclude_none=True)
    return {"source": section.source, **{name: getattr(section, name) for name in _OF_THE_KIND}, **steps}


def described(value: Mapping[str, Any]) -> DescribedSection:
    """Returns what `description` wrote.

    Raises:
        ValueError: It is not valid, or of another version.
    """
    if lacking := [name for name in _OF_THE_KIND if name not in value]:
        raise ValueError(f"the description of a data section lacks {', '.join(lacking)}")
    of_the_kind = {**{name: value[name] for name in _OF_THE_KIND}, "modalities": tuple(value["modalities"])}
    kind: type[DescribedSection] = type("Described", (DescribedSection,), of_the_kind)
    return kind.model_validate({name: item for name, item in value.items() if name not in _OF_THE_KIND})
