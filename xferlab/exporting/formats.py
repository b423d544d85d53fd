"""The formats of an export: the files of each, by name, checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from safetensors.torch import load

from xferlab import __version__
from xferlab.exporting import monai_bundle, onnx_model, torch_program
from xferlab.exporting.card import model_card
from xferlab.exporting.facts import Facts
from xferlab.exporting.graph import LIMIT, Graph, run
from xferlab.exporting.preprocessing import document
from xferlab.records import codec, layout
from xferlab.records.schema import TrialRecord
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.trial.training import load_weights

PREPROCESSING, EXPORT = "preprocessing.json", "export.json"
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


@dataclass(frozen=True)
class Trained:
    """A complete trial that is exported.

    Attributes:
        store: Its storage.
        graph: What it tells.
        facts: What its records tell.
    """

    store: Store
    graph: Graph
    facts: Facts


Made = tuple[dict[str, bytes], float]
"""Files by name, and the largest difference of what they hold from the network."""


def _onnx(trained: Trained) -> Made:
    data, difference = onnx_model.onnx_bytes(trained.graph)
    return {onnx_model.MODEL: data}, difference


def _torch(trained: Trained) -> Made:
    data, difference = torch_program.program_bytes(trained.graph)
    return {torch_program.MODEL: data}, difference


def _monai(trained: Trained) -> Made:
    return monai_bundle.bundle(trained.graph, trained.facts)


def _hugging_face(trained: Trained) -> Made:
    """The weights as they are stored, with what builds their network again, and a model card."""
    files, graph = layout.TrialFiles(trained.facts.trial_id), trained.graph
    weights, record = trained.store.read(files.weights), trained.store.read(files.record)
    assert weights is not None, "the graph was made from them"
    assert record is not None, "the graph was made from it"
    made = {
        WEIGHTS: weights,
        layout.RECORD: record,
        CONFIG: _json(_config(graph)),
        CARD: model_card(graph, trained.facts).encode(),
    }
    return made, _read_again(graph, weights, record)


def _config(graph: Graph) -> dict[str, Any]:
    identity = graph.predictor.identity
    return {
        "model_type": identity.model.model_dump(mode="json")["name"],
        "task": identity.task,
        "targets": list(graph.predictor.targets),
        "model": identity.model.model_dump(mode="json", exclude_none=True),
        "xferlab_version": __version__,
    }


def _read_again(graph: Graph, weights: bytes, record: bytes) -> float:
    """Returns the largest difference of a network that is built from the two files alone."""
    identity = registry.identity_of(TrialRecord.from_json(codec.checked(record)).identity)
    learner = registry.learner_of(identity, graph.predictor.device)
    load_weights(learner, load(weights), origin=WEIGHTS)
    exported = learner.exported()
    assert exported is not None, "the same task gave a graph before"
    return graph.difference(run(exported.module, graph.case), made=WEIGHTS)


FORMATS: Mapping[str, Callable[[Trained], Made]] = {
    "onnx": _onnx,
    "torch": _torch,
    "monai": _monai,
    "huggingface": _hugging_face,
}


def write(trained: Trained, store: Store, *, format: str) -> tuple[list[str], float]:
    """Writes an export once all of it is made and checked; `export.json`, which says so, comes last.

    Returns:
        The names of its files, and the largest difference from the network.

    Raises:
        UsageError: A package is missing, or the format cannot hold this trial.
        ExportError: The export differs too much from the network.
        StorageError: A file cannot be written.
    """
    files, difference = FORMATS[format](trained)
    files[PREPROCESSING] = _json(document(trained.graph))
    store.delete(EXPORT)
    for name, data in files.items():
        store.write(name, data)
    told = {
        "format": format,
        "study": trained.facts.name,
        "trial_id": trained.facts.trial_id,
        "weights_sha256": trained.facts.weights_sha256,
        "xferlab": __version__,
        **({"opset": onnx_model.OPSET} if format == "onnx" else {}),
        "largest_difference": difference,
        "accepted_difference": LIMIT,
        "files": sorted(files),
    }
    store.write(EXPORT, _json(told))
    return [*sorted(files), EXPORT], difference


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
