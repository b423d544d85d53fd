"""A cluster of two hosts started by hand, by the commands of docs/cluster.md as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.clusters.network import OWN_PROCESSES, Network, ip, lacking, network
from tests.end_to_end.processes import MADE_BY_RAY
from tests.studies import attempts, environment, recorded, undisturbed, write_study

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")]

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
WITHIN_S = 300.0


def documented() -> list[tuple[str, str]]:
    """The commands, and what is said behind each."""
    (block,) = (
        text for text in re.findall(r"^```\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        if "ray start --head" in text
    )  # fmt: skip
    lines = [line.partition("#") for line in block.splitlines()]
    return [(command.strip(), said.strip()) for command, _, said in lines]


@dataclass
class Shell:
    """A shell on a host that stays open, with processes, a home folder and a Ray of its own.

    Attributes:
        folder: Where its output goes, and its home folder.
        process: The shell.
    """

    folder: Path
    process: subprocess.Popen[str]
    _count: int = field(default=0)

    @property
    def token(self) -> Path:
        return self.folder / ".ray" / "auth_token"

    def do(self, command: str, *, code: int = 0) -> str:
        """Runs a command, which must end with `code`, and returns what it printed."""
        self._count += 1
        out, ended = self.folder / f"{self._count}.out", self.folder / f"{self._count}.code"
        assert self.process.stdin is not None
        done = f"echo $? >{ended}.new; mv {ended}.new {ended}"
        self.process.stdin.write(f"{{ {command}\n}} >{out} 2>&1 </dev/null; {done}\n")
        self.process.stdin.flush()
        deadline = time.monotonic() + WITHIN_S
        while not ended.exists():
            assert time.monotonic() < deadline, f"{command}: {out.read_text()}"
            time.sleep(0.1)
        assert int(ended.read_text()) == code, f"{command}: {out.read_text()}"
        return out.read_text()


@contextmanager
def shell(hosts: Network, host: str, folder: Path) -> Iterator[Shell]:
    home, temp = folder / host, Path("/tmp") / f"xl-{os.getpid()}-{host}"
    home.mkdir()
    temp.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**environment(folder), "HOME": str(home), "RAY_TMPDIR": str(temp), "PATH": path}
    env.pop("RAY_AUTH_MODE", None)
    words = hosts.words(host, *OWN_PROCESSES, "bash")
    with subprocess.Popen(words, env=env, cwd=folder, stdin=subprocess.PIPE, text=True) as process:
        try:
            yield Shell(home, process)
        finally:
            process.kill()
            shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture
def shells(tmp_path: Path) -> Iterator[dict[str, Shell]]:
    with network(tmp_path, "head", "east") as hosts, ExitStack() as stack:
        for host in hosts.hosts:
            ip("-n", hosts.namespace(host), "route", "add", "default", "via", hosts.address("switch"))
        yield {host: stack.enter_context(shell(hosts, host, tmp_path)) for host in hosts.hosts}


@pytest.mark.parametrize("mode", ["token", "disabled"])
def test_the_commands_of_the_page_start_a_cluster_of_two_nodes(
    tmp_path: Path, shells: dict[str, Shell], mode: str
) -> None:
    study = write_study(
        tmp_path, arms={"a": {}}, resources={"cpu": os.cpu_count()},
        stages={"general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]}},
    )  # fmt: skip
    head, storage = shells["head"], tmp_path / "st"
    ran = address = ""
    for command, said in documented():
        if mode == "disabled" and command.startswith("ray get-auth-token"):
            continue  # as the page says
        if command == "ray stop":
            chosen_otherwise(head, ran, mode)
        command = command.replace("=token", f"={mode}").replace("HEAD", address)
        command = command.replace("/shared/results", str(storage))
        printed = [each.do(command) for each in on(said, shells)]
        if "get-auth-token" in command:
            shutil.copytree(head.token.parent, shells["east"].token.parent)
        if found := re.search(r"Local node IP: (\S+)", printed[0]):
            address = address or found[1]
        if command.startswith("xferlab"):
            assert "all 2 trials complete" in printed[0]
            assert not MADE_BY_RAY.findall(printed[0]), printed[0]
            ran = command
    assert {tries[-1]["host"] for tries in attempts(storage).values()} == {"head", "east"}
    assert recorded(storage) == undisturbed(tmp_path, study)


def on(said: str, shells: dict[str, Shell]) -> list[Shell]:
    """The hosts that a line of the page is for; a line without a word is for the head."""
    if "every node" in said:
        return list(shells.values())
    return [shells["east"]] if "each of the others" in said else [shells["head"]]


def chosen_otherwise(head: Shell, ran: str, mode: str) -> None:
    """Whoever did not set RAY_AUTH_MODE is let in, and whoever set the other value is told."""
    other = {"token": "disabled", "disabled": "token"}[mode]
    if mode == "disabled":
        head.do("ray get-auth-token --generate")
    head.do(f"(unset RAY_AUTH_MODE; {ran}-again)")
    asks = {"token": "asks for a token, and", "disabled": "asks for no token, so"}[mode]
    assert f"the cluster {asks}" in refused(head, f"RAY_AUTH_MODE={other} {ran}-other")
    if mode == "token":
        head.token.write_text("0" * 64)
        assert "this machine has another; copy" in refused(head, f"{ran}-other")
        head.token.rename(head.token.with_name("moved"))
        assert "this machine has none; copy" in refused(head, f"{ran}-other")
        head.token.with_name("moved").unlink()


def refused(shell: Shell, command: str) -> str:
    """The one line that a command ends with."""
    printed = shell.do(command, code=2)
    assert not MADE_BY_RAY.findall(printed), printed
    (line,) = (line for line in printed.splitlines() if line.startswith("xferlab: --address"))
    return line
