"""If the environment lacks something, a command works, or ends with 2 and a sentence, and no traceback.

Each limit is a few lines of shell, run as root in a mount namespace of its own, variables of the environment,
and words before the command (another user, fewer processes). Three verbs use all libraries that look at the
environment. With XFERLAB_ALL_VERBS=1 the tests try all verbs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.studies import TINY, command, environment, write_study, xferlab

lacks = [tool for tool in ("unshare", "setpriv", "prlimit") if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0 or bool(lacks), reason=f"needs root's rights {lacks or ''}"),
]

UID = 54321
"""A user without an entry. It may read all that root may, so that it finds this Python."""
USER = (
    f"setpriv --reuid {UID} --regid {UID} --clear-groups --inh-caps +dac_read_search "
    "--ambient-caps +dac_read_search "
)
LOOPBACK_UP = (
    "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh', b'lo', 1))"
)
FULL = "mkdir -p $F; mount -t tmpfs -o size=4k,mode=1777 none $F; cat /dev/zero > $F/x 2>/dev/null; "
READ_ONLY = "mkdir -p $F; mount -t tmpfs -o ro none $F; "
OTHER_TMP = (  # but the folder of the test is the same
    "mount --rbind /tmp /mnt; mount -t tmpfs -o size=600m,mode=1777 none /tmp; "
    "mkdir -p $W; chmod -R a+rx /tmp/*; mount --rbind /mnt/${W#/tmp/} $W; "
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy")
NOBODY = {"HOME": None, "USER": None, "LOGNAME": None}
LONG, TIMEOUT_S = "/" + "x" * 90, 240.0
STUDY = {
    "repetitions": 1,
    "data": {"general": TINY["data"]["general"]},
    "stages": {"general": {"data": "general", "evaluate_on": ["general.test"]}},
    "training": {**TINY["training"], "max_epochs": 2, "patience": 2},
    "arms": {"a": {}},
    "tracking": {"wandb": {"project": "limits", "mode": "offline"}},
}
VERBS: dict[str, Callable[[Path, str], list[str]]] = {
    "schema": lambda folder, study: ["schema"],
    "check": lambda folder, study: ["check", study],
    "plan": lambda folder, study: ["plan", study],
    "run": lambda folder, study: ["run", study, "--storage", f"{folder}/new", "--executor", "in-process"],
    "run on Ray": lambda folder, study: ["run", study, "--storage", f"{folder}/new", "--workers", "1"],
    "status": lambda folder, study: ["status", study],
    "failures": lambda folder, study: ["failures", study],
    "report": lambda folder, study: ["report", study],
    "tune": lambda folder, study: [
        "tune", study, "--space", f"{folder}/space.yaml", "--arm", "a", "--samples", "1", "--workers", "1",
    ],
    "mirror": lambda folder, study: ["mirror", study],
    "predict": lambda folder, study: [
        "predict", "a/general/r01", f"{folder}/image.png", "--study", study, "--out", f"{folder}/out",
    ],
    "prune": lambda folder, study: ["prune", study],
}  # fmt: skip


@dataclass(frozen=True)
class Limit:
    """What a command meets.

    Attributes:
        shell: Run before it, as root; `$W` is the test's folder, `$F` a name for a new one in it.
        variables: Of its environment; None removes one; `$W` and `$F` as above.
        before: Words before the command.
        own_network: Whether it has a network namespace of its own, in which the loopback interface is down.
    """

    shell: str = ""
    variables: Mapping[str, str | None] = field(default_factory=dict)
    before: str = ""
    own_network: bool = False


LIMITS = {
    "none": Limit(),
    "home read-only": Limit(READ_ONLY, {"HOME": "$F"}),
    "home absent": Limit("", {"HOME": "/nonexistent/home"}, USER),
    "no home and no entry": Limit("", NOBODY, USER),
    "no home and no cache": Limit("", {**NOBODY, "XFERLAB_CACHE": None}, USER),
    "home read-only and no cache": Limit(READ_ONLY, {"HOME": "$F", "XFERLAB_CACHE": None}),
    "TMPDIR long": Limit(f"mkdir -p $F{LONG}", {"TMPDIR": f"$F{LONG}"}),
    "TMPDIR full": Limit(FULL, {"TMPDIR": "$F"}),
    "TMPDIR read-only": Limit(READ_ONLY, {"TMPDIR": "$F"}),
    "TMPDIR absent": Limit("", {"TMPDIR": "/nonexistent/tmp"}),
    "/tmp read-only": Limit(OTHER_TMP + "mount -o remount,ro /tmp; mount -t tmpfs -o ro none /var/tmp"),
    "/tmp full": Limit(OTHER_TMP + "cat /dev/zero > /tmp/x 2>/dev/null"),
    "/tmp/ray of another user": Limit(OTHER_TMP + "mkdir -m 700 /tmp/ray", {}, USER),
    "no loopback": Limit(own_network=True),
    "no port": Limit(
        f'{sys.executable} -c "{LOOPBACK_UP}"; echo 60990 60999 > /proc/sys/net/ipv4/ip_local_port_range',
        own_network=True,
    ),
    "no /dev/shm": Limit("umount -l /dev/shm"),
    "/dev/shm of 1 MiB": Limit("mount -t tmpfs -o size=1m,mode=1777 none /dev/shm"),
    "/dev/shm read-only": Limit("mount -t tmpfs -o ro none /dev/shm"),
    "256 open files": Limit("ulimit -n 256", {}, USER),
    "64 open files": Limit("ulimit -n 64", {}, USER),
    "40 processes": Limit("", {}, f"prlimit --nproc=40 {USER}"),
    "MPLBACKEND of a notebook": Limit("", {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}),
    "proxies": Limit(
        "", {**dict.fromkeys(PROXIES, "http://127.0.0.1:9"), "no_proxy": None, "NO_PROXY": None}
    ),
    "RAY_ADDRESS": Limit("", {"RAY_ADDRESS": "192.0.2.3:6379"}),
    "RAY_AUTH_MODE": Limit("", {"RAY_AUTH_MODE": "token", "HOME": "/nonexistent/home"}, USER),
    "RAY_TMPDIR absent": Limit("", {"RAY_TMPDIR": "/nonexistent/tmp"}, USER),
    "CUDA_VISIBLE_DEVICES": Limit("", {"CUDA_VISIBLE_DEVICES": "nonsense,7"}),
    "OMP_NUM_THREADS": Limit("", {"OMP_NUM_THREADS": "nonsense"}),
    "LANG=C": Limit("", {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "umask 077": Limit("umask 077"),
    "working folder read-only": Limit(READ_ONLY + "cd $F"),
    "working folder deleted": Limit("mkdir -p $F; cd $F; rmdir $F"),
    "cache read-only": Limit(READ_ONLY, {"XFERLAB_CACHE": "$F"}),
    "cache full": Limit(FULL, {"XFERLAB_CACHE": "$F"}),
    "cache a file": Limit("touch $F", {"XFERLAB_CACHE": "$F"}),
    "cache in no folder": Limit("", {"XFERLAB_CACHE": "/nonexistent/cache"}, USER),
    "cache of an unknown user": Limit("", {"XFERLAB_CACHE": "~nobody-of-that-name/cache"}),
}


def complete_study(folder: Path) -> None:
    """Makes a study that is complete, an image and a space in a folder."""
    study = write_study(folder, **STUDY, storage=str(folder / "results"))
    xferlab(folder, "run", study, "--executor", "in-process", code=0)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "image.png")
    (folder / "space.yaml").write_text("training.lr: {loguniform: [1.0e-4, 1.0e-2]}\n")


def run_under(limit: Limit, verb: str, *, complete: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a verb under a limit, in a folder that it may write, with a copy of a complete study."""
    shutil.copytree(complete, folder)
    study = write_study(folder, **STUDY, storage=str(folder / "results"))
    _open_to_all(folder)
    variables = {"TMPDIR": None, "RAY_TMPDIR": None, **limit.variables}
    exports = "".join(
        f"unset {name}\n" if value is None else f'export {name}="{value}"\n'
        for name, value in variables.items()
    )
    words = " ".join(command(*VERBS[verb](folder, str(study))))
    script = f"W={folder} F={folder}/limit; cd $W; {limit.shell}\n{exports}exec {limit.before}{words}"
    namespaces = ["-m", *(["-n"] if limit.own_network else [])]
    return subprocess.run(
        ["unshare", *namespaces, "bash", "-c", script], env=environment(folder), capture_output=True,
        text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def _open_to_all(folder: Path) -> None:
    """Lets every user read and write what lies in a folder, and reach it."""
    for parent in (folder, *folder.parents[:-2]):
        os.chmod(parent, parent.stat().st_mode | 0o555)
    subprocess.run(["chmod", "-R", "a+rwX", str(folder)], check=True)


def problem_of(run: subprocess.CompletedProcess[str]) -> str:
    """What is wrong with how a command ended; empty if it worked, or refused with 2 and a sentence."""
    if "Traceback" in run.stderr + run.stdout or "terminate called" in run.stderr:
        return "traceback"
    if run.returncode not in (0, 2):
        return f"exit {run.returncode}"
    last = (run.stderr.strip().splitlines() or [""])[-1]
    return "no sentence" if run.returncode == 2 and not last.startswith("xferlab: ") else ""


REFUSED = {
    "no home and no cache", "home read-only and no cache", "no loopback", "no port", "40 processes",
    "working folder read-only", "working folder deleted", "cache read-only", "cache full", "cache a file",
    "cache in no folder", "cache of an unknown user",
}  # fmt: skip
"""Limits under which some verbs cannot work."""
TRIED = VERBS if os.environ.get("XFERLAB_ALL_VERBS") else ("run on Ray", "report", "predict")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("complete")
    complete_study(folder)
    return folder


@pytest.mark.parametrize("verb", TRIED)
@pytest.mark.parametrize("name", LIMITS)
def test_no_limit_ends_in_a_traceback(tmp_path: Path, complete: Path, name: str, verb: str) -> None:
    run = run_under(LIMITS[name], verb, complete=complete, folder=tmp_path / "work")
    assert not problem_of(run), run.stdout + run.stderr
    assert run.returncode == 0 or name in REFUSED, run.stderr
