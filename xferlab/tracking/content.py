"""What of a trial goes into its W&B run: pure functions of spec, plan and records."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from xferlab.cohort import single_sections
from xferlab.plan.spec import TrialSpec
from xferlab.records.schema import TrialRecord

LONGEST_NAME = 128
"""Characters of a run's name that W&B takes; the config has all names in full."""


@dataclass(frozen=True)
class RunOrder:
    """What identifies a run to the process that writes it; all of it is sent as JSON.

    Attributes:
        run_id: Its id in W&B.
        name: Its name there.
        group: What it is shown with.
        job_type: `trial` or `study`.
        config: Its configuration.
        content: Digest of all that belongs to it, if it is rebuilt from records; empty for a running trial.
        epochs: All epochs that it is to hold then.
    """

    run_id: str
    name: str
    group: str
    job_type: str
    config: Mapping[str, Any]
    content: str = ""
    epochs: Sequence[Mapping[str, Any]] = ()

    @staticmethod
    def of_trial(spec: TrialSpec, config: Mapping[str, Any]) -> RunOrder:
        """Returns the order for the run of a trial."""
        return RunOrder(spec.trial_id, spec.name[-LONGEST_NAME:], spec.stage, "trial", config)

    def message(self, tracking: Mapping[str, Any], directory: Path) -> dict[str, Any]:
        """Returns the message that begins the run."""
        return {
            **tracking,
            "directory": str(directory.resolve()),
            "started": time.time(),
            **asdict(self),
        }


def content_sha256(
    *,
    epochs: Iterable[Mapping[str, Any]] = (),
    summary: Mapping[str, Any],
    arms: Sequence[str] = (),
    shown: Iterable[str] = (),
) -> str:
    """Returns the digest of all that belongs to a whole run: equal for equal values, NaN among them.

    Args:
        epochs: Numbers of each epoch by name.
        summary: Final values.
        arms: The arms that use the trial.
        shown: The sets whose images may be shown.
    """
    body = [list(epochs), dict(summary), sorted(arms), sorted(shown)]
    return hashlib.sha256(json.dumps(body, sort_keys=True, default=float).encode()).hexdigest()


def shown_sets(spec: TrialSpec, data: Mapping[str, Mapping[str, Any]], images: int) -> list[str]:
    """Returns the sets of a trial whose images may be shown: those of shareable sections."""
    sets = [(spec.section, f"{spec.section}.validation")]
    sets += [(evaluation.section, evaluation.name) for evaluation in spec.evaluations]
    return [name for section, name in sets if images and is_shareable(data, section)]


def run_config(
    spec: TrialSpec,
    *,
    names: Sequence[str] = (),
    arms: Sequence[str] = (),
    parent_weights: str | None = None,
) -> dict[str, Any]:
    """Returns the run's configuration: what was asked, without a path, a case or a key.

    Args:
        spec: The trial.
        names: All names of the trial; default: its own.
        arms: All arms that use it; default: those it knows.
        parent_weights: Digest of the weights that it starts from.
    """
    donor = spec.origin.donor if spec.origin else None
    return {
        "trial_id": spec.trial_id,
        "study": spec.settings.study,
        "names": list(names or [spec.name]),
        "arms": list(arms or spec.arms),
        "stage": spec.stage,
        "repetition": spec.repetition,
        # Of a fold its numbers; the name of a site stays in the storage.
        **{name: value for name, value in spec.coordinates.items() if isinstance(value, int)},
        "section": spec.section,
        "parent_runs": list(spec.parents),
        "parent_weights_sha256": parent_weights or (donor.sha256 if donor else None),
        "donor": donor.name if donor else None,
        **_flat(spec.identity.to_json()),
    }


def _flat(value: Any, prefix: str = "identity") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{prefix}.{key}").items()}
    # Seeds have 63 bits, and the web page counts in doubles.
    exact = isinstance(value, int) and abs(value) > 2**53
    return {prefix: str(value) if exact else value}


def trial_summary(record: TrialRecord, cases: Mapping[str, pa.Table]) -> dict[str, float]:
    """Returns a trial's final values.

    Args:
        record: Its record.
        cases: Rows of its evaluations (`CASES_SCHEMA`) by `section.part`.

    Returns:
        Best epoch, its score, and `section.part/metric`: the mean over the images where the metric is defined
        (NaN where it is nowhere); images of a simulated device apart, under `section.part/device/metric`.
    """
    means: dict[str, float] = {}
    for name, table in cases.items():
        values = table.to_pandas().groupby(["simulated", "metric"], sort=False, observed=True)["value"]
        for (simulated, metric), mean in values.mean().items():
            means["/".join(part for part in (name, simulated, metric) if part)] = mean
    return {
        "best_epoch": record.best_epoch,
        **({} if record.best_score is None else {"best_score": record.best_score}),
        "num_epochs": record.num_epochs,
        **means,
    }


def is_shareable(data: Mapping[str, Mapping[str, Any]], section: str) -> bool:
    """Returns whether pixels and names of a section may leave; only a plain `shareable: true` counts.

    Those of a set may where those of all its sections may.
    """
    return all(data.get(name, {}).get("shareable") is True for name in single_sections(section))


def pixel_row(arrays: Mapping[str, NDArray[Any]], *, caption: str = "") -> dict[str, Any]:
    """Returns the uint8 arrays (H, W) of a case for the writer, in base64."""
    shown = {name: array for name, array in arrays.items() if array.ndim == 2 and array.dtype == np.uint8}
    coded = {name: (array.shape, b64encode(array.tobytes()).decode()) for name, array in shown.items()}
    return {"caption": caption, "arrays": coded}
