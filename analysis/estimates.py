"""The mean difference of two models with a 95 % interval and p, and Holm's method for several of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Estimate(NamedTuple):
    """What is estimated of a difference; NaN: undefined.

    Attributes:
        low: Lower end of the 95 % confidence interval.
        high: Upper end.
        p: Two-sided, of no difference.
        df: Degrees of freedom.
        over_repetitions: Sample variance of the repetitions' differences.
        over_patients: Variance of the mean that is due to which patients there are; 0 on test parts, where
            repetitions vary with them.
    """

    low: float
    high: float
    p: float
    df: float
    over_repetitions: float = np.nan
    over_patients: float = np.nan


UNDEFINED = Estimate(np.nan, np.nan, np.nan, np.nan)
POWER = 0.8


class Measured(NamedTuple):
    """What is known of the differences of like repetitions.

    Attributes:
        over_repetitions: See `Estimate`.
        over_patients: See `Estimate`.
        overlap: r on a hold-out, else test images per training image.
        patients: Patients, counted by their images.
    """

    over_repetitions: float
    over_patients: float
    overlap: float
    patients: float


def supportable(known: Measured, *, repetitions: int, contrasts: int = 1) -> float:
    """Returns the smallest difference that is supported with a probability of about 80 %; NaN where unknown.

    (t(1 - 0.05 / (2 m)) + t(0.8)) times the standard error, with the degrees of freedom of the design. With
    4 of them the probability is 79 %, and 76 % for three contrasts (noncentral t); from 10 on, 79 to 80 %.

    Args:
        known: Of like repetitions.
        repetitions: J, those of the design.
        contrasts: m, how many are declared: the first step of Holm's method.
    """
    from scipy import special

    if repetitions < 2:
        return np.nan
    variance, df = _variance(known, repetitions)
    quantiles = special.stdtrit(df, [1 - (1 - CONFIDENCE) / (2 * contrasts), POWER])
    return float(np.sum(quantiles) * np.sqrt(variance))


def _variance(known: Measured, repetitions: int) -> tuple[float, float]:
    """The variance of a mean difference, and its degrees of freedom by Satterthwaite (1946)."""
    first = known.over_repetitions * (1 / repetitions + known.overlap)
    variance = first + known.over_patients
    parts = first**2 / (repetitions - 1) + known.over_patients**2 / max(known.patients - 1, 1)
    return variance, variance**2 / parts if parts > 0 else np.nan


OF_SAMPLES = 4 / 9
"""Part of the repetitions' variance that is taken for that of training samples, the rest for noise of seeds.

Calibrated by simulation, not derived.
"""
FEW_TRAINING_PATIENTS = 10
"""Patients in a training sample below which that part is 1.

In simulation, 4/9 has up to 9.5 % false positives where 3 or 4 patients train, and keeps 5 % from 6 on;
`tests/analysis/test_validity.py` shows it for 4 of 12.
"""


def overlap_of(share: float, *, of_samples: float = OF_SAMPLES) -> float:
    """Returns r, what training samples of one pool have in common, in units of the repetitions' variance.

    r = max(0.1, c f / (1 - f)), where f / (1 - f) is exact for a difference that is linear in the training
    patients, and 0.1 is a floor for small shares.

    Args:
        share: f, the share of the pool that one repetition trains on; from 1 on, r is unknown (NaN).
        of_samples: c; 1 is the upper bound, as without noise of seeds.
    """
    return max(0.1, of_samples * share / (1 - share)) if share < 1 else np.nan


def by_split(values: Floats, splits: Codes) -> Floats:
    """Returns the means over the seeds of each split.

    Args:
        values: Shape (repetitions, ...).
        splits: The split of each repetition, shape (repetitions,).
    """
    if len(np.unique(splits)) == len(splits):
        return values
    return np.stack([values[splits == split].mean(axis=0) for split in np.unique(splits)])


def measured_of_samples(by_repetition: Floats, splits: Codes) -> float:
    """Returns the part of the splits' variance that is not noise of seeds, where seeds are nested in splits.

    max(4/9, 1 - s2_seed / (k s2)), where s2 is the sample variance of the splits' means over k seeds and
    s2_seed the pooled one of the seeds within splits; 4/9 where each split has one seed.

    Args:
        by_repetition: The difference of each repetition, shape (repetitions,).
        splits: The split of each, shape (repetitions,).
    """
    means = by_split(by_repetition, splits)
    num_within = len(by_repetition) - len(means)
    if num_within == 0 or len(means) < 2 or not means.var(ddof=1) > 0:
        return OF_SAMPLES
    within = by_repetition - means[np.unique(splits, return_inverse=True)[1]]
    seeds = len(by_repetition) / len(means)
    return max(OF_SAMPLES, 1 - float(np.sum(within**2)) / num_within / (seeds * float(means.var(ddof=1))))


def two_way_t(differences: Floats, patients: Codes, *, overlap: float) -> Estimate:
    """Returns the estimate of the mean difference on a hold-out: repetitions and patients both vary.

    V = s2 (1/J + r) + P/(P-1) sum_p (sum of a patient's deviations)^2 / N^2, the second term of image
    differences averaged over repetitions; degrees of freedom by Satterthwaite (1946). Undefined below two
    repetitions or two counted patients, and where nothing varies.

    Args:
        differences: Shape (repetitions J, images N), all defined.
        patients: Patient of each image, numbered, shape (N,).
        overlap: r, see `overlap_of`.
    """
    if len(differences) < 2 or counted_patients(patients) < 2:
        return UNDEFINED
    by_repetition, by_image = differences.mean(axis=1), differences.mean(axis=0)
    sums = np.bincount(patients, by_image - by_repetition.mean())
    num_patients = len(np.unique(patients))
    over_patients = num_patients / (num_patients - 1) * float(np.sum(sums**2)) / len(patients) ** 2
    return _two_way(by_repetition, over_patients, patients, overlap=overlap)


def jackknife_t(by_repetition: Floats, without_each: Floats, patients: Codes, *, overlap: float) -> Estimate:
    """Returns the estimate of the mean difference of a metric of sets on a hold-out.

    As `two_way_t`, where the second term of V is the sample variance of the patients' jackknife pseudo-values
    over their number. Undefined also where the value without one of the patients is.

    Args:
        by_repetition: The difference of each repetition, shape (J,).
        without_each: The mean difference without each of the patients, shape (P,).
        patients: Patient of each image, numbered, shape (N,).
        overlap: r, see `overlap_of`.
    """
    if len(by_repetition) < 2 or counted_patients(patients) < 2:
        return UNDEFINED
    num = len(without_each)
    pseudo_values = num * by_repetition.mean() - (num - 1) * without_each
    over_patients = float(pseudo_values.var(ddof=1)) / num
    return _two_way(by_repetition, over_patients, patients, overlap=overlap)


def _two_way(by_repetition: Floats, over_patients: float, patients: Codes, *, overlap: float) -> Estimate:
    sample = float(by_repetition.var(ddof=1))
    known = Measured(sample, over_patients, overlap, counted_patients(patients))
    variance, df = _variance(known, len(by_repetition))
    return _t_estimate(float(by_repetition.mean()), variance, df=df, parts=(sample, over_patients))


def corrected_t(means: Floats, *, overlap: float) -> Estimate:
    """Returns the estimate of the mean difference where every repetition has test images of its own.

    The corrected resampled t test: 1/J becomes 1/J + test/train (Nadeau and Bengio 2003, Inference for the
    generalization error, eq. 11). Undefined below two repetitions, and where nothing varies.

    Args:
        means: Mean difference of each repetition, shape (J,).
        overlap: Test images per training image.
    """
    num = len(means)
    if num < 2:
        return UNDEFINED
    sample = float(means.var(ddof=1))
    return _t_estimate(float(means.mean()), sample * (1 / num + overlap), df=num - 1, parts=(sample, 0.0))


def counted_patients(patients: Codes) -> float:
    """Returns N^2 / sum n_p^2: the number of patients, fewer where some have more images than others."""
    counts = np.bincount(patients)
    return float(len(patients) ** 2 / np.sum(counts**2)) if len(patients) else 0.0


def _t_estimate(mean: float, variance: float, *, df: float, parts: tuple[float, float]) -> Estimate:
    from scipy import special

    error = float(np.sqrt(variance))
    # Rounding alone gives differences that are all equal a tiny deviation, and with it a tiny p.
    if not error > 1e-12 * max(1.0, abs(mean)):
        return UNDEFINED
    half = float(special.stdtrit(df, (1 + CONFIDENCE) / 2)) * error
    return Estimate(mean - half, mean + half, 2 * float(special.stdtr(df, -abs(mean) / error)), df, *parts)


def at_level(difference: float, estimate: Estimate, confidence: float) -> tuple[float, float]:
    """Returns the interval of a difference at another level than `CONFIDENCE`."""
    from scipy import special

    quantiles = special.stdtrit(estimate.df, [(1 + level) / 2 for level in (confidence, CONFIDENCE)])
    half = (estimate.high - estimate.low) / 2 * float(quantiles[0] / quantiles[1])
    return difference - half, difference + half


def holm_levels(p_values: list[float]) -> list[float]:
    """Returns the level of the interval of each of several comparisons that says what Holm's method says.

    1 - 0.05 / (m - k + 1) of m comparisons, where k is the rank of its p; from the first that is not below
    its share of 0.05 on, the rank of that one. What has no p ranks last; of equal ones, the first is lower.
    """
    values = np.nan_to_num(np.asarray(p_values, dtype=float), nan=1.0)
    order, num, rank = np.argsort(values, kind="stable"), len(values), 0
    levels = np.empty(num)
    for position, index in enumerate(order):
        if rank == position:  # all before are rejected
            rank += values[index] < (1 - CONFIDENCE) / (num - position)
        levels[index] = 1 - (1 - CONFIDENCE) / (num - min(position, rank))
    return [float(level) for level in levels]


def holm(p_values: list[float]) -> list[float]:
    """Returns p-values adjusted by Holm's step-down method (1979).

    NaN stays NaN and counts as a comparison: what allows no claim makes no other claim easier.
    """
    values = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    scaled = values[order] * (len(values) - np.arange(len(order)))
    values[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(value) for value in values]
