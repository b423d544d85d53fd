"""The section of a source of drawn stripes."""

from typing import ClassVar, Literal

from pydantic import Field

from xferlab.data.sources.config import SourceConfig
from xferlab.section import Int


class StripesData(SourceConfig):
    """Bright stripes on grey, which are the structure."""

    reader: ClassVar[str] = "added_parts.reading:StripesSource"

    source: Literal["stripes"]
    count: Int = Field(ge=1)
    """Number of images, each of a patient of its own."""
