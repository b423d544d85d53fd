"""How a study file says that patients are divided."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xferlab.data.sources.registry import NAMING_COLUMNS
from xferlab.section import NO_BOOL, Float, Int, Section


class Split(Section):
    """How patients are divided in every repetition; a split knows no stage."""

    train: Float = Field(0.6, gt=0, lt=1)
    """Share of patients to train on."""
    validation: Float = Field(0.2, gt=0, lt=1)
    """Share of patients to stop and select on; with `by`, of those who do not test."""
    test: Float = Field(0.2, ge=0, lt=1)
    """Share of patients for the unbiased test."""
    seeds_per_split: Int = Field(1, ge=1, le=1_000)
    """Repetitions that share each division and differ in their seeds: the noise of seeds is then measured."""
    folds: Annotated[int, Field(ge=3, le=1_000), NO_BOOL] | None = None
    """Cross-validation: one of so many folds tests, the next one selects, the others train."""
    repeats: Int = Field(1, ge=1, le=1_000)
    """How often `folds` divide all patients anew; a study has repeats x folds repetitions."""
    by: str | None = Field(None, pattern=r"\S")
    """A column of the data, such as of hospitals: in each repetition, the patients of another one test."""
    file: str | None = Field(None, pattern=r"\S")
    """Somebody else's split: CSV with the columns patient_id (or image), part and, if wanted, repetition."""
    group_by: Literal["patient_id"] | None = "patient_id"
    """null splits images as the paper does; the plan then reports how many patients straddle."""
    require_classes: list[str] = Field(default_factory=list)
    """Pathologies that every part must contain; elsewhere a missing one is a warning."""

    @model_validator(mode="before")
    @classmethod
    def _rest_trains(cls, value: Any) -> Any:
        """What the other shares leave trains, where the share that trains is not given."""
        if not isinstance(value, dict) or "train" in value or value.get("folds") or value.get("file"):
            return value
        given = [value.get(name, cls.model_fields[name].default) for name in ("validation", "test")]
        try:
            others = sum(float(each) for each in given)  # also of numbers in quotes
        except (TypeError, ValueError):
            return value
        return {**value, "train": round(1.0 - others, 12)} if others < 1 else value

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + validation + test is {total:g}; it must be 1")
        return self

    @model_validator(mode="after")
    def _one_rule(self) -> Split:
        rules = [name for name in ("folds", "by", "file") if getattr(self, name) is not None]
        shares = [name for name in ("train", "validation", "test") if name in self.model_fields_set]
        if len(rules) > 1:
            raise ValueError(f"{' and '.join(rules)} each divide the patients; give one of them")
        if rules and rules != ["by"] and shares:
            raise ValueError(f"with {rules[0]} there are no shares; leave {', '.join(shares)} out")
        if rules and self.seeds_per_split > 1:
            raise ValueError(f"seeds_per_split is for shares; with {rules[0]}, leave it out")
        if self.repeats > 1 and self.folds is None:
            raise ValueError("repeats are for folds; give `folds`, or leave repeats out")
        if self.by in NAMING_COLUMNS:
            raise ValueError(
                f"by: {self.by} names patients or images, and records would hold these names; give a column "
                "of sites, such as hospitals, or divide patients into `folds`"
            )
        return self

    @property
    def num_repetitions(self) -> int | None:
        """Repetitions of a study with `folds`; None where the study or its data decide."""
        return self.folds * self.repeats if self.folds else None

    @property
    def has_test(self) -> bool:
        """Whether there is a test part."""
        return self.test > 0 or self.by is not None

    @property
    def is_open(self) -> bool:
        """Whether only the data or a file tell how many repetitions there are."""
        return self.by is not None or self.file is not None
