"""Weights files and donors from strangers that would run code: refused on the command line, and not run."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.cli.conftest import Command

pytestmark = pytest.mark.component


class Harm:
    """Makes a folder when it is unpickled."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.victim),)


def torch_file(victim: Path, *, as_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(1), "x": Harm(victim)}, buffer, _use_new_zipfile_serialization=as_zip)
    return buffer.getvalue()


def numpy_file(victim: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Harm(victim)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


FILES: dict[str, Callable[[Path], bytes]] = {
    "zip.pt": lambda victim: torch_file(victim, as_zip=True),
    "old.pt": lambda victim: torch_file(victim, as_zip=False),
    "bare.pth": lambda victim: pickle.dumps(Harm(victim), protocol=2),
    "array.npy": numpy_file,
    "array.pt": numpy_file,
    "pickle.safetensors": lambda victim: pickle.dumps({"w": Harm(victim)}),
    "zip.safetensors": lambda victim: torch_file(victim, as_zip=True),
}


HOW = ("--image-size", "32", "--intensity", "zscore")


@pytest.mark.parametrize("name", FILES)
def test_hostile_weights_are_refused_and_do_not_run(command: Command, tmp_path: Path, name: str) -> None:
    victim, weights = tmp_path / "victim", tmp_path / name
    weights.write_bytes(FILES[name](victim))
    Image.new("L", (32, 32), 90).save(tmp_path / "image.png")
    study = {
        "study": "hostile", "data": {"a": {"source": "phantom_cxr", "count": 24, "size_px": 32}},
        "model": {"init_features": 2, "image_size": 32},
        "stages": {"donor": {"weights": {"path": name}}, "a": {"data": "a", "starts_from": "donor"}},
        "arms": {"baseline": {}},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    asked = [
        command("predict", weights, tmp_path / "image.png", "--out", tmp_path / "out", *HOW),
        command("check", tmp_path / "study.yaml"),
        command("run", tmp_path / "study.yaml", "--executor", "in-process", "--storage", tmp_path / "s"),
    ]
    assert [one.code for one in asked] == [2, 2, 2], asked
    assert all(name in one.out + one.err for one in asked)
    assert not any("Traceback" in one.err for one in asked)
    assert not victim.exists()


@pytest.mark.parametrize("name", ["bare.pth", "array.npy"])
def test_the_files_of_this_test_do_harm(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    data = io.BytesIO(FILES[name](victim))
    if name.endswith(".npy"):
        np.load(data, allow_pickle=True)
    else:
        pickle.loads(data.getvalue())
    assert victim.is_dir()
