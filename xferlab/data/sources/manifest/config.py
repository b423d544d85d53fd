"""A section of images and masks that a table lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from xferlab.data.sources.config import FileConfig
from xferlab.section import Int, Name

Threshold = Annotated[dict[Literal["above"], Int], Field(min_length=1)]
"""Mask values strictly above a number."""
LabelValues = dict[str, list[int] | dict[Literal["above"], int]]
MAX_LABEL = 65_535


class ManifestData(FileConfig):
    """A folder with `metadata.csv` or `.parquet`: columns image, mask, patient_id, pathology, any others."""

    reader: ClassVar[str] = "ManifestSource"

    source: Literal["manifest"]
    """Kind of this section."""
    table: str | None = None
    """The table's file name; default: `metadata.csv`, else `metadata.parquet`."""
    labels: dict[Name, list[Int] | Threshold] = Field(
        default_factory=lambda: dict[str, list[Int] | Threshold](lung=[255])
    )
    """Mask values of the structure to segment, and of `ignore` (counted nowhere); 0 is background.

    Values of masks with a palette are its indices. `{above: 127}` in place of the structure's list takes all
    values above 127, and makes all others background: for masks with smooth edges.
    """

    @property
    def structure(self) -> str:
        """Name of what the masks mark."""
        return next(name for name in self.labels if name != "ignore")

    @property
    def mask_values(self) -> Mapping[str, Sequence[int]]:
        """The mask values that the section lists, by what they mark."""
        return {name: group for name, group in self.labels.items() if isinstance(group, list)}

    @model_validator(mode="after")
    def _labels_fit_together(self) -> ManifestData:
        """One structure, each value (1 to 65535) once, and what is ignored is not above the threshold."""
        structures = [name for name in self.labels if name != "ignore"]
        if len(structures) != 1:
            raise ValueError(
                f"name one structure to segment (and `ignore`), not {len(structures)}: {structures}"
            )
        values = [value for group in self.mask_values.values() for value in group]
        if self.labels[structures[0]] == [] or len(set(values)) != len(values):
            raise ValueError("each structure needs mask values, and no value may stand twice")
        if not all(0 < value <= MAX_LABEL for value in values):
            raise ValueError(f"mask values are whole numbers from 1 to {MAX_LABEL}; 0 is background")
        if "ignore" in self.labels.keys() - self.mask_values.keys():
            raise ValueError(
                "`above` is for the structure; list the values to ignore, such as `ignore: [127]`"
            )
        above = threshold_of(self.labels)
        if above is not None and not 0 <= above < MAX_LABEL:
            raise ValueError(f"`above` is a whole number from 0 to {MAX_LABEL - 1}, not {above}")
        if above is not None and max(values, default=0) > above:
            raise ValueError(f"`ignore` names {max(values)}, which is above {above} and so the structure's")
        return self


def threshold_of(labels: LabelValues) -> int | None:
    """Returns the number that the structure's mask values lie above, or None if they are listed."""
    return next((group["above"] for group in labels.values() if isinstance(group, dict)), None)
