from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import images
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from turns import Setting, Way, timed

from xferlab.data.sources.registry import open_source
from xferlab.tasks.registry import learner_of
from xferlab.training.augment import rotate

pytest.importorskip("skimage", reason="scikit-image comes with the extra `dev`")
pytest.importorskip("monai", reason="MONAI comes with the extra `dev`")
import good
import monai_way
import ordinary
import pipeline
from works import WORKS

NUM_IMAGES = 20


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ordinary, monai_way):
        monkeypatch.setattr(module, "NUM_LOADERS", 0)
    monkeypatch.setattr(images, "NUM_PHANTOMS", NUM_IMAGES)
    monkeypatch.setattr(images, "PHANTOM_SIZE_PX", 64)
    monkeypatch.delenv("XFERLAB_DATA", raising=False)


@pytest.fixture(params=WORKS)
def setting(request: pytest.FixtureRequest, tmp_path: Path) -> Setting:
    root, _ = images.find_images(tmp_path)
    width = {"segmentation": 2, "classification": 0.125}[request.param]
    return Setting(request.param, root, tmp_path / "cache", size_px=32, width=width, threads=1)


@pytest.mark.parametrize("named", [False, True])
def test_real_images_are_taken_and_phantoms_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    real = tmp_path / "data/covid-lung-512"
    real.mkdir(parents=True)
    images.write_phantoms(real, NUM_IMAGES)
    if named:
        monkeypatch.setenv("XFERLAB_DATA", str(tmp_path / "data"))
    root, what = images.find_images(tmp_path)
    assert (root, what.split()[0]) == ((real, "real") if named else (tmp_path, "PHANTOMS:"))
    assert len(images.manifest_rows(root)) == NUM_IMAGES


def test_all_ways_see_the_same_images_and_labels(setting: Setting) -> None:
    work = WORKS[setting.task]
    learner = learner_of(work.engine(setting), torch.device("cpu"))
    train = work.examples(setting, torch.device("cpu"))
    learner.prepare(train)
    source = open_source("general", images.manifest(setting.root), memo_dir=setting.cache_dir)
    names = [case.name for case in sorted(source.cases(), key=lambda case: case.digest)]
    rows = images.manifest_rows(setting.root)
    samples, whole = ordinary.Images(setting, augment=False), good.GoodWay(setting)
    monai = monai_way.MonaiWay(setting)
    assert sorted(names) == sorted(row["image"] for row in rows)
    for number, row in enumerate(rows):
        batch = learner.load(train, np.array([names.index(row["image"])]), None)
        image, *sampled = samples[number]
        at_once = whole.batch(torch.tensor([number]), augment=False)
        assert all(torch.equal(part[0], other) for part, other in zip(at_once, samples[number], strict=True))
        cached = monai._decoded(number)
        planes = work.batch(cached["image"][None], cached["mask"][None], [row["pathology"]])
        assert all(map(torch.equal, planes, at_once))
        if setting.task == "classification":  # the engine's network standardises
            image = image * work.deviation + work.mean
            sampled = [F.one_hot(*sampled, 3).float()]
        truth = [batch.truth] if setting.task == "classification" else [batch.target, batch.valid]
        torch.testing.assert_close(batch.inputs[0], image, rtol=0, atol=1e-4)
        assert all(torch.equal(mine[0], theirs) for mine, theirs in zip(truth, sampled, strict=True))


@pytest.mark.parametrize("angle", [-10.0, 3.5])
def test_all_ways_turn_alike(setting: Setting, angle: float) -> None:
    row, *_ = images.manifest_rows(setting.root)
    image, labels = (
        torch.from_numpy(np.array(Image.open(setting.root / row[kind]).resize((64, 64), 0)))[None]
        for kind in ("image", "mask")
    )
    image = image.float()
    turned, turned_labels = ordinary.turned(image[0].numpy(), labels[0].numpy(), angle)
    planes = image[None, :1], labels[None].float()
    found = [rotate(*planes, np.array([angle])), good.turned(*planes, torch.tensor([math.radians(angle)]))]
    for batched, batched_labels in found:
        # Beyond the border, the good way interpolates with the filling.
        inner = np.s_[1:-1, 1:-1]
        differs = ~np.isclose(batched[0, 0].numpy()[inner], turned[inner], atol=2e-3)
        assert differs.mean() < 0.005
        assert (batched_labels[0, 0].numpy() != turned_labels).mean() < 0.005  # ties between two neighbours
    assert not np.array_equal(turned, image[0].numpy())


@pytest.mark.parametrize("way", pipeline.OTHERS.values(), ids=pipeline.OTHERS)
def test_rounds_go_on_where_the_last_one_ended(setting: Setting, way: Callable[[Setting], Way]) -> None:
    torch.manual_seed(0)
    random.seed(0)
    training = way(setting)
    rounds = [timed(training.steps(), num_steps=4) for _ in range(5)]
    # 20 images are a batch of 16 and one of 4: two epochs, wherever a round begins.
    assert [one.num_images for one in rounds] == [2 * NUM_IMAGES] * 5
    assert all(one.seconds > 0 for one in rounds)
    assert rounds[-1].loss < rounds[0].loss


def test_all_networks_have_equal_parameters(setting: Setting) -> None:
    learner = learner_of(WORKS[setting.task].engine(setting), torch.device("cpu"))
    networks = (*learner.networks.values(), *(way(setting).model for way in pipeline.OTHERS.values()))
    mine, *others = ([weight.shape for weight in network.parameters()] for network in networks)
    assert others == [mine] * len(pipeline.OTHERS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("executor", "trials", "compiled"),
    [("ray", 1, False), ("ray", 2, False), ("in-process", 1, False), ("in-process", 1, True)],
)
def test_the_engine_is_measured_as_users_run_it(
    setting: Setting,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    trials: int,
    compiled: bool,
) -> None:
    kernels = tmp_path / "kernels"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(kernels))
    run = partial(pipeline.run_trials, replace(setting, threads=trials), executor, trials=trials)
    found = run(number=1, steps=2, folder=tmp_path, compiled=compiled)
    assert any(kernels.rglob("*.so")) == compiled
    trained = round(0.9 * NUM_IMAGES)
    assert abs(found.num_images - 2 * trials * min(trained, 16)) <= 2 * trials
    assert 0 < found.seconds < 60
    assert np.isfinite(found.loss)


def test_sizes_are_pairs() -> None:
    assert pipeline.parse([]).sizes == [(128, 16), (256, 32)]
    assert pipeline.parse(["--task", "classification"]).sizes == [(96, 0.25), (224, 0.25)]
