from __future__ import annotations

import inspect
import pickle

import pytest

from xferlab import errors
from xferlab.errors import DataError, Problem, ProblemsError, StudyError, XferlabError, suggest

OURS = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, Exception)]
ONE = Problem("jobs/s.yaml:3", "what was found")
OTHER = Problem("data.cxr", "what may be odd", "warning")


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_error_descends_from_one_and_crosses_processes(kind: type[XferlabError]) -> None:
    """Workers send their errors to the driver."""
    error = kind((ONE, OTHER)) if issubclass(kind, ProblemsError) else kind("what happened")
    assert isinstance(error, XferlabError)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_all_problems_are_told_a_line_each() -> None:
    error = StudyError([ONE, OTHER])
    assert str(error) == "jobs/s.yaml:3: what was found\ndata.cxr: warning: what may be odd"
    assert error.problems == (ONE, OTHER)
    assert DataError(ONE).problems == (ONE,)
    assert StudyError(one for one in (ONE, OTHER)).problems == (ONE, OTHER)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "accepted", "hint"),
    [
        ("portabel", ["general", "portable"], " Did you mean 'portable'?"),
        ("zzz", ["general", "portable"], ""),
        ("general", [], ""),
        ("a", iter(["a"]), " Did you mean 'a'?"),
    ],
)
def test_suggests_the_nearest_name_or_nothing(name: str, accepted: list[str], hint: str) -> None:
    assert suggest(name, accepted) == hint
