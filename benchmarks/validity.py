"""How often rules of inference see a difference where there is none, and the default rule one where there is.

    python benchmarks/validity.py                    # 1,000 studies a setting, about 10 minutes on two cores
    python benchmarks/validity.py --studies 200

Each line is a kind of study; see `validity_data`. A rule keeps its level where its false positives are at
most 5 % and two standard errors of the simulation. The last line and the exit code say whether the default
rule does so in every setting.
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
from validity_data import Floats, Outcome, Setting, elm, neighbours, outcomes, ridge

from xferlab.analysis.estimates import (
    Estimate,
    by_split,
    corrected_t,
    measured_of_samples,
    overlap_of,
    two_way_t,
)

LEVEL, SEED, EFFECT, FLIPS = 0.05, 2021, 0.1, 400


def default(outcome: Outcome) -> Estimate:
    """The rule of reports on a hold-out."""
    by_repetition = outcome.differences.mean(axis=1)
    overlap = overlap_of(outcome.share, of_samples=measured_of_samples(by_repetition, outcome.splits))
    return two_way_t(by_split(outcome.differences, outcome.splits), outcome.patients, overlap=overlap)


def strict(outcome: Outcome) -> Estimate:
    """The same with the linear bound, which assumes no noise of seeds."""
    overlap = overlap_of(outcome.share, of_samples=1.0)
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


class Found(NamedTuple):
    """Shares of the studies of a setting: false positives by rule, and how often `default` sees `EFFECT`."""

    false: Mapping[str, float]
    power: float


RULES: Mapping[str, Callable[[Outcome], float]] = {
    "default": lambda outcome: default(outcome).p,
    "strict": lambda outcome: strict(outcome).p,
    "test parts": lambda outcome: test_parts(outcome).p,
    "t over repetitions": over_repetitions,
    "sign flips": over_patients,
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
}


def measured(setting: Setting, number: int, seed: int) -> tuple[list[list[float]], list[bool]]:
    """Returns the p of each rule for each study, and whether the default rule sees `EFFECT`."""
    rows, seen = list[list[float]](), list[bool]()
    for outcome in outcomes(setting, number, seed=seed):
        rows.append([rule(outcome) for rule in RULES.values()])
        seen.append(default(replace(outcome, differences=outcome.differences + EFFECT)).p < LEVEL)
    return rows, seen


def of_setting(setting: Setting, number: int, pool: ProcessPoolExecutor, parts: int) -> Found:
    """Returns the shares of a setting, simulated in several processes."""
    sizes = [number // parts + (part < number % parts) for part in range(parts)]
    jobs = [pool.submit(measured, setting, size, SEED + part) for part, size in enumerate(sizes)]
    rows, seen = zip(*(job.result() for job in jobs), strict=True)
    values: Floats = np.array([row for part in rows for row in part])
    false = {name: float(np.mean(column < LEVEL)) for name, column in zip(RULES, values.T, strict=True)}
    return Found(false, float(np.mean([each for part in seen for each in part])))


def main(words: Sequence[str] | None = None) -> int:
    """Prints a line for each setting; returns 1 if the default rule fails in one."""
    parser = argparse.ArgumentParser(description="Validity of the rules of inference.")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each setting")
    options = parser.parse_args(words)
    number, cores, started = options.studies, len(os.sched_getaffinity(0)), time.monotonic()
    limit = LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / number)
    print(f"{number} studies a setting; false positives in %, nominal {LEVEL:.0%}; at most {limit:.1%}")
    print(f"{'setting':48}{''.join(f'{name:>20}' for name in RULES)}{f'power at {EFFECT}':>20}")
    failed = []
    with ProcessPoolExecutor(cores) as pool:
        for name, setting in SETTINGS.items():
            found = of_setting(setting, number, pool, cores)
            cells = "".join(f"{_cell(share, number):>20}" for share in found.false.values())
            print(f"{name:48}{cells}{100 * found.power:>19.0f}%", flush=True)
            failed += [name] if found.false["default"] > limit else []
    print(f"{time.monotonic() - started:.0f} s")
    if failed:
        print(f"The default rule exceeds its level in {len(failed)} settings: {'; '.join(failed)}")
        return 1
    print(f"The default rule keeps its level in all {len(SETTINGS)} settings.")
    return 0


def _cell(share: float, number: int) -> str:
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / number):.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
