"""Stages that take predictions leave the same on an object store as on a disk."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.studies import recorded, write_study
from tests.takes import takes
from tests.tasks.labelled import added
from xferlab.cli import main
from xferlab.records.store import Store

pytestmark = pytest.mark.component


def test_predictions_on_an_object_store_have_the_bytes_of_a_disk(
    s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    with added():
        study = str(write_study(tmp_path, **takes(out_of_fold=2, repetitions=1)))
        for storage in (s3_uri, str(tmp_path / "disk")):
            assert main(["run", study, "--executor", "in-process", "--storage", storage]) == 0
    whole, store = recorded(tmp_path / "disk"), Store.open(s3_uri)
    assert sum(name.startswith("predictions/") for name in whole) == 20
    assert {name: hashlib.sha256(store.read(name) or b"").hexdigest() for name in whole} == whole
