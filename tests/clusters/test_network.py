"""Three hosts in network namespaces, storage over S3, a cable that is pulled in mid-trial and put back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clusters.network import Network, lacking, network
from tests.studies import (
    RECORDED,
    TINY,
    attempts,
    command,
    environment,
    outcomes,
    recorded,
    undisturbed,
    write_study,
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")]

WITHIN_S = 240.0
RAY = (sys.executable, "-m", "ray.scripts.scripts")
STUDY = {
    "repetitions": 3,
    "training": {**TINY["training"], "max_epochs": 60, "patience": 60, "checkpoint_every_s": 0.5},
    "stages": {"general": {"data": "general", "repetitions": 3, "evaluate_on": ["general.test"]}},
    "arms": {"a": {}},
}
QUICK_TO_NOTICE = {  # of Ray's head: a node that is silent for some seconds is dead
    "RAY_health_check_initial_delay_ms": "1000", "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "3",
}  # fmt: skip
MAKE_BUCKET = "import sys, pyarrow.fs as fs; fs.FileSystem.from_uri(sys.argv[1])[0].create_dir('bucket')"
FETCH = """
import pathlib, sys
from xferlab.records.store import Store
store = Store.open(sys.argv[1])
for name, _ in store.walk(""):
    target = pathlib.Path(sys.argv[2], name)
    if target.name in sys.argv[3:]:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.read(name) or b"")
"""


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Network]:
    with network(tmp_path, "head", "east", "west") as made:
        yield made


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """What all hosts have in common."""
    own = {
        "HOME": str(tmp_path), "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0",
        "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    return {**environment(tmp_path), **QUICK_TO_NOTICE, **own}


@pytest.fixture
def temps() -> Iterator[Callable[[str], Path]]:
    """A short folder for each host's Ray; paths of sockets end at 107 characters."""
    folder = Path("/tmp") / f"xl-{os.getpid()}"
    yield lambda host: folder / host
    shutil.rmtree(folder, ignore_errors=True)


def ray_start(hosts: Network, host: str, temp: Path, env: dict[str, str]) -> None:
    """Starts Ray on a host, one core for trials unless it is the head."""
    own, head = hosts.address(host), hosts.address("head")
    where = [f"--address={head}:6379"]
    if host == "head":
        where = ["--head", "--port=6379", "--include-dashboard=false"]
    cores = "0" if host == "head" else "1"
    hosts.start(
        host, *RAY, "start", *where, f"--node-ip-address={own}", f"--num-cpus={cores}", "--block",
        f"--temp-dir={temp}", "--disable-usage-stats", env=env,
    )  # fmt: skip


def eventually(holds: Callable[[], object], hosts: Network, driver: subprocess.Popen[bytes] | None) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert driver is None or driver.poll() is None, hosts.output()
        assert time.monotonic() < deadline, hosts.output()
        time.sleep(0.3)


def test_a_host_that_is_cut_off_in_mid_trial_costs_nothing_but_time(
    tmp_path: Path, hosts: Network, env: dict[str, str], temps: Callable[[str], Path]
) -> None:
    study = write_study(tmp_path, **STUDY)
    subprocess.run([*RAY, "get-auth-token", "--generate"], env=env, check=True, capture_output=True)
    server = f"{hosts.address('switch')}:5000"
    uri = f"s3://bucket/results?endpoint_override={server}&scheme=http&region=us-east-1"
    hosts.start(
        "switch", sys.executable, "-m", "moto.server", "-H", hosts.address("switch"), "-p", "5000", env=env
    )
    eventually(lambda: answers(hosts, "switch", 5000), hosts, None)
    hosts.run("head", MAKE_BUCKET, f"{uri}&allow_bucket_creation=true", env=env)
    for host in hosts.hosts:
        ray_start(hosts, host, temps(host), env)
        eventually(lambda: answers(hosts, "head", 6379), hosts, None)
    words = command("run", study, "--storage", uri, "--address", f"{hosts.address('head')}:6379")
    driver = hosts.start("head", *words, env=env)

    def fetched() -> Path:
        shutil.rmtree(tmp_path / "fetched", ignore_errors=True)
        hosts.run("switch", FETCH, uri, tmp_path / "fetched", "run.json", *RECORDED, env=env)
        return tmp_path / "fetched"

    def tried_on(host: str) -> list[str]:
        return [trial for trial, tries in attempts(fetched()).items() if tries[-1]["host"] == host]

    eventually(lambda: tried_on("east"), hosts, driver)
    (victim,) = tried_on("east")
    hosts.cut("east")
    eventually(lambda: victim in tried_on("west"), hosts, driver)
    hosts.heal("east")
    assert driver.wait(timeout=WITHIN_S) == 0, hosts.output()
    storage = fetched()
    tries = attempts(storage)
    ended = outcomes(storage)
    print(ended)
    assert [outcome[-1] for outcome in ended.values()] == ["complete"] * 3
    assert [attempt["host"] for attempt in tries[victim]] == ["east", "west"]
    assert recorded(storage) == undisturbed(tmp_path, study)


def answers(hosts: Network, host: str, port: int) -> bool:
    """Whether somebody listens on a host, as the head sees it."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    words = hosts.words("head", sys.executable, "-c", script, hosts.address(host), str(port))
    return subprocess.run(words, check=False, capture_output=True).returncode == 0
