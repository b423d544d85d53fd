"""The value that the epochs of a training are judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Score:
    """What the epochs of a training are judged by.

    Attributes:
        name: A validation value of the task, such as `loss`.
        better: Whether `lower` or `higher` values are better.
    """

    name: str
    better: Literal["lower", "higher"]

    @property
    def label(self) -> str:
        """What people read, such as `validation loss`."""
        return f"validation {self.name.replace('_', ' ')}"

    @property
    def described(self) -> str:
        """The label with the direction, such as `validation loss (lower is better)`."""
        return f"{self.label} ({self.better} is better)"

    def improves(self, value: float, best: float | None) -> bool:
        """Returns whether a value is better than the best so far (None before the first); NaN never is."""
        if best is None:
            return not math.isnan(value)
        return value < best if self.better == "lower" else value > best
