"""Time and memory of a training step of a translation with a segmenter, in float32 and in bfloat16.

    python benchmarks/translation.py                                # minutes, for a GPU
    python benchmarks/translation.py --side 96 --width 8 --steps 20 # 5 minutes on two cores

A step is a discriminative, a generative and a supervised one, on drawn images of both domains and labelled
ones of the second. Each line is a process of its own: its memory is the most that it held, less what it held
before the first step. The losses are means over the last half of the steps, so that a precision that is not
stable shows. A CPU without instructions for bfloat16 emulates it, six to seven times slower.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from statistics import fmean, median
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from engine import endless
from machine import describe, num_cores

from xferlab.phantoms.chest import chest_xray
from xferlab.phantoms.phantom import chest_mask
from xferlab.tasks.registry import learner_of, task
from xferlab.training.examples import ImageExamples
from xferlab.training.sets import CaseSets
from xferlab.trial.environment import prepare

NETWORKS = ("cyclegan", "munit_small")
PRECISIONS = ("float32", "bfloat16")
IMAGES = 24


class Setting(NamedTuple):
    """What is trained: the side of images in pixels, width of all networks but the segmenter, and steps."""

    side: int
    width: int
    batch: int
    steps: int
    threads: int


class Found(NamedTuple):
    """Milliseconds of a step (median), mebibytes that the steps held, and mean losses by name."""

    step_ms: float
    held_mib: float
    losses: dict[str, float]


def measure(setting: Setting, network: str, precision: str) -> Found:
    """Trains a few steps in this process."""
    identity = task("translation").identity.model_validate(_identity(setting, network, precision))
    device = prepare(identity.execution)
    learner, train = learner_of(identity, device), _images(setting, device)
    learner.prepare(train)
    before, times, losses = _held_mib(device), list[float](), list[dict[str, float]]()
    started = perf_counter()
    for _, step_losses in islice(endless(learner, train), setting.steps):
        losses.append({name: float(value) for name, value in step_losses.items()})
        times.append(perf_counter() - started)
        started = perf_counter()
    half = setting.steps // 2
    means = {name: fmean(each[name] for each in losses[half:]) for name in losses[0]}
    return Found(1e3 * median(times[half:]), _held_mib(device) - before, means)


def _held_mib(device: torch.device) -> float:
    """The most memory that was held so far: of the device, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _identity(setting: Setting, network: str, precision: str) -> dict[str, object]:
    cuda = torch.cuda.is_available()
    segmenter = {
        "name": "unet", "in_channels": 1, "out_channels": 1, "init_features": 8, "intensity": "unit",
        "loss": "cross_entropy", "smoothing": 1.0,
    }  # fmt: skip
    execution = {"device": "cuda", "deterministic": True} if cuda else {"device": "cpu"}
    return {
        "task": "translation", "version": 0, "selection": "", "seed": 1,
        "others": {"b": "", "b.labelled": ""},
        "model": {
            "name": network, "width": setting.width, "discriminator_width": setting.width,
            "image_size": setting.side, "segmenter": segmenter,
        },
        "training": {"batch_size": setting.batch},
        "execution": {**execution, "threads": setting.threads, "precision": precision, "compile": False},
    }  # fmt: skip


def _images(setting: Setting, device: torch.device) -> CaseSets:
    """Drawn chests; those of the second domain are darker."""
    sets = {}
    for place, name in enumerate(("a", "b", "b.labelled")):
        drawn = [
            chest_xray(seed=place, index=index, pathology="normal", size_px=setting.side)
            for index in range(IMAGES if place < 2 else IMAGES // 4)
        ]
        images = np.stack([each.image for each in drawn])[:, None] // (1 if name == "a" else 2)
        masks = [chest_mask(each.labels, "left_lung", "right_lung") for each in drawn]
        targets = np.stack(masks)[:, None] * np.uint8(255)
        sets[name] = ImageExamples(
            [f"{place:02x}{index:062x}" for index in range(len(drawn))],
            images,
            targets[:, : name != "b"],
            np.full((len(drawn), 2), np.nan, np.float32),
            structures=("lungs",) if name != "b" else (),
            rows=np.arange(len(drawn)),
            device=device,
        )
        sets[name].set_name = name
    return CaseSets(sets)


def main(words: Sequence[str] | None = None) -> None:
    """Measures and prints a line for each network and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=256, help="side of the images in pixels")
    parser.add_argument("--width", type=int, default=32, help="width of generators and discriminators")
    parser.add_argument("--batch", type=int, default=4, help="images of each domain in a step")
    parser.add_argument("--steps", type=int, default=12, help="steps of each line")
    parser.add_argument("--threads", type=int, default=num_cores(), help="CPU threads")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    options = vars(parser.parse_args(words))
    precisions = options.pop("precisions")
    setting = Setting(**options)
    print(*(f"{name:<13} {value}" for name, value in describe(setting.threads).items()), sep="\n")
    print(f"\n{setting.side} px, width {setting.width}, {setting.batch} images of each domain a step")
    print(f"{'network':<12} {'precision':<9} {'ms a step':>9} {'MiB':>6}  losses")
    for network in NETWORKS:
        for precision in precisions:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                found = pool.submit(partial(measure, setting, network, precision)).result()
            losses = ", ".join(f"{name} {value:.3f}" for name, value in found.losses.items())
            print(f"{network:<12} {precision:<9} {found.step_ms:9.0f} {found.held_mib:6.0f}  {losses}")


if __name__ == "__main__":
    main()
