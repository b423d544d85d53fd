"""Several seeds for each split: what they share and what not, and numbers that do not fit."""

from __future__ import annotations

import pytest

from tests.plan.studies import STUDY, PlanOf
from xferlab.errors import StudyError
from xferlab.plan.document import to_document

SEEDS = STUDY.replace("repetitions: 3", "repetitions: 6\nsplit: {seeds_per_split: 3}")
FEW = "arms:\n  baseline: {}\n  few: {stages.general.label_fraction: 0.3}\n"


def test_seeds_of_a_split_share_its_patients_and_its_labels(plan_of: PlanOf) -> None:
    plan = plan_of(FEW, base=SEEDS)
    for arm in ("baseline", "few"):
        trials = [plan.by_id[plan.names[f"{arm}/general/r{number:02d}"]] for number in range(1, 7)]
        selections = [trial.selection for trial in trials]
        assert selections[:3] == [selections[0]] * 3
        assert selections[3:] == [selections[3]] * 3
        assert selections[0] != selections[3]
        assert len({trial.identity.seed for trial in trials}) == len({t.trial_id for t in trials}) == 6
        assert [dict(trial.coordinates) for trial in trials[2:4]] == [
            {"split": 1, "seed": 3},
            {"split": 2, "seed": 1},
        ]
    assert to_document(plan)["split"]["seeds_per_split"] == 3


def test_one_seed_is_as_it_was(plan_of: PlanOf) -> None:
    one = plan_of(base=STUDY.replace("seed: 7", "seed: 7\nsplit: {seeds_per_split: 1}"))
    assert one.names == plan_of().names
    assert "seeds_per_split" not in to_document(one)["split"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SEEDS.replace("repetitions: 6", "repetitions: 7"),
            "stage 'general' has 7 repetitions, and each split has 3 seeds; give a multiple of 3, or 1",
        ),
        (
            STUDY.replace("repetitions: 3", "split: {folds: 3, seeds_per_split: 2}"),
            "seeds_per_split is for shares; with folds, leave it out",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_refused(plan_of: PlanOf, text: str, message: str) -> None:
    with pytest.raises(StudyError) as refused:
        plan_of(base=text)
    assert message in " ".join(problem.what for problem in refused.value.problems)
