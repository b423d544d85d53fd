"""Folders for Hugging Face: `predict` does with them alone what it does with the trial."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import xferlab
from tests.conftest import Command
from tests.exporting.test_facts import facts
from tests.studies import TINY, noise, write_pack, write_study
from xferlab.cli.main import main
from xferlab.data.pixels import Picture
from xferlab.data.sources.described import described, description
from xferlab.data.sources.registry import read_section
from xferlab.errors import ExportError
from xferlab.exporting import hugging_face
from xferlab.exporting.graph import Graph
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.trial.predictor import Predictor

STEPS = {"crop_black_band": True, "equalise": True, "gamma": 0.7, "degrade_to": 16}


@pytest.fixture(scope="module")
def ids(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, dict[str, str]]]:
    """A storage with trials on a section whose images go through every step, and their ids by stage."""
    root = tmp_path_factory.mktemp("hugging")
    pairs = [(noise(number, 40), (noise(number, 40) > 99) * np.uint8(255)) for number in range(20)]
    pack = write_pack(root / "pack", pairs)
    table = (pack / "metadata.csv").read_text().splitlines()
    table[1:] = [row.replace("normal", "ab"[number % 2]) for number, row in enumerate(table[1:])]
    (pack / "metadata.csv").write_text("\n".join(table))
    network = {"name": "resnet18", "width": 0.05, "image_size": 32}
    kinds = {"task": "classification", "data": "d", "classes": {"column": "pathology"}, "model": network}
    brief = {"max_epochs": 1, "batch_size": 8}
    path = write_study(
        root,
        repetitions=1,
        data={"d": {"source": "manifest", "root": str(pack), **STEPS}},
        stages={
            "lungs": {"data": "d"},
            "kinds": {**kinds, "training": brief},
            "masked": {**kinds, "training": brief, "masks": {"from": "lungs", "keep": "inside"}},
        },
        training={**TINY["training"], "max_epochs": 1},
        arms={"a": {}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFERLAB_CACHE", str(root / "cache"))
        assert main(["run", str(path), "--executor", "in-process", "--storage", str(root / "s")]) == 0
    store = Store.open(root / "s")
    yield store, {trial["stage"]: trial["trial_id"] for trial in reader.read_plan(store, "tiny")["trials"]}
    torch.set_num_threads(1)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture with a black band, so that each step of the section changes it."""
    pixels = noise(7, 60)
    pixels[45:] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def outputs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("stage", ["lungs", "kinds"])
def test_the_folder_predicts_what_the_trial_predicts(ids, image, command: Command, stage: str) -> None:
    """Files, names of the targets and every figure; the steps of the section are among what it needs."""
    store, place = ids[0], ("--storage", ids[0].location)
    command("export", f"a/{stage}/r01", "--format", "huggingface", "--out", "e", *place, code=0)
    said = command("predict", "e/model.safetensors", image, "--out", "p", code=0)
    assert said.err == ""
    command("predict", f"a/{stage}/r01", image, "--out", "q", *place, code=0)
    assert outputs(Path("p")) == outputs(Path("q"))
    config = json.loads(Path("e/config.json").read_text())
    assert config["sections"][0].items() >= STEPS.items()
    assert config["trial_id"] == ids[1][stage]
    assert store.location not in Path("e/config.json").read_text()


def band_cut(grey: np.ndarray) -> np.ndarray:
    """The rule of `crop_black_band` as `preprocessing.json` tells it, pixel by pixel."""
    height, column = len(grey), grey[:, grey.shape[1] // 2]
    begin = max([-(-height // 2), *(row + 1 for row in range(height) if column[row] > 8)])
    band = [row for row in range(begin, height) if column[row] == 0]
    return grey[: band[0]] if band else grey


def test_who_does_what_preprocessing_json_says_gets_what_predict_says(ids, image, command: Command) -> None:
    """On a section with every step, and an image with a band: prepared pixels, and a structure's mask."""
    store, trials = ids
    place = ("--storage", store.location)
    command("export", "a/lungs/r01", "--format", "torch", "--out", "e", *place, code=0)
    told = json.loads(Path("e/preprocessing.json").read_text())
    names = ["grey", "crop_black_band", "degrade_to", "equalise", "gamma", "resize"]
    assert [step["name"] for step in told["steps"]][:6] == names
    grey = np.asarray(Image.open(image).convert("L"))
    seen, scale = band_cut(grey), 16 / 60
    small = (round(60 * scale), round(len(seen) * scale))
    bilinear = Image.Resampling.BILINEAR
    soft = np.asarray(Image.fromarray(seen).resize(small, bilinear).resize(seen.shape[::-1], bilinear))
    ranks = np.array([[(soft <= value).sum() for value in row] for row in soft])
    darkest = int((soft == soft.min()).sum())
    shares = ((ranks - darkest) / (soft.size - darkest)) ** 0.7
    size = told["steps"][5]["values"]
    toned = Image.fromarray(np.rint(255 * shares).astype(np.uint8))
    prepared = np.asarray(toned.resize((size["width_px"], size["height_px"]), bilinear))
    predictor = Predictor.of_trial(store, trials["lungs"], torch.device("cpu"))
    picture = Picture(grey)
    assert np.array_equal(predictor.prepared(picture)[0], prepared)
    assert told["outside_the_graph"] == [
        "The output is stretched to the size that the image had before the step `resize`, bilinear.",
        "The rows that `crop_black_band` cuts off are put below the masks again, as background (0).",
    ]
    probability = np.asarray(predictor.predictions([prepared[None]])[0][0], np.float32)
    mask = np.zeros(grey.shape, bool)
    stretched = Image.fromarray(probability).resize(seen.shape[::-1], bilinear)
    mask[: len(seen)] = np.asarray(stretched) > told["thresholds"]["probability"]
    command("predict", "a/lungs/r01", image, "--out", "q", *place, code=0)
    assert np.array_equal(np.asarray(Image.open("q/a_mask.png")) > 0, mask)


def test_an_export_says_where_sections_are_read_differently(ids, command: Command, monkeypatch) -> None:
    store, trials = ids
    predictor = Predictor.of_trial(store, trials["lungs"], torch.device("cpu"))
    plain = read_section({"source": "phantom_cxr", "count": 3})
    mixed = replace(predictor, sections=(plain, *predictor.sections))
    monkeypatch.setattr(Predictor, "of_trial", lambda *_: mixed)
    place = ("--storage", store.location)
    said = command("export", "a/lungs/r01", "--format", "huggingface", "--out", "e", *place, code=0)
    what = (
        "these weights were trained on several data sections that differ in what they do to their images "
        "(1: none; 2: crop_black_band: true, degrade_to: 16, equalise: true, gamma: 0.7); images are read as "
        "those of the first"
    )
    assert f"warning: {what}" in said.err
    assert what in Path("e/README.md").read_text()
    assert what in json.loads(Path("e/preprocessing.json").read_text())["outside_the_graph"][-1]


def test_a_record_alone_does_not_tell_steps_and_names(ids, image, command: Command, tmp_path: Path) -> None:
    store, trials = ids
    for stage, code, message in (
        ("lungs", 0, "degrade_to, equalise, gamma) are not known; none is applied"),
        (
            "kinds",
            2,
            "the record does not hold the names of the classes that it predicts; copy the trial's spec",
        ),
    ):
        files, folder = layout.TrialFiles(trials[stage]), tmp_path / stage
        folder.mkdir()
        for name in (files.weights, files.record):
            shutil.copy(store.path(name), folder)
        model = folder / "best.safetensors"
        assert message in command("predict", model, image, "--out", f"p_{stage}", code=code).err
        # Those of another trial tell nothing of these weights.
        other = layout.TrialFiles(trials["masked"])
        shutil.copy(store.path(other.spec), folder)
        assert message in command("predict", model, image, "--out", f"p_{stage}", code=code).err
        shutil.copy(store.path(files.spec), folder)
        assert command("predict", model, image, "--out", f"p_{stage}", code=0).err == ""


def test_a_network_that_needs_another_is_not_said_to_predict_by_itself(ids, image, command: Command) -> None:
    place = ("--storage", ids[0].location)
    command("export", "a/masked/r01", "--format", "huggingface", "--out", "e", *place, code=0)
    assert "xferlab predict model.safetensors" not in Path("e/README.md").read_text()
    assert (
        "need masks of another stage"
        in command("predict", "e/model.safetensors", image, "--out", "p", code=2).err
    )


def test_a_folder_that_would_predict_something_else_is_not_written(
    ids, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, trials = ids
    graph = Graph.of(Predictor.of_trial(store, trials["lungs"], torch.device("cpu")), None)
    whole = hugging_face.description
    for name in STEPS:
        monkeypatch.setattr(
            hugging_face,
            "description",
            lambda section, name=name: {key: value for key, value in whole(section).items() if key != name},
        )
        with pytest.raises(ExportError, match="an image is read or named otherwise than by the trial"):
            hugging_face.folder(store, graph, replace(facts(""), trial_id=trials["lungs"]))


@pytest.mark.parametrize(
    "config",
    [
        {"source": "manifest", "root": "/ward7", "note": "Doe", **STEPS},
        {"source": "phantom_mri", "count": 3, "degrade_to": 16},
        {"source": "phantom_cxr", "count": 3, "simulate": "portable", "equalise": True},
    ],
)
def test_a_section_is_described_without_names(config) -> None:
    section = read_section(config)
    value = json.loads(json.dumps(description(section)))
    assert not [word for word in ("ward7", "Doe") if word in json.dumps(value)]
    again = described(value)
    assert description(again) == description(section)
    for name in ("own_depth", "channels", "contents", "modalities", *STEPS):
        assert getattr(again, name) == getattr(section, name)
    for wrong in ({**value, "sharpen": True}, {"source": "manifest"}):
        with pytest.raises(ValueError, match=r"Extra inputs are not permitted|lacks channels"):
            described(wrong)


def test_a_section_of_a_source_that_is_gone_is_told(ids, image, command: Command, tmp_path: Path) -> None:
    """As where its package is not installed: nobody knows its steps, and nothing may be silent about that."""
    shutil.copytree(ids[0].location, tmp_path / "s")
    store, spec = Store.open(tmp_path / "s"), layout.TrialFiles(ids[1]["lungs"]).spec
    body = codec.read_json(store, spec)
    assert body is not None
    codec.write_json(store, spec, {**body, "data": {"d": {**body["data"]["d"], "source": "gone"}}})
    unknown = "equalise, gamma) are not known; none is applied"
    for words in (("predict", "a/lungs/r01", image), ("export", "a/lungs/r01", "--format", "huggingface")):
        assert unknown in command(*words, "--storage", "s", "--out", words[0], code=0).err
    with pytest.warns(UserWarning, match=re.escape(unknown)):
        xferlab.predictor(xferlab.load_study("s", "tiny"), "a/lungs/r01")
