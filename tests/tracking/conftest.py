"""A stand-in server, a storage with a complete trial, and what the mirror warned of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tracking.mirror_cases import LAST, spec, store_plan, store_trial
from tests.tracking.wandb_server import KEY, Server, serving
from xferlab.records.store import Store
from xferlab.tracking import pipe


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "0.3")  # 15 s at W&B
        yield server


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit that a process alone has, cut short to save time."""
    monkeypatch.setattr(pipe, "LINGER_S", 3.0)


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "storage")


@pytest.fixture
def store(empty: Store) -> Store:
    """A storage with one complete trial, which is planned."""
    store_trial(empty, spec(), num_epochs=LAST)
    store_plan(empty, [spec()])
    return empty


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns what the mirror has warned of so far."""
    return lambda: [record.getMessage() for record in caplog.records if record.name == "xferlab.mirror"]
