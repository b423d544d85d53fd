"""The one place that names the files of a storage."""

from __future__ import annotations


def plan_path(study: str) -> str:
    """The last plan of a study: names -> ids."""
    return f"studies/{study}/plan.json"


def lease_path(study: str) -> str:
    """Who drives a study."""
    return f"studies/{study}/driver.lease"


def selection_path(selection: str) -> str:
    """An ordered choice of cases under its own digest."""
    return f"selections/{selection}.json"


def donor_path(sha256: str) -> str:
    """Given weights under their own digest, so that workers need neither the network nor the user's disk."""
    return f"donors/{sha256}"


def trial_dir(trial_id: str) -> str:
    """Folder of all files of a trial."""
    return f"trials/{trial_id}"


def spec_path(trial_id: str) -> str:
    """Everything needed to run it again."""
    return f"{trial_dir(trial_id)}/spec.json"


def progress_path(trial_id: str) -> str:
    """One line an epoch of a training that has not ended."""
    return f"{trial_dir(trial_id)}/progress.jsonl"


def history_path(trial_id: str) -> str:
    """One line an epoch of a training that has ended."""
    return f"{trial_dir(trial_id)}/history.jsonl"


def checkpoint_dir(trial_id: str) -> str:
    """Latest full states (to resume) and the best weights (for children)."""
    return f"{trial_dir(trial_id)}/checkpoint"


def weights_path(trial_id: str) -> str:
    """Best weights, safetensors."""
    return f"{checkpoint_dir(trial_id)}/best.safetensors"


def run_path(trial_id: str) -> str:
    """Times, memory, host, versions, attempts: all that is no function of the spec."""
    return f"{trial_dir(trial_id)}/run.json"


def failure_path(trial_id: str) -> str:
    """The last failure: first real traceback, signal, memory."""
    return f"{trial_dir(trial_id)}/failure.json"


def record_path(trial_id: str) -> str:
    """Written last: COMPLETE means that this exists and verifies."""
    return f"{trial_dir(trial_id)}/record.json"


def evaluation_dir(trial_id: str, evaluation_id: str) -> str:
    """Folder of one evaluation: cases.parquet, outputs.parquet, record.json."""
    return f"{trial_dir(trial_id)}/evaluations/{evaluation_id}"


def evaluation_path(trial_id: str, evaluation_id: str, name: str) -> str:
    """One file of an evaluation."""
    return f"{evaluation_dir(trial_id, evaluation_id)}/{name}"


def features_dir(trial_id: str, features_id: str) -> str:
    """Folder of a trial's deep features: features.parquet, record.json."""
    return f"{trial_dir(trial_id)}/features/{features_id}"


def features_path(trial_id: str, features_id: str, name: str) -> str:
    """One file of a trial's deep features."""
    return f"{features_dir(trial_id, features_id)}/{name}"


def tuning_dir(tuning_id: str) -> str:
    """Folder of a search: a storage of its own, in which samples lie as trials do in this one."""
    return f"tuning/{tuning_id}"


def tuning_path(tuning_id: str) -> str:
    """What a search is: arm, stage, space, what its samples are judged by."""
    return f"{tuning_dir(tuning_id)}/tuning.json"


def tuning_lease_path(tuning_id: str) -> str:
    """Who drives a search."""
    return f"{tuning_dir(tuning_id)}/driver.lease"
