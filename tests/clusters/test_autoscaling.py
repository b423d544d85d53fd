"""A cluster of no workers whose autoscaler, Ray's own, starts nodes on this machine while trials wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.clusters.network import OWN_PROCESSES
from tests.clusters.test_nodes import LONG
from tests.end_to_end.processes import free_port
from tests.studies import attempts, command, environment, recorded, undisturbed, write_study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="processes of its own need root"),
]

WITHIN_S = 240.0


def configured(folder: Path, address: str) -> Path:
    """The file that tells the autoscaler of at most two nodes of a core each, and of none at first."""
    worker = {"resources": {"CPU": 1, "object_store_memory": 10**8}, "node_config": {}}
    commands = [f"{who}{what}_commands" for who in ("head_", "worker_") for what in ("setup", "start_ray")]
    config: dict[str, Any] = {
        "cluster_name": "grows",
        "provider": {
            "type": "fake_multinode", "gcs_address": address, "launch_multiple": True,
            "disable_node_updaters": True, "disable_launch_config_check": True,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "core": {**worker, "min_workers": 0, "max_workers": 2},
        },
        "max_workers": 2, "upscaling_speed": 2.0, "idle_timeout_minutes": 5,
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in ("initialization_commands", "setup_commands", *commands)},
        "cluster_synced_files": [], "file_mounts_sync_continuously": False,
        "rsync_exclude": [], "rsync_filter": [],
    }  # fmt: skip
    file = folder / "autoscaling.json"  # which is YAML
    file.write_text(json.dumps(config))
    return file


@pytest.fixture
def sockets() -> Iterator[str]:
    """A folder for Ray with a short path: those of its sockets have at most 107 characters."""
    with TemporaryDirectory(prefix="xt-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


def test_trials_that_wait_make_a_cluster_of_no_workers_grow(tmp_path: Path, sockets: str) -> None:
    study, storage, address = write_study(tmp_path, **LONG), tmp_path / "st", f"127.0.0.1:{free_port()}"
    head = [
        Path(sys.executable).with_name("ray"), "start", "--head", "--num-cpus=0", "--include-dashboard=false",
        "--node-ip-address=127.0.0.1", f"--port={address.partition(':')[2]}", f"--temp-dir={sockets}",
        f"--autoscaling-config={configured(tmp_path, address)}", "--disable-usage-stats",
    ]  # fmt: skip
    script = '"${@:1:$0}" >ray.log 2>&1 && exec "${@:$0+1}"'
    run = command("run", study, "--storage", storage, "--address", address)
    done = subprocess.run(
        [*OWN_PROCESSES, "bash", "-c", script, str(len(head)), *map(str, head), *run],
        env={**environment(tmp_path), "HOME": str(tmp_path), "RAY_FAKE_CLUSTER": "1",
             "AUTOSCALER_UPDATE_INTERVAL_S": "1"},
        cwd=tmp_path, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no node has that (largest: {'CPU': 0.0, 'GPU': 0.0})" in done.stderr
    assert "Waiting for nodes" in done.stderr
    first, second = (tries[-1] for tries in attempts(storage).values())
    assert max(first["started"], second["started"]) < min(first["ended"], second["ended"])
    assert recorded(storage) == undisturbed(tmp_path, study)
