"""What a check and a run refuse before the first trial: tiles that images are too small for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import Command
from tests.refusals import problems_of
from tests.studies import ONE_TRIAL, noise, write_pack, write_study
from tests.takes import CHESTS, SEEN, takes
from tests.tasks.labelled import added
from xferlab.cli.options import StudyOptions
from xferlab.cli.prepare import check_cases, decode_images
from xferlab.cli.session import Session
from xferlab.errors import DataError
from xferlab.plan.plan import Plan

pytestmark = pytest.mark.component

MESSAGE = (
    r"data.general: tiles of 48 px are larger than 24 of 24 images \(.*, .*, .*, .* and others; the smallest "
    r"has 32 x 32 px\); set model.tiles.size to 32 at most, keep larger images only \(`where`\), or leave "
    "model.tiles out: images are then taken whole"
)


@pytest.fixture
def session(cache: Path, tmp_path: Path) -> Callable[..., Session]:
    def session(**changes: Any) -> Session:
        study = write_study(tmp_path, **changes)
        return Session.open(StudyOptions(study=str(study), storage=str(tmp_path / "results")))

    return session


def tiles(size: int) -> dict[str, Any]:
    return {"model.image_size": "native", "model.tiles": {"size": size}}


def nobody(name: str, done: int, total: int) -> None:
    """Is told of progress."""


def decode(session: Session, plan: Plan, *, arms: set[str]) -> None:
    trials = [trial for trial in plan.trials if arms & set(trial.arms)]
    decode_images(session, plan.selections, trials, plan.by_id, progress=nobody)


def test_structures_that_meet_are_refused_where_outputs_are_exclusive(
    session: Callable[..., Session],
) -> None:
    def arm(structures: list[str], outputs: str) -> dict[str, Any]:
        return {"stages.general.structures": structures, "model.outputs": outputs}

    fitting = {
        "apart": arm(["left_lung", "right_lung"], "exclusive"),
        "first": arm(["left_lung", "lung", "heart"], "exclusive_first"),
        "together": arm(["left_lung", "lung", "heart"], "overlapping"),
    }
    opened = session(**{**ONE_TRIAL, "arms": fitting})
    check_cases(opened, opened.plan(), progress=nobody)
    wrong = arm(["left_lung", "lung", "heart"], "exclusive")
    opened = session(**{**ONE_TRIAL, "arms": {**fitting, "wrong": wrong}})
    with pytest.raises(DataError) as refused:
        check_cases(opened, opened.plan(), progress=nobody)
    assert re.search(
        r"data.general: pixels of (\d+) of \1 training cases \(phantom-chest-\d-\d+, .* and others\) belong "
        r"to several of the structures left_lung, lung, heart, and the outputs of the network are exclusive; "
        r"let them overlap \(`outputs: overlapping`\), let the one that stands first in `structures` count "
        r"\(`outputs: exclusive_first`\), or read structures that do not",
        str(refused.value),
    )


def test_tiles_larger_than_images_are_refused(session: Callable[..., Session]) -> None:
    native = {"model.image_size": "native"}
    opened = session(arms={"plain": {}, "native": native, "fitting": tiles(32), "large": tiles(48)})
    plan = opened.plan()
    refused = problems_of(DataError, check_cases, opened, plan, progress=nobody, match=MESSAGE)
    assert [problem.where for problem in refused] == ["data.general", "data.portable"]
    assert "tiles of 32 px" not in str(refused)
    with pytest.raises(DataError, match="tiles of 48 px"):
        decode(opened, plan, arms={"large"})
    decode(opened, plan, arms={"plain", "native", "fitting"})


@pytest.mark.parametrize("tile", [48, 32])
def test_tiles_larger_than_the_images_that_they_predict_masks_of_are_refused(
    session: Callable[..., Session], tile: int
) -> None:
    study = takes()
    large = {**CHESTS, "size_px": 64}
    lungs = {"data": "large", "model": {"image_size": "native", "tiles": {"size": tile}}}
    stages = {**study["stages"], "lungs": lungs}
    with added():
        opened = session(**{**study, "data": {**study["data"], "large": large}, "stages": stages})
        plan = opened.plan()
        (seen,) = (trial for trial in plan.trials if trial.name == SEEN)
        if tile == 32:
            check_cases(opened, plan, progress=nobody)
            return
        text = "tiles of 48 px are larger than 30 of 30 images"
        refused = problems_of(DataError, check_cases, opened, plan, progress=nobody, match=text)
        assert [problem.where for problem in refused] == ["data.chests"]
        with pytest.raises(DataError, match="tiles of 48 px"):
            decode_images(opened, plan.selections, [seen], plan.by_id, progress=nobody)


def test_whole_images_are_not_decoded_for_a_check(session: Callable[..., Session], tmp_path: Path) -> None:
    opened = session(arms={"native": {"model.image_size": "native"}})
    check_cases(opened, opened.plan(), progress=nobody)
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_single_images_of_one_pixel_at_the_bottleneck_are_refused_by_check_and_run(
    session: Callable[..., Session], tmp_path: Path
) -> None:
    images = [noise(number, 16 if number % 2 else 17) for number in range(12)]
    write_pack(tmp_path, [(image, (image > 128) * np.uint8(255)) for image in images])
    opened = session(
        data={"small": {"source": "manifest", "root": str(tmp_path), "labels": {"lung": [255]}}},
        model={"init_features": 2, "image_size": "native"},
        stages={"one": {"data": "small", "repetitions": 1}},
        arms={"single": {"training.batch_size": 1}, "pairs": {"training.batch_size": 2}},
    )
    plan = opened.plan()
    text = r"data\.small: \d of \d training images have at most 16 px \(.*\) and are trained on one at a "
    with pytest.raises(DataError, match=text):
        check_cases(opened, plan, progress=nobody)
    decode(opened, plan, arms={"pairs"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_here_is_refused_before_anything_is_read(
    command: Command, tmp_path: Path
) -> None:
    study = write_study(tmp_path, arms={"fast": {"training.device": "cuda"}})
    said = command("run", study, "--executor", "in-process", "--storage", "results", code=2)
    assert "stage 'general' trains on cuda, and PyTorch finds no CUDA device here; set tr" in said.err
    assert not (tmp_path / "results/trials").exists()
    assert not list((tmp_path / "cache").rglob("*.arrow"))
