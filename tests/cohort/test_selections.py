"""Selections of cases, and the labels that they hold."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xferlab.cohort import Case, Labelling, Selection, single_sections

TEXT = st.text(max_size=3)
few = settings(max_examples=25, deadline=None)
CASES = st.lists(
    st.builds(Case, digest=st.text("0123456789abcdef", min_size=4, max_size=8), name=TEXT, patient=TEXT,
              pathology=TEXT, simulated=st.sampled_from(["", "portable"])),
    max_size=5,
    unique_by=lambda case: case.digest,
)  # fmt: skip


@few
@given(CASES, st.randoms())
def test_a_selection_is_blind_to_the_order_of_cases(cases: list[Case], order: random.Random) -> None:
    mixed = order.sample(cases, len(cases))
    assert Selection.to_evaluate("a", mixed) == Selection.to_evaluate("a", cases)
    parted = [(case, ("train", "validation")[len(case.name) % 2]) for case in cases]
    assert Selection.to_train("a", order.sample(parted, len(parted))) == Selection.to_train("a", parted)


@few
@given(CASES)
def test_a_selection_survives_json_and_gives_its_cases_back(cases: list[Case]) -> None:
    selection = Selection.to_evaluate("cxr", cases)
    again = Selection.from_json(json.loads(json.dumps(selection.to_json())))
    assert again == selection
    assert again.identity() == selection.identity()
    assert again.cases() == tuple(sorted(cases, key=lambda case: case.digest))
    assert again.digests == tuple(sorted(case.digest for case in cases))


def test_the_identity_is_of_the_cases_and_not_of_the_section() -> None:
    case = Case("aa", "a.png", "p", "normal")
    other = Case("bb", "b.png", "p", "normal")
    selection = Selection.to_train("cxr", [(case, "train"), (other, "validation")])
    identity = selection.identity()
    assert identity == Selection.to_train("xray", [(case, "train"), (other, "validation")]).identity()
    assert identity != Selection.to_train("cxr", [(case, "validation"), (other, "train")]).identity()
    assert identity != Selection.to_train("cxr", [(case, "train")]).identity()


def test_what_the_records_say_of_an_evaluated_case_is_part_of_its_identity() -> None:
    row = ("aa", "a.png", "p", "normal", "")
    others = [(*row[:place], "other", *row[place + 1 :]) for place in range(5)]
    assert len({Selection.to_evaluate("cxr", [Case(*cells)]).identity() for cells in (row, *others)}) == 6


# --- labels ----------------------------------------------------------------------------------------------


SICK = Labelling("finding", (("well", ("normal", 0)), ("sick", ("tb", "viral", True))))


def case(number: int, finding: str) -> Case:
    return Case(f"{number:064x}", f"{number}.png", f"p{number}", "x", columns={"finding": finding})


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        ("normal", 0), ("0", 0), ("0.0", 0), ("tb", 1), ("viral", 1), ("yes", 1), ("True", 1), ("1", 1),
        ("Normal", None), ("", None), ("bacterial", None), ("00x", None),
    ],
)  # fmt: skip
def test_a_value_is_in_the_class_that_lists_it(cell: str, label: int | None) -> None:
    expected = {} if label is None else {case(1, cell).digest: label}
    assert SICK.labels([case(1, cell)]) == expected


SEVERAL = Labelling("finding", (("nodule", ("nodule",)), ("any", ("nodule", "mass", 1))), separator="|")


@pytest.mark.parametrize(
    ("cell", "label", "names"),
    [
        ("nodule", 0b11, ("nodule", "any")),
        ("mass | effusion", 0b10, ("any",)),
        ("1.0", 0b10, ("any",)),
        ("no finding", 0, ()),
        ("nodulemass", 0, ()),
        ("|", None, ()),
        ("", None, ()),
    ],
)
def test_a_cell_with_several_values_is_in_all_their_classes(
    cell: str, label: int | None, names: tuple[str, ...]
) -> None:
    assert SEVERAL.labels([case(1, cell)]) == ({} if label is None else {case(1, cell).digest: label})
    assert label is None or SEVERAL.names_of(label) == names
    assert SICK.names_of(1) == ("sick",)


def test_a_case_without_the_column_has_no_label() -> None:
    assert SICK.labels([replace(case(1, "tb"), columns={})]) == {}


@pytest.mark.parametrize("seed", range(10))
def test_rows_hold_labels_and_without_them_they_are_as_before(seed: int) -> None:
    rng = random.Random(seed)
    cases = [case(number, rng.choice(["normal", "tb"])) for number in range(rng.randrange(1, 30))]
    parts = [(case, rng.choice(["train", "validation"])) for case in cases]
    labels = SICK.labels(cases)
    plain, labelled = Selection.to_train("s", parts), Selection.to_train("s", parts, labels)
    assert plain.labels == ()
    assert [row[:-1] for row in labelled.rows] == list(plain.rows)
    assert dict(zip(labelled.digests, labelled.labels, strict=True)) == labels
    for part in ("train", "validation"):
        chosen = labelled.part(part)
        assert {digest: labels[digest] for digest in chosen.digests} == dict(
            zip(chosen.digests, chosen.labels, strict=True)
        )
    evaluated = Selection.to_evaluate("s", cases, labels)
    assert dict(zip(evaluated.digests, evaluated.labels, strict=True)) == labels
    assert evaluated.cases() == Selection.to_evaluate("s", cases).cases()
    assert Selection.from_json(evaluated.to_json()) == evaluated
    pieces = [evaluated.rows_from(start, 4) for start in range(0, len(cases), 4)]
    assert [row for piece in pieces for row in piece.rows] == list(evaluated.rows)
    one = rng.choice(cases)
    corrected = labels | {one.digest: 1 - labels[one.digest]}
    assert Selection.to_train("s", parts, corrected).identity() != labelled.identity()


def test_sections_of_a_set() -> None:
    assert single_sections("a") == ("a",)
    assert single_sections("b+a+c") == ("b", "a", "c")
