"""End-to-end training in images/s, as users get it, against three other ways, in turn and on the same images.

    python benchmarks/pipeline.py                                 # about 40 minutes on two cores
    python benchmarks/pipeline.py --sizes 128:16 --rounds 3       # one size only
    python benchmarks/pipeline.py --task classification

The engine is measured through `xferlab run`, by both executors, and by Ray with a trial on each core; what
its trials record of their epochs is its rate. The good user keeps images in memory, turns whole batches and
computes as fast as the CPU can; MONAI's cached data set and the ordinary way have two loader processes
beside, and compute in float32. Ratios are of the engine by Ray over each.

The images are those of fixed devices below `$XFERLAB_DATA/covid-lung-512`; where these are absent, phantoms
are written to PNG files and used instead. Batch, threads, network, loss and augmentation are equal. Each way
runs in its own process, so that none has another's memory settings; while one runs, the others wait.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import fmean, harmonic_mean

import torch
from good import GoodWay
from images import find_images, manifest_rows
from machine import Share, Spread, describe, measure_share, num_cores
from monai_way import MonaiWay
from ordinary import OrdinaryWay
from turns import Round, Setting, Way, process, run_round
from works import BATCH_SIZE, WORKS

from xferlab.cli.session import cpu_has_bfloat16
from xferlab.records import reader
from xferlab.records.store import Store
from xferlab.tasks.registry import learner_of
from xferlab.trial.environment import prepare

SIZES = {"segmentation": "128:16,256:32", "classification": "96:0.25,224:0.25"}
EXECUTORS = ("ray", "in-process")
SIDE_BY_SIDE = "ray, side by side"
OTHERS: Mapping[str, Callable[[Setting], Way]] = {
    "good user": GoodWay, "MONAI": MonaiWay, "ordinary way": OrdinaryWay,
}  # fmt: skip
TIMED_EPOCHS = 2
SHARE_WANTED = 0.6
"""On a CPU with bfloat16 instructions."""
QUIET = 0.5
"""Load average of a machine that does nothing else."""


def run_trials(
    setting: Setting,
    executor: str,
    *,
    number: int,
    steps: int,
    folder: Path,
    trials: int = 1,
    compiled: bool = False,
) -> Round:
    """Trains new trials by `xferlab run`, all at once; their first epochs are not timed.

    Args:
        setting: Task and size; trials share the threads.
        executor: As of `--executor`.
        number: Of the round: the seed.
        steps: About as many of full batches are timed, in two epochs of each trial.
        folder: For the study and its storage.
        trials: How many.
        compiled: Whether they compile their steps, in the first epoch.
    """
    work = WORKS[setting.task]
    num_images = max(1, steps // TIMED_EPOCHS) * BATCH_SIZE
    study = work.study(
        setting,
        epochs=1 + TIMED_EPOCHS,
        seed=number,
        num_images=num_images,
        trials=trials,
        compiled=compiled,
    )
    path = folder / f"{setting.size_px}-{executor}-{trials}-{number}.yaml"
    path.write_text(json.dumps(study))  # JSON is YAML
    storage = path.with_suffix("")
    words = [
        sys.executable,
        "-m",
        "xferlab",
        "run",
        str(path),
        "--executor",
        executor,
        "--storage",
        str(storage),
    ]
    environment = {**os.environ, "XFERLAB_CACHE": str(setting.cache_dir)}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
    store = Store.open(storage)
    planned = reader.read_plan(store, study["study"])["trials"]
    timed = [reader.read_history(store, trial["trial_id"])[1:] for trial in planned]
    # The rates of trials side by side add up.
    seconds = harmonic_mean([sum(epoch.train_s for epoch in epochs) for epochs in timed])
    losses = [epoch.values["train_loss"] for epochs in timed for epoch in epochs]
    return Round(TIMED_EPOCHS * sum(trial["num_train"] for trial in planned), seconds, fmean(losses))


def compare(setting: Setting, *, rounds: int, steps: int, folder: Path, compiled: bool) -> None:
    """Prints the rates of the engine by both executors and of other ways, in turn; then the network's."""
    started = time.perf_counter()
    WORKS[setting.task].examples(setting, torch.device("cpu"))
    decode_s = time.perf_counter() - started
    packed = (SIDE_BY_SIDE,) if setting.threads > 1 else ()
    found: dict[str, list[Round]] = {name: [] for name in (*EXECUTORS, *packed, *OTHERS)}
    with ExitStack() as stack:
        others = {name: stack.enter_context(process(way, setting)) for name, way in OTHERS.items()}
        for number in range(rounds):
            run = partial(run_trials, setting, number=number, steps=steps, folder=folder, compiled=compiled)
            for executor in EXECUTORS:
                found[executor].append(run(executor))
            for name in packed:
                found[name].append(run(EXECUTORS[0], trials=setting.threads))
            for name, other in others.items():
                found[name].append(other.submit(run_round, steps).result())
    with process() as third:
        network = third.submit(network_share, setting, rounds).result()
    rates = {
        name: Spread(tuple(each.num_images / each.seconds for each in own)) for name, own in found.items()
    }
    print(f"\n{setting.task}, {setting.size_px} px, width {setting.width:g}:", end=" ")
    print(f"median (lowest-highest) of {rounds} rounds, images/s")
    engine = rates[EXECUTORS[0]]
    for name, rate in rates.items():
        losses = f"loss {found[name][0].loss:.3f} -> {found[name][-1].loss:.3f}" if name in OTHERS else ""
        ratio = f"ratio {engine.over(rate).text(2)}" if name in OTHERS else ""
        print(f"  {name:17} {rate.text(2):21} {ratio:24} {losses}".rstrip())
    wanted = f"; wanted: {SHARE_WANTED:.0%}" if setting.size_px >= 256 else ""
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
    parser = argparse.ArgumentParser(description="Training images/s against other ways.")
    parser.add_argument("--task", choices=WORKS, default="segmentation", help="what is learnt")
    parser.add_argument("--sizes", type=_sizes, help="pixels:width, ...; default: two of the task")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each way, in turn")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--compile", action="store_true", help="the engine compiles its steps")
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
    for name, value in {**machine, "compiled": options.compile}.items():
        print(f"{name:13} {value}")
    if not cpu_has_bfloat16():
        print("This CPU has no bfloat16 instructions: the engine trains in float32, as here.")
    with tempfile.TemporaryDirectory() as folder:
        root, what = find_images(Path(folder))
        print(f"images        {len(manifest_rows(root))} {what}\nbatch         {BATCH_SIZE}", flush=True)
        for size_px, width in options.sizes:
            setting = Setting(options.task, root, Path(folder) / "cache", size_px, width, options.threads)
            ends = {"rounds": options.rounds, "steps": options.steps, "compiled": options.compile}
            compare(setting, folder=Path(folder), **ends)
    print(f"\nload average  {machine['load_average']} before, {describe(0)['load_average']} after")
    if machine["load_average"][0] > QUIET:
        print("Other programs were running: the figures are too low, and their ratios uncertain.")


if __name__ == "__main__":
    main()
