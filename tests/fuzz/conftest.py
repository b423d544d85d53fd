"""How much is fuzzed: a little in every run, a lot in the slow tier."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=[pytest.param(40, id="few"), pytest.param(2000, id="many", marks=pytest.mark.slow)])
def examples(request: Any) -> int:
    """How many inputs a test reads."""
    return int(request.param)
