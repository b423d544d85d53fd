"""Labels of whole images, and how selections hold them."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from xferlab.cohort import Case, Labelling, Selection, single_sections

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
