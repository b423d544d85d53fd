from __future__ import annotations

import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from xferlab.cohort import Case, Selection

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
