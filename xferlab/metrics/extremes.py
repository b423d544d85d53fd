"""Which cases of an evaluation a reader looks at first: the worst, the median and the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

WORST_SHARE = 0.05
MAX_WORST = 12
"""Of a large set, its worst 5 % are too many to look at."""
WORST, LOWEST, MEDIAN, HIGHEST = "worst 5 %", "worst", "median", "best"


def badness(values: ArrayLike, better: str | None) -> np.ndarray:
    """Returns values (n,) of which the largest is the worst; NaN where the metric is undefined."""
    given = np.asarray(values, dtype=np.float64)
    return given if better == "lower" else -given


def ranked(bad: np.ndarray, groups: Sequence[str]) -> Mapping[int, str]:
    """Returns the rows to look at, from the worst to the best, with why.

    These are the worst 5 % of all rows, rounded up and at most 12, and of each group its worst, its median
    (the better one of two) and its best. Rows whose value is undefined take no part; equal ones keep their
    order.

    Args:
        bad: What `badness` returns, (n,).
        groups: The group of each row, such as its pathology.
    """
    worst_first = [int(row) for row in np.argsort(-bad, kind="stable") if not np.isnan(bad[row])]
    by_group: dict[str, list[int]] = {}
    for row in worst_first:
        by_group.setdefault(groups[row], []).append(row)
    why = dict.fromkeys(worst_first[: num_worst(len(worst_first))], WORST)
    for rows in by_group.values():
        for row, word in ((rows[0], LOWEST), (rows[-1], HIGHEST), (rows[len(rows) // 2], MEDIAN)):
            why.setdefault(row, word)
    return {row: why[row] for row in worst_first if row in why}


def num_worst(num_rows: int) -> int:
    """Returns how many rows are the worst 5 %."""
    return min(MAX_WORST, int(np.ceil(WORST_SHARE * num_rows)))
