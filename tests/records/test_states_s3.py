"""A longer training continues a shorter one on an object store, too."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.studies import ONE_TRIAL, RECORDED, TINY, recorded, write_study
from xferlab.records.layout import STATES, TRIALS
from xferlab.records.store import Store

pytestmark = pytest.mark.component


def study(folder: Path, max_epochs: int) -> str:
    training = {**TINY["training"], "max_epochs": max_epochs, "patience": max_epochs}
    return str(write_study(folder, **ONE_TRIAL, training=training, keep_states=True))


def run(*words: str | Path) -> None:
    from xferlab.cli import main

    assert main(["run", *map(str, words), "--executor", "in-process"]) == 0


def test_a_longer_training_equals_one_from_scratch(
    s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    run(study(tmp_path, 2), "--storage", s3_uri)
    capfd.readouterr()
    run(study(tmp_path, 4), "--storage", s3_uri)
    assert "a/general: 1 trial will continue shorter trainings after epoch 2" in capfd.readouterr().out
    run(study(tmp_path, 4), "--storage", tmp_path / "scratch")
    whole = recorded(tmp_path / "scratch")
    store = Store.open(s3_uri)
    found = {name: store.read(name) or b"" for name, _ in store.walk(TRIALS) if name.endswith(RECORDED)}
    assert {name: hashlib.sha256(found[name]).hexdigest() for name in whole} == whole != {}
    assert len(store.walk(STATES)) == 2
