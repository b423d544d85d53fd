"""What a stage takes of the predictions of another one, as a study file says it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, StrictBool

from xferlab.section import NO_BOOL, Float, Section

SOURCE = r"^[^.\s]+(\.[^.\s]+)?$"
"""A stage of the same arm by its name, or one of another arm as `ARM.STAGE`."""

FOLDS = 5
"""How many folds `out_of_fold: true` is."""


def each_once(names: list[str]) -> list[str]:
    """Returns names of which none stands twice; raises ValueError otherwise."""
    if len(set(names)) != len(names):
        raise ValueError(f"a name stands twice: {', '.join(names)}")
    return names


_Names = Annotated[list[str], Field(min_length=1), AfterValidator(each_once)]


class _Predicted(Section):
    model_config = ConfigDict(serialize_by_alias=True)  # `from` is no name in Python

    source: str = Field(alias="from", pattern=SOURCE)
    """The stage that predicts: one of the same arm by its name, one of another arm as `ARM.STAGE`."""


class Masks(_Predicted):
    """Masks that another stage predicts; a task that reads them may add fields of its own."""

    structures: _Names | None = None
    """The structures to take, in this order; default: all that the other stage learns."""
    threshold: Float = Field(0.5, gt=0, lt=1)
    """From which probability on a structure is there; where structures exclude each other, the most
    probable one is."""
    out_of_fold: StrictBool | Annotated[int, Field(ge=2, le=100), NO_BOOL] = False
    """Whether training cases that the other stage trained on get their masks from networks that did not train
    on them: one for each of 5 folds (`true`), or of so many."""

    @property
    def num_folds(self) -> int:
        """Number of folds; 0 where all masks come from the one network of the repetition."""
        return FOLDS * self.out_of_fold if isinstance(self.out_of_fold, bool) else self.out_of_fold

    @property
    def added(self) -> dict[str, Any]:
        """The fields that the task adds, as JSON, without those that are off (null)."""
        return self.model_dump(mode="json", exclude=set(Masks.model_fields), exclude_none=True)


class Gate(_Predicted):
    """Which images may train: those that another stage takes for one of some classes."""

    keep: str | _Names
    """The class, or the classes, whose images train."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that pass."""
        return (self.keep,) if isinstance(self.keep, str) else tuple(self.keep)
