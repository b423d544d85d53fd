"""Simulated studies without a difference: how often the rule of inference sees one all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.validity_data import Learner, Outcome, Setting, additive, elm, outcomes, ridge
from xferlab.analysis.estimates import Estimate, by_split, corrected_t, jackknife_t, two_way_t
from xferlab.analysis.sets import PairedSets, SetMeasure
from xferlab.metrics.metric import PASSED
from xferlab.metrics.sets import FUNCTIONS

AREA = SetMeasure(PASSED, ((FUNCTIONS["roc_auc"], ("truth", "score")),))
"""Its declaration plays no part."""

NUM_STUDIES = 400
LARGEST = 0.05 + 2 * np.sqrt(0.05 * 0.95 / NUM_STUDIES)
"""5 % and two standard errors of the simulation."""

SETTINGS = {
    "elm, 25 repetitions, 50 patients": Setting(elm),
    "elm, 5 repetitions, 300 patients": Setting(elm, repetitions=5, hold_out=300),
    "ridge, 25 repetitions, 50 patients": Setting(ridge),
    "ridge, 25 repetitions, 300 patients": Setting(ridge, hold_out=300),
    "ridge, 5 repetitions, 300 patients": Setting(ridge, repetitions=5, hold_out=300),
    "ridge, share 0.8": Setting(ridge, hold_out=300, share=0.8, test_share=0.1),
    "ridge, share 0.15": Setting(ridge, hold_out=300, share=0.15),
    "ridge, pool of 10": Setting(ridge, pool=10, hold_out=300),
    "ridge, 4 of 12 train": Setting(ridge, pool=12, hold_out=300, share=0.33),
    "ridge, labels of 10 %": Setting(ridge, hold_out=300, labels=0.1, strata=(30, 15, 8, 4, 2, 1)),
    "ridge, 8 splits of 3 seeds": Setting(ridge, 24, seeds=3, hold_out=300),
    "elm, 8 splits of 3 seeds": Setting(elm, 24, seeds=3, hold_out=300),
}


def rate(p_values: list[float]) -> float:
    """Share of the studies that are called different."""
    assert not np.isnan(p_values).any()
    return float(np.mean(np.asarray(p_values) < 0.05))


def hold_out(outcome: Outcome, *, effect: float = 0.0, strict: bool = False) -> Estimate:
    """The rule of reports."""
    design, differences = replace(outcome.design, strict=strict), outcome.differences + effect
    overlap = design.overlap(differences.mean(axis=1), outcome.splits)
    return two_way_t(by_split(differences, outcome.splits), outcome.patients, overlap=overlap)


def auc_p(outcome: Outcome) -> float:
    sides = [dict(zip(AREA.parts, np.moveaxis(side, -1, 0), strict=True)) for side in outcome.sides]
    pairs = PairedSets(sides, np.ones(outcome.sides.shape[1:3], dtype=bool), outcome.patients)
    first, second = pairs.differences(AREA)
    left_out = pairs.without_each(AREA, np.ones(len(first), dtype=bool)).mean(axis=0)
    overlap = outcome.design.overlap(second - first, outcome.splits)
    return jackknife_t(second - first, left_out, outcome.patients, overlap=overlap).p


def on_test_parts_p(outcome: Outcome) -> float:
    return corrected_t(by_split(outcome.test_means, outcome.splits), overlap=outcome.test_to_train).p


def t_over_repetitions_p(outcome: Outcome) -> float:
    return float(stats.ttest_1samp(outcome.differences.mean(axis=1), 0).pvalue)


def test_the_simulated_arms_do_not_differ_and_share_splits() -> None:
    setting = Setting(ridge, repetitions=3, hold_out=4, pool=10)
    studies = list(outcomes(setting, 200, seed=3))
    assert studies[0].differences.shape == (3, 8)
    assert list(studies[0].patients) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert 0.6 <= studies[0].share <= 1
    assert studies[0].test_to_train == pytest.approx(1 / 3)
    means = [study.differences.mean() for study in studies]
    assert stats.ttest_1samp(means, 0).pvalue > 0.01
    again = next(outcomes(setting, 1, seed=3))
    assert np.array_equal(again.differences, studies[0].differences)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_the_rule_keeps_its_level_where_nothing_differs(name: str) -> None:
    studies = list(outcomes(SETTINGS[name], NUM_STUDIES, seed=2021))
    found = [hold_out(study) for study in studies]
    on_hold_out = rate([estimate.p for estimate in found])
    covered = np.mean([estimate.low <= 0 <= estimate.high for estimate in found])
    test_parts = rate([on_test_parts_p(study) for study in studies])
    old = rate([t_over_repetitions_p(study) for study in studies])
    print(f"{name}: hold-out {on_hold_out:.3f}, test parts {test_parts:.3f}, t over repetitions {old:.3f}")
    assert on_hold_out <= LARGEST
    assert covered == pytest.approx(1 - on_hold_out)  # the interval says what p says
    assert test_parts <= LARGEST
    assert old > LARGEST  # or the simulation could not show a rule that forgets the pool


@pytest.mark.slow
@pytest.mark.parametrize(("learner", "repetitions"), [(elm, 5), (ridge, 10)])
def test_the_rule_keeps_its_level_for_areas_under_curves(learner: Learner, repetitions: int) -> None:
    setting = Setting(learner, repetitions=repetitions)
    found = rate([auc_p(study) for study in outcomes(setting, NUM_STUDIES, seed=2021)])
    print(f"AUC: {found:.3f}")
    assert found <= LARGEST


@pytest.mark.slow
def test_the_simulation_shows_a_rule_that_forgets_the_pool() -> None:
    studies = list(outcomes(SETTINGS["ridge, pool of 10"], NUM_STUDIES, seed=2021))
    assert rate([t_over_repetitions_p(study) for study in studies]) > 0.3
    forgets = [two_way_t(study.differences, study.patients, overlap=0.0).p for study in studies]
    assert rate(forgets) > LARGEST


@pytest.mark.slow
def test_the_rule_sees_a_large_difference() -> None:
    studies = outcomes(Setting(elm, hold_out=100), 100, seed=2021)
    assert rate([hold_out(study, effect=0.1).p for study in studies]) > 0.8


@pytest.mark.slow
def test_only_strict_keeps_its_level_where_training_patients_add_up_and_seeds_do_not_matter() -> None:
    studies = list(outcomes(Setting(additive, hold_out=1000), NUM_STUDIES, seed=2021))
    assert rate([hold_out(study, strict=True).p for study in studies]) <= LARGEST
    assert rate([hold_out(study).p for study in studies]) > LARGEST


@pytest.mark.slow
def test_few_training_patients_overlap_as_without_seeds() -> None:
    studies = list(outcomes(SETTINGS["ridge, 4 of 12 train"], NUM_STUDIES, seed=2021))
    as_many = [replace(study, num_train=100.0) for study in studies]
    assert rate([hold_out(study).p for study in as_many]) > LARGEST
