"""The final values of a trial's run, against scikit-learn and by hand."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tests.records.stored import TRIAL, epoch
from xferlab.metrics.classes import metrics_of_classes
from xferlab.metrics.sets import values_of
from xferlab.records.schema import CASES_SCHEMA
from xferlab.tracking.summary import Headline, trial_summary

CLASSES = ("flu", "none")
METRICS = metrics_of_classes(CLASSES)
PARTS = frozenset(name for metric in METRICS for name in metric.made_of)
OF_CLASSES = Headline("ACCURACY", partial(values_of, METRICS), PARTS)
Lines = list[tuple[str, str, str, str, float]]


def table(lines: Lines) -> pa.Table:
    """Rows of (case, pathology, device, metric, value)."""
    case, pathology, simulated, metric, value = zip(*lines, strict=True)
    columns: dict[str, Any] = {"case": case, "name": case, "patient": case, "pathology": pathology}
    return pa.table({**columns, "simulated": simulated, "metric": metric, "value": value}, CASES_SCHEMA)


def summary(lines: Lines, headline: Headline | None = None) -> dict[str, float]:
    return trial_summary(TRIAL, [epoch(1), epoch(2)], {"x.test": table(lines)}, headline=headline)


def told(number: int, pathology: str, is_flu: bool, probability: float) -> Lines:
    """What a classifier stores of an image."""
    label, called = int(not is_flu), int(probability <= 0.5)
    values = {
        "ACCURACY": float(label == called), "LABEL": label, "CALLED": called,
        "IS_flu": float(is_flu), "IS_none": float(not is_flu),
        "P_flu": probability, "P_none": 1 - probability,
    }  # fmt: skip
    return [(f"c{number}", pathology, "", metric, float(value)) for metric, value in values.items()]


def test_the_headline_is_also_given_by_pathology_of_the_cases_that_passed_the_gate() -> None:
    lines = [
        # case, pathology, device, metric, value
        ("a", "normal", "", "DICE", 0.2), ("b", "normal", "", "DICE", 0.6),
        ("c", "covid19", "", "DICE", 1.0),
        ("d", "covid19", "", "DICE", 0.0), ("d", "covid19", "", "passed", 0.0),
        ("a", "normal", "", "AUC", 0.5),
        ("e", "normal", "portable", "DICE", 0.4), ("f", "all", "", "OTHER", 7.0),
    ]  # fmt: skip
    values = summary(lines, Headline("DICE"))
    assert {name: values[name] for name in values if "DICE" in name} == pytest.approx(
        {
            "x.test/DICE": (0.2 + 0.6 + 1.0) / 3, "x.test/portable/DICE": 0.4,
            "x.test/DICE/normal": 0.4, "x.test/DICE/covid19": 1.0, "x.test/portable/DICE/normal": 0.4,
        }
    )  # fmt: skip
    assert not any(name.startswith("x.test/AUC/") for name in values)
    of_none = summary(lines, Headline("OTHER"))
    assert [name for name in of_none if "OTHER" in name] == ["x.test/OTHER"]  # images without a pathology


def test_hours_are_those_of_all_epochs() -> None:
    assert summary([("a", "all", "", "DICE", 1.0)])["training_hours"] == 2 * (1.5 + 0.5) / 3600


SETS = st.lists(
    st.tuples(st.sampled_from(["mild", "bad"]), st.booleans(), st.floats(0, 1)), min_size=1, max_size=20
)


@pytest.mark.slow
@given(SETS)
def test_metrics_of_sets_are_those_of_scikit_learn_overall_and_where_defined_by_pathology(
    cases: list[tuple[str, bool, float]],
) -> None:
    lines = [line for number, case in enumerate(cases) for line in told(number, *case)]
    values = summary(lines, OF_CLASSES)
    for pathology in ("", "mild", "bad"):
        chosen = [case for case in cases if pathology in ("", case[0])]
        place = "/".join(filter(None, ("{}", pathology)))
        truth, score = np.array([case[1] for case in chosen]), np.array([case[2] for case in chosen])
        if len(set(truth)) == 2:
            auc = roc_auc_score(truth, score)
            assert values["x.test/" + place.format("AUROC_flu")] == pytest.approx(auc)
            # Subtracting from 1 may make a tie of two numbers.
            macro = (auc + roc_auc_score(~truth, 1 - score)) / 2
            assert values["x.test/" + place.format("AUROC")] == pytest.approx(macro)
            balanced = balanced_accuracy_score(truth, score > 0.5)
            assert values["x.test/" + place.format("BALANCED_ACCURACY")] == pytest.approx(balanced)
        elif pathology:
            assert "x.test/" + place.format("AUROC") not in values
        else:
            assert math.isnan(values["x.test/AUROC"])


def test_what_sets_are_made_of_has_no_mean_of_its_own_and_a_gate_filters_sets_too() -> None:
    lines = [*told(0, "mild", True, 0.9), *told(1, "mild", False, 0.1), *told(2, "mild", False, 0.95)]
    assert summary(lines, OF_CLASSES)["x.test/AUROC"] == 0.5
    refused: Lines = [("c2", "mild", "", "passed", 0.0), ("c0", "mild", "", "passed", 1.0)]
    values = summary([*lines, *refused], OF_CLASSES)
    assert (values["x.test/AUROC"], values["x.test/ACCURACY/mild"]) == (1.0, 1.0)
    assert not [name for name in values if name.rpartition("/")[2] in PARTS]
