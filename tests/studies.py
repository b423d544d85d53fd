"""Small real studies on phantoms, and how tests run and compare them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

TINY: dict[str, Any] = {
    "study": "tiny",
    "seed": 5,
    "repetitions": 2,
    "data": {
        "general": {"source": "phantom_cxr", "count": 24, "seed": 1, "size_px": 32},
        "portable": {
            "source": "phantom_cxr", "count": 24, "seed": 2, "size_px": 32, "simulate": "portable",
            "hold_out": 0.4,
        },
    },
    "model": {"init_features": 2, "image_size": 32},
    "stages": {
        "general": {
            "data": "general", "repetitions": 2, "evaluate_on": ["general.test", "portable.hold_out"],
        },
        "portable": {"data": "portable", "starts_from": "general", "evaluate_on": ["portable.hold_out"]},
    },
    "training": {
        "batch_size": 4, "max_epochs": 4, "patience": 4, "device": "cpu", "precision": "float32",
        "checkpoint_every_s": 60,
    },
    "overlay_cases": 1,
    "arms": {"baseline": {}, "still": {"stages.portable.training": {"rotation": None}}},
}  # fmt: skip

ONE_TRIAL: dict[str, Any] = {
    "repetitions": 1,
    "arms": {"a": {}},
    "stages": {"general": {"data": "general", "repetitions": 1, "evaluate_on": ["general.test"]}},
}
"""What `write_study` changes for a study of one trial, `a/general/r01`."""

RECORDED = (
    *("record.json", "cases.parquet", "outputs.parquet", "pictures.parquet", "features.parquet"),
    "best.safetensors",
)


def write_study(folder: Path, **changes: Any) -> Path:
    """Writes TINY with top-level fields replaced."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
    return path


def write_pack(folder: Path, pairs: Iterable[tuple[np.ndarray, np.ndarray]], *, patient: str = "p") -> Path:
    """Writes images `N.png`, masks `N_mask.png` and their table, each of another patient."""
    folder.mkdir(exist_ok=True)
    rows = ["image,mask,patient_id,pathology"]
    for number, (image, mask) in enumerate(pairs):
        Image.fromarray(image).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
        rows.append(f"{number}.png,{number}_mask.png,{patient}{number},normal")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def noise(seed: int, side: int) -> np.ndarray:
    """A square of grey values."""
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def environment(folder: Path) -> dict[str, str]:
    """The environment of a child process: a cache of its own, one thread."""
    return {
        **os.environ,
        "XFERLAB_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "WANDB_MODE": "offline",
    }


def command(*words: str | Path) -> list[str]:
    """The command line as a user's shell starts it."""
    return [sys.executable, "-m", "xferlab", *map(str, words)]


def xferlab(
    folder: Path, *words: str | Path, timeout_s: float = 300.0, code: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs the command line in a process of its own; it must end with `code`, if one is given."""
    done = subprocess.run(
        command(*words), env=environment(folder), cwd=folder, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip
    assert code in (None, done.returncode), done.stderr
    return done


def recorded(storage: Path) -> dict[str, str]:
    """Digest of every file that is a function of the specs, by its name in the storage."""
    files = [*storage.glob("predictions/*/*.parquet"), *(p for p in storage.rglob("*") if p.name in RECORDED)]
    return {str(path.relative_to(storage)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def attempts(storage: Path) -> dict[str, list[dict[str, Any]]]:
    """All attempts at every trial, by id."""
    runs = storage.glob("trials/*/run.json")
    return {path.parent.name: json.loads(path.read_text())["attempts"] for path in runs}


def has_trained(storage: Path) -> bool:
    """Whether a trial has finished some epochs."""
    return any(path.stat().st_size > 500 for path in storage.glob("trials/*/*.jsonl"))


def outcomes(storage: Path) -> dict[str, list[str]]:
    """How all attempts at every trial ended, by id."""
    return {
        trial_id: [attempt["outcome"] for attempt in tries] for trial_id, tries in attempts(storage).items()
    }


def undisturbed(folder: Path, study: Path) -> dict[str, str]:
    """What is recorded by a run of a study, in one process, that nothing disturbs."""
    xferlab(folder, "run", study, "--storage", folder / "whole", "--executor", "in-process", code=0)
    return recorded(folder / "whole")
