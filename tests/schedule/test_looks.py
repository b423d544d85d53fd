"""The time of a plan, and the earlier ones that somebody may have looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xferlab.records import codec, layout
from xferlab.records.store import Store
from xferlab.schedule.looks import dated
from xferlab.schedule.moves import last_document

CLAIMS = {"metric": "DICE"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def published(store: Store, **changes: Any) -> dict[str, Any]:
    document = {"study": "s", "trials": [{"trial_id": "a" * 16}, {"trial_id": "b" * 16}], "claims": CLAIMS}
    plan = dated({**document, **changes}, store, last_document(store, "s"))
    codec.write_json(store, layout.StudyFiles("s").plan, plan)
    return plan


def test_a_plan_that_says_the_same_keeps_its_time(store: Store) -> None:
    first = published(store)
    assert published(store) == first
    assert len(first["planned"]["digest"]) == 16
    assert "earlier" not in first


def test_another_plan_after_results_names_the_look(store: Store) -> None:
    first = published(store)
    unseen = published(store, seed=2)
    assert "earlier" not in unseen  # nothing was complete
    assert unseen["planned"]["digest"] != first["planned"]["digest"]
    store.write(layout.TrialFiles("b" * 16).record, b"{}")
    other = published(store, claims={"metric": "JACC"})
    assert other["earlier"] == [{**unseen["planned"], "complete": 1, "trials": 2, "claims": CLAIMS}]
    assert published(store, claims={"metric": "JACC"}) == other
    again = published(store, claims=CLAIMS)
    assert [look["claims"]["metric"] for look in again["earlier"]] == ["DICE", "JACC"]


def test_an_arm_with_another_name_claims_what_it_claimed(store: Store) -> None:
    def plan(arm: str, **changes: Any) -> dict[str, Any]:
        contrasts = [[[arm, "general"], ["baseline", "general"]]]
        arms = {name: {"description": changes} for name, changes in (("baseline", {}), (arm, {"lr": 0.1}))}
        return published(store, claims={**CLAIMS, "contrasts": contrasts}, arms=arms, **changes)

    plan("fast")
    store.write(layout.TrialFiles("b" * 16).record, b"{}")
    assert [look["claims"] for look in plan("faster")["earlier"]] == [plan("faster")["claims"]]
    again = plan("fastest", seed=2)
    assert [look["claims"] for look in again["earlier"]] == [again["claims"]] * 2


def test_a_torn_plan_is_replaced(store: Store) -> None:
    store.write(layout.StudyFiles("s").plan, b"{")
    assert published(store)["study"] == "s"


def test_what_a_plan_was_made_of_last_stands_with_its_time(store: Store) -> None:
    document = {"study": "s", "trials": [], "claims": CLAIMS}
    made = {"file": {"name": "s.yaml", "sha256": "f" * 64}}
    plan = dated(document, store, last_document(store, "s"), of=made)
    assert plan["planned"]["file"] == made["file"]
    codec.write_json(store, layout.StudyFiles("s").plan, plan)
    last = last_document(store, "s")
    assert dated(document, store, last, of=made) is last
    other = {"file": {"name": "other.yaml", "sha256": "0" * 64}}
    again = dated(document, store, last, of=other)
    assert again == {**plan, "planned": {**plan["planned"], **other}}
