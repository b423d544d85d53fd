"""Canonical JSON, digests and seeds; specs of trials survive JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plan.studies import PlanOf
from xferlab.errors import RecordError
from xferlab.plan.identity import (
    canonical_json,
    encoded,
    id_of_encoded,
    json_with_checksum,
    seed_for,
    sha256_of,
    short_id,
)
from xferlab.plan.spec import SPEC_VERSION, TrialSpec

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text(max_size=4).filter(lambda key: key != "sha256"), VALUES, max_size=4)
few = settings(max_examples=40, deadline=None)


@few
@given(BODIES)
def test_canonical_json_is_blind_to_the_order_of_keys_and_survives_itself(body: dict[str, Any]) -> None:
    text = canonical_json(body)
    assert canonical_json(dict(reversed(body.items()))) == text
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


@few
@given(BODIES)
def test_an_id_of_encoded_fields_is_that_of_their_value(body: dict[str, Any]) -> None:
    assert id_of_encoded(encoded(body)) == short_id(body)


def test_canonical_json_tells_apart_what_differs() -> None:
    values: list[Any] = [1, 1.0, "1", True, None, [1], [], {}, "", 0, -0.0, {"a": 1}, {"a": [1]}]
    assert len({sha256_of(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_canonical_json_refuses_what_json_cannot_say(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


def test_a_digest_that_anybody_can_compute_again() -> None:
    # printf '{"a":1,"b":[true,null]}' | sha256sum
    expected = "1cc69c7fa23616ca2ec3ee70d24390a6225c8832db8a4c814c7e0e7f942f8668"
    assert sha256_of({"b": [True, None], "a": 1}) == expected
    assert short_id({"b": [True, None], "a": 1}) == expected[:16]


@few
@given(BODIES)
def test_a_checksum_is_the_digest_of_the_body_alone(body: dict[str, Any]) -> None:
    value = {**body, "sha256": sha256_of(body)}
    assert json_with_checksum(body) == canonical_json(value).encode()
    assert json_with_checksum(value) != json_with_checksum(body)


def test_seeds_are_a_pure_function_of_named_coordinates() -> None:
    assert seed_for(1, stage="a", repetition=2) == seed_for(1, repetition=2, stage="a")
    seeds = {
        seed_for(study, stage=stage, repetition=repetition)
        for study in range(5)
        for stage in ("a", "b", "c")
        for repetition in range(1, 50)
    }
    assert len(seeds) == 5 * 3 * 49
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # the high bits are used


# --- specs -----------------------------------------------------------------------------------------------


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
