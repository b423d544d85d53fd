"""The formats of an export: the files of each, by name, checked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xferlab import __version__
from xferlab.exporting import hugging_face, monai_bundle, onnx_model, torch_program
from xferlab.exporting.facts import Facts
from xferlab.exporting.graph import LIMIT, Graph
from xferlab.exporting.preprocessing import document
from xferlab.records.store import Store

PREPROCESSING, EXPORT = "preprocessing.json", "export.json"


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
    return hugging_face.folder(trained.store, trained.graph, trained.facts)


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
