"""A trained network as a folder for Hugging Face, from which xferlab predicts without the study."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import load

from xferlab import __version__
from xferlab.data.decode import read_image
from xferlab.data.sources.described import description
from xferlab.errors import ExportError
from xferlab.exporting.card import model_card
from xferlab.exporting.facts import Facts
from xferlab.exporting.graph import Graph, run
from xferlab.records import layout
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.trial.predictor import Predictor
from xferlab.trial.trained_on import CONFIG, TrainedOn
from xferlab.trial.training import load_weights

WEIGHTS, CARD = "model.safetensors", "README.md"


def folder(store: Store, graph: Graph, facts: Facts) -> tuple[dict[str, bytes], float]:
    """Returns the files, and the largest difference of a network that is built from them.

    They are the weights as they are stored, what builds their network and reads images for it, and a card.

    Raises:
        ExportError: It differs too much, or images are read or named otherwise with these files.
    """
    trial = layout.TrialFiles(facts.trial_id)
    weights, record = store.read(trial.weights), store.read(trial.record)
    assert weights is not None, "the graph was made from them"
    assert record is not None, "the graph was made from it"
    config = json.dumps(_config(graph.predictor, facts), indent=2, ensure_ascii=False, allow_nan=False)
    files = {
        WEIGHTS: weights,
        layout.RECORD: record,
        CONFIG: f"{config}\n".encode(),
        CARD: model_card(graph, facts).encode(),
    }
    with TemporaryDirectory() as path:
        return files, _read_again(graph, files, Path(path))


def _config(predictor: Predictor, facts: Facts) -> dict[str, Any]:
    identity = predictor.identity
    return {
        "model_type": identity.model.model_dump(mode="json")["name"],
        "task": identity.task,
        "trial_id": facts.trial_id,
        "targets": list(predictor.targets),
        "sections": list(map(description, predictor.sections)),
        "model": identity.model.model_dump(mode="json", exclude_none=True),
        "xferlab_version": __version__,
    }


def _read_again(graph: Graph, files: dict[str, bytes], path: Path) -> float:
    """Returns the largest difference of the network of the files, as `predict` finds it in their folder."""
    exported = Store.open(path / "exported")
    for name, data in files.items():
        exported.write(name, data)
    trained = TrainedOn.record_beside(path / "exported" / WEIGHTS, files[WEIGHTS])
    assert trained is not None, "the record of these weights was just written beside them"
    weights, device = load(files[WEIGHTS]), graph.predictor.device
    learner = registry.learner_of(registry.identity_of(trained.record.identity), device)
    load_weights(learner, weights, origin=WEIGHTS)
    module = learner.exported()
    assert module is not None, "the same task gave a graph before"
    difference = graph.difference(run(module.module, graph.case), made=WEIGHTS)
    if graph.predictor.givers:  # which a file of weights does not give, and is refused without
        return difference
    again = Predictor.of_record(trained, weights, origin=WEIGHTS, device=device)
    image = graph.image or _noise(path / "noise.png")
    (read, *named), (read_again, *named_again) = (_shown(each, image) for each in (graph.predictor, again))
    if named_again != named or not np.array_equal(read_again, read):
        raise ExportError(
            f"{WEIGHTS}: with the files beside it, an image is read or named otherwise than by the trial. "
            "Nothing is written."
        )
    return difference


def _shown(predictor: Predictor, image: Path) -> tuple[Any, ...]:
    """Returns what `predict` shows the network of a file, how many of its rows, and names of outputs."""
    picture = read_image(image, own_depth=predictor.own_depth)
    return predictor.prepared(picture), predictor.seen(picture.pixels), predictor.targets


def _noise(path: Path) -> Path:
    """Writes an image on which each step of a data section shows: 16 bits, a black band at its bottom."""
    noise = np.random.default_rng(0).integers(1 << 12, 1 << 16, (96, 80), dtype=np.uint16)
    noise[72:] = 0
    Image.fromarray(noise).save(path)
    return path
