"""Findings of one kind are one line; those of another kind keep theirs."""

from __future__ import annotations

from xferlab.cli.findings import counted, grouped
from xferlab.errors import Problem


def masks(*numbers: int) -> list[Problem]:
    return [Problem(f"/x/masks/{n:03}.png", f"mask values {n} ({n * 9} px) are strange") for n in numbers]


def test_messages_that_differ_in_numbers_and_paths_are_one() -> None:
    empty = [Problem(f"data.d: images/{n}.png", "the mask is empty.", "warning") for n in range(3)]
    size = [Problem(f"/x/masks/{n}.png", f"its image a/{n}.png is {n}x9.") for n in range(2)]
    assert [str(problem) for problem in grouped([*masks(1, 2), *empty, *size, *masks(3)])] == [
        "/x/masks/001.png: mask values 1 (9 px) are strange (2 more like this: 002.png, 003.png)",
        "data.d: images/0.png: warning: the mask is empty. (2 more like this: 1.png, 2.png)",
        "/x/masks/0.png: its image a/0.png is 0x9. (1 more like this: 1.png)",
    ]


def test_places_in_other_folders_keep_what_differs() -> None:
    wheres = ("data.d: a/1.png", "data.d: a/2.png", "data.d: b/1.png")
    (problem,) = grouped([Problem(where, "the mask is empty.", "warning") for where in wheres])
    assert problem.what.endswith("(2 more like this: 2.png, b/1.png)")
    files = grouped([Problem(where, "is empty.") for where in ("/x/a/1.png", "/x/b/1.png", "/x/t.csv:3")])
    assert files[0].what.endswith("(2 more like this: /x/b/1.png, /x/t.csv:3)")


def test_few_places_are_listed() -> None:
    (problem,) = grouped(masks(*range(1, 41)), shown=2)
    assert problem.what.endswith("(39 more like this: 002.png, 003.png, ...)")


def test_a_single_problem_stays_as_it_is() -> None:
    assert grouped(masks(1)) == masks(1)


def test_severity_and_kind_divide_and_join() -> None:
    first, second = Problem("a", "x"), Problem("b", "x", "warning")
    assert grouped([first, second]) == [first, second]
    named = [Problem(place, what, kind="empty masks") for place, what in (("a", "x"), ("b", "y"))]
    assert [problem.what for problem in grouped(named)] == ["x (1 more like this: b)"]


def test_problems_of_one_place_remain() -> None:
    found = [Problem("data.d", f"patient {number} is odd", kind="odd patients") for number in range(3)]
    assert grouped(found) == found


def test_counts_in_words() -> None:
    named = [Problem("a", str(number), kind="repeated rows") for number in range(3)]
    assert counted([*named, *masks(1, 2)]) == "5 warnings: repeated rows (3), others (2)"
    assert counted(named[:1]) == "1 warning: repeated rows (1)"
    assert counted(masks(1, 2)) == "2 warnings"
