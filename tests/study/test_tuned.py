"""A tuned arm carries how it was found, through includes, into the plan, and into no identity."""

from __future__ import annotations

from typing import Any

import pytest

from tests.study.conftest import Write, problems
from xferlab.study.load import load
from xferlab.study.tuned import HEADER, Tuned, arm_file, latest_search, with_parameters

TUNED: dict[str, Any] = {
    "tuning_id": "0123456789abcdef",
    "study": "s",
    "arm": "baseline",
    "stage": "general",
    "search": "random",
    "asha": {"grace_epochs": 2, "reduction": 3},
    "seed": 7,
    "space_sha256": "0" * 64,
    "num_samples": 20,
    "num_stopped": 12,
    "sample": 4,
    "score": 0.1234567890123456,
    "validated_on": [
        {"repetition": 1, "seed": 5, "section": "cxr", "cases": 9, "patients": 8, "sha256": "1" * 64}
    ],
}
OVERRIDES = {"stages.general.training.lr": 0.0031234567890123, "stages.general.training.rotation": None}


def winner(*earlier: Tuned, **changes: Any) -> str:
    searches = (*earlier, Tuned.model_validate({**TUNED, **changes}))
    return arm_file("tuned_general", OVERRIDES, searches)


def test_the_winner_is_an_arm_that_a_study_includes(write: Write) -> None:
    assert write(base=winner(), name="tuned/s-general.yaml").read_text().startswith(HEADER)
    loaded = load(write("arms: {baseline: {}, t: {include: 'tuned/s-general.yaml#tuned_general'}}\n"))
    training = loaded.arms["t"].training_of("general")
    assert (training.lr, training.rotation) == (0.0031234567890123, None)
    assert loaded.tuned == {"t": (Tuned.model_validate(TUNED),)}
    assert load(write()).tuned == {}


def test_an_arm_comes_from_every_search_that_it_includes(write: Write) -> None:
    write(base=winner() + "# more\n", name="a.yaml")
    write(base=winner(tuning_id="f" * 16), name="b.yaml")
    arms = "{t: {include: ['a.yaml#tuned_general', 'b.yaml#tuned_general']}, u: {include: '#t'}}"
    loaded = load(write(f"arms: {arms}\n"))
    for searches in (loaded.tuned["t"], loaded.tuned["u"]):
        assert [search.tuning_id for search in searches] == ["0123456789abcdef", "f" * 16]


def test_an_arm_that_was_tuned_twice_carries_both_searches(write: Write) -> None:
    first = Tuned.model_validate({**TUNED, "tuning_id": "e" * 16})
    write(base=winner(first), name="a.yaml")
    loaded = load(write("arms: {t: {include: 'a.yaml#tuned_general'}}\n"))
    assert [search.tuning_id for search in loaded.tuned["t"]] == ["e" * 16, "0123456789abcdef"]


def test_a_file_tells_whose_winner_it_holds_unless_it_was_edited() -> None:
    first = Tuned.model_validate({**TUNED, "tuning_id": "e" * 16})
    for text in (winner(), winner(first)):
        search = latest_search(text)
        assert search is not None
        assert search.tuning_id == "0123456789abcdef"
    for text in ("", "[", "- 1", "a: 3", "a: {}", "a: {tuned: []}", "a: {tuned: {}}", winner() + "b: {}"):
        assert latest_search(text) is None


@pytest.mark.parametrize(
    ("arm", "parameters", "expected"),
    [
        ({}, {"a.b": 1}, {"a.b": 1}),
        ({"x.y": 2, "a.b": 3}, {"a.b": 1}, {"x.y": 2, "a.b": 1}),
        ({"a": {"b": 3, "c": 4}}, {"a.b": 1}, {"a": {"b": 1, "c": 4}}),
        ({"model": "unet"}, {"model.width": 1}, {"model": {"name": "unet", "width": 1}}),
        ({"a": None}, {"a.b": 1}, {"a": {"b": 1}}),
        ({"a.b": 3, "ab": 4}, {"a": None}, {"ab": 4, "a": None}),
        ({"a.b": 3, "a": {"c": 4}, "a.d": 5}, {"e": 1}, {"a": {"c": 4, "d": 5}, "e": 1}),
    ],
)
def test_parameters_come_after_what_the_searched_arm_changes(
    arm: dict[str, Any], parameters: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert with_parameters(arm, parameters) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tuned: yes", "tuned is 'yes'; it must be a mapping of fields"),
        ("tuned: {}", "the field 'tuned.tuning_id' is missing"),
        ("tuned: {stage: 3}", "tuned.stage is 3; it must be text (numbers in quotes)"),
    ],
)
def test_what_was_edited_by_hand_is_refused(write: Write, text: str, words: str) -> None:
    path = write(f"arms:\n  t:\n    {text}\n")
    reported = problems(path)
    assert f"{path}:11: arm 't': {words}; leave it as `xferlab tune` wrote it" in reported
