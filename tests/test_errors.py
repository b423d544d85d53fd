from __future__ import annotations

import inspect
import pickle
from collections.abc import Sequence

import pytest

from xferlab import errors
from xferlab.errors import (
    DataError,
    FileUnavailableError,
    Problem,
    ProblemsError,
    StudyError,
    XferlabError,
    attempt,
    listed,
    successes,
    suggest,
)

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
PROBLEMS = (Problem("jobs/s.yaml:3", "what was found"), Problem("data.cxr", "what may be odd", "warning"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_descends_from_one_and_crosses_processes(kind: type[XferlabError]) -> None:
    """Workers send their errors to the driver."""
    error = kind(PROBLEMS) if issubclass(kind, ProblemsError) else kind("what happened")
    assert isinstance(error, XferlabError)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_all_problems_have_a_line_each() -> None:
    error = StudyError(list(PROBLEMS))
    assert str(error) == "jobs/s.yaml:3: what was found\ndata.cxr: warning: what may be odd"
    assert error.problems == PROBLEMS
    assert DataError(PROBLEMS[0]).problems == PROBLEMS[:1]


def read(name: str) -> str:
    kinds = {"gone": FileUnavailableError, "torn": DataError}
    if name in kinds:
        raise kinds[name].at(name, "what was found")
    return name


@pytest.mark.parametrize(
    ("names", "kind"),
    [(["a", "torn", "torn"], DataError), (["torn", "a", "gone"], FileUnavailableError), (["a", "b"], None)],
)
def test_problems_of_several_attempts_are_raised_as_one(
    names: list[str], kind: type[DataError] | None
) -> None:
    results = [attempt(read, name) for name in names]
    if kind is None:
        assert successes(results) == names
        return
    with pytest.raises(DataError) as caught:
        successes(results)
    assert type(caught.value) is kind
    assert [problem.where for problem in caught.value.problems] == [
        name for name in names if name not in "ab"
    ]


@pytest.mark.parametrize(
    ("name", "accepted", "hint"),
    [
        ("portabel", ["general", "portable"], " Did you mean 'portable'?"),
        ("zzz", ["general", "portable"], ""),
        ("general", [], ""),
        ("dice", ["DICE_heart", "DICE"], " Did you mean 'DICE'?"),
        ("CPU", ["gpu", "cpu"], " Did you mean 'cpu'?"),
        (
            "M\u00fcller",
            ["Mu\u0308ller"],
            " Did you mean 'Mu\u0308ller'? It looks alike, but Unicode writes it with other characters; copy "
            "it from its origin.",
        ),
        ("a", iter(["a"]), " Did you mean 'a'?"),
    ],
)
def test_suggests_the_nearest_name_or_nothing(name: str, accepted: list[str], hint: str) -> None:
    assert suggest(name, accepted) == hint


@pytest.mark.parametrize(
    ("names", "text"),
    [([], ""), (["a"], "a"), (["a", "b"], "a, b"), (("a", "b", "c"), "a, b and 1 more")],
)
def test_lists_the_first_names_and_counts_the_others(names: Sequence[str], text: str) -> None:
    assert listed(names, 2) == text
