"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Tests compute on tiny arrays: a second thread of PyTorch would wait more than it computes. Read at its load.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.tasks.labelled import added
from xferlab.records.store import Store

COMPUTING = {"benchmarks", "exporting", "leakage", "networks", "tasks", "training", "trial"}
"""Rooms all of whose tests are component tests; in other rooms, a file or a test says it of itself."""


@dataclass(frozen=True)
class Said:
    """What a command ended with.

    Attributes:
        code: Exit code.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str


Command = Callable[..., Said]


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


@pytest.fixture(scope="session")
def real_memo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests keep what they know of real images: each is read once."""
    return tmp_path_factory.mktemp("memo")


@pytest.fixture(scope="module")
def added_tasks() -> Iterator[None]:
    """The tests' tasks beside those of the package."""
    with added():
        yield


@pytest.fixture
def local(tmp_path: Path) -> Store:
    """A storage that is the test's folder."""
    return Store.open(tmp_path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The image cache of this process: one of the test's own."""
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def command(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Runs the command line in this process, in the test's folder; it must end with `code`, if given.

    On a slow machine it says no more than on a fast one.
    """
    from xferlab.cli import main

    monkeypatch.setattr("xferlab.cli.view.TELL_AFTER_S", 600.0)
    monkeypatch.chdir(tmp_path)

    def command(*words: str | Path, code: int | None = None) -> Said:
        capfd.readouterr()
        try:
            ended = main([str(word) for word in words])
        except SystemExit as end:
            ended = int(end.code or 0)
        said = Said(ended, *capfd.readouterr())
        assert code in (None, ended), said
        return said

    return command
