"""The executors that keep the contract."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.runs import Execute, Lab


@pytest.fixture(scope="module")
def ray_execute() -> Iterator[Execute]:
    """Ray's executor on a cluster of two cores, one for all tests of a module."""
    ray_session: Any = importlib.import_module("xferlab.schedule.ray_session")
    ray_tune: Any = importlib.import_module("xferlab.schedule.ray_tune")
    with ray_session.cluster(None, num_cpus=2):
        yield ray_tune.execute


@pytest.fixture(
    params=[
        pytest.param("in_process", marks=pytest.mark.component),
        pytest.param("ray", marks=pytest.mark.slow),
    ]
)
def lab(request: pytest.FixtureRequest, cache: Path, tmp_path: Path) -> Lab:
    if request.param == "ray":
        return Lab(tmp_path, request.getfixturevalue("ray_execute"))
    return Lab(tmp_path, importlib.import_module("xferlab.schedule.in_process").execute)


@pytest.fixture
def ray_lab(ray_execute: Execute, cache: Path, tmp_path: Path) -> Lab:
    return Lab(tmp_path, ray_execute)
