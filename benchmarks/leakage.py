"""What the comparison of images finds of altered copies, whom it joins wrongly, and how long it takes.

    python benchmarks/leakage.py                                 # drawn chest X-rays, about 3 minutes
    python benchmarks/leakage.py --sizes 1000 4000 16000         # and the time for so many images
    XFERLAB_DATA=/path/to/data python benchmarks/leakage.py      # the real packs in that folder

Each line of the first table is an alteration: copies of some images are altered and put under other patients,
and all are compared. The second table compares the images as they are: all of each pack, and all packs
together. The third one times the comparison of drawn images whose thumbnails are there, without decoding.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from alterations import ALTERATIONS
from PIL import Image

from xferlab.leakage.image_matching import Pair, find_pairs
from xferlab.leakage.thumbnails import Grey, is_black, thumbnail
from xferlab.phantoms import PATHOLOGIES, brain_mri, brain_patient, chest_xray

COPIED, DRAWN, SLICES, SIZE_PX, LARGEST = 12, 300, 400, 256, 50_000


class Pack(NamedTuple):
    """Images and whose they are."""

    images: Sequence[Callable[[], Image.Image]]
    patients: Sequence[str]


def drawn_packs() -> dict[str, Pack]:
    """Returns packs of phantoms."""
    chests = [partial(drawn_chest, index, SIZE_PX) for index in range(DRAWN)]
    slices = [partial(drawn_slice, index) for index in range(SLICES)]
    return {
        "drawn chest X-rays": Pack(chests, [f"chest-{index}" for index in range(DRAWN)]),
        "drawn MRI slices": Pack(slices, [f"brain-{brain_patient(index)}" for index in range(SLICES)]),
    }


def drawn_chest(index: int, size_px: int) -> Image.Image:
    """Returns a chest X-ray that no one else has."""
    pathology = PATHOLOGIES[index % len(PATHOLOGIES)]
    return Image.fromarray(chest_xray(seed=11, index=index, pathology=pathology, size_px=size_px).image)


def drawn_slice(index: int) -> Image.Image:
    """Returns a slice of a head."""
    return Image.fromarray(
        np.ascontiguousarray(brain_mri(seed=11, index=index, size_px=SIZE_PX).image[..., 0])
    )


def real_packs(root: Path) -> dict[str, Pack]:
    """Returns the packs of a folder: those with a table, and volumes in the layout of `kaggle_3m`."""
    packs = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        files = dict(_volumes(folder) if (folder / "kaggle_3m").is_dir() else _listed(folder))
        if files:
            packs[folder.name] = Pack([partial(_opened, path) for path in files], list(files.values()))
    return packs


def _listed(folder: Path) -> Iterator[tuple[Path, str]]:
    if (folder / "metadata.csv").is_file():
        with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
            yield from ((folder / row["image"], row["patient_id"]) for row in csv.DictReader(file))


def _volumes(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted((folder / "kaggle_3m").glob("*/*[0-9].tif")):
        yield path, "_".join(path.parent.name.split("_")[:3])


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return Image.fromarray(np.ascontiguousarray(np.atleast_3d(np.asarray(image))[..., 0]))


class Shown(NamedTuple):
    """Thumbnails that show something, and whose they are."""

    thumbnails: list[Grey]
    patients: list[str]

    @classmethod
    def of(cls, packs: Sequence[Pack]) -> Shown:
        """Reads all images of packs."""
        made = [
            (thumbnail(np.asarray(image())), who) for pack in packs for image, who in zip(*pack, strict=True)
        ]
        kept = [(pixels, who) for pixels, who in made if not is_black(pixels)]
        return cls([pixels for pixels, _ in kept], [who for _, who in kept])

    def pairs(self) -> list[Pair[int]]:
        """The pairs of different patients."""
        return compared(self.thumbnails, np.unique(self.patients, return_inverse=True)[1])


def compared(thumbnails: Sequence[Grey], groups: np.ndarray) -> list[Pair[int]]:
    """Returns the pairs of different groups that agree in detail."""
    return find_pairs(thumbnails, groups, np.ones(len(thumbnails), bool))


def chosen(pack: Pack, number: int) -> tuple[list[Image.Image], list[str]]:
    """Returns images of different patients, from all over the pack, that show something."""
    first = {who: image for image, who in reversed(list(zip(*pack, strict=True)))}
    images = [(image(), who) for who, image in sorted(first.items())[:: max(1, len(first) // (2 * number))]]
    kept = [(image, who) for image, who in images if not is_black(thumbnail(np.asarray(image)))][:number]
    return [image for image, _ in kept], [who for _, who in kept]


def joined(images: Sequence[Image.Image], patients: Sequence[str], name: str) -> tuple[int, int]:
    """Returns how many altered copies are found, and how many others are taken for one exposure."""
    copies = [ALTERATIONS[name](image) for image in images]
    thumbnails = [thumbnail(np.asarray(image)) for image in (*images, *copies)]
    shown = [row for row, pixels in enumerate(thumbnails) if not is_black(pixels)]
    pairs = compared([thumbnails[row] for row in shown], np.array(shown))
    rows = [(shown[pair.first], shown[pair.second]) for pair in pairs if pair.one_exposure]
    found = sum(second - first == len(images) for first, second in rows)
    people = [*patients, *patients]
    return found, sum(people[first] != people[second] for first, second in rows)


def print_alterations(packs: Mapping[str, Pack], number: int) -> bool:
    """Prints how many copies are found in each pack; returns whether anybody is joined wrongly."""
    images = {name: chosen(pack, number) for name, pack in packs.items()}
    numbers = ", ".join(f"{len(each)} ({name})" for name, (each, _) in images.items())
    print(f"copies that are found, of {numbers}; the last column is their sum")
    wrong = 0
    for name in ALTERATIONS:
        results = [joined(*each, name) for each in images.values()]
        wrong += sum(false for _, false in results)
        cells = "".join(f"{found:>6}" for found, _ in results)
        print(f"{name:40}{cells}{sum(found for found, _ in results):>8}", flush=True)
    print(f"wrongly joined pairs: {wrong}\n")
    return wrong > 0


def print_unaltered(packs: Mapping[str, Pack]) -> None:
    """Prints how much images of different patients agree."""
    print(
        f"{'images of different patients, as they are':42}{'images':>8}{'one exposure':>14}{'look alike':>12}"
    )
    several = {"all together": list(packs.values())} if len(packs) > 1 else {}
    for name, each in {**{name: [pack] for name, pack in packs.items()}, **several}.items():
        shown = Shown.of(each)
        pairs = shown.pairs()
        one = sum(pair.one_exposure for pair in pairs)
        print(f"{name:42}{len(shown.thumbnails):>8}{one:>14}{len(pairs) - one:>12}", flush=True)
    print()


def print_times(sizes: Sequence[int]) -> None:
    """Prints how long so many drawn images take, and how much memory."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        thumbnails = list(pool.map(_small, range(max(sizes)), chunksize=64))
    print(
        f"{'images':>8}{'seconds':>10}{'CPU seconds':>13}{'ms an image':>13}{'GiB':>7}{'wrongly joined':>16}"
    )
    seconds = []
    for size in sizes:
        started, used = time.monotonic(), time.process_time()
        pairs = compared(thumbnails[:size], np.arange(size))
        seconds.append(time.monotonic() - started)
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        wrong = sum(pair.one_exposure for pair in pairs)
        cells = f"{seconds[-1]:>10.1f}{time.process_time() - used:>13.1f}{1000 * seconds[-1] / size:>13.2f}"
        print(f"{size:>8}{cells}{gib:>7.2f}{wrong:>16}", flush=True)
    if len(sizes) > 2:
        # An image costs a constant and a share for each of the others that look like it.
        slope, constant = np.polyfit(sizes, np.array(seconds) / sizes, 1)
        print(f"{LARGEST:>8}{LARGEST * (constant + slope * LARGEST):>10.0f}  (extrapolated)")


def _small(index: int) -> Grey:
    return thumbnail(np.asarray(drawn_chest(index, 160)))


def main(words: Sequence[str] | None = None) -> int:
    """Prints the tables; returns 1 if an altered copy is joined with somebody else."""
    parser = argparse.ArgumentParser(
        description="The comparison of images that finds a person under two ids."
    )
    parser.add_argument("--copies", type=int, default=COPIED, help="images of each pack that are altered")
    parser.add_argument("--sizes", type=int, nargs="*", default=[], help="numbers of images to time")
    parser.add_argument("--only-times", action="store_true", help="leave the other tables out")
    options = parser.parse_args(words)
    wrong = False
    if not options.only_times:
        root = os.environ.get("XFERLAB_DATA")
        packs = real_packs(Path(root)) if root else drawn_packs()
        wrong = print_alterations(packs, options.copies)
        print_unaltered(packs)
    if options.sizes:
        print_times(sorted(options.sizes))
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
