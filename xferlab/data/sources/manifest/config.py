"""A section of images and masks that a table lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from xferlab.data.sources.config import NAMING_COLUMNS, FileConfig
from xferlab.errors import suggest
from xferlab.section import Int, Name

Threshold = Annotated[dict[Literal["above"], Int], Field(min_length=1)]
"""Mask values strictly above a number."""
MaskValues = list[int] | dict[Literal["above"], int]
MAX_LABEL, MAX_STRUCTURES = 65_535, 64
IGNORE, MASK = "ignore", "mask"
"""The label of what counts nowhere, and the column of masks that hold several structures."""
_ALONE: Sequence[int] = (255,)
"""What marks a structure that has masks of its own, where `labels` does not say."""


@dataclass(frozen=True)
class MaskColumn:
    """What the masks of one column mark.

    Attributes:
        name: Of the column.
        values: Structure -> its mask values.
        ignored: Values that count nowhere.
    """

    name: str
    values: Mapping[str, MaskValues]
    ignored: tuple[int, ...]

    @property
    def above(self) -> int | None:
        """The number that its only structure's values lie above; None where values are listed."""
        return next((group["above"] for group in self.values.values() if isinstance(group, dict)), None)

    @property
    def listed(self) -> dict[str, list[int]]:
        """The mask values that are listed, by what they mark."""
        listed = {name: group for name, group in self.values.items() if isinstance(group, list)}
        return {**listed, **({IGNORE: list(self.ignored)} if self.ignored else {})}

    def check(self) -> None:
        """Raises ValueError if a value means two things, or none that a mask can hold."""
        values = [value for group in self.listed.values() for value in group]
        if any(group == [] for group in self.values.values()) or len(set(values)) != len(values):
            raise ValueError("each structure needs mask values, and no value may stand twice")
        if not all(0 < value <= MAX_LABEL for value in values):
            raise ValueError(f"mask values are whole numbers from 1 to {MAX_LABEL}; 0 is background")
        above = self.above
        if above is None:
            return
        if len(self.values) > 1:
            raise ValueError(
                f"`above` is for masks of one structure, and {self.name!r} has {', '.join(self.values)}; "
                "list the values of each"
            )
        if not 0 <= above < MAX_LABEL:
            raise ValueError(f"`above` is a whole number from 0 to {MAX_LABEL - 1}, not {above}")
        if max(values, default=0) > above:
            raise ValueError(f"`ignore` names {max(values)}, which is above {above} and so the structure's")


class ManifestData(FileConfig):
    """A folder with `metadata.csv` or `.parquet`: columns image, patient_id, masks, pathology, any others."""

    reader: ClassVar[str] = "ManifestSource"

    source: Literal["manifest"]
    """Kind of this section."""
    table: str | None = None
    """The table's file name; default: `metadata.csv`, else `metadata.parquet`."""
    labels: dict[Name, list[Int] | Threshold] = Field(default_factory=dict, max_length=MAX_STRUCTURES)
    """Mask values of each structure, and of `ignore` (counted nowhere); 0 is background. Default: lung, 255.

    Values of masks with a palette are its indices. `{above: 127}` in place of a structure's list takes all
    values above 127, and makes all others background: for masks with smooth edges.
    """
    structures: dict[Name, Name | Annotated[list[Name], Field(min_length=1)]] = Field(
        default_factory=dict, max_length=MAX_STRUCTURES
    )
    """Structures with a mask column of their own (`heart: mask_heart`; 255 marks them where `labels` does not
    say), or made of others (`lungs: [left_lung, right_lung]`)."""

    @property
    def markable(self) -> tuple[str, ...]:
        """Names of all structures: those of `labels` first, then those that `structures` adds."""
        named = [name for name in self._labels if name != IGNORE]
        return tuple(dict.fromkeys([*named, *self.structures]))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the structures that are read: all, unless `read` says less."""
        return self.markable if self.read is None else tuple(self.read)

    @property
    def columns(self) -> tuple[MaskColumn, ...]:
        """The columns that name masks, and what these mark."""
        ignored = tuple(self._ignored)
        joined = {name for name, made in self.structures.items() if isinstance(made, list)}
        columns: dict[str, dict[str, MaskValues]] = {}
        for name in self.markable:
            if name not in joined:
                column = self.structures.get(name, MASK)
                columns.setdefault(str(column), {})[name] = self._labels.get(name, list(_ALONE))
        return tuple(MaskColumn(name, values, ignored) for name, values in columns.items())

    @property
    def naming_columns(self) -> tuple[str, ...]:
        """Columns whose values identify people or files: those of masks, too."""
        return (*NAMING_COLUMNS, *(column.name for column in self.columns))

    @property
    def read_columns(self) -> tuple[MaskColumn, ...]:
        """The columns whose masks are read."""
        needed = {part for name in self.targets for part in self.parts(name)}
        return tuple(column for column in self.columns if not needed.isdisjoint(column.values))

    @property
    def mask_values(self) -> Mapping[str, Sequence[int]]:
        """The mask values that are listed for the columns that are read, by what they mark."""
        return {name: values for column in self.read_columns for name, values in column.listed.items()}

    def parts(self, structure: str) -> tuple[str, ...]:
        """Returns the structures that one is made of: itself, unless it joins others."""
        made = self.structures.get(structure)
        return tuple(made) if isinstance(made, list) else (structure,)

    @property
    def _labels(self) -> Mapping[str, MaskValues]:
        return self.labels or ({} if self.structures else {"lung": list(_ALONE)})

    @property
    def _ignored(self) -> list[int]:
        group = self._labels.get(IGNORE, [])
        if isinstance(group, dict):
            raise ValueError(  # noqa: TRY004  # pydantic passes on a ValueError
                "`above` is for the structure; list the values to ignore, such as `ignore: [127]`"
            )
        return group

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_name_no_columns(cls, labels: Any) -> Any:
        """Columns of masks stand in `structures`."""
        for column, group in labels.items() if isinstance(labels, dict) else ():
            for name, values in group.items() if isinstance(group, dict) else ():
                if isinstance(values, list | dict) and name != "above":
                    raise ValueError(  # pydantic passes on a ValueError
                        f"{column!r} holds a mapping of structures, and `labels` takes structures with their "
                        f"mask values, not columns. Name {name!r} itself in `labels`, and its column in "
                        f"`structures`: {{{name}: {column}}}"
                    )
        return labels

    @model_validator(mode="after")
    def _labels_fit_together(self) -> ManifestData:
        """There is a structure, each value (1 to 65535) stands once, and joined structures exist."""
        if not self.markable:
            raise ValueError("`labels` names no structure beside `ignore`; name one, such as `lung: [255]`")
        if IGNORE in self.structures:
            raise ValueError("`ignore` is no structure: its values stand in `labels`")
        for column in self.columns:
            column.check()
        for name, made in self.structures.items():
            if isinstance(made, list):
                self._check_joined(name, made)
        return self

    def _check_joined(self, name: str, made: Sequence[str]) -> None:
        single = [other for other in self.markable if self.parts(other) == (other,)]
        if name in self.labels:
            raise ValueError(f"{name!r} joins others, so it has no `labels` of its own")
        for part in made:
            if part not in single:
                raise ValueError(
                    f"{name!r} joins {part!r}, which is no structure with masks ({', '.join(single)})."
                    f"{suggest(part, single)}"
                )
        if len(set(made)) != len(made):
            raise ValueError(f"{name!r} joins a structure twice: {', '.join(made)}")
