"""End-to-end training in images/s, against the ordinary way, in turn and on the same images.

    python benchmarks/pipeline.py                                 # about 20 minutes on two cores
    python benchmarks/pipeline.py --sizes 128:16 --rounds 3       # one size only
    python benchmarks/pipeline.py --task classification

The images are those of fixed devices below `$XFERLAB_DATA/covid-lung-512`; where these are absent, phantoms
are written to PNG files and used instead. Batch, threads, network, loss and augmentation are equal; the
ordinary way has two more loader processes. Each way runs in its own process, so that neither has the
other's memory settings; while one runs, the other waits.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from images import find_images, manifest_rows
from machine import Share, Spread, describe, measure_share, num_cores
from ordinary import OrdinaryWay
from turns import Setting, process, run_round
from works import BATCH_SIZE, WORKS

from xferlab.cli.session import cpu_has_bfloat16
from xferlab.tasks.config import TrialIdentity
from xferlab.tasks.registry import learner_of
from xferlab.training.examples import ImageExamples
from xferlab.training.learner import AugmentationSeed
from xferlab.trial.environment import prepare

SIZES = {"segmentation": "128:16,256:32", "classification": "96:0.25,224:0.25"}
RATIO_WANTED, SHARE_WANTED = 2.5, 0.6
"""On a CPU with bfloat16 instructions."""
QUIET = 0.5
"""Load average of a machine that does nothing else."""


# The engine's way --------------------


class LearnerWay:
    """A trial's learner, called as the training loop calls it."""

    def __init__(self, identity: TrialIdentity, examples: Callable[[torch.device], ImageExamples]):
        """Starts from random weights; `examples` builds the image cache if there is none."""
        device = prepare(identity.execution)
        self.learner = learner_of(identity, device)
        self.train = examples(device)
        self.learner.prepare(self.train)
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


class EngineWay(LearnerWay):
    """The learner of a work."""

    def __init__(self, setting: Setting):
        """Takes task and size."""
        work = WORKS[setting.task]
        super().__init__(work.engine(setting), partial(work.examples, setting))


# Measuring --------------------


def compare(setting: Setting, *, rounds: int, steps: int) -> None:
    """Prints both ways' rates, measured in turn, and then the network's."""
    started = time.perf_counter()
    WORKS[setting.task].examples(setting, torch.device("cpu"))
    decode_s = time.perf_counter() - started
    with process(EngineWay, setting) as first, process(OrdinaryWay, setting) as second:
        pairs = [[way.submit(run_round, steps).result() for way in (first, second)] for _ in range(rounds)]
    engine, ordinary = zip(*pairs, strict=True)
    with process() as third:
        network = third.submit(network_share, setting, rounds).result()
    rates = [Spread(tuple(turn.num_images / turn.seconds for turn in way)) for way in (engine, ordinary)]
    wanted = f"; wanted: {SHARE_WANTED:.0%}" if setting.size_px >= 256 else ""
    print(f"\n{setting.task}, {setting.size_px} px, width {setting.width:g}:", end=" ")
    print(f"median (lowest-highest) of {rounds} rounds")
    for name, way, rate in zip(("engine", "ordinary way"), (engine, ordinary), rates, strict=True):
        print(f"  {name:17} {rate.text()} images/s; loss {way[0].loss:.3f} -> {way[-1].loss:.3f}")
    print(f"  ratio             {rates[0].over(rates[1]).text(2)}; wanted: {RATIO_WANTED}")
    print(f"  network           {network.rate.text(0)} GFLOP/s, forward and backward")
    print(f"  best convolution  {network.best.text(0)} GFLOP/s: {network.best_name}")
    print(f"  share             {network.share.text(2)}{wanted}")
    print(f"  decoded once      {decode_s:.1f} s, not part of the above", flush=True)


def network_share(setting: Setting, repeats: int) -> Share:
    """Returns the network's share of the best convolution, in a process prepared as a trial's."""
    identity = WORKS[setting.task].engine(setting)
    learner = learner_of(identity, prepare(identity.execution))
    images = torch.randn(BATCH_SIZE, identity.model.in_channels, setting.size_px, setting.size_px)
    images = images.contiguous(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if identity.execution.precision == "bfloat16" else torch.float32
    return measure_share(learner.networks["network"], images, dtype=dtype, repeats=repeats)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Returns the options."""
    parser = argparse.ArgumentParser(description="Training images/s against the ordinary way.")
    parser.add_argument("--task", choices=WORKS, default="segmentation", help="what is learnt")
    parser.add_argument("--sizes", type=_sizes, help="pixels:width, ...; default: two of the task")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each way, in turn")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--threads", type=int, default=num_cores(), help="of the network; default: all cores")
    options = parser.parse_args(words)
    options.sizes = options.sizes or _sizes(SIZES[options.task])
    return options


def _sizes(text: str) -> list[tuple[int, float]]:
    return [(int(size), float(width)) for size, _, width in (item.partition(":") for item in text.split(","))]


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
            setting = Setting(options.task, root, Path(folder) / "cache", size_px, width, options.threads)
            compare(setting, rounds=options.rounds, steps=options.steps)
    print(f"\nload average  {machine['load_average']} before, {describe(0)['load_average']} after")
    if machine["load_average"][0] > QUIET:
        print("Other programs were running: the figures are too low, and their ratios uncertain.")


if __name__ == "__main__":
    main()
