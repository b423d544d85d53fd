"""A section of brain MRI in the layout of the LGG set."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from xferlab.data.sources.config import FileConfig
from xferlab.section import Int


class LggData(FileConfig):
    """The LGG MRI set in its published layout, `kaggle_3m/<patient>/<patient>_<slice>[_mask].tif`."""

    reader: ClassVar[str] = "LggSource"
    channels: ClassVar[int] = 3
    empty_targets: ClassVar[bool] = True
    modalities: ClassVar[tuple[str, ...]] = ("MR",)
    contents: ClassVar[str] = "slices of brain MRI"

    source: Literal["lgg"]
    """Kind of this section."""
    drop_ends: Int = Field(1, ge=0)
    """Slices dropped at each end of a volume."""

    @property
    def structure(self) -> str:
        """Name of what the masks mark."""
        return "lesion"
