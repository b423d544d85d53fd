"""A section of brain MRI in the layout of the LGG set."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from xferlab.data.sources.config import BrainSlices, FileConfig
from xferlab.section import Int


class LggData(BrainSlices, FileConfig):
    """The LGG MRI set in its published layout, `kaggle_3m/<patient>/<patient>_<slice>[_mask].tif`."""

    reader: ClassVar[str] = "LggSource"

    source: Literal["lgg"]
    """Kind of this section."""
    drop_ends: Int = Field(1, ge=0)
    """Slices dropped at each end of a volume."""
