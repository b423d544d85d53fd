"""Speed on a GPU: limits, training in all its ways, several trials at once, prediction; one table at the end.

    benchmarks/gpu.sh                              # tests first
    python benchmarks/gpu.py --only training packing
    python benchmarks/gpu.py --rehearse            # on the CPU, tiny: does everything run?

Each part runs in a process of its own and has a limit of time, as all have together, so that one that fails
leaves the others; its rows are printed when it ends, and all once more. The images are drawn. Rates are
medians of rounds, with the lowest and the highest; a share is that of the rate at which the operations of the
network's convolutions would take all of the device's measured limit.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

import images
import torch
from engine import EngineWay, wait
from good import GoodWay
from machine import BATCH_SIZE, Spread, count_flops, num_cores
from packing import in_processes, mps, on_streams, study_minutes
from turns import WARM_UP, Setting, Way, timed

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS_S: Mapping[str, float] = {
    "limits": 30, "training": 90, "packing": 110, "prediction": 30, "classification": 30, "compiled": 120,
    "translation": 50,
}  # fmt: skip
"""How long each part may take."""
WITHIN_S = 370.0
"""And all of them."""
ROUNDS, PRODUCTS = 5, 20
FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    SubprocessError,
    TypeError,
    ValueError,
)
"""What devices, compilers and libraries raise on a machine where nobody has tried them."""

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

    def write_images(self, folder: Path) -> None:
        """Writes the images of all parts to a folder."""
        images.PHANTOM_SIZE_PX = self.side
        images.write_phantoms(folder, self.num_images)

    def setting(self, folder: Path, task: str = "segmentation", width: float | None = None) -> Setting:
        """Returns what ways of training are built from, with the images of a folder."""
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
    """Returns the operations a second of large products of bfloat16 matrices, on a device that is awake."""
    square = torch.randn(sizes.matrix, sizes.matrix, device=DEVICE, dtype=torch.bfloat16)

    def work() -> None:
        for _ in range(PRODUCTS):
            square @ square

    seconds(work, repeats=PRODUCTS)
    return 2.0 * sizes.matrix**3 * PRODUCTS / seconds(work, repeats=ROUNDS).median


def training(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Training steps of the U-Net as users have them and by precision, and other loops."""
    setting = sizes.setting(folder)
    kinds: dict[str, Callable[[], Way]] = {
        "bfloat16": partial(EngineWay, setting, precision="bfloat16"),
        "bfloat16, recorded": partial(EngineWay, setting, precision="bfloat16", cuda_graph=True),
        "good user, bfloat16": partial(of_others, partial(GoodWay, replace(setting, precision="bfloat16"))),
        "bfloat16, not deterministic": partial(EngineWay, setting, precision="bfloat16", deterministic=False),
        "tf32": partial(EngineWay, setting, precision="tf32"),
        "float32": partial(EngineWay, setting, precision="float32"),
        "MONAI": partial(of_library, "monai_way", "MonaiWay", setting),
    }
    if DEVICE == "cpu":  # the rest is of CUDA
        kinds = {name: kinds[name] for name in ("float32", "good user, bfloat16", "MONAI")}
    yield from in_turn(kinds, sizes)


def compiled(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """The same by what takes a minute or two to compile."""
    setting = sizes.setting(folder)
    short = partial(EngineWay, setting, precision="bfloat16", compile=True)
    kinds: dict[str, Callable[[], Way]] = {
        "bfloat16, compiled": short,
        "bfloat16, compiled, recorded": partial(short, cuda_graph=True),
        "nnU-Net": partial(of_library, "nnunet_way", "NnunetWay", setting),
        "bfloat16, compiled, not deterministic": partial(short, deterministic=False),
    }
    yield from in_turn({"nnU-Net": kinds["nnU-Net"]} if DEVICE == "cpu" else kinds, sizes)


def in_turn(kinds: Mapping[str, Callable[[], Way]], sizes: Sizes) -> Iterator[Row]:
    """Yields the rows of ways of training, one after the other."""
    most = peak(sizes)
    for name, make in kinds.items():
        yield from tried(f"training, {name}", partial(measured, make, sizes, most))


def measured(make: Callable[[], Way], sizes: Sizes, most: float) -> tuple[str, str]:
    """Returns the rate of a way of training, and a remark.

    Args:
        make: Makes it.
        sizes: How long it trains.
        most: Operations a second that the device can do in bfloat16.
    """
    way, remark = make(), ""
    if isinstance(way, EngineWay):
        channels = torch.randn(BATCH_SIZE, 3, sizes.side, sizes.side)
        flops = count_flops(way.network.cpu(), channels) / BATCH_SIZE
        way.network.to(DEVICE, memory_format=torch.channels_last)  # type: ignore[call-overload]
        way.network.zero_grad(set_to_none=True)
    rates_of(way, sizes, rounds=1)  # compiles and records
    memory_gib()
    with counted_syncs() as syncs:
        rates = rates_of(way, sizes)
    if isinstance(way, EngineWay):
        remark = f"{rates.median * flops / most:.1%} of the bfloat16 limit, "
    steps = ROUNDS * (sizes.steps + WARM_UP)
    waits = sum("synchroniz" in str(each.message) for each in syncs)
    return f"{rates.text(0)} images/s", f"{remark}{waits / steps:.2g} waits a step, {memory_gib():.1f} GiB"


def tried(name: str, measure: Callable[[], tuple[str, str]]) -> Iterator[Row]:
    """Yields the row of a measurement, or one that says why there is none, and lets others follow."""
    try:
        yield (name, *measure())
    except (ImportError, FileNotFoundError) as error:
        yield name, "none", in_one_line(error)
    except FAILURES as error:  # the row tells it, and the command fails
        traceback.print_exc()
        yield name, "FAILED", in_one_line(error)


def in_one_line(error: BaseException) -> str:
    """Returns type and message of an error, shortened."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def of_others(make: Callable[[], Way]) -> Way:
    """Returns a loop of others, in a process that is as PyTorch starts it."""
    torch.use_deterministic_algorithms(mode=False)
    torch.backends.cudnn.benchmark = False
    return make()


def of_library(script: str, name: str, setting: Setting) -> Way:
    """Returns the usual loop of a library, each in the precision that it takes by default.

    Raises:
        ImportError: The library, or scikit-image, which reads the images, is not on this machine.
    """
    return of_others(partial(getattr(importlib.import_module(script), name), setting))


def rates_of(way: Way, sizes: Sizes, *, rounds: int = ROUNDS) -> Spread:
    """Returns images a second of rounds of a way."""
    # Unlike that of a stream, a wait for the device is none that PyTorch warns of.
    finish = torch.cuda.synchronize if DEVICE == "cuda" else wait
    found = []
    for _ in range(rounds):
        finish()
        found.append(timed(way.steps(), sizes.steps, wait=finish))
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
    """Several trials at once: on streams of one process, in processes, and in processes by MPS."""
    setting, best = sizes.setting(folder), [0.0]
    lasting = 0.5 if sizes.is_tiny else 2.5

    def at_once(train: Callable[..., Sequence[float]], number: int) -> tuple[str, str]:
        rates = train(setting, number, lasting=lasting)
        best.append(sum(rates))
        return f"{sum(rates):.0f} images/s", f"each {min(rates):.0f} to {max(rates):.0f}"

    def by_mps(*what: Any, **more: Any) -> Sequence[float]:
        with mps():
            return in_processes(*what, **more)

    validations: dict[str, float] = {}
    for precision, option in (("float32", {}), ("bfloat16", {"validation": "bfloat16"})):
        way = EngineWay(setting, **option)
        spent = seconds(partial(way.learner.validate, way.train), repeats=ROUNDS)
        validations[precision] = sizes.num_images / spent.median
        yield f"validation, {precision}", f"{validations[precision]:.0f} images/s", ""
    for number in sizes.packed[1:]:
        yield from tried(
            f"{number} streams of one process, recorded steps", partial(at_once, on_streams, number)
        )
    for number in sizes.packed:
        yield from tried(f"{number} processes, recorded steps", partial(at_once, in_processes, number))
    yield from tried(
        f"{sizes.packed[-1]} processes by MPS, recorded steps", partial(at_once, by_mps, sizes.packed[-1])
    )
    for precision, validation in validations.items() if max(best) else ():
        yield (
            f"study of vidal2021, validated in {precision}",
            f"{study_minutes(max(best), validation):.1f} minutes",
            "training packed, validation of one, no evaluations",
        )


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
    part.__name__: part
    for part in (limits, training, packing, prediction, classification, compiled, translation)
}


# All of them -----------------------------------------------------------------------------------------------


def run_part(name: str, *, folder: Path, rehearse: bool, within_s: float) -> list[Row]:
    """Runs a part in a process of its own, and returns its rows, with one of what ended it early."""
    words = [sys.executable, __file__, "--part", name, "--images", str(folder)]
    words += ["--rehearse"] if rehearse else []
    reason, limit_s = "", min(LIMITS_S[name], within_s)
    # Files, since what a part has started may outlive it and keep a pipe open.
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*words, *(["--rehearse"] if rehearse else [])],
            stdout=said,
            stderr=errors,
            start_new_session=True,
        )
        try:
            process.wait(timeout=max(0.0, limit_s))
        except subprocess.TimeoutExpired:
            reason = f"took more than {limit_s:.3g} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        errors.seek(0)
        lines, wrong = said.read().splitlines(), errors.read().strip().splitlines()
    if process.returncode and not reason:
        reason = wrong[-1] if wrong else f"exit status {process.returncode}"
    rows: list[Row] = []
    for what, value, remark in (line.split("\t") for line in lines if line.count("\t") == 2):
        rows.append((what, value, remark))
    rows += [(name, "FAILED", reason)] if reason else []
    if has_failed(rows):
        print("\n".join(wrong[-40:]), file=sys.stderr, flush=True)
    return rows


def has_failed(rows: Iterable[Row]) -> bool:
    """Whether something could not be measured that should have been."""
    return any(value == "FAILED" for _, value, _ in rows)


def main(words: Sequence[str] | None = None) -> int:
    """Measures and prints; returns 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], help="these parts alone")
    parser.add_argument("--within", type=float, default=WITHIN_S, metavar="S", help="seconds for all parts")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--images", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    sizes = Sizes(is_tiny=options.rehearse)
    if options.part:
        for row in PARTS[options.part](sizes, options.images):
            print(*row, sep="\t", flush=True)
        return 0
    if DEVICE == "cpu" and not options.rehearse:
        parser.error("this process sees no CUDA device; --rehearse runs tiny sizes on the CPU")
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "the CPU"
    print(f"{name}, torch {torch.__version__}, {num_cores()} cores", flush=True)
    started, rows = time.perf_counter(), list[Row]()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        sizes.write_images(Path(folder))
        for part in options.only:
            left_s = options.within - (time.perf_counter() - started)
            found = run_part(part, folder=Path(folder), rehearse=options.rehearse, within_s=left_s)
            rows += found
            print(
                f"{part}: {time.perf_counter() - started:.0f} s",
                *map(" | ".join, found),
                sep="\n  ",
                flush=True,
            )
    print("\n| what | measured | |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    return has_failed(rows)


if __name__ == "__main__":
    raise SystemExit(main())
