"""How much is fuzzed: a little in every run, a lot in the slow tier."""

from __future__ import annotations

from typing import Any

import pytest

FAST, SLOW = 40, 2000


def pytest_generate_tests(metafunc: Any) -> None:
    """Gives `examples` two values: one for every run, and a large one for the slow tier."""
    if "examples" in metafunc.fixturenames:
        amounts = [
            pytest.param(FAST, id="few"),
            pytest.param(SLOW, id="many", marks=pytest.mark.slow),
        ]
        metafunc.parametrize("examples", amounts)
