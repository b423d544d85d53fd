"""Speed on a GPU: limits, training in all its ways, several trials at once, prediction; one table at the end.

    benchmarks/gpu.sh                              # tests first
    python benchmarks/gpu.py --only training packing
    python benchmarks/gpu.py --rehearse            # on the CPU, tiny: does everything run?

Each part runs in a process of its own and has a limit of time, so that one that fails leaves the others. The
images are drawn. Rates are medians of rounds, with the lowest and the highest; a share is that of the rate at
which the operations of the network's convolutions would take all of the device's measured limit.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import images
import torch
from engine import EngineWay, wait
from good import GoodWay
from machine import BATCH_SIZE, Spread, count_flops, num_cores
from packing import in_processes, mps, on_streams, study_minutes
from turns import Setting, Way, timed

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS_S: Mapping[str, int] = {
    "limits": 30, "training": 120, "packing": 150, "prediction": 40, "translation": 60, "classification": 40,
}  # fmt: skip
"""How long each part may take."""
ROUNDS = 5

Row = tuple[str, str, str]
"""What was measured, the value, and a remark."""


class Sizes:
    """How large everything is: as users have it, or tiny."""

    def __init__(self, *, is_tiny: bool):
        """Takes whether it is a rehearsal."""
        self.is_tiny = is_tiny
        self.side, self.width = (32, 2) if is_tiny else (256, 32)
        self.steps, self.num_images = (2, 20) if is_tiny else (20, 192)
        self.matrix, self.copied = (256, 2**16) if is_tiny else (8192, 2**31)
        self.packed = (1, 2) if is_tiny else (1, 4, 8)

    def setting(self, folder: Path, task: str = "segmentation", width: float | None = None) -> Setting:
        """Returns what ways of training are built from; writes the images to a folder."""
        images.PHANTOM_SIZE_PX = self.side
        if not (folder / "metadata.csv").exists():
            images.write_phantoms(folder, self.num_images)
        cache = folder / "cache"
        return Setting(task, folder, cache, self.side, width or self.width, num_cores(), device=DEVICE)


def seconds(work: Callable[[], object], *, repeats: int) -> Spread:
    """Returns how long a work takes, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        wait()
        started = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - started)
    return Spread(tuple(found))


# Parts ---------------------------------------------------------------------------------------------------


def limits(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """What the device can do at most: products of bfloat16, and copies."""
    yield "bfloat16 products", f"{peak(sizes) / 1e12:.0f} TFLOP/s", f"square of {sizes.matrix}"
    block = torch.empty(sizes.copied, dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(block)
    copying = seconds(lambda: other.copy_(block), repeats=ROUNDS)
    yield "copies", f"{2 * sizes.copied / copying.median / 1e9:.0f} GB/s", "read and written"


def peak(sizes: Sizes) -> float:
    """Returns the operations a second of a large product of bfloat16 matrices."""
    square = torch.randn(sizes.matrix, sizes.matrix, device=DEVICE, dtype=torch.bfloat16)
    return 2.0 * sizes.matrix**3 / seconds(lambda: square @ square, repeats=ROUNDS).median


def training(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Training steps of the U-Net by precision, compiled or not, beside other loops."""
    setting, most = sizes.setting(folder), peak(sizes)
    channels = torch.randn(BATCH_SIZE, 3, sizes.side, sizes.side)
    kinds: dict[str, Callable[[], Way]] = {
        "bfloat16": partial(EngineWay, setting, precision="bfloat16"),
        "bfloat16, not deterministic": partial(EngineWay, setting, precision="bfloat16", deterministic=False),
        "bfloat16, recorded": partial(EngineWay, setting, precision="bfloat16", cuda_graph=True),
        "bfloat16, compiled": partial(EngineWay, setting, precision="bfloat16", compile=True),
        "bfloat16, compiled, recorded": partial(
            EngineWay, setting, precision="bfloat16", compile=True, cuda_graph=True
        ),
        "tf32": partial(EngineWay, setting, precision="tf32"),
        "float32": partial(EngineWay, setting, precision="float32"),
        "good user, bfloat16": partial(GoodWay, replace(setting, precision="bfloat16")),
        "MONAI": partial(of_library, "monai_way", "MonaiWay", setting),
        "nnU-Net": partial(of_library, "nnunet_way", "NnunetWay", setting),
    }
    if DEVICE == "cpu":  # the rest is of CUDA
        kinds = {name: kinds[name] for name in ("float32", "good user, bfloat16", "MONAI", "nnU-Net")}
    for name, make in kinds.items():
        try:
            way, flops = make(), 0.0
        except ImportError as error:
            yield f"training, {name}", "none", str(error)
            continue
        if isinstance(way, EngineWay):
            flops = count_flops(way.network.cpu(), channels) / BATCH_SIZE
            way.network.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
            way.network.zero_grad(set_to_none=True)
        with counted_syncs() as syncs:
            rates = rates_of(way, sizes)
        remark = f"{rates.median * flops / most:.1%} of the limit, " if flops else ""
        steps = ROUNDS * (sizes.steps + 2)
        yield (
            f"training, {name}",
            f"{rates.text(0)} images/s",
            f"{remark}{len(syncs) / steps:.2g} waits a step, {memory_gib():.1f} GiB",
        )


def of_library(script: str, name: str, setting: Setting) -> Way:
    """Returns the usual loop of a library, each in the precision that it takes by default.

    Raises:
        ImportError: The library, or scikit-image, which reads the images, is not on this machine.
    """
    way: Way = getattr(importlib.import_module(script), name)(setting)
    return way


def rates_of(way: Way, sizes: Sizes) -> Spread:
    """Returns images a second of rounds of a way."""
    found = []
    for _ in range(ROUNDS):
        wait()
        found.append(timed(way.steps(), sizes.steps, wait=wait))
    return Spread(tuple(each.num_images / each.seconds for each in found))


@contextmanager
def counted_syncs() -> Iterator[list[warnings.WarningMessage]]:
    """Yields a list of the times that the host waited for the device, on CUDA."""
    if DEVICE == "cpu":
        yield []
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message=".*synchroniz.*")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield caught
        finally:
            torch.cuda.set_sync_debug_mode("default")


def memory_gib() -> float:
    """Returns the most memory of the device that was in use since the last call; 0 on the CPU."""
    if DEVICE == "cpu":
        return 0.0
    found = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return float(found)


def packing(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Several trials at once: in processes, in processes by MPS, and on streams of one process."""
    setting, best = sizes.setting(folder), 0.0
    lasting = 0.5 if sizes.is_tiny else 4.0
    for shared, numbers in (("", sizes.packed), (" by MPS", sizes.packed[1:])):
        try:
            with mps() if shared else nullcontext():
                for number in numbers:
                    rates = in_processes(setting, number, lasting=lasting)
                    best = max(best, sum(rates))
                    yield packed(f"{number} processes{shared}", rates)
        except FileNotFoundError as error:
            yield f"processes{shared}", "none", str(error)
    for number in sizes.packed[1:]:
        rates = on_streams(setting, number, lasting=lasting)
        best = max(best, sum(rates))
        yield packed(f"{number} streams of one process", rates)
    for precision, option in (("float32", {}), ("bfloat16", {"validation": "bfloat16"})):
        way = EngineWay(setting, **option)
        spent = seconds(partial(way.learner.validate, way.train), repeats=ROUNDS)
        validation = sizes.num_images / spent.median
        minutes = study_minutes(best, validation)
        yield f"validation, {precision}", f"{validation:.0f} images/s", ""
        yield (
            f"study of vidal2021, validated in {precision}",
            f"{minutes:.1f} minutes",
            "training packed, validation of one, no evaluations",
        )


def packed(name: str, rates: Sequence[float]) -> Row:
    """Returns the row of some trials that trained at once."""
    each = f"each {min(rates):.0f} to {max(rates):.0f}"
    return f"{name}, recorded steps", f"{sum(rates):.0f} images/s", each


def prediction(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Prediction in float32, one image and a batch at a time."""
    way = EngineWay(sizes.setting(folder))
    for number in (1, BATCH_SIZE):
        rows = torch.arange(number).numpy()
        batch = way.learner.load(way.train, rows, None)
        spread = seconds(partial(way.learner.predict, batch), repeats=4 * ROUNDS)
        times = Spread(tuple(1e3 * each / number for each in spread.values))
        yield f"prediction, {number} at once", f"{times.text(2)} ms an image", "float32, masks on the host"


def translation(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Steps of a translation with a segmenter."""
    import translation as steps

    for network in steps.NETWORKS:
        for precision in steps.PRECISIONS if DEVICE == "cuda" else ("float32",):
            setting = steps.Setting(sizes.side, sizes.width, 4 if not sizes.is_tiny else 1, 6, num_cores())
            found = steps.measure(setting, network, precision)
            yield (
                f"translation, {network}, {precision}",
                f"{found.step_ms:.1f} ms a step",
                f"{setting.batch} images of each domain, {found.held_mib:.0f} MiB",
            )


def classification(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Training steps of VGG16."""
    setting = sizes.setting(folder, "classification", 0.125 if sizes.is_tiny else 1.0)
    yield "classification, VGG16", f"{rates_of(EngineWay(setting), sizes).text(0)} images/s", ""


PARTS: Mapping[str, Callable[[Sizes, Path], Iterator[Row]]] = {
    part.__name__: part for part in (limits, training, packing, prediction, translation, classification)
}


# All of them -----------------------------------------------------------------------------------------------


def run_part(name: str, *, rehearse: bool) -> list[Row]:
    """Runs a part in a process of its own, and returns its rows, with one of what ended it early."""
    words = [sys.executable, __file__, "--part", name, *(["--rehearse"] if rehearse else [])]
    rows, reason = list[Row](), ""
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            said, _ = process.communicate(timeout=LIMITS_S[name])
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            reason = f"took more than {LIMITS_S[name]} s"
        if process.returncode and not reason:
            errors.seek(0)
            reason = (errors.read().strip() or f"exit status {process.returncode}").splitlines()[-1]
    for line in said.splitlines():
        what, value, remark = (*line.split("\t"), "", "")[:3]
        rows.append((what, value, remark))
    return [*rows, *([(name, "FAILED", reason)] if reason else [])]


def main(words: Sequence[str] | None = None) -> int:
    """Measures and prints; returns 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="these parts alone")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.part:
        with tempfile.TemporaryDirectory() as folder:
            for row in PARTS[options.part](Sizes(is_tiny=options.rehearse), Path(folder)):
                print(*row, sep="\t", flush=True)
        return 0
    if DEVICE == "cpu" and not options.rehearse:
        parser.error("this process sees no CUDA device; --rehearse runs tiny sizes on the CPU")
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "the CPU"
    print(f"{name}, torch {torch.__version__}, {num_cores()} cores", flush=True)
    started, rows = time.perf_counter(), list[Row]()
    for part in options.only:
        rows += run_part(part, rehearse=options.rehearse)
        print(f"{part}: {time.perf_counter() - started:.0f} s", flush=True)
    print("\n| what | measured | |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return any(value == "FAILED" for _, value, _ in rows)


if __name__ == "__main__":
    raise SystemExit(main())
