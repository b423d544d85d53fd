"""What goes into a run as objects of wandb: images with masks, artifacts, and the settings of a run."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import wandb
from numpy.typing import NDArray

_FLUSH_S = 2.0
_STRUCTURE, _IGNORED = "structure", 127


def weights_artifact(digest: str) -> wandb.Artifact:
    """Returns the artifact of some weights: equal name and content wherever they are made or taken."""
    artifact = wandb.Artifact(f"weights-{digest[:16]}", type="model", metadata={"sha256": digest})
    with artifact.new_file("weights.json") as file:
        json.dump({"sha256": digest}, file)
    return artifact


def private_settings(mode: str) -> wandb.Settings:
    """Settings under which nothing of the machine is sent beyond the run's configuration."""
    return wandb.Settings(
        mode=mode,
        console="off",
        silent=True,
        symlink=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        program="xferlab",
        host="undisclosed",
        username="undisclosed",
        email="",
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=_FLUSH_S,
    )


def image_of(row: Mapping[str, Any]) -> wandb.Image:
    """Returns the `image` of a case; its arrays of the same shape are masks, each to be shown or hidden.

    A mask marks what is at least 128; a target leaves out what is 127. Each of several structures, as
    `target_heart` tells them, has a class of its own, and so a colour.
    """
    arrays = {
        name: np.frombuffer(b64decode(data), np.uint8).reshape(shape)
        for name, (shape, data) in row["arrays"].items()
    }
    image = arrays.pop("image")
    shown = {name: array for name, array in arrays.items() if array.shape == image.shape}
    classes = list(dict.fromkeys(map(_marked, shown)))
    masks = {name: _mask(name, array, classes) for name, array in shown.items()}
    return wandb.Image(image, mode="L", caption=row["caption"] or None, masks=masks)


def _marked(name: str) -> str:
    """Returns what an array marks: `heart` of `target_heart`."""
    return name.partition("_")[2] or _STRUCTURE


def _mask(name: str, array: NDArray[np.uint8], classes: Sequence[str]) -> dict[str, Any]:
    number, ignored = classes.index(_marked(name)) + 1, len(classes) + 1
    is_target = name.partition("_")[0] == "target"
    mask = (array >= 128) * number + (array == _IGNORED) * (ignored if is_target else 0)
    return {"mask_data": mask.astype(np.uint8), "class_labels": {number: _marked(name), ignored: "ignored"}}
