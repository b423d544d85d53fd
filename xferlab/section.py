"""The base class of all sections of a study file, and the plain types of their fields."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"
NAME_LENGTH = 64
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=NAME_LENGTH)]


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic passes on a ValueError, and no TypeError
        raise ValueError(f"{str(value).lower()} is not a number")  # noqa: TRY004
    return value


NO_BOOL = BeforeValidator(_no_bool)
Int = Annotated[int, NO_BOOL]
Float = Annotated[float, NO_BOOL]
Scalar = str | int | float | bool
Count = Annotated[int, Field(ge=1, le=1_000_000), NO_BOOL]  # bounds first, or the JSON Schema lacks them


def null_if(default: Scalar | BaseModel) -> AfterValidator:
    """Returns what makes a default that is spelled out null: null fields stay out of ids."""
    return AfterValidator(lambda value: None if value == default else value)


class Section(BaseModel):
    """Strict about names, frozen, and documented for editors by its attribute docstrings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
