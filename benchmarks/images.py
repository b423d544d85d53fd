"""The images of the benchmark: real ones where they are, else phantoms as files of the same layout."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from turns import Setting

from xferlab.data.cache import open_table
from xferlab.data.sources.manifest.config import ManifestData
from xferlab.data.sources.phantom.config import PhantomCxrData
from xferlab.data.sources.registry import open_source
from xferlab.training.examples import ImageExamples

FIXED = {"device": "fixed"}
NUM_PHANTOMS, PHANTOM_SIZE_PX = 192, 512


LABELS = {"lung": [255], "ignore": [127]}


def section(root: Path) -> dict[str, Any]:
    """Returns the data section of the images of fixed devices, as a study has it."""
    return {"source": "manifest", "root": str(root), "where": FIXED, "labels": LABELS}


def manifest(root: Path) -> ManifestData:
    """Returns the same section as the engine reads it."""
    return ManifestData.model_validate(section(root))


def manifest_rows(root: Path) -> list[dict[str, str]]:
    """Returns the same images as rows of the table."""
    with open(root / "metadata.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[k] == v for k, v in FIXED.items())]


def examples(setting: Setting, device: torch.device, classes: Sequence[str] = ()) -> ImageExamples:
    """Returns the cases of the manifest, labelled by pathology if classes are given."""
    config = manifest(setting.root)
    cases = open_source("general", config, memo_dir=setting.cache_dir / "digests").cases()
    pathologies = {case.digest: case.pathology for case in cases}
    digests = sorted(pathologies)
    table = open_table(
        {"general": config}, size=setting.size_px, digests=digests, cache_dir=setting.cache_dir
    )
    arrays = (table.images, table.targets, table.spacing_mm)
    rows = table.rows(digests)
    found = ImageExamples(tuple(digests), *arrays, structures=config.targets, rows=rows, device=device)
    if classes:
        found.label([classes.index(pathologies[digest]) for digest in digests], classes)
    return found


def find_images(folder: Path) -> tuple[Path, str]:
    """Returns the folder of the real images, else of phantoms written to `folder`, and what they are."""
    root = Path(os.environ.get("XFERLAB_DATA", folder)) / "covid-lung-512"
    if (root / "metadata.csv").exists():
        return root, "real images (covid-lung-512, fixed devices)"
    write_phantoms(folder, NUM_PHANTOMS)
    return folder, "PHANTOMS: there is no $XFERLAB_DATA/covid-lung-512/metadata.csv"


def write_phantoms(folder: Path, count: int) -> None:
    """Writes phantom X-rays in the layout of the real ones: PNG files and `metadata.csv`."""
    config = PhantomCxrData(source="phantom_cxr", count=count, size_px=PHANTOM_SIZE_PX)
    source = open_source("phantoms", config, memo_dir=folder / "digests")
    with open(folder / "metadata.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "mask", "patient_id", "pathology", *FIXED])
        for case in source.cases():
            names = [f"{case.name}-{kind}.png" for kind in ("image", "mask")]
            decoded = source.decode(case)
            for name, pixels in zip(names, (decoded.image, decoded.targets[0]), strict=True):
                Image.fromarray(pixels).save(folder / name)
            writer.writerow([*names, case.patient, case.pathology, *FIXED.values()])
