"""`prefetch` fetches what a run needs, so that a run without internet fetches and decodes nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Command
from tests.studies import ONE_TRIAL, write_study
from xferlab.networks import published
from xferlab.networks.build import build, initialise
from xferlab.networks.donors import file_sha256

pytestmark = pytest.mark.component

STUDY: dict[str, Any] = {
    **ONE_TRIAL,
    "stages": {
        "donor": {"weights": "buda2019"},
        "general": {"data": "general", "starts_from": "donor", "evaluate_on": ["general.test"]},
    },
    "model": {"init_features": 2, "image_size": 32, "in_channels": 3},
    "tracking": {"wandb": {"project": "any", "mode": "online"}},
}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the published weights are downloaded from; not there, their host cannot be reached."""
    network = build("unet", in_channels=3, out_channels=1, init_features=2)
    initialise(network, 11)
    path = tmp_path / "published.pt"
    torch.save(network.state_dict(), path)
    weights = replace(
        published.PUBLISHED["buda2019"], url=path.as_uri(), sha256=file_sha256(path), init_features=2
    )
    monkeypatch.setattr(published, "PUBLISHED", {"buda2019": weights})
    return path


def tables(cache: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("tables-*/*/*.images")}


def test_a_node_without_internet_runs_on_what_was_fetched(
    command: Command, cache: Path, tmp_path: Path, host: Path
) -> None:
    study = write_study(tmp_path, **STUDY)
    words = (study, "--storage", tmp_path / "st")
    said = command("prefetch", *words, "--images", code=0)
    assert f"weights buda2019: in {tmp_path / 'st'}, SHA-256 {file_sha256(host)}" in said.out
    assert "xferlab mirror" in said.err
    decoded = tables(cache)
    assert decoded

    host.unlink()
    shutil.rmtree(cache / "donors")  # another machine's cache is not this one's
    study.write_text(study.read_text().replace("mode: online", "mode: offline"))
    command("run", *words, "--executor", "in-process", code=0)
    assert tables(cache) == decoded
    # Other bytes in the storage are not taken.
    (stored,) = (tmp_path / "st" / "donors").iterdir()
    stored.write_bytes(b"other")
    shutil.rmtree(cache / "donors")
    assert "cannot be downloaded" in command("run", *words, "--executor", "in-process", code=2).err
