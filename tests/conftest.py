"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets."""
    value = os.environ.get("XFERLAB_DATA")
    if not value:
        pytest.skip("XFERLAB_DATA does not name the folder of the real data sets")
    return Path(value)
