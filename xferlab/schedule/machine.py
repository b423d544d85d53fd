"""What libraries take for granted of a machine: a home folder, a user's name, temporary files, open files.

Where one of these is missing, matplotlib, W&B, torch and Ray end with tracebacks of their own. So they are
given what works instead, before they are imported; where nothing does, a message names the variable to set.
"""

from __future__ import annotations

import errno
import os
import pwd
import resource
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from xferlab.errors import UsageError

OPEN_FILES = 4096
"""Ray and its workers open some hundred files and sockets each."""
SHORT = 28
"""Length of a folder, in bytes, for Ray's sockets: their paths add up to 78, and may have 107."""
OBJECT_STORE_BYTES = 80 * 2**20
"""Trials exchange nothing but short messages; Ray accepts no less than 75 MiB."""
RAY_BYTES = 128 * 2**20
"""What Ray's logs need at least, and its object store where there is no shared memory."""
_FOLDERS = "set TMPDIR, XFERLAB_CACHE or --storage, whichever names it, to another folder"
REMEDIES = {
    errno.ENOSPC: f"Free space there, or {_FOLDERS}.",
    errno.EDQUOT: f"Free space there, or {_FOLDERS}.",
    errno.EROFS: f"Make it writable, or {_FOLDERS}.",
    errno.EACCES: f"Give this user access, or {_FOLDERS}.",
    errno.EPERM: f"Give this user access, or {_FOLDERS}.",
    errno.EMFILE: "Raise the limit of open files (`ulimit -n`).",
    errno.ENFILE: "Close other programs, or raise the system's limit of open files (`fs.file-max`).",
    errno.EAGAIN: "Raise the limit of processes (`ulimit -u`).",
    errno.ENOMEM: "Free memory, or raise the limit of memory (`ulimit -v`, the container's).",
}
"""What to do about an error of the system that nothing nearer has explained, by its number."""
LOOPBACK, PORTS, ANSWER_S = "127.0.0.1", 24, 5.0
THREADS, THREADS_OF_RAY = 16, 200
"""What a verb needs beside a thread for each core (OpenBLAS interrupts a process that gets none), and Ray."""
STACK_BYTES = 2**18
"""Of a thread that only waits. With the usual 8 MiB, those for Ray would ask for 1.6 GiB of addresses."""
_OPENBLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""What OpenBLAS asks for a number of threads, in this order."""
_USER = ("LOGNAME", "USER", "LNAME", "USERNAME")
_HOMES = {"MPLCONFIGDIR": "matplotlib", "WANDB_CONFIG_DIR": "wandb", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
"""Where libraries write below the home folder, and what they take instead."""


def prepare() -> None:
    """Replaces what this machine lacks, for this process and all that it starts.

    Raises:
        UsageError: The working folder was deleted, no folder for temporary files can be written, or too few
            processes are allowed.
    """
    os.environ["MPLBACKEND"] = "Agg"  # a notebook gives its own backend to the commands that it starts
    _check_working_folder()
    _find_temporary_folder()
    _name_user()
    _replace_home()
    _allow_open_files()
    _check_threads(THREADS + _num_cores())


def _check_working_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UsageError("the working folder was deleted; change to one that exists") from error


def _find_temporary_folder() -> None:
    """Lets TMPDIR, which libraries believe, name the folder that Python finds usable."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise UsageError(
            f"temporary files cannot be written anywhere ({error.strerror}); set TMPDIR to a folder with "
            "free space"
        ) from error
    if "TMPDIR" in os.environ:
        os.environ["TMPDIR"] = folder


def _name_user() -> None:
    """Names a user without an entry in the list of users, as containers have them."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        if not any(os.environ.get(name) for name in _USER):
            os.environ["LOGNAME"] = f"uid-{os.getuid()}"


def _replace_home() -> None:
    """Lets libraries write into the cache what they would write into a home folder that cannot be written."""
    home = Path(os.path.expanduser("~"))
    cache = os.path.expanduser(os.environ.get("XFERLAB_CACHE", ""))
    if not cache or cache.startswith("~") or os.access(home, os.W_OK):
        return
    replacement = Path(cache).absolute() / "home"
    with suppress(OSError):  # a cache that cannot be written is told by the verbs that need one
        replacement.mkdir(parents=True, exist_ok=True)
        if not home.is_dir():
            os.environ["HOME"] = str(replacement)
        for variable, name in _HOMES.items():
            (replacement / name).mkdir(exist_ok=True)
            os.environ.setdefault(variable, str(replacement / name))


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def folder_for_ray() -> Iterator[Path]:
    """Yields a new folder with a short path for Ray's sockets and logs.

    It is removed at the end, unless it lies where RAY_TMPDIR says: who sets that may want the logs.

    Raises:
        UsageError: There is none.
    """
    bases = [os.environ.get("RAY_TMPDIR", ""), tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    tried = list(dict.fromkeys(filter(None, bases)))
    folder = next(filter(None, map(_new_folder, tried)), None)
    if folder is None:
        raise UsageError(
            f"Ray needs a folder that can be written and takes sockets, with a path of at most {SHORT} "
            f"characters and {RAY_BYTES >> 20} MiB free ({', '.join(tried)}: none is); set RAY_TMPDIR to "
            "one, or use --executor in-process"
        )
    try:
        yield folder
    finally:
        if str(folder.parent) != os.environ.get("RAY_TMPDIR"):
            shutil.rmtree(folder, ignore_errors=True)


def _new_folder(base: str) -> Path | None:
    """A new folder in one of a short path that can be written, takes sockets and has space; else None."""
    if len(os.fsencode(base)) > SHORT:
        return None
    with suppress(OSError):
        if shutil.disk_usage(base).free >= RAY_BYTES:
            folder = Path(tempfile.mkdtemp(prefix="xl-", dir=base))
            if _takes_sockets(folder):
                return folder
            shutil.rmtree(folder, ignore_errors=True)  # some leave a file of another kind
    return None


def _takes_sockets(folder: Path) -> bool:
    """Whether sockets have names there: on FAT, exFAT and some network mounts Ray would wait for one."""
    path = folder / "probe"
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(path))
        except OSError:
            return False
    path.unlink()
    return True


def check_room_for_ray() -> None:
    """Finds out at once what prevents Ray from working here; Ray waits for minutes or forever, or aborts.

    Raises:
        UsageError: There is no loopback network, too few free ports, or too few processes.
    """
    try:
        _open_ports()
    except OSError as error:
        raise UsageError(
            f"Ray needs {PORTS} free ports and open files on the loopback network {LOOPBACK}, and this "
            f"machine does not give them ({error.strerror}); use --executor in-process"
        ) from error
    _check_threads(THREADS_OF_RAY, instead=", or use --executor in-process")


def _open_ports() -> None:
    with ExitStack() as stack:
        for _ in range(PORTS):
            listener = stack.enter_context(socket.create_server((LOOPBACK, 0)))
            stack.enter_context(socket.create_connection(listener.getsockname(), timeout=ANSWER_S))


def _num_cores() -> int:
    """For how many cores a library may start threads: those of this process, or fewer if the user says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for value in (os.environ.get(name, "").partition(",")[0].strip() for name in _OPENBLAS):
        if value.isdecimal() and int(value) > 0:
            return min(cores, int(value))
    return cores


def _check_threads(number: int, *, instead: str = "") -> None:
    end, threads = threading.Event(), list[threading.Thread]()
    before = threading.stack_size(STACK_BYTES)
    try:
        for _ in range(number):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            threads.append(thread)
    except RuntimeError as error:
        raise UsageError(
            f"{number} processes and threads are needed, and this machine does not give them ({error}); "
            f"raise `ulimit -u`, `ulimit -v`, or the container's limits{instead}"
        ) from error
    finally:
        threading.stack_size(before)
        end.set()
        for thread in threads:
            thread.join()


def shared_memory() -> Path | None:
    """Returns the folder of shared memory if an object store has room in it, else None."""
    folder = Path("/dev/shm")
    with suppress(OSError):
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= OBJECT_STORE_BYTES:
            return folder
    return None
