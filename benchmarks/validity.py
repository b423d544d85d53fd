"""How often rules of inference see a difference where there is none, and the default rule one where there is.

    python benchmarks/validity.py                    # 1,000 studies a setting, about 4 minutes on two cores
    python benchmarks/validity.py --studies 200

Each line is a kind of study; see `validity_data`. A rule keeps its level where its false positives are at
most 5 % and two standard errors of the simulation. The last line and the exit code say whether the default
rule does so in every setting; of additive effects without noise of seeds, which it cannot know of, `strict`
is judged in its place.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits
from validity_data import Floats, Outcome, Setting, additive, elm, neighbours, outcomes, ridge

from xferlab.analysis.estimates import (
    Estimate,
    by_split,
    corrected_t,
    two_way_t,
)

LEVEL, SEED, EFFECT, FLIPS = 0.05, 2021, 0.1, 400


def default(outcome: Outcome, *, strict: bool = False) -> Estimate:
    """The rule of reports on a hold-out; `strict` takes the linear bound, which assumes no noise of seeds."""
    design = replace(outcome.design, strict=strict)
    overlap = design.overlap(outcome.differences.mean(axis=1), outcome.splits)
    return two_way_t(by_split(outcome.differences, outcome.splits), outcome.patients, overlap=overlap)


def test_parts(outcome: Outcome) -> Estimate:
    """The rule of reports on test parts."""
    return corrected_t(by_split(outcome.test_means, outcome.splits), overlap=outcome.test_to_train)


def over_repetitions(outcome: Outcome) -> float:
    """The p of a t test over repetitions, as is common."""
    return float(stats.ttest_1samp(outcome.differences.mean(axis=1), 0).pvalue)


def over_patients(outcome: Outcome) -> float:
    """The p of sign flips of patients."""
    by_image = outcome.differences.mean(axis=0)
    sums = np.bincount(outcome.patients, by_image)
    signs = np.random.default_rng(SEED).choice([-1.0, 1.0], (FLIPS, len(sums)))
    return float((1 + np.sum(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12)) / (1 + FLIPS))


def bootstrap(outcome: Outcome) -> tuple[float, float]:
    """The percentile interval of resampled patients, as is common."""
    by_image = outcome.differences.mean(axis=0)
    sums, sizes = np.bincount(outcome.patients, by_image), np.bincount(outcome.patients)
    draws = np.random.default_rng(SEED).integers(len(sums), size=(FLIPS, len(sums)))
    means = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


class Found(NamedTuple):
    """Shares of the studies of a setting.

    Attributes:
        false: False positives, by rule.
        covered: Intervals that hold the true difference, 0, by rule.
        power: How often `default` sees `EFFECT`.
    """

    false: Mapping[str, float]
    covered: Mapping[str, float]
    power: float


RULES: Mapping[str, Callable[[Outcome], float]] = {
    "default": lambda outcome: default(outcome).p,
    "strict": lambda outcome: default(outcome, strict=True).p,
    "test parts": lambda outcome: test_parts(outcome).p,
    "t over repetitions": over_repetitions,
    "sign flips": over_patients,
}
INTERVALS: Mapping[str, Callable[[Outcome], tuple[float, float]]] = {
    "default": lambda outcome: default(outcome)[:2],
    "bootstrap": bootstrap,
}
SETTINGS: Mapping[str, Setting] = {
    f"{name}, J {repetitions}, {hold_out} patients": Setting(learner, repetitions, hold_out=hold_out)
    for name, learner in (("elm", elm), ("ridge", ridge), ("neighbours", neighbours))
    for repetitions in (25, 5)
    for hold_out in (10, 50, 300)
} | {
    "elm, J 25, 50 patients, 1 to 8 images": Setting(elm, images=8, unequal=True),
    "ridge, J 25, 300 patients, 1 to 8 images": Setting(ridge, hold_out=300, images=8, unequal=True),
    "elm, 8 splits of 3 seeds, 300 patients": Setting(elm, 24, seeds=3, hold_out=300),
    "ridge, 8 splits of 3 seeds, 300 patients": Setting(ridge, 24, seeds=3, hold_out=300),
    "ridge, J 25, pool of 10, 300 patients": Setting(ridge, pool=10, hold_out=300),
    "ridge, J 25, pool of 200, 300 patients": Setting(ridge, pool=200, hold_out=300),
    **{
        f"ridge, J {repetitions}, 300 patients, trains on {share:.0%}": Setting(
            ridge, repetitions, hold_out=300, share=share, test_share=min(0.2, 1 - share)
        )
        for share in (0.06, 0.15, 0.3, 0.8, 0.9)
        for repetitions in (25, 5)
    },
    **{
        f"{name}, J {repetitions}, 300 patients, labels of 10 %": Setting(
            learner, repetitions, hold_out=300, labels=0.1, strata=(30, 15, 8, 4, 2, 1)
        )
        for name, learner in (("elm", elm), ("ridge", ridge))
        for repetitions in (25, 5)
    },
    "ridge, J 25, pool of 8, 300 patients, trains on 50 %": Setting(ridge, pool=8, hold_out=300, share=0.5),
    "ridge, J 25, pool of 16, 300 patients, trains on 19 %": Setting(
        ridge, pool=16, hold_out=300, share=0.19
    ),
    "ridge, J 25, pool of 24, 300 patients, trains on 50 %": Setting(ridge, pool=24, hold_out=300, share=0.5),
    "ridge, J 25, pool of 12, 300 patients, labels of 50 %": Setting(
        ridge, pool=12, hold_out=300, labels=0.5, strata=(6, 4, 2)
    ),
}
FOR_STRICT: Mapping[str, Setting] = {
    f"additive, J {repetitions}, 1000 patients": Setting(additive, repetitions, hold_out=1000)
    for repetitions in (25, 5)
}
"""Settings that the default rule is not judged by."""


def measured(setting: Setting, number: int, seed: int) -> Floats:
    """Returns a row for each study: p of each rule, whether intervals hold 0, whether `EFFECT` is seen."""
    rows = []
    for outcome in outcomes(setting, number, seed=seed):
        intervals = (interval(outcome) for interval in INTERVALS.values())
        covered = [low <= 0 <= high for low, high in intervals]
        seen = default(replace(outcome, differences=outcome.differences + EFFECT)).p < LEVEL
        rows.append([*(rule(outcome) for rule in RULES.values()), *covered, seen])
    return np.array(rows, dtype=np.float64)


def of_setting(setting: Setting, number: int, pool: ProcessPoolExecutor, parts: int) -> Found:
    """Returns the shares of a setting, simulated in several processes."""
    sizes = [number // parts + (part < number % parts) for part in range(parts)]
    jobs = [pool.submit(measured, setting, size, SEED + part) for part, size in enumerate(sizes)]
    values, covered, seen = np.split(
        np.concatenate([job.result() for job in jobs]), [len(RULES), len(RULES) + len(INTERVALS)], axis=1
    )
    return Found(
        dict(zip(RULES, (values < LEVEL).mean(axis=0).tolist(), strict=True)),
        dict(zip(INTERVALS, covered.mean(axis=0).tolist(), strict=True)),
        float(seen.mean()),
    )


def main(words: Sequence[str] | None = None) -> int:
    """Prints a line for each setting; returns 1 if a rule fails in one that it is judged by."""
    parser = argparse.ArgumentParser(description="Validity of the rules of inference.")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each setting")
    number, started = parser.parse_args(words).studies, time.monotonic()
    limit = LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / number)
    print(f"{number} studies a setting; false positives in %, nominal {LEVEL:.0%}; at most {limit:.1%}")
    print(
        "cov.: intervals that hold the true difference, in %, nominal 95 %; power of the default rule, in %"
    )
    heads = [*RULES, *(f"cov. {name}" for name in INTERVALS), f"power at {EFFECT}"]
    print(f"{'setting':56}{''.join(f'{head:>20}' for head in heads)}")
    failed = _exceeded(SETTINGS, "default", number, limit) + _exceeded(FOR_STRICT, "strict", number, limit)
    print(f"{time.monotonic() - started:.0f} s")
    if failed:
        print(f"A rule exceeds its level in {len(failed)} settings: {'; '.join(failed)}")
        return 1
    print(
        f"The default rule keeps its level in all {len(SETTINGS)} settings, `strict` in the "
        f"{len(FOR_STRICT)} of additive effects."
    )
    return 0


def _exceeded(settings: Mapping[str, Setting], rule: str, number: int, limit: float) -> list[str]:
    """Prints a line for each setting, and returns those in which a rule is too often wrong."""
    failed, cores = [], len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, initializer=threadpool_limits, initargs=(1,)) as pool:
        for name, setting in settings.items():
            found = of_setting(setting, number, pool, cores)
            cells = [_cell(share, number) for share in (*found.false.values(), *found.covered.values())]
            print(
                f"{name:56}{''.join(f'{cell:>20}' for cell in cells)}{100 * found.power:>20.0f}", flush=True
            )
            failed += [name] if found.false[rule] > limit else []
    return failed


def _cell(share: float, number: int) -> str:
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / number):.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
