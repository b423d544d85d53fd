"""Reading offline W&B runs back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

from xferlab.tracking.mirrored_run import MirroredRun, frames


def is_synced(folder: Path) -> bool:
    """Returns whether `wandb sync` has uploaded an offline directory."""
    return any(folder.glob("*.wandb.synced"))


def read_runs(folder: Path, run_id: str) -> dict[Path, MirroredRun]:
    """Returns the offline directories of a run id with what each holds, oldest first."""
    names = sorted(folder.glob(f"offline-run-????????_??????-{run_id}"))
    return {name: read_run(name / f"run-{run_id}.wandb") for name in names}


def read_run(path: Path) -> MirroredRun:
    """Returns what an offline file holds up to where it is torn; an absent file holds nothing."""
    held = MirroredRun()
    for data in frames(path.read_bytes() if path.exists() else b""):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "history":
            row = _values(record.history.item)
            if "epoch" in row:
                held.epochs[row["epoch"]] = {
                    key: value for key, value in row.items() if not key.startswith(("_", "overlays"))
                }
        elif kind == "run":
            held.config |= _values(record.run.config.update)
        elif kind == "config":
            held.config |= _values(record.config.update)
        elif kind == "summary":
            held.summary |= _values(record.summary.update)
        held.finished |= kind == "exit"
    return held


def _values(items: Any) -> dict[str, Any]:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
