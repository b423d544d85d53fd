"""End-to-end training in images/s, against the ordinary way, in turn and on the same images.

    python benchmarks/pipeline.py                                 # about 20 minutes on two cores
    python benchmarks/pipeline.py --sizes 128:16 --rounds 3       # one size only

The images are those of fixed devices below `$XFERLAB_DATA/covid-lung-512`; where these are absent, phantoms
are written to PNG files and used instead. Batch, threads, network, loss and augmentation are equal; the
ordinary way has two more loader processes. Each way runs in its own process, so that neither has the
other's memory settings; while one runs, the other waits.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from images import examples, find_images, manifest_rows
from machine import Share, Spread, describe, measure_share, num_cores
from PIL import Image
from skimage.transform import rotate
from torch.utils.data import DataLoader, Dataset
from turns import Setting, process, run_round

from xferlab.cli.session import cpu_has_bfloat16
from xferlab.networks.unet import UNet
from xferlab.tasks.config import Execution
from xferlab.tasks.registry import learner_of
from xferlab.tasks.segmentation.config import Identity
from xferlab.tasks.segmentation.sections import Learning, Network
from xferlab.training.learner import AugmentationSeed
from xferlab.trial.environment import prepare

BATCH_SIZE, LR, DEGREES, PROBABILITY, SMOOTHING = 16, 1e-3, 10.0, 0.75, 1.0
NUM_LOADERS = 2
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

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains in new epochs; the loaders go on preparing batches until the last step ends."""
        for image, target, valid in itertools.chain.from_iterable(itertools.repeat(self.loader)):
            self.optimizer.zero_grad()
            loss = dice_loss(torch.sigmoid(self.model(image)), target, valid)
            loss.backward()
            self.optimizer.step()
            yield len(image), loss.item()


# The engine's way --------------------


class EngineWay:
    """A trial's learner, called as the training loop calls it."""

    def __init__(self, setting: Setting):
        """Starts from random weights; builds the image cache if there is none."""
        identity = engine_identity(setting)
        device = prepare(identity.execution)
        self.learner = learner_of(identity, device)
        self.train = examples(setting, device)
        self.endless = self._steps()

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains on from where the last round ended."""
        return self.endless

    def _steps(self) -> Iterator[tuple[int, float]]:
        for epoch in itertools.count(1):
            self.learner.begin_epoch(epoch)
            draw = AugmentationSeed(0, epoch)
            for rows in self.learner.batches(self.train, epoch):
                losses = self.learner.train_step(self.learner.load(self.train, rows, draw))
                yield len(rows), float(losses["loss"])


def engine_identity(setting: Setting) -> Identity:
    """Returns what a study that sets only batch and learning rate gives its trials."""
    precision = "bfloat16" if cpu_has_bfloat16() else "float32"
    return Identity(
        task="segmentation",
        version=0,
        model=Network(image_size=setting.size_px, init_features=setting.width),
        training=Learning(batch_size=BATCH_SIZE, lr=LR),
        execution=Execution(device="cpu", threads=setting.threads, precision=precision, compile=False),
        selection="",
        seed=0,
    )


# Measuring --------------------


def compare(setting: Setting, *, rounds: int, steps: int) -> None:
    """Prints both ways' rates, measured in turn, and then the network's."""
    started = time.perf_counter()
    examples(setting, torch.device("cpu"))
    decode_s = time.perf_counter() - started
    with process(EngineWay, setting) as first, process(OrdinaryWay, setting) as second:
        pairs = [[way.submit(run_round, steps).result() for way in (first, second)] for _ in range(rounds)]
    engine, ordinary = zip(*pairs, strict=True)
    with process() as third:
        network = third.submit(network_share, setting, rounds).result()
    rates = [Spread(tuple(turn.num_images / turn.seconds for turn in way)) for way in (engine, ordinary)]
    wanted = f"; wanted: {SHARE_WANTED:.0%}" if setting.size_px >= 256 else ""
    print(f"\n{setting.size_px} px, width {setting.width}: median (lowest-highest) of {rounds} rounds")
    for name, way, rate in zip(("engine", "ordinary way"), (engine, ordinary), rates, strict=True):
        print(f"  {name:17} {rate.text()} images/s; loss {way[0].loss:.3f} -> {way[-1].loss:.3f}")
    print(f"  ratio             {rates[0].over(rates[1]).text(2)}; wanted: {RATIO_WANTED}")
    print(f"  network           {network.rate.text(0)} GFLOP/s, forward and backward")
    print(f"  best convolution  {network.best.text(0)} GFLOP/s: {network.best_name}")
    print(f"  share             {network.share.text(2)}{wanted}")
    print(f"  decoded once      {decode_s:.1f} s, not part of the above", flush=True)


def network_share(setting: Setting, repeats: int) -> Share:
    """Returns the network's share of the best convolution, in a process prepared as a trial's."""
    identity = engine_identity(setting)
    learner = learner_of(identity, prepare(identity.execution))
    images = torch.randn(BATCH_SIZE, 3, setting.size_px, setting.size_px)
    images = images.contiguous(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if identity.execution.precision == "bfloat16" else torch.float32
    return measure_share(learner.networks["network"], images, dtype=dtype, repeats=repeats)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options."""
    parser = argparse.ArgumentParser(description="Training images/s against the ordinary way.")
    parser.add_argument("--sizes", type=_sizes, default="128:16,256:32", help="pixels:width, ...")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each way, in turn")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--threads", type=int, default=num_cores(), help="of the network; default: all cores")
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
        for size_px, width in options.sizes:
            setting = Setting(root, Path(folder) / "cache", size_px, width, options.threads)
            compare(setting, rounds=options.rounds, steps=options.steps)
    print(f"\nload average  {machine['load_average']} before, {describe(0)['load_average']} after")
    if machine["load_average"][0] > QUIET:
        print("Other programs were running: the figures are too low, and their ratios uncertain.")


if __name__ == "__main__":
    main()
