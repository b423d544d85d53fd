"""Hosts of one's own: network namespaces with a name each, cabled to one bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

SUBNET = "10.213.77"
OWN_PROCESSES = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--")
"""What it starts sees no other Ray on this machine, and stops none."""


def lacking() -> str:
    """Returns what keeps this machine from making networks; empty if nothing does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    return "" if shutil.which("ip") else "network namespaces need the command `ip` (iproute2)"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@dataclass
class Network:
    """A switch, which is a host, too (address 1), and hosts behind it.

    Attributes:
        prefix: Of the namespaces' names, at most 9 characters; nobody else's.
        logs: Folder of the output of what runs in it.
        hosts: Names of the hosts; their addresses count from 2.
    """

    prefix: str
    logs: Path
    hosts: tuple[str, ...]
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def address(self, host: str) -> str:
        return f"{SUBNET}.{self.hosts.index(host) + 2 if host in self.hosts else 1}"

    def namespace(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def words(self, host: str, *command: str | Path) -> list[str]:
        """A command as it runs on a host, with the host's name."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', host]
        # Unlike `ip netns exec`, it leaves /sys as it is, without whose control groups slurmd does not start.
        return ["nsenter", f"--net=/run/netns/{self.namespace(host)}", *named, *map(str, command)]

    def start(self, host: str, *command: str | Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Starts a process that ends with the network."""
        log = (self.logs / f"{host}-{len(self._processes)}.log").open("wb")
        process = subprocess.Popen(
            self.words(host, *command), env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        log.close()
        self._processes.append(process)
        return process

    def run(self, host: str, script: str, *words: str | Path, env: dict[str, str]) -> None:
        """Runs a Python script on a host to its end."""
        command = self.words(host, sys.executable, "-c", script, *words)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    def cut(self, host: str) -> None:
        """Pulls a host's cable."""
        ip("-n", self.namespace("switch"), "link", "set", host, "down")

    def heal(self, host: str) -> None:
        """Puts the cable back."""
        ip("-n", self.namespace("switch"), "link", "set", host, "up")

    def output(self) -> str:
        """Returns what processes printed, for messages."""
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in sorted(self.logs.glob("*.log")))

    def build(self) -> None:
        switch = self.namespace("switch")
        ip("netns", "add", switch)
        ip("-n", switch, "link", "set", "lo", "up")
        ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", switch, "addr", "add", f"{self.address('switch')}/24", "dev", "bridge")
        ip("-n", switch, "link", "set", "bridge", "up")
        for host in self.hosts:
            name = self.namespace(host)
            ip("netns", "add", name)
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", switch)
            ip("-n", switch, "link", "set", host, "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"{self.address(host)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")

    def tear_down(self) -> None:
        for host in ("switch", *self.hosts):
            for pid in self._inside(host):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.wait(timeout=30)
        for host in ("switch", *self.hosts):
            subprocess.run(["ip", "netns", "del", self.namespace(host)], check=False, capture_output=True)

    def _inside(self, host: str) -> list[int]:
        """Processes of a namespace, which are all ours."""
        found = subprocess.run(
            ["ip", "netns", "pids", self.namespace(host)], check=False, capture_output=True, text=True
        )
        return [int(pid) for pid in found.stdout.split()]


@contextmanager
def network(folder: Path, *hosts: str) -> Iterator[Network]:
    """Yields a network that is gone afterwards, with all that runs in it."""
    logs = folder / "logs"
    logs.mkdir()
    made = Network(prefix=f"x{os.getpid()}", logs=logs, hosts=hosts)
    try:
        made.build()
        yield made
    finally:
        made.tear_down()
