"""The plan of what the page of the study file shows of stages that take from others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.plan.studies import PlanOf, phantom_cases, trial
from xferlab.cohort import Case

pytestmark = pytest.mark.usefixtures("added_tasks")


def test_the_example_of_the_page(plan_of: PlanOf) -> None:
    page = (Path(__file__).parents[2] / "docs" / "study-file.md").read_text()
    (text,) = (piece for piece in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "masks: {" in piece)
    edits = {"task: views": "task: labelled", "task: findings": "task: duet"}
    edits["lungs: {data: chest}"] = "lungs: {data: chest, model: {init_features: 4}}"

    def index(name: str, config: Any) -> Sequence[Case]:
        return [replace(case, columns={"pathology": case.pathology}) for case in phantom_cases(name, config)]

    plan = plan_of(base=f"study: s\n{text}", index=index, edits=edits)
    assert plan.warnings == ()
    spec = trial(plan, "baseline/findings/r03")
    roles = [(given.role, len(given.trials), given.names) for given in spec.inputs]
    assert roles == [
        ("starts_from.second", 1, ()),
        ("starts_from.segmenter", 1, ()),
        ("masks", 6, ("lung",)),
        ("gate", 1, ("normal", "pathological")),
    ]
    assert plan.names["theirs/findings/r01"] != plan.names["baseline/findings/r01"]
