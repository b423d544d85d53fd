"""End-to-end training in images/s, against the ordinary way, in turn and on the same images.

    python benchmarks/pipeline.py                                 # about 20 minutes on two cores
    python benchmarks/pipeline.py --sizes 128:16 --rounds 3       # one size only

The images are those of fixed devices below `$XFERLAB_DATA/covid-lung-512`; where these are absent, phantoms
are written to PNG files and used instead. Batch, threads, network, loss and augmentation are equal; the
ordinary way has two loader processes besides. Each way runs in a process of its own, so that neither has the
other's memory settings; while one runs, the other waits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from images import examples, find_images, manifest_rows
from machine import Share, Spread, describe, measure_share, num_cores
from PIL import Image
from skimage.transform import rotate
from torch.utils.data import DataLoader, Dataset
from turns import WARM_UP, Process, Round, Setting, apart
from xferlab.study.training import Training
from xferlab.trial.assemble import recipe_of, task_of

from xferlab.cli.session import cpu_has_bfloat16
from xferlab.networks.unet import UNet
from xferlab.study.schema import Model
from xferlab.training.loop import Trainer
from xferlab.trial import assemble
from xferlab.trial.environment import prepare

BATCH_SIZE, LR, DEGREES, PROBABILITY, SMOOTHING = 16, 1e-3, 10.0, 0.75, 1.0
NUM_LOADERS = 2
NUM_VALIDATION = 4
RATIO_WANTED, SHARE_WANTED = 2.5, 0.6
"""On a CPU with bfloat16 instructions."""
QUIET = 0.5
"""Load average of a machine that does nothing else."""


# The ordinary way --------------------


class LungDataset(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Reads, resizes, normalises and rotates one image with its mask at a time."""

    def __init__(self, root: Path, rows: Sequence[dict[str, str]], size_px: int, *, augment: bool = True):
        """Takes the rows of a manifest with the columns image and mask."""
        self.root, self.rows, self.size, self.augment = root, rows, (size_px, size_px), augment

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns image (3, H, W), target and valid (1, H, W), float32."""
        row = self.rows[index]
        picture = Image.open(self.root / row["image"]).convert("L")
        labels = Image.open(self.root / row["mask"])
        image = np.asarray(picture.resize(self.size, Image.Resampling.BILINEAR), np.float32)
        mask = np.asarray(labels.resize(self.size, Image.Resampling.NEAREST))
        image = (image - image.mean()) / max(image.std(), 1.0)
        if self.augment and random.random() < PROBABILITY:
            image, mask = turned(image, mask, random.uniform(-DEGREES, DEGREES))
        target, valid = mask == 255, mask != 127
        return (
            torch.from_numpy(image).expand(3, -1, -1),
            torch.from_numpy(target)[None].float(),
            torch.from_numpy(valid)[None].float(),
        )


def turned(image: np.ndarray, mask: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns image and mask turned counter-clockwise by an angle in degrees."""
    image = rotate(image, angle, order=1, cval=image.min(), preserve_range=True)
    return image, rotate(mask, angle, order=0, preserve_range=True).astype(np.uint8)


def dice_loss(probability: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Returns the smooth Dice loss of a batch."""
    intersection = (probability * target * valid).sum()
    total = (probability * valid).sum() + (target * valid).sum()
    return 1 - (2 * intersection + SMOOTHING) / (total + SMOOTHING)


class OrdinaryWay:
    """A loader with worker processes, float32, Adam: the training loop of many a script."""

    def __init__(self, setting: Setting):
        """Starts from random weights."""
        torch.set_num_threads(setting.threads)
        dataset = LungDataset(setting.root, manifest_rows(setting.root), setting.size_px)
        self.loader = DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=NUM_LOADERS)
        self.model = UNet(in_channels=3, out_channels=1, init_features=setting.width)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)

    def run(self, num_steps: int) -> Round:
        """Trains in a new epoch; its loaders go on preparing batches until the last step ends."""
        batches = itertools.chain.from_iterable(itertools.repeat(self.loader))
        losses, num_images, started = [], 0, 0.0
        for step, (image, target, valid) in enumerate(batches, start=1):
            self.optimizer.zero_grad()
            probability = torch.sigmoid(self.model(image))
            loss = dice_loss(probability, target, valid)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            num_images += len(image)
            if step == WARM_UP:
                losses, num_images, started = [], 0, time.perf_counter()
            elif step == WARM_UP + num_steps:
                break
        return Round(num_images, time.perf_counter() - started, float(np.mean(losses)))


# The engine's way --------------------


class EngineWay:
    """The parts that a trial is made of, put together as it does."""

    def __init__(self, setting: Setting):
        """Starts from random weights; builds the image cache if there is none."""
        identity = engine_identity(setting)
        device = prepare(identity["execution"])
        self.trainer = Trainer(assemble.network(identity, device), task_of(identity), recipe_of(identity))
        self.train = examples(setting, device)
        # An epoch that ends within a round pays for a validation there: a small one.
        self.validation = examples(setting, device, count=NUM_VALIDATION)

    def run(self, num_steps: int) -> Round:
        """Trains on from where the last round ended."""
        marks: list[tuple[float, int, float]] = []

        def after_batch() -> None:
            marks.append((time.perf_counter(), *self._so_far()))
            if len(marks) == WARM_UP + num_steps:
                raise _Enough

        with suppress(_Enough):
            self.trainer.fit(self.train, self.validation, after_batch=after_batch)
        (started, images_before, loss_before), (ended, images, loss) = marks[WARM_UP - 1], marks[-1]
        num_images = images - images_before
        return Round(num_images, ended - started, (loss - loss_before) / num_images)

    def _so_far(self) -> tuple[int, float]:
        """Images trained on, and the sum of their losses."""
        cursor, size = self.trainer.cursor, len(self.train)
        loss = sum(epoch.train_loss for epoch in cursor.history) * size
        return len(cursor.history) * size + cursor.num_images, loss + cursor.loss_sum


class _Enough(Exception):  # noqa: N818 - the way to end a training early, not an error
    """A round has its steps."""


def engine_identity(setting: Setting) -> dict[str, Any]:
    """Returns what a study that sets only batch and learning rate gives its trials, without an end."""
    precision = "bfloat16" if cpu_has_bfloat16() else "float32"
    training = Training(batch_size=BATCH_SIZE, lr=LR, max_epochs=10**6, patience=10**6)
    return {
        "seed": 0,
        "model": Model(image_size=setting.size_px, init_features=setting.width).model_dump(),
        "training": training.model_dump(),
        "execution": {"device": "cpu", "threads": setting.threads, "precision": precision},
    }


# Measuring --------------------


@dataclass(frozen=True)
class Comparison:
    """One size.

    Attributes:
        size_px: Side of the images.
        width: Channels of the network's first level.
        decode_s: Seconds to decode all images once, before the engine's first training at this size.
        engine: Images/s.
        ordinary: Images/s.
        ratio: Engine over ordinary way, round by round.
        engine_losses: Mean training loss of each round.
        ordinary_losses: Likewise.
        network: The network's rate beside the best convolution's.
    """

    size_px: int
    width: int
    decode_s: float
    engine: Spread
    ordinary: Spread
    ratio: Spread
    engine_losses: tuple[float, ...]
    ordinary_losses: tuple[float, ...]
    network: Share


def compare(setting: Setting, *, rounds: int, steps: int) -> Comparison:
    """Returns both ways' rates, measured in turn, and then the network's."""
    started = time.perf_counter()
    examples(setting, torch.device("cpu"))
    decode_s = time.perf_counter() - started
    ways = Process(EngineWay, setting), Process(OrdinaryWay, setting)
    pairs = [[way.run(steps) for way in ways] for _ in range(rounds)]
    for way in ways:
        way.close()
    engine, ordinary = [
        tuple(one.num_images / one.seconds for one in way) for way in zip(*pairs, strict=True)
    ]
    engine_losses, ordinary_losses = [tuple(one.loss for one in way) for way in zip(*pairs, strict=True)]
    ratio = tuple(mine / other for mine, other in zip(engine, ordinary, strict=True))
    spreads = Spread(engine), Spread(ordinary), Spread(ratio)
    share = apart(network_share, setting, rounds)
    return Comparison(
        setting.size_px, setting.width, decode_s, *spreads, engine_losses, ordinary_losses, share
    )


def network_share(setting: Setting, repeats: int) -> Share:
    """Returns the network's share of the best convolution, in a process prepared as a trial's."""
    identity = engine_identity(setting)
    device = prepare(identity["execution"])
    images = torch.randn(BATCH_SIZE, 3, setting.size_px, setting.size_px)
    images = images.contiguous(memory_format=torch.channels_last)
    dtype = task_of(identity).autocast or torch.float32
    return measure_share(assemble.network(identity, device), images, dtype=dtype, repeats=repeats)


def show(one: Comparison) -> None:
    """Prints one size."""
    mine, other, network = one.engine_losses, one.ordinary_losses, one.network
    wanted = f"; wanted: {SHARE_WANTED:.0%}" if one.size_px >= 256 else ""
    print(f"\n{one.size_px} px, width {one.width}: median (lowest-highest) of {len(mine)} rounds")
    print(f"  engine            {one.engine.text()} images/s; loss {mine[0]:.3f} -> {mine[-1]:.3f}")
    print(f"  ordinary way      {one.ordinary.text()} images/s; loss {other[0]:.3f} -> {other[-1]:.3f}")
    print(f"  ratio             {one.ratio.text(2)}; wanted: {RATIO_WANTED}")
    print(f"  network           {network.rate.text(0)} GFLOP/s, forward and backward")
    print(f"  best convolution  {network.best.text(0)} GFLOP/s: {network.best_name}")
    print(f"  share             {network.share.text(2)}{wanted}")
    print(f"  decoded once      {one.decode_s:.1f} s, not part of the above", flush=True)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options."""
    parser = argparse.ArgumentParser(description="Training images/s against the ordinary way.")
    parser.add_argument("--sizes", type=_sizes, default="128:16,256:32", help="pixels:width, ...")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each way, in turn")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--threads", type=int, default=num_cores(), help="of the network; default: all cores")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    return parser.parse_args(words)


def _sizes(text: str) -> list[tuple[int, int]]:
    return [(int(size), int(width)) for size, _, width in (item.partition(":") for item in text.split(","))]


def main(words: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    options = parse(words)
    machine = describe(options.threads)
    for name, value in machine.items():
        print(f"{name:13} {value}")
    if not cpu_has_bfloat16():
        print("This CPU has no bfloat16 instructions: the engine trains in float32, as here.")
    with tempfile.TemporaryDirectory() as folder:
        root, what = find_images(Path(folder))
        print(f"images        {len(manifest_rows(root))} {what}\nbatch         {BATCH_SIZE}", flush=True)
        found = []
        for size_px, width in options.sizes:
            setting = Setting(root, Path(folder) / "cache", size_px, width, options.threads)
            found.append(compare(setting, rounds=options.rounds, steps=options.steps))
            show(found[-1])
    machine["load_average_after"] = describe(options.threads)["load_average"]
    print(f"\nload average  {machine['load_average']} before, {machine['load_average_after']} after")
    if machine["load_average"][0] > QUIET:
        print("Other programs were running: the figures are too low, and their ratios uncertain.")
    if options.json:
        body = {"machine": machine, "images": what, "sizes": [asdict(one) for one in found]}
        options.json.write_text(json.dumps(body, indent=1) + "\n")


if __name__ == "__main__":
    main()
