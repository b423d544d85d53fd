"""Items of guidelines: all are there, the records answer what they can, and the others are named as open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.analysis.conftest import contents_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.answers import ANSWERS, OPEN, Facts, answer
from xferlab.analysis.tables.checklists import FOLDER, checklists_tables
from xferlab.analysis.tables.rendering import to_markdown
from xferlab.metrics.claims import Claims, Place

NAMES = ("claim2024", "tripod_ai2024")
LETTERS = {
    3: "abc",
    5: "ab",
    6: "abc",
    8: "abc",
    9: "abc",
    12: "abcdefg",
    18: "abcdef",
    20: "abc",
    23: "ab",
    27: "abc",
}
EXPECTED = {
    "claim2024": [str(number) for number in range(1, 45)],
    "tripod_ai2024": [f"{n}{letter}" for n in range(1, 28) for letter in LETTERS.get(n, ("",))],
}


def items(name: str) -> dict[str, list[str]]:
    sections = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))["sections"]
    return {number: words for section in sections.values() for number, words in section.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_item_of_a_guideline_is_there_once(name: str) -> None:
    assert list(items(name)) == EXPECTED[name]
    assert all(1 <= len(words) <= 2 and set(words[1:]) <= ANSWERS.keys() for words in items(name).values())


def test_every_answer_is_asked_for() -> None:
    assert {
        answer for name in NAMES for words in items(name).values() for answer in words[1:]
    } == ANSWERS.keys()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    pair = (Place("baseline", "portable"), Place("frozen", "portable"))
    claims = Claims("DICE", "portable.hold_out", 0.01, (pair,), declared=True)
    contents = contents_of(tmp_path_factory.mktemp("storage"), claims=claims, variants={"cable": -0.1})
    return {
        table.name: {row.label: row.cells[1] for group in table.groups for row in group.rows}
        for table in checklists_tables(contents)
    }


@pytest.mark.component
@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("1", OPEN),
        ("4", "baseline − frozen, by Dice on portable.hold_out (declared)."),
        ("16", OPEN),
        ("19", "Held out of all training: 50 % of portable."),
        ("24", "baseline: portable from general from donor from its first weights"),
        ("30", "Measured with foreign objects: cable."),
        ("33", OPEN),
        ("35", "mri 100 images of 80 patients"),
        ("44", OPEN),
    ],
)
def test_claim_is_filled_from_the_records(answers: dict[str, Any], item: str, expected: str) -> None:
    assert expected in answers["claim2024"][item]


@pytest.mark.component
def test_answers_name_what_is_there(tmp_path: Path) -> None:
    """A study without claims, whose hold-out is of a section that nobody trains on; one share of labels."""
    results = contents_of(tmp_path, pixels=False, epochs=2, images=2).results
    stages = results.plan["arms"]["frozen"]["stages"]
    few = {**stages, "portable": {**stages["portable"], "label_fraction": 0.1, "pool_patients": 12}}
    trials = [{**trial, "data": trial["data"].replace("general", "mri")} for trial in results.plan["trials"]]
    plan = {
        **results.plan,
        "arms": {**results.plan["arms"], "frozen": {"stages": few}},
        "trials": trials,
    }
    ranked = Facts(Contents(replace(results, plan=plan)))
    assert answer("performance", ranked).startswith("Tables of each stage")
    assert answer("failures", ranked).startswith("Section Cases")
    assert answer("internal", ranked).startswith("Measured on mri.test, portable.test, portable.hold_out, of")
    assert answer("external", ranked) == "Sections that no stage trains on: general.test."
    assert "frozen, portable: 10 % (100 % of the images, 12 patients in all)." in answer("subsets", ranked)
    assert answer("failures", Facts(ranked.contents, has_cases=False)) == ""


@pytest.mark.component
def test_a_study_with_claims_has_a_section_result(answers: dict[str, dict[str, str]]) -> None:
    assert answers["claim2024"]["37"].startswith("Section Result, tables of each stage")


@pytest.mark.component
def test_the_title_counts_what_is_filled_and_nothing_is_empty(tmp_path: Path) -> None:
    for table in checklists_tables(contents_of(tmp_path / "storage")):
        cells = [row.cells[1] for group in table.groups for row in group.rows]
        filled = sum(not cell.startswith(OPEN) for cell in cells)
        assert 0 < filled < len(cells)
        assert f", {filled} of {len(cells)} items" in table.title
        assert all(cells)
        # Sentences are not padded to the longest.
        assert max(map(len, to_markdown(table).splitlines())) < 1500
