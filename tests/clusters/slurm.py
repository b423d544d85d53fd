"""A SLURM of one's own: its controller and a daemon on each host of a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clusters import network

_WITH_NAMES = ("sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"')
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
_CONF = """\
ClusterName=test
SlurmctldHost={head}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=20
SchedulerParameters=batch_sched_delay=0,sched_interval=2
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str:
    """Returns what keeps this machine from running SLURM; empty if nothing does."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"needs SLURM: {', '.join(missing)}" if missing else network.lacking()


class Slurm:
    """A partition `gpu` whose nodes are the hosts of a network, each with a GPU that is none."""

    def __init__(self, hosts: network.Network, folder: Path):
        self.hosts, self._folder, self._head = hosts, folder, hosts.hosts[0]
        (folder / "state").mkdir(parents=True)
        conf = _CONF.format(head=self._head, address=hosts.address(self._head), folder=folder)
        for host in hosts.hosts:
            (folder / host).mkdir()
            conf += f"NodeName={host} NodeAddr={hosts.address(host)} CPUs=16 RealMemory=65536 Gres=gpu:1\n"
        names = [f"{hosts.address(host)} {host}\n" for host in hosts.hosts]
        (folder / "hosts").write_text("".join(["127.0.0.1 localhost\n", *names]))
        (folder / "slurm.conf").write_text(conf)
        (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        (folder / "cgroup.conf").write_text("CgroupPlugin=autodetect\n")
        self.env = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Starts all daemons and waits until every node is idle."""
        key, socket = self._folder / "munge.key", self._folder / "munge.socket"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key-file": key, "socket": socket, "pid-file": "munge.pid", "log-file": "munge.log"}
        paths = [f"--{name}={self._folder / file}" for name, file in {**files, "seed-file": "seed"}.items()]
        self.hosts.start(self._head, "munged", "--foreground", "--force", *paths, env=self.env)
        self.until(socket.exists)
        self.hosts.start(self._head, "slurmctld", "-D", env=self.env)
        for host in self.hosts.hosts:
            own = (*network.OWN_PROCESSES, *_WITH_NAMES, self._folder / "hosts")
            self.hosts.start(host, *own, "slurmd", "-D", "-N", host, env=self.env)
        self.until(
            lambda: self.says("sinfo", "-h", "-o", "%D %T").split() == [f"{len(self.hosts.hosts)}", "idle"]
        )

    def says(self, *words: str | Path, **env: str) -> str:
        """Returns what a command of SLURM prints, given on the first host."""
        done = subprocess.run(
            self.hosts.words(self._head, *words), env={**self.env, **env},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    def submit(self, *words: str | Path, **env: str) -> str:
        """Returns the number of a new job."""
        said = self.says("sbatch", "--parsable", *words, **env).strip()
        assert said.isdigit(), said
        return said

    def job(self, number: str) -> dict[str, str]:
        """Returns what SLURM knows of a job, such as its JobState and Restarts."""
        words = self.says("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def until(self, holds: Callable[[], object], *, within_s: float = 120.0) -> None:
        """Waits until something holds."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, f"{self.says('squeue', '--long')}\n{self.hosts.output()}"
            time.sleep(0.2)


@contextmanager
def slurm(folder: Path, *hosts: str) -> Iterator[Slurm]:
    """Yields a SLURM that is gone afterwards, with all of its jobs."""
    with network.network(folder, *hosts) as made:
        cluster = Slurm(made, folder / "slurm")
        cluster.start()
        yield cluster
