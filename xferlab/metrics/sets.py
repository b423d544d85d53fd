"""Metrics of a set of cases, from what is stored of each case; a `Metric` names the one it is `computed_by`.

The first argument is the true class of each case, a whole number: comparisons count the patients of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def roc_auc(truth: Floats, score: Floats) -> float:
    """Area under the ROC curve, exact: the Mann-Whitney statistic, with ties counting half.

    Args:
        truth: Shape (N,), 1 where a case is of the class and 0 elsewhere.
        score: Shape (N,), higher where the class is more likely.

    Returns:
        A value in [0, 1]; NaN where there are no cases of one kind.
    """
    from scipy.stats import rankdata  # slow to import, and plans only need declarations

    positive = truth == 1
    num = np.count_nonzero(positive)
    pairs = num * (len(truth) - num)
    return float((rankdata(score)[positive].sum() - num * (num + 1) / 2) / pairs) if pairs else float("nan")


def f1(truth: Floats, called: Floats) -> float:
    """F1 of a class: 2 TP / (2 TP + FP + FN), the harmonic mean of precision and sensitivity.

    Args:
        truth: Shape (N,), 1 where a case is of the class and 0 elsewhere.
        called: Shape (N,), 1 where a case is called so and 0 elsewhere.

    Returns:
        A value in [0, 1]; NaN where no case is of the class and none is called so.
    """
    both = np.count_nonzero((truth == 1) & (called == 1))
    total = np.count_nonzero(truth == 1) + np.count_nonzero(called == 1)
    return 2 * both / total if total else float("nan")


FUNCTIONS: Mapping[str, Callable[..., float]] = {"f1": f1, "roc_auc": roc_auc}
