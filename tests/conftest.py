"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.labelled import added

COMPUTING = {"benchmarks", "leakage", "networks", "tasks", "training", "trial"}
"""Rooms all of whose tests are component tests; in other rooms, a file or a test says it of itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in COMPUTING:
            item.add_marker("component")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets."""
    value = os.environ.get("XFERLAB_DATA")
    if not value:
        pytest.skip("XFERLAB_DATA does not name the folder of the real data sets")
    return Path(value)


@pytest.fixture(scope="module")
def added_tasks() -> Iterator[None]:
    """The tests' tasks beside those of the package."""
    with added():
        yield
