from __future__ import annotations

import json

import pytest

from tests.plan.studies import PlanOf
from xferlab.errors import RecordError
from xferlab.plan.identity import short_id
from xferlab.plan.spec import SPEC_VERSION, TrialSpec

BEST = {"starts_from: general,": "starts_from: general, chaining: best,"}


@pytest.mark.parametrize("edits", [{}, BEST])
def test_every_spec_survives_json(plan_of: PlanOf, edits: dict[str, str]) -> None:
    off = "still: {stages.portable.training: {rotation: null, plateau: null}}"  # others by default
    arms = "arms: {baseline: {}, few: {data.portable.where: {pathology: covid19}}, " + off + "}"
    for spec in plan_of(arms, edits={**edits, "count: 40": "count: 120"}).trials:
        again = TrialSpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert again == spec
        assert again.trial_id == short_id(again.identity.to_json())


def test_a_spec_of_another_version_is_refused(plan_of: PlanOf) -> None:
    value = plan_of().trials[0].to_json()
    with pytest.raises(RecordError, match=f"version 2, and this xferlab needs version {SPEC_VERSION}; use"):
        TrialSpec.from_json({**value, "version": 2})
