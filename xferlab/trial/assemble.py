"""From a spec to the parts of a training: cases, examples, task, network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xferlab.data.cache import open_table
from xferlab.data.case_table import CaseTable
from xferlab.data.sources.registry import read_section
from xferlab.networks.build import build, initialise
from xferlab.networks.translator import Translator
from xferlab.phantoms.foreign_objects import with_objects
from xferlab.plan.spec import TrialSpec
from xferlab.records.store import Store
from xferlab.tasks.segmentation.native import NativeSegmentation
from xferlab.tasks.segmentation.native_examples import NativeExamples
from xferlab.tasks.segmentation.resized import BinarySegmentation, ImageExamples
from xferlab.tasks.segmentation.tiled import TiledSegmentation
from xferlab.tasks.segmentation.tiles import Tiles
from xferlab.training.augment import Augmentation
from xferlab.training.learner import Task
from xferlab.training.loop import Recipe
from xferlab.trial.redaction import redact_names


@dataclass(frozen=True)
class TrialContext:
    """Where a trial runs.

    Attributes:
        store: The storage of records.
        cache_dir: Folder of decoded images on this machine.
        device: Device of the network.
    """

    store: Store
    cache_dir: Path
    device: torch.device


def examples(
    spec: TrialSpec,
    section: str,
    digests: Sequence[str],
    context: TrialContext,
    *,
    objects: Sequence[str] = (),
) -> ImageExamples | NativeExamples:
    """Returns the cases of a section as examples, in the order given; builds the image cache if need be.

    At the size that the trial's network takes: that of its study, or the images' own. Foreign `objects` are
    laid on all images at once.
    """
    if is_native(spec.identity):
        return native_examples(spec, section, digests, context, objects=objects)
    config = read_section(spec.data[section])
    size_px = spec.identity["model"]["image_size"]
    with redact_names(section, config):
        table = open_table(section, config, size=size_px, digests=digests, cache_dir=context.cache_dir)
    rows = np.asarray(table.rows(digests), dtype=np.intp)
    images, targets, spacing_mm = table.images, table.targets, table.spacing_mm
    if objects:
        images, targets = with_objects(images[rows], digests, objects), targets[rows]
        spacing_mm, rows = spacing_mm[rows], np.arange(len(rows))
    return ImageExamples(tuple(digests), images, targets, spacing_mm, rows=rows, device=context.device)


def native_examples(
    spec: TrialSpec,
    section: str,
    digests: Sequence[str],
    context: TrialContext,
    *,
    objects: Sequence[str] = (),
) -> NativeExamples:
    """Returns the cases of a section at their own size, in the order given; see `examples`."""
    config = read_section(spec.data[section])
    with redact_names(section, config):
        table = open_table(section, config, size="native", digests=digests, cache_dir=context.cache_dir)
    rows = table.rows(digests)
    if objects:
        pairs = list(zip(rows.tolist(), digests, strict=True))
        laid = {row: with_objects(table.image(row)[None], [one], objects)[0] for row, one in pairs}
        return NativeExamples(digests, _Laid(table, laid), rows=rows, device=context.device)
    return NativeExamples(digests, table, rows=rows, device=context.device)


@dataclass(frozen=True)
class _Laid:
    """Cases whose images have foreign objects on them."""

    cases: CaseTable
    images: Mapping[int, NDArray[np.uint8]]

    @property
    def spacing_mm(self) -> NDArray[np.float32]:
        return self.cases.spacing_mm

    def image(self, row: int) -> NDArray[np.uint8]:
        return self.images[row]

    def target(self, row: int) -> NDArray[np.uint8]:
        return self.cases.target(row)


def is_native(identity: Any) -> bool:
    """Returns whether a trial's network takes images at the size that they have."""
    return bool(identity["model"]["image_size"] == "native")


def task_of(identity: Any) -> Task[Any, Any]:
    """Returns the task that an identity names, for the examples that `examples` gives."""
    base, tiles = base_task_of(identity), identity["model"].get("tiles")
    if tiles is not None:
        return TiledSegmentation(base, Tiles(**tiles))
    return NativeSegmentation(base) if is_native(identity) else base


def base_task_of(identity: Any) -> BinarySegmentation:
    """Returns what an identity says of intensity, augmentation, loss and metrics, at whatever size."""
    training, rotation = identity["training"], identity["training"].get("rotation")
    return BinarySegmentation(
        in_channels=identity["model"]["in_channels"],
        intensity=training["intensity"],
        rotation=(rotation["degrees"], rotation["probability"]) if rotation else None,
        loss_name=training["loss"],
        smoothing=training["smoothing"],
        augmentation=_augmentation(training.get("augmentation")),
        autocast=torch.bfloat16 if identity["execution"]["precision"] == "bfloat16" else None,
    )


def _augmentation(options: Mapping[str, Any] | None) -> Augmentation | None:
    if options is None:
        return None
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    return Augmentation(**values)


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
        tf32=identity["execution"]["precision"] == "tf32",
    )


def network(identity: Any, device: torch.device) -> nn.Module:
    """Returns the network with the seed's random weights, on its device."""
    model = identity["model"]
    built = build(
        model["name"],
        in_channels=model["in_channels"],
        out_channels=1,
        init_features=model["init_features"],
        translator=Translator(**model["translator"]) if "translator" in model else None,
    )
    initialise(built, identity["seed"])
    return built.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
