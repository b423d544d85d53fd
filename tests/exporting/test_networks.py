"""The graph of every network that a study can name, against the network, on real trained trials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from tests.exporting.networks import NAMES, trained
from tests.studies import noise
from xferlab.exporting.graph import LIMIT, Graph, run
from xferlab.exporting.onnx_model import onnx_bytes
from xferlab.exporting.preprocessing import document
from xferlab.exporting.torch_program import program_bytes
from xferlab.records.store import Store
from xferlab.training.exported import _PLAIN, _REFERENCED
from xferlab.training.intensity import INTENSITIES
from xferlab.training.reference import REFERENCES
from xferlab.trial.predictor import Predictor

QUICK = ("resnet18",)
"""In the fast tier; `tests/cli/test_export.py` makes an ONNX model of a U-Net there."""
NO_EXPRESSION = ("tiles", "matched", "patches")


@pytest.fixture(scope="session")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("networks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFERLAB_CACHE", str(folder / "cache"))
        yield trained(folder)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(noise(1, 60)[:, :44]).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def graph_of(trials: tuple[Store, dict[str, str]], name: str, image: Path | None) -> Graph:
    store, ids = trials
    return Graph.of(Predictor.of_trial(store, ids[name], torch.device("cpu")), image)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_onnx_equals_pytorch(trials: tuple[Store, dict[str, str]], image: Path, name: str) -> None:
    graph = graph_of(trials, name, image)
    data, difference = onnx_bytes(graph)
    assert difference < LIMIT
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert str(Path.cwd()).encode() not in data
    (given,) = session.get_inputs()
    free = {"height", "width"} if graph.exported.multiple else set()
    assert set(filter(lambda axis: isinstance(axis, str), given.shape)) == {"batch", *free}
    height = 2 * graph.exported.multiple if graph.exported.multiple else graph.exported.side
    others = torch.randn(3, graph.exported.channels, height, graph.exported.side)
    found = session.run(None, {"image": others.numpy()})
    for one, other in zip(found, run(graph.exported.module, others), strict=True):
        assert np.abs(one - other).max() < LIMIT


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_tells_what_is_predicted(
    trials: tuple[Store, dict[str, str]], image: Path, name: str
) -> None:
    """Steps as they are told, then the graph, give the prediction."""
    graph = graph_of(trials, name, image)
    predictor, exported = graph.predictor, graph.exported
    prepared = predictor.prepared(_picture(image))
    if name not in NO_EXPRESSION:
        assert (stepped(document(graph), prepared) - graph.case[0]).abs().max() < 1e-5
    if name in ("tiles", "patches"):
        assert "tell" in exported.outside[0]
        assert name == "tiles" or "class with most votes" in exported.decision
        return
    (predicted,) = predictor.predictions([prepared])
    first = graph.expected[0][0]
    if first.ndim == 1:
        assert np.abs(predicted[: len(first)] - first).max() < 1e-6
    else:
        known = np.concatenate([output[0] for output in graph.expected])
        places = [0, *range(2, 1 + len(known))] if len(exported.outputs) == 2 else range(len(known))
        rows, columns = predicted.shape[1:]
        assert np.abs(predicted[list(places)] - known[:, :rows, :columns]).max() < 1e-6


def _picture(image: Path) -> Any:
    from xferlab.data.decode import read_image

    return read_image(image)


def stepped(told: dict[str, Any], prepared: np.ndarray) -> torch.Tensor:
    """What the steps of `preprocessing.json` make of a resized image."""
    image = torch.from_numpy(prepared.astype(np.float32))
    for step in told["steps"]:
        if "expression" in step:
            image = eval(step["expression"], {"torch": torch, "image": image})
    return image


def test_every_intensity_is_told() -> None:
    assert _PLAIN.keys() == INTENSITIES.keys()
    assert _REFERENCED.keys() == REFERENCES.keys()


def test_a_file_of_torch_export_is_free_of_this_machine(
    trials: tuple[Store, dict[str, str]], image: Path
) -> None:
    data, difference = program_bytes(graph_of(trials, "unet", image))
    assert difference == 0
    assert str(Path(__file__).parents[2]).encode() not in data
