"""What is said of input that is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from xferlab.errors import Problem, ProblemsError


def problems_of(
    kind: type[ProblemsError],
    work: Callable[..., Any],
    *given: Any,
    match: str | None = None,
    **options: Any,
) -> tuple[Problem, ...]:
    """Calls a function that must raise an error of this kind, and returns the problems that it names."""
    with pytest.raises(kind, match=match) as caught:
        work(*given, **options)
    return caught.value.problems
