"""Simulated studies without a difference: how often the rule of inference sees one all the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks.validity_data import Learner, Outcome, Setting, elm, outcomes, ridge
from xferlab.analysis.estimates import corrected_t, jackknife_t, overlap_of, two_way_t
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
}


def rate(p_values: list[float]) -> float:
    """Share of the studies that are called different."""
    assert not np.isnan(p_values).any()
    return float(np.mean(np.asarray(p_values) < 0.05))


def hold_out_p(outcome: Outcome) -> float:
    return two_way_t(outcome.differences, outcome.patients, overlap=overlap_of(outcome.share)).p


def auc_p(outcome: Outcome) -> float:
    sides = [dict(zip(AREA.parts, np.moveaxis(side, -1, 0), strict=True)) for side in outcome.sides]
    pairs = PairedSets(sides, np.ones(outcome.sides.shape[1:3], dtype=bool), outcome.patients)
    first, second = pairs.differences(AREA)
    left_out = pairs.without_each(AREA, np.ones(len(first), dtype=bool))
    return jackknife_t(second - first, left_out, outcome.patients, overlap=overlap_of(outcome.share)).p


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
    hold_out = rate([hold_out_p(study) for study in studies])
    test_parts = rate([corrected_t(study.test_means, overlap=study.test_to_train).p for study in studies])
    old = rate([t_over_repetitions_p(study) for study in studies])
    print(f"{name}: hold-out {hold_out:.3f}, test parts {test_parts:.3f}, t over repetitions {old:.3f}")
    assert hold_out <= LARGEST
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
    found = [
        two_way_t(study.differences + 0.1, study.patients, overlap=overlap_of(study.share)).p
        for study in studies
    ]
    assert rate(found) > 0.8
