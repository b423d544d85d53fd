"""How a report says in words how patients are divided, and what it claims of sites: nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.analysis.test_comparison import before_after, cases, overall
from xferlab.analysis.comparison import Contrast, compare
from xferlab.analysis.division import coordinates_of, division, division_note, leaves_sites_out
from xferlab.analysis.tables.notes import inference_caption, inference_notes

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def plan(**split: Any) -> dict[str, Any]:
    return {"repetitions": 4, "split": {"group_by": "patient_id", **split}}


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (
            SHARES,
            "Each repetition divides the patients anew: 60 % train, 20 % select (validation), 20 % test.",
        ),
        (
            {"folds": 5, "repeats": 1},
            "Cross-validation: 5 folds. In each repetition one fold tests, the next one selects (validation) "
            "and the other 3 train. Every patient who is not held out tests once.",
        ),
        (
            {"folds": 3, "repeats": 2},
            "Cross-validation: 3 folds, 2 repeats. In each repetition one fold tests, the next one selects "
            "(validation) and the other trains. Every patient who is not held out tests once in each repeat.",
        ),
        (
            {**SHARES, "by": "source"},
            "Leave one site out: in each of 4 repetitions, the patients of another value of column 'source' "
            "test. Of the others, 20 % select (validation) and the rest train. Sections without this column "
            "are divided anew in each repetition: 60 % train, 20 % select (validation), 20 % test.",
        ),
        ({"file": "splits.csv"}, "Patients are divided as a given file says (splits.csv)."),
        (
            {"file": "splits.csv", "group_by": None},
            "Images are divided as a given file says (splits.csv). Patients may be in several parts.",
        ),
        (
            {"folds": 5, "repeats": 1, "group_by": None},
            "Cross-validation: 5 folds. In each repetition one fold tests, the next one selects (validation) "
            "and the other 3 train. Every image that is not held out tests once. Patients may be in several "
            "parts.",
        ),
        (
            {**SHARES, "group_by": None},
            "Each repetition divides the images anew: 60 % train, 20 % select (validation), 20 % test. "
            "Patients may be in several parts.",
        ),
    ],
)
def test_the_design_in_words(split: dict[str, Any], words: str) -> None:
    assert division(plan(**split)) == words


def test_a_plan_without_a_split_says_nothing() -> None:
    assert division({}) == ""
    assert division_note({}) == ()
    assert not leaves_sites_out({})


def test_what_a_repetition_is() -> None:
    assert division_note(plan(**SHARES)) == ()
    assert division_note(plan(folds=5)) == ("Repetitions are the folds of a cross-validation.",)
    (note,) = division_note(plan(by="source", **SHARES))
    assert note == "Repetitions are the values of column 'source', each left out once."
    assert coordinates_of({"coordinates": {"repeat": 2, "fold": 3}}) == "repeat 2, fold 3"
    assert coordinates_of({"coordinates": {"site": "north"}}) == "site north"
    assert coordinates_of({}) == ""


@pytest.mark.parametrize("part", ["test", "hold_out"])
def test_nothing_is_claimed_of_sites(part: str) -> None:
    comparison = before_after(part, by_site=True)
    rows = compare(cases(part=part), comparison)
    row = overall(rows)
    assert row["difference"] == pytest.approx(0.1, abs=0.02)
    assert row[["low", "high", "p"]].isna().all()
    assert row["no_p"] == "sites left out"
    (caption,) = inference_caption([Contrast(comparison, rows)])
    assert caption.endswith("the unit is the site, and there is no interval and no p.")
    assert inference_notes(rows) == (
        "sites left out: no p, since each repetition leaves another site out, which describes these sites "
        "and says nothing of others.",
    )


def test_the_same_training_patients_in_all_repetitions_allow_no_claim_on_test_parts_either() -> None:
    """A given split without repetitions: only seeds vary."""
    row = overall(compare(cases(part="test"), before_after("test", share=1.0)))
    assert row["no_p"] == "same patients"
    assert row[["low", "high", "p"]].isna().all()
