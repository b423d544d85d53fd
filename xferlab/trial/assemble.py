"""From a spec to the parts of a training: cases, examples, task, network."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load as load_safetensors
from torch import nn

from xferlab.cohort import Selection
from xferlab.data.cache import open_table
from xferlab.errors import RecordError
from xferlab.models.build import build, initialise
from xferlab.models.donors import PUBLISHED, load_strict, read_weights
from xferlab.plan.spec import TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.schema import TrialRecord
from xferlab.records.store import Store
from xferlab.study.schema import DataSection
from xferlab.training.loop import Recipe
from xferlab.training.segmentation import BinarySegmentation, ImageExamples

_SECTION: TypeAdapter[DataSection] = TypeAdapter(DataSection)


@dataclass(frozen=True)
class Workplace:
    """Where a trial runs.

    Attributes:
        store: The storage of records.
        cache_dir: Folder of decoded images on this machine.
        device: Device of the network.
    """

    store: Store
    cache_dir: Path
    device: torch.device


def read_selection(store: Store, digest: str) -> Selection:
    """Returns a stored selection.

    Raises:
        RecordError: It is absent or differs from its digest.
    """
    body = codec.read_json(store, layout.selection_path(digest))
    selection = Selection.from_json(body) if body else None
    if selection is None or selection.identity() != digest:
        raise RecordError(
            f"{store.path(layout.selection_path(digest))}: is missing or altered; run the study again"
        )
    return selection


def examples(spec: TrialSpec, section: str, digests: Sequence[str], place: Workplace) -> ImageExamples:
    """Returns the cases of a section as examples, in the order given; builds the image cache if need be."""
    table = open_table(
        section,
        _SECTION.validate_python(spec.data[section]),
        size_px=spec.identity["model"]["image_size"],
        digests=digests,
        cache_dir=place.cache_dir,
    )
    rows = np.asarray(table.rows(digests), dtype=np.intp)
    return ImageExamples(
        tuple(digests), table.images, table.targets, table.spacing_mm, rows=rows, device=place.device
    )


def task_of(identity: Any) -> BinarySegmentation:
    """Returns the task that an identity names."""
    training, rotation = identity["training"], identity["training"].get("rotation")
    return BinarySegmentation(
        in_channels=identity["model"]["in_channels"],
        intensity=training["intensity"],
        rotation=(rotation["degrees"], rotation["probability"]) if rotation else None,
        loss_name=training["loss"],
        smoothing=training["smoothing"],
        autocast=torch.bfloat16 if identity["execution"]["precision"] == "bfloat16" else None,
    )


def recipe_of(identity: Any) -> Recipe:
    """Returns how an identity says to train."""
    training, plateau = identity["training"], identity["training"].get("plateau")
    return Recipe(
        seed=identity["seed"],
        lr=training["lr"],
        batch_size=training["batch_size"],
        max_epochs=training["max_epochs"],
        patience=training["patience"],
        plateau=(plateau["factor"], plateau["patience"]) if plateau else None,
    )


def network(identity: Any, device: torch.device) -> nn.Module:
    """Returns the network with the seed's random weights, on its device."""
    model = identity["model"]
    built = build(
        model["name"], in_channels=model["in_channels"], out_channels=1, init_features=model["init_features"]
    )
    initialise(built, identity["seed"])
    return built.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True)
class Origin:
    """What a trial starts from.

    Attributes:
        name: The parent's trial id, or the donor's digest.
        weights_sha256: Digest of the weights.
    """

    name: str
    weights_sha256: str


def load_origin(spec: TrialSpec, model: nn.Module, place: Workplace) -> Origin | None:
    """Loads the weights that a trial starts from; returns None from scratch."""
    if spec.donor is not None:
        load_strict(
            model,
            _donor_weights(spec.donor, place),
            origin=f"donor {spec.donor['name'] or spec.donor['path']}",
        )
        return Origin(spec.donor["sha256"], spec.donor["sha256"])
    if not spec.parents:
        return None
    parent = best_parent(spec, place.store)
    load_strict(model, trained_weights(place.store, parent.trial_id), origin=f"trial {parent.trial_id}")
    return Origin(parent.trial_id, parent.weights_sha256)


def _donor_weights(donor: Mapping[str, Any], place: Workplace) -> dict[str, torch.Tensor]:
    digest = donor["sha256"]
    suffix = Path(donor["path"] or PUBLISHED[donor["name"]].file_name).suffix
    data = place.store.read(layout.donor_path(digest))
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        where = place.store.path(layout.donor_path(digest))
        raise RecordError(f"{where}: is missing or altered; delete it and run the study again")
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        return read_weights(Path(file.name))


def best_parent(spec: TrialSpec, store: Store) -> TrialRecord:
    """Returns the parent with the lowest validation loss (the only one, where trials are paired).

    Raises:
        RecordError: One of them is not complete.
    """
    records = [reader.read_trial(store, parent) for parent in spec.parents]
    complete = [record for record in records if record is not None]
    if len(complete) < len(records):
        raise RecordError(f"{spec.name}: a parent is not complete; run the study again")
    return min(complete, key=lambda record: (record.best_validation_loss, record.trial_id))


def trained_weights(store: Store, trial_id: str) -> dict[str, torch.Tensor]:
    """Returns the best weights of a complete trial.

    Raises:
        RecordError: The trial is not complete, or its weights differ from the digest in its record.
    """
    record = reader.read_trial(store, trial_id)
    data = store.read(layout.weights_path(trial_id)) if record else None
    if record is None or data is None:
        raise RecordError(f"{store.path(layout.trial_dir(trial_id))}: is no complete trial")
    if hashlib.sha256(data).hexdigest() != record.weights_sha256:
        raise RecordError(
            f"{store.path(layout.weights_path(trial_id))}: differs from the digest in record.json; "
            "delete that record.json and run the study again"
        )
    return dict(load_safetensors(data))
