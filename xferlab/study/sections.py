"""The data sections of a study file, a model for each kind of source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xferlab.section import Count, Float, Int, Name, Scalar, Section

NAMING_COLUMNS = ("patient_id", "image", "mask", "name")
"""Columns whose values tell who somebody is."""


class _Data(Section):
    hold_out: Float = Field(0.0, ge=0.0, le=1.0)
    """Share of this section's patients that no stage trains, stops or selects on; 1.0: a test set only."""
    where: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    """Keep the cases whose column has this value (or one of these values)."""
    same_patient: list[list[str]] = Field(default_factory=list)
    """Groups of patient ids that are one person."""
    different_patients: list[list[str]] = Field(default_factory=list)
    """Groups of patient ids that are different people, though the audit takes images or ids for one's."""
    simulate: Literal["portable"] | None = None
    """Pass every image through the portable-device simulation; the cases are then marked `simulated`."""
    shareable: bool = False
    """Whether pixels may leave for Weights & Biases, and records name patients and images.

    Elsewhere they hold pseudonyms; `xferlab plan --cases FILE` writes who is who.
    """
    note: str | None = None
    """A sentence that stands under every table that uses this section."""


class _Files(_Data):
    @model_validator(mode="after")
    def _filters_name_nobody(self) -> _Files:
        named = [column for column in NAMING_COLUMNS if column in self.where]
        if named and not self.shareable:
            raise ValueError(
                f"where.{named[0]} names patients or images, and records, which hold `where`, name none "
                "unless the section is `shareable: true`; mark the cases in a column of their own and "
                "filter by that, or leave the others out of the folder"
            )
        return self


Threshold = Annotated[dict[Literal["above"], Int], Field(min_length=1)]
"""Mask values strictly above a number."""
LabelValues = dict[str, list[int] | dict[Literal["above"], int]]
MAX_LABEL = 65_535


def _lung_masks() -> LabelValues:
    return {"lung": [255]}


class ManifestData(_Files):
    """A folder with `metadata.csv` or `.parquet`: columns image, mask, patient_id, pathology, any others."""

    source: Literal["manifest"]
    """Kind of this section."""
    root: str
    """The folder; `${NAME}` is taken from the environment, relative paths start at the study file."""
    table: str | None = None
    """The table's file name; default: `metadata.csv`, else `metadata.parquet`."""
    labels: dict[Name, list[Int] | Threshold] = Field(default_factory=_lung_masks)
    """Mask values of the structure to segment, and of `ignore` (counted nowhere); 0 is background.

    Values of masks with a palette are its indices. `{above: 127}` in place of the structure's list takes all
    values above 127, and makes all others background: for masks with smooth edges.
    """

    @model_validator(mode="after")
    def _one_structure(self) -> ManifestData:
        check_labels(self.labels)
        return self


class LggData(_Files):
    """The LGG MRI set in its published layout, `kaggle_3m/<patient>/<patient>_<slice>[_mask].tif`."""

    source: Literal["lgg"]
    """Kind of this section."""
    root: str
    """The folder that holds `kaggle_3m`, or `kaggle_3m` itself."""
    drop_ends: Int = Field(1, ge=0)
    """Slices dropped at each end of a volume."""


class PhantomMriData(_Data):
    """Procedural brain MRI with FLAIR-like lesions, three channels."""

    source: Literal["phantom_mri"]
    """Kind of this section."""
    count: Count
    """Number of slices."""
    seed: Int = Field(0, ge=0)
    """Another seed gives other patients."""
    size_px: Int = Field(256, ge=32, le=1024)
    """Side of the rendered image."""


class PhantomCxrData(_Data):
    """Procedural chest X-rays of clear, COVID-19-like and otherwise pathological lungs."""

    source: Literal["phantom_cxr"]
    """Kind of this section."""
    count: Count | Annotated[dict[Literal["covid19", "normal", "pathological"], Count], Field(min_length=1)]
    """Number of images: one number, shared equally, or a number for each pathology."""
    seed: Int = Field(0, ge=0)
    """Another seed gives other patients."""
    size_px: Int = Field(256, ge=32, le=1024)
    """Side of the rendered image."""


DataSection = Annotated[
    ManifestData | LggData | PhantomMriData | PhantomCxrData, Field(discriminator="source")
]


COLOUR_SOURCES = ("lgg", "phantom_mri")
"""Kinds of sections whose images have three channels; all others are grey."""


_STRUCTURES = {"phantom_cxr": "lung", "phantom_mri": "lesion", "lgg": "lesion"}


def structure_of(section: Mapping[str, Any]) -> str:
    """Returns what the masks of a section mark, from its configuration as JSON; `structure` if unknown."""
    named = [name for name in section.get("labels", ()) if name != "ignore"]
    return named[0] if named else _STRUCTURES.get(section.get("source", ""), "structure")


def check_labels(labels: LabelValues) -> None:
    """Raises ValueError unless labels name one structure, and each value (1 to 65535) once."""
    structures = [name for name in labels if name != "ignore"]
    if len(structures) != 1:
        raise ValueError(f"name one structure to segment (and `ignore`), not {len(structures)}: {structures}")
    lists = {name: group for name, group in labels.items() if isinstance(group, list)}
    values = [value for group in lists.values() for value in group]
    if lists.get(structures[0]) == [] or len(set(values)) != len(values):
        raise ValueError("each structure needs mask values, and no value may stand twice")
    if not all(0 < value <= MAX_LABEL for value in values):
        raise ValueError(f"mask values are whole numbers from 1 to {MAX_LABEL}; 0 is background")
    if "ignore" in labels and "ignore" not in lists:
        raise ValueError("`above` is for the structure; list the values to ignore, such as `ignore: [127]`")
    above = threshold_of(labels)
    if above is None:
        return
    if not 0 <= above < MAX_LABEL:
        raise ValueError(f"`above` is a whole number from 0 to {MAX_LABEL - 1}, not {above}")
    if max(values, default=0) > above:
        raise ValueError(f"`ignore` names {max(values)}, which is above {above} and so the structure's")


def threshold_of(labels: LabelValues) -> int | None:
    """Returns the number that the structure's mask values lie above, or None if they are listed."""
    return next((group["above"] for group in labels.values() if isinstance(group, dict)), None)
