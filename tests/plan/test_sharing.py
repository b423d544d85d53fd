"""What may leave, as a plan document says it of the study and of its arms."""

from __future__ import annotations

from typing import Any

import pytest

from xferlab.plan.sharing import may_leave, sections_of


def plan(**arms: dict[str, Any]) -> dict[str, Any]:
    data = {"open": True, "mine": False}
    return {
        "data": {name: {"shareable": shared} for name, shared in data.items()},
        "arms": {arm: {"shareable": {**data, **changes}} for arm, changes in arms.items()},
    }


@pytest.mark.parametrize(("word", "shared"), [(True, True), (False, False), (None, False), ("true", False)])
def test_the_word_of_an_arm_counts_for_its_data(word: Any, shared: bool) -> None:
    document = plan(baseline={}, other={"open": word})
    assert may_leave(document, "open", ["other"]) is shared
    assert may_leave(document, "open", ["baseline", "other"]) is shared
    assert may_leave(document, "open", ["baseline"])
    assert not may_leave(document, "open+mine", ["baseline"])
    assert not may_leave(document, "open", [])
    assert not may_leave(document, "unknown", ["baseline"])


def test_sections_of_arms_follow_those_of_the_study() -> None:
    document = plan(
        baseline={}, clinic={"another": True, "open": False, "mine": True}, last={"another": False}
    )
    document["arms"]["clinic"]["shareable"] = dict(sorted(document["arms"]["clinic"]["shareable"].items()))
    sections = {"open": True, "mine": False, "mine@clinic": True, "open@clinic": False, "another": False}
    assert list(sections_of(document).items()) == list(sections.items())
