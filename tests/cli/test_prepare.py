"""What a check and a run refuse before the first trial: tiles that images are too small for."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.studies import write_study
from xferlab.cli import check
from xferlab.cli.main import main
from xferlab.cli.prepare import check_tiles, decode_images
from xferlab.cli.session import Session
from xferlab.errors import DataError

pytestmark = pytest.mark.component

MESSAGE = (
    r"data.general: tiles of 48 px are larger than 24 of 24 images \(.*, .*, .*, .* and others; the smallest "
    r"has 32 x 32 px\); set model.tiles.size to 32 at most, keep larger images only \(`where`\), or leave "
    "model.tiles out: images are then taken whole"
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))


def options(folder: Path, **arms: dict[str, Any]) -> Namespace:
    path = write_study(folder, arms=arms)
    return Namespace(study=str(path), profile=None, storage=str(folder / "results"))


def tiles(size: int) -> dict[str, Any]:
    return {"model.image_size": "native", "model.tiles": {"size": size}}


def nobody(name: str, done: int, total: int) -> None:
    """Is told of progress."""


def test_tiles_larger_than_images_are_refused_by_check_and_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = options(tmp_path, plain={}, small=tiles(32), large=tiles(48))
    assert check.run(asked) == 2
    printed = capsys.readouterr().out
    assert "data.general: tiles of 48 px are larger than" in printed
    assert "data.portable: tiles of 48 px are larger than" in printed
    assert "tiles of 32 px" not in printed
    session = Session.open(asked)
    plan = session.plan()
    with pytest.raises(DataError, match="tiles of 48 px") as refused:
        decode_images(session, plan.selections, plan.trials, progress=nobody)
    assert len(refused.value.problems) == 2


def test_the_message_names_images_and_what_would_work(tmp_path: Path) -> None:
    session = Session.open(options(tmp_path, large=tiles(48)))
    plan = session.plan()
    with pytest.raises(DataError, match=MESSAGE):
        check_tiles(session, plan, progress=nobody)


def test_tiles_as_large_as_the_images_fit(tmp_path: Path) -> None:
    session = Session.open(options(tmp_path, fitting=tiles(32), native={"model.image_size": "native"}))
    plan = session.plan()
    check_tiles(session, plan, progress=nobody)
    decode_images(session, plan.selections, plan.trials, progress=nobody)


def test_whole_images_are_not_decoded_for_a_check(tmp_path: Path) -> None:
    session = Session.open(options(tmp_path, native={"model.image_size": "native"}))
    check_tiles(session, session.plan(), progress=nobody)
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_single_images_of_one_pixel_at_the_bottleneck_are_refused_by_check_and_run(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    (folder / "images").mkdir(parents=True)
    rows = ["image,mask,patient_id,pathology"]
    for number in range(12):
        side = 16 if number % 2 else 17
        pixels = np.random.default_rng(number).integers(0, 256, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{number}.png")
        Image.fromarray((pixels > 128) * np.uint8(255)).save(folder / f"images/{number}m.png")
        rows.append(f"images/{number}.png,images/{number}m.png,P{number},normal")
    (folder / "metadata.csv").write_text("\n".join(rows))
    changes = {
        "data": {"small": {"source": "manifest", "root": str(folder), "labels": {"lung": [255]}}},
        "model": {"init_features": 2, "image_size": "native"},
        "stages": {"one": {"data": "small", "repetitions": 1}},
        "arms": {"single": {"training.batch_size": 1}, "pairs": {"training.batch_size": 2}},
    }
    path = write_study(tmp_path, **changes)
    session = Session.open(Namespace(study=str(path), profile=None, storage=str(tmp_path / "results")))
    plan = session.plan()
    text = (
        r"data\.small: \d of \d training images have at most 16 px \(images/.*\) and are trained on one at a "
    )
    with pytest.raises(DataError, match=text):
        check_tiles(session, plan, progress=nobody)
    pairs = [trial for trial in plan.trials if trial.arms == ("pairs",)]
    decode_images(session, plan.selections, pairs, progress=nobody)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = options(tmp_path, fast={"training.device": "cuda"})
    words = ["run", asked.study, "--executor", "in-process", "--storage", asked.storage]
    assert main(words) == 2
    assert (
        "stage 'general' trains on cuda, and PyTorch finds no CUDA device here; set tr"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "results" / "trials").exists()
    assert not list((tmp_path / "cache").rglob("*.arrow"))
