"""Training on patches in images/s, against the usual way, in turn and on the same images.

    python benchmarks/patches.py                                  # about 5 minutes on two cores
    python benchmarks/patches.py --side 512 --patch 112 --width 0.25

A patch is cut around a pixel of the lungs of an image that is stretched to a square; all else is black. The
usual way reads, stretches, masks, cuts, mirrors and turns one image at a time in two loader processes, and
trains in float32. Batch, threads, network, loss and augmentation are equal. The images are those of
`pipeline.py`.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import LearnerWay
from images import examples, find_images, manifest_rows
from machine import Spread, describe, num_cores
from ordinary import NUM_LOADERS, turned
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from turns import Setting, process, run_round

from xferlab.cli.session import cpu_has_bfloat16
from xferlab.networks.build import build, initialise
from xferlab.tasks.classification.config import Identity
from xferlab.training.examples import ImageExamples

CLASSES = ("covid19", "normal", "pathological")
BATCH_SIZE, LR, DEGREES, FLIP, MASK_PX = 16, 1e-4, 5.0, 0.5, 256
RATIO_WANTED = 2.0


@dataclass(frozen=True)
class PatchSetting(Setting):
    """As a setting; `size_px` is the side of the images, and `patch_px` that of the patches."""

    patch_px: int = 224


class HumanMasks:
    """The masks of people in place of predicted ones, at the size at which a network would predict them."""

    structures = ("lungs",)

    def __init__(self, cases: ImageExamples):
        self.planes = [
            np.asarray(
                Image.fromarray(cases.case(row)[1][0]).resize((MASK_PX, MASK_PX), Image.Resampling.NEAREST)
            )
            for row in range(len(cases))
        ]

    def of(self, row: int) -> np.ndarray:
        """Returns the mask of a case, (1, h, w), 0 and 255."""
        return np.where(self.planes[row] == 255, 255, 0).astype(np.uint8)[None]


class EngineWay(LearnerWay):
    """The learner of a trial whose masks people drew."""

    def __init__(self, setting: PatchSetting):
        """Takes the sizes."""
        super().__init__(Identity.model_validate(_identity(setting)), partial(_masked, setting))


def _masked(setting: PatchSetting, device: torch.device) -> ImageExamples:
    cases = examples(setting, device, CLASSES)
    cases.masks = HumanMasks(cases)
    return cases


def _identity(setting: PatchSetting) -> Mapping[str, Any]:
    patches = {"size_px": setting.patch_px, "number": 4, "validation": 4}
    precision = "bfloat16" if cpu_has_bfloat16() else "float32"
    return {
        "task": "classification", "version": 0, "selection": "", "seed": 0, "num_classes": len(CLASSES),
        "model": {
            "name": "resnet18", "image_size": setting.size_px, "width": setting.width, "patches": patches,
            "intensity": "unit", "standardise": None,
        },
        "training": {
            "batch_size": BATCH_SIZE, "lr": LR, "class_weights": None, "augmentation": {"flip": FLIP},
            "rotation": {"degrees": DEGREES, "probability": 1.0},
        },
        "masks": {"trials": {}, "places": [0], "threshold": 0.5, "keep": "inside"},
        "execution": {"device": "cpu", "threads": setting.threads, "precision": precision, "compile": False},
    }  # fmt: skip


class Patches(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Reads, stretches, masks, cuts, mirrors and turns one image at a time."""

    def __init__(self, setting: PatchSetting):
        """Takes the rows of the manifest."""
        self.root, self.rows = setting.root, manifest_rows(setting.root)
        self.side, self.patch = setting.size_px, setting.patch_px

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns a patch (1, H, W), float32, and the number of its class."""
        row, square = self.rows[index], (self.side, self.side)
        picture = Image.open(self.root / row["image"]).convert("L").resize(square, Image.Resampling.BILINEAR)
        mask = np.asarray(Image.open(self.root / row["mask"]).resize(square, Image.Resampling.NEAREST)) == 255
        patch = self._around(np.asarray(picture) * mask, *random.choice(np.argwhere(mask)))
        if random.random() < FLIP:
            patch = patch[:, ::-1]
        values, _ = turned(np.asarray(patch, np.float32), np.zeros((2, 2)), random.uniform(-DEGREES, DEGREES))
        return torch.from_numpy(values.astype(np.float32) / 255.0)[None], torch.tensor(
            CLASSES.index(row["pathology"])
        )

    def _around(self, image: np.ndarray, row: int, column: int) -> np.ndarray:
        first = [max(0, int(at) - self.patch // 2) for at in (row, column)]
        cut = image[first[0] : int(row) + self.patch // 2, first[1] : int(column) + self.patch // 2]
        if cut.shape == (self.patch, self.patch):
            return cut
        return np.asarray(Image.fromarray(cut).resize((self.patch, self.patch), Image.Resampling.BILINEAR))


class UsualWay:
    """The training loop of many a script."""

    def __init__(self, setting: PatchSetting):
        """Starts from random weights."""
        torch.set_num_threads(setting.threads)
        self.loader = DataLoader(
            Patches(setting), batch_size=BATCH_SIZE, shuffle=True, num_workers=NUM_LOADERS
        )
        self.model = build("resnet18", in_channels=1, out_channels=len(CLASSES), width=setting.width)
        initialise(self.model, seed=0)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=LR)

    def steps(self) -> Iterator[tuple[int, float]]:
        """Trains in new epochs; the loaders go on preparing batches until the last step ends."""
        for images, labels in itertools.chain.from_iterable(itertools.repeat(self.loader)):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            yield len(images), loss.item()


def compare(setting: PatchSetting, *, rounds: int, steps: int) -> float:
    """Prints both ways' rates, measured in turn; returns their ratio."""
    examples(setting, torch.device("cpu"))
    with process(EngineWay, setting) as first, process(UsualWay, setting) as second:
        pairs = [[way.submit(run_round, steps).result() for way in (first, second)] for _ in range(rounds)]
    engine, usual = (
        Spread(tuple(turn.num_images / turn.seconds for turn in way)) for way in zip(*pairs, strict=True)
    )
    ratio = engine.over(usual)
    numbers = "bfloat16" if cpu_has_bfloat16() else "float32"
    print(
        f"\npatches of {setting.patch_px} px of {setting.size_px} px, ResNet-18 of width {setting.width:g};",
        end=" ",
    )
    print(f"the engine trains in {numbers}, the usual way in float32:")
    print(f"  engine      {engine.text()} images/s, median (lowest-highest) of {rounds} rounds")
    print(f"  usual way   {usual.text()} images/s")
    print(f"  ratio       {ratio.text(2)}; wanted: {RATIO_WANTED:g}", flush=True)
    return ratio.median


def main(words: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Training on patches in images/s against the usual way.")
    parser.add_argument("--side", type=int, default=1024, help="of the images in pixels")
    parser.add_argument("--patch", type=int, default=224, help="side of a patch in pixels")
    parser.add_argument("--width", type=float, default=1.0, help="what the channels are multiplied by")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each way, in turn")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--threads", type=int, default=num_cores(), help="of the network")
    options = parser.parse_args(words)
    for name, value in describe(options.threads).items():
        print(f"{name:13} {value}")
    with tempfile.TemporaryDirectory() as folder:
        root, what = find_images(Path(folder))
        print(f"images        {len(manifest_rows(root))} {what}\nbatch         {BATCH_SIZE}", flush=True)
        setting = PatchSetting(
            "patches",
            root,
            Path(folder) / "cache",
            options.side,
            options.width,
            options.threads,
            options.patch,
        )
        compare(setting, rounds=options.rounds, steps=options.steps)


if __name__ == "__main__":
    main()
