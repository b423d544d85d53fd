"""What all data sections of a study file have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from xferlab.cohort import STEPS
from xferlab.errors import suggest
from xferlab.section import Float, Int, Name, Scalar, Section, null_if

NAMING_COLUMNS = ("patient_id", "image", "mask", "name")
"""Columns whose values identify people."""


class SourceConfig(Section):
    """A data section: where images come from, and which of them take part."""

    reader: ClassVar[str]
    """Name of the class in the folder's `reading.py` that reads the section; `module:class` elsewhere."""
    channels: ClassVar[int] = 1
    """Channels of every image: 1 for grey, 3 for several sequences or colours."""
    empty_targets: ClassVar[bool] = False
    """Whether images without the structure belong to the set, as slices without a lesion do."""
    modalities: ClassVar[tuple[str, ...]] = ("CR", "DX", "DR", "RG", "RF")
    """DICOM modalities of such images."""
    contents: ClassVar[str] = ""
    """What all images of this source are; empty if that depends on the section."""
    marked: ClassVar[tuple[str, ...]] = ("structure",)
    """What the masks can mark; may depend on the section. The first is read where nothing else is said."""

    hold_out: Float = Field(0.0, ge=0.0, le=1.0)
    """Share of this section's patients that no stage trains, stops or selects on; 1.0: a test set only."""
    where: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    """Keep the cases whose column has this value (or one of these values)."""
    same_patient: list[list[str]] = Field(default_factory=list)
    """Groups of patient ids that are one person."""
    different_patients: list[list[str]] = Field(default_factory=list)
    """Groups of patient ids that are different people, although images or ids suggest one person."""
    simulate: Literal["portable"] | None = None
    """Pass every image through the portable-device simulation; the cases are then marked `simulated`."""
    crop_black_band: bool = False
    """Cut the black band at the bottom of an X-ray off, from image and masks alike, before all else."""
    degrade_to: Int | None = Field(None, ge=8)
    """Shrink every image to this longer side in px, and enlarge it again: a control for sharpness."""
    equalise: bool = False
    """Equalise the histogram of every X-ray, by itself, at its own size and the depth of its file."""
    gamma: Annotated[Float | None, Field(ge=0.01, le=100), null_if(1.0)] = None
    """Exponent of the grey levels of X-rays as shares of white, after `equalise`; below 1 brightens."""
    shareable: bool = False
    """Whether pixels may leave for Weights & Biases, and records name patients and images.

    Elsewhere they hold pseudonyms; `xferlab plan --cases FILE` writes who is who.
    """
    note: str | None = None
    """A sentence that stands under every table that uses this section."""
    read: list[Name] | None = None
    """Structures whose masks are read, in this order; `[]` for none. A stage's `structures` replaces it."""

    @property
    def markable(self) -> tuple[str, ...]:
        """Names of all structures that the masks can mark."""
        return self.marked

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the structures that are read, in the order of the planes of `Decoded.targets`."""
        return self.markable[:1] if self.read is None else tuple(self.read)

    def reading(self, structures: Sequence[str]) -> Self:
        """Returns the section with these structures, in this order; itself where it reads them already."""
        if tuple(structures) == self.targets:
            return self
        return self.model_copy(update={"read": list(structures)})

    @property
    def naming_columns(self) -> tuple[str, ...]:
        """Columns whose values identify people or files."""
        return NAMING_COLUMNS

    def as_taken(self) -> Self:
        """Returns the section with its images as they were taken, without simulation and steps of its own."""
        fields = type(self).model_fields
        return self.model_copy(update={name: fields[name].default for name in ("simulate", *STEPS)})

    @property
    def own_depth(self) -> bool:
        """Whether images are equalised at the depth of their files, and not in the 8 bits of a simulation."""
        return self.equalise and self.simulate is None

    @property
    def mask_values(self) -> Mapping[str, Sequence[int]]:
        """The mask values that the section lists, by what they mark."""
        return {}

    @property
    def folder(self) -> str:
        """The folder of its files; empty if it has none."""
        return ""

    @model_validator(mode="after")
    def _reads_what_is_marked(self) -> Self:
        names = self.read or []
        for name in names:
            if name not in self.markable:
                raise ValueError(
                    f"read names {name!r}, which is no structure here ({', '.join(self.markable)})."
                    f"{suggest(name, self.markable)}"
                )
        if len(set(names)) != len(names):
            raise ValueError(f"read names a structure twice: {', '.join(names)}")
        return self

    @field_validator("simulate", "crop_black_band", "equalise", "gamma")
    @classmethod
    def _is_of_radiographs(cls, value: str | float | None) -> str | float | None:
        if value and cls.channels != 1:
            raise ValueError("this is for X-rays, whose images are grey; leave it out")
        return value


class BrainSlices(SourceConfig):
    """A data section of slices of brain MRI, with or without a lesion."""

    channels: ClassVar[int] = 3
    empty_targets: ClassVar[bool] = True
    modalities: ClassVar[tuple[str, ...]] = ("MR",)
    contents: ClassVar[str] = "slices of brain MRI"
    marked: ClassVar[tuple[str, ...]] = ("lesion",)


class FileConfig(SourceConfig):
    """A data section whose images are files of real people, which audit and `check` compare."""

    root: str
    """The folder; `${NAME}` is taken from the environment, relative paths start at the study file."""

    @property
    def folder(self) -> str:
        """The folder of its files."""
        return self.root

    @model_validator(mode="after")
    def _filters_name_nobody(self) -> FileConfig:
        naming = [column for column in NAMING_COLUMNS if column in self.where]
        if naming and not self.shareable:
            raise ValueError(
                f"where.{naming[0]} names patients or images, and records would hold these names; set "
                "`shareable: true`, filter by a column that names nobody, or remove the other cases from the "
                "folder"
            )
        return self
