"""What may leave, as a plan document says it of the study and of its arms."""

from __future__ import annotations

from typing import Any

import pytest

from xferlab.plan.sharing import may_leave, sections_of, sharing_of


def plan(**arms: dict[str, Any]) -> dict[str, Any]:
    data = {"open": {"shareable": True}, "mine": {"shareable": False}}
    return {"data": data, "arms": {name: {"description": changes} for name, changes in arms.items()}}


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({}, True),
        ({"data.mine.shareable": True, "training.lr": 1}, True),
        ({"data.open.root": "elsewhere"}, True),
        ({"data.open.shareable": False}, False),
        ({"data.open": {"source": "manifest"}}, False),
        ({"data.open": {"shareable": "true"}}, False),
        ({"data.open": {"shareable": True}}, True),
        # Files hold the changes of an arm by name and not in their order: both words count.
        ({"data.open": {"shareable": True}, "data.open.shareable": False}, False),
        ({"data.open": {"shareable": False}, "data.open.shareable": True}, False),
    ],
)
def test_the_word_of_an_arm_counts_for_its_data(changes: dict[str, Any], shared: bool) -> None:
    document = plan(baseline={}, other=changes)
    assert sharing_of(document, "other")["open"] is shared
    assert may_leave(document, "open", ["other"]) is shared
    assert may_leave(document, "open", ["baseline", "other"]) is shared
    assert may_leave(document, "open", ["baseline"])
    assert not may_leave(document, "open+mine", ["baseline"])
    assert not may_leave(document, "open", [])
    assert not may_leave(document, "unknown", ["baseline"])


def test_sections_of_arms_are_among_those_of_the_study() -> None:
    document = plan(
        baseline={},
        clinic={
            "data.open": {"shareable": False},
            "data.new": {"shareable": True},
            "data.mine.shareable": True,
        },
        last={"data.new": {}},
    )
    assert sections_of(document) == {
        "open": True, "mine": False, "open@clinic": False, "mine@clinic": True, "new": False,
    }  # fmt: skip
