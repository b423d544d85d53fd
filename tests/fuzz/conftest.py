"""How much is fuzzed: a little in every run, a lot in the slow tier."""

from __future__ import annotations

from typing import Any

import pytest

FAST, SLOW_TIMES = 40, 100


def pytest_generate_tests(metafunc: Any) -> None:
    """Gives `examples` two values: one for every run, and a hundred times as many in the slow tier."""
    if "examples" in metafunc.fixturenames:
        amounts = [
            pytest.param(FAST, id="few"),
            pytest.param(FAST * SLOW_TIMES, id="many", marks=pytest.mark.slow),
        ]
        metafunc.parametrize("examples", amounts)
