"""The tasks of the tests, and studies of them.

`labelled` learns the classes of whole images, `masked` does so from what masks of another stage leave, and
`duet` has every role; what they share is in `images`. They lie in `added` as tasks of the package would, and
`added()` lets this process and its children know them, as the fixture `added_tasks` does for a file of tests.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from xferlab import tasks
from xferlab.tasks import registry

FOLDER = Path(__file__).parent / "added"
COLUMNS = ("image", "mask", "patient_id", "pathology", "finding", "site")


@contextmanager
def added() -> Iterator[None]:
    """Adds the tests' tasks to those of the package, here and in processes that start meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "__path__", [*tasks.__path__, str(FOLDER)])
        patch.setenv("PYTHONPATH", str(FOLDER / "startup"), prepend=":")
        registry.names.cache_clear()
        try:
            yield
        finally:
            registry.names.cache_clear()
            registry.task.cache_clear()
            ours = tuple(f"xferlab.tasks.{folder.name}" for folder in FOLDER.iterdir())
            for name in [name for name in sys.modules if name.startswith(ours)]:
                del sys.modules[name]


class Pack:
    """A folder of images that a network can tell apart: the brighter, the later their finding is in a list.

    Attributes:
        root: The folder.
        rows: Of its table, by number; `write` writes them.
    """

    def __init__(self, root: Path, findings: Sequence[str], *, each: int = 12, first: int = 0):
        """Makes `each` images of each finding, each of another patient, with a mask and one of two sites."""
        self.root = root
        (root / "images").mkdir(parents=True)
        (root / "masks").mkdir()
        self.rows: list[dict[str, str]] = []
        for number in range(first, first + each * len(findings)):
            place = number % len(findings)
            self.rows.append(self.put(number, 60 * place + 40, findings[place]))
        self.write()

    def put(self, number: int, grey: int, finding: str) -> dict[str, str]:
        """Saves an image with its mask, and returns their row."""
        noise = np.random.default_rng(number).integers(-30, 30, (24, 24))
        mask = np.zeros((24, 24), np.uint8)
        mask[4:20, 4 + number % 8 : 16] = 255
        mask[number // 24 % 4, number % 24] = 255
        cells = {"image": f"images/{number}.png", "mask": f"masks/{number}.png"}
        Image.fromarray(np.clip(grey + noise, 0, 255).astype(np.uint8)).save(self.root / cells["image"])
        Image.fromarray(mask).save(self.root / cells["mask"])
        site = "north" if number % 3 else "south"
        pathology = "well" if number % 2 else "ill"
        return {**cells, "patient_id": f"p{number}", "pathology": pathology, "finding": finding, "site": site}

    def write(self) -> None:
        """Writes the table."""
        with open(self.root / "metadata.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)

    def section(self, **fields: Any) -> dict[str, Any]:
        """The data section of the folder."""
        return {"source": "manifest", "root": str(self.root), **fields}


TRAINING = {"batch_size": 8, "max_epochs": 3, "patience": 3}
BY_FINDING = {"column": "finding"}


def stage(data: str | list[str], **fields: Any) -> dict[str, Any]:
    """A stage that learns the findings."""
    return {"task": "labelled", "data": data, "classes": BY_FINDING, "training": TRAINING, **fields}


def study_of(data: Mapping[str, Any], stages: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A study as plain values."""
    return {
        "study": "labels",
        "seed": 3,
        "repetitions": 2,
        "storage": "results",
        "data": dict(data),
        "stages": dict(stages),
        "training": {"device": "cpu", "precision": "float32"},
        **fields,
    }


def write(folder: Path, study: Mapping[str, Any]) -> Path:
    """Writes a study file."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(dict(study), sort_keys=False))
    return path
