"""An own reader of the offline files of W&B: every row counts, so that what is sent twice is seen twice."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

from xferlab.tracking.mirrored_run import frames


@dataclass
class OfflineRun:
    """One offline file: its `run` record and all that followed."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    made: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    stored: dict[str, Path] = field(default_factory=dict)
    """The files of tables, which `wandb sync` uploads, by their names."""

    @property
    def epochs(self) -> list[int]:
        return [row["epoch"] for row in self.rows if "epoch" in row]


def offline_runs(directory: Path) -> list[OfflineRun]:
    """All runs that `wandb sync` would send, in its order."""
    return [read_offline(path) for path in sorted(directory.glob("wandb/offline-run-*/run-*.wandb"))]


def read_offline(path: Path) -> OfflineRun:
    result = OfflineRun()
    for record in map(pb.Record.FromString, frames(path.read_bytes())):
        if record.HasField("run"):
            result.run = record.run
            result.config.update(decoded(record.run.config.update))
        elif record.HasField("config"):
            result.config.update(decoded(record.config.update))
        elif record.HasField("history"):
            result.rows.append({**decoded(record.history.item), "step": record.history.step.num})
        elif record.HasField("summary"):
            result.summary.update(decoded(record.summary.update))
        elif record.HasField("artifact") and record.artifact.type == "model":
            (result.taken if record.artifact.use_after_commit else result.made).append(record.artifact.name)
        elif record.HasField("artifact"):
            contents = record.artifact.manifest.contents
            result.stored |= {entry.path: Path(entry.local_path) for entry in contents}
        elif record.HasField("exit"):
            result.exit_code = record.exit.exit_code
    return result


def decoded(items: Any) -> dict[str, Any]:
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def all_bytes(directory: Path) -> bytes:
    """Every byte below a folder, names of files included."""
    return b"\0".join(
        str(path.relative_to(directory)).encode() + b"\0" + path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    )
