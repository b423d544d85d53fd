"""The log of a trial when two processes work on it: each keeps its entry and that of the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from xferlab.errors import InterruptedTrialError
from xferlab.records import reader
from xferlab.records.store import Store
from xferlab.trial.attempt import Attempt


def outcomes(store: Store) -> list[tuple[int, str]]:
    return [(attempt["pid"], attempt["outcome"]) for attempt in reader.read_run(store, "t")["attempts"]]


def test_a_process_that_was_replaced_keeps_the_log_of_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path)
    monkeypatch.setattr("os.getpid", lambda: 1)
    former = Attempt(store, "t")
    former.begin(1)
    monkeypatch.setattr("os.getpid", lambda: 2)
    latter = Attempt(store, "t")
    latter.begin(3)
    latter.complete(device="cpu")
    assert outcomes(store) == [(1, "killed"), (2, "complete")]

    former.failed(InterruptedTrialError("resumed and asked to stop"))
    assert outcomes(store) == [(1, "interrupted"), (2, "complete")]
    assert reader.read_run(store, "t")["device"] == "cpu"
