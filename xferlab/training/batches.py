"""Which cases stand together in a batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SMALLEST_BATCH = 4
"""A last batch of fewer images joins the one before: batch statistics of two images are noise."""

Rows = npt.NDArray[np.intp]


def divide(rows: Rows, batch_size: int) -> list[Rows]:
    """Returns rows cut into batches, in order.

    The last short batch is kept if it has at least four images, else its images join the one before. Fewer
    rows than a batch are one batch.
    """
    cuts = list(range(batch_size, len(rows), batch_size))
    if cuts and len(rows) - cuts[-1] < min(SMALLEST_BATCH, batch_size):
        cuts.pop()
    return list(np.split(rows, cuts)) if len(rows) else []


def fixed(num_cases: int, batch_size: int) -> list[Rows]:
    """Returns batches of exactly `batch_size` in case order, the last one shorter: for validation."""
    return [np.arange(start, min(start + batch_size, num_cases)) for start in range(0, num_cases, batch_size)]
