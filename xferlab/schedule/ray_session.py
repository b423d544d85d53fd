"""What trials and searches share of Ray: joining or starting a cluster, and what a Tune run needs.

Ray is imported here, in `ray_token`, `nodes`, `ray_tune`, `ray_worker` and `worker_failures`, and nowhere
else.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from ray.tune.error import TuneError
from ray.tune.execution import class_cache

from xferlab.errors import ClusterLostError, StorageError, UsageError
from xferlab.records.store import Store
from xferlab.schedule import machine
from xferlab.schedule.ray_token import no_cluster, own_token, token_as_asked
from xferlab.schedule.stop import StopRequest
from xferlab.schedule.watch import Address, Watch

# Read when a cluster or a Tune run starts.
_SETTINGS = {
    # No phoning home, no loggers beside our records, no snapshots of a state that nobody reads.
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_MAX_PENDING_TRIALS_PG": "64",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are ours
    # A worker that ends would kill the mirror of its last trial, which ends by itself soon after.
    "RAY_kill_child_processes_on_worker_exit": "0",
    # Tune trains each trial in a new thread of its worker. glibc gives new threads heaps of their own, up to
    # eight a core, and each keeps the peak of a trial; so all trials of a worker share one heap. glibc reads
    # this when a process starts.
    "MALLOC_ARENA_MAX": "1",
    # Without it cuBLAS has no deterministic algorithms; it reads this once in a process.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # A sample that is stopped early writes its attempt before its worker takes another.
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",
}
for _name, _value in _SETTINGS.items():
    os.environ.setdefault(_name, _value)
# Without it Tune starts a trial of a preempted node again by itself, and nobody decides how often.
os.environ["RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE"] = "1"

SCRATCH = "tune"
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
_UNNEEDED = ("start_api_server", "start_log_monitor", "start_monitor")
"""Ray's methods that start what a cluster of one machine does not need: a dashboard, a printer of the logs of
workers, and what adds nodes. Each process takes a second of CPU time to start."""
_IMPORTS = "RAY_preload_python_modules"
AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
# Tune hands these to its workers in a runtime environment, and Ray writes that to its logs; see `Access`.
class_cache.ENV_VARS_TO_PROPAGATE.difference_update(AWS_KEYS)
class_cache.ENV_VARS_TO_PROPAGATE.update(
    {"MALLOC_ARENA_MAX", "CUBLAS_WORKSPACE_CONFIG", "TUNE_FUNCTION_THREAD_TIMEOUT_S"}
)

PROBE_S = 5.0
SILENT_HERE_S, SILENT_ELSEWHERE_S = 5.0, 30.0
"""A cluster is lost when nobody has listened for so long; Ray ends this process after 60 s."""


@contextmanager
def cluster(
    address: str | None,
    *,
    num_cpus: int | None = None,
    imports: Sequence[str] = (),
    stop: StopRequest | None = None,
) -> Iterator[None]:
    """Joins the cluster at `address`, or starts one on this machine, for the time of the context.

    Args:
        address: Of its head; None for a cluster of this machine alone, which listens on loopback only.
        num_cpus: Of this machine, where one is started; None for all.
        imports: Modules that the processes of a cluster that is started, one a CPU, import at once.
        stop: Told if the cluster is lost.

    Raises:
        UsageError: There is no cluster at the address, Ray cannot start here, or this process is connected
            to a cluster already.
    """
    if ray.is_initialized():
        raise UsageError(
            "Ray is already connected in this process; call ray.shutdown() first, or use --executor "
            "in-process"
        )
    is_ours = address is None
    patience_s = SILENT_HERE_S if is_ours else SILENT_ELSEWHERE_S
    with ExitStack() as stack:
        # Ray prints what it has to say of lost nodes ("(raylet) ...") even where it is to log nothing.
        stack.enter_context(_replaced(ray._private.worker, "print_to_stdstream", _say_nothing))
        if address is None:
            stack.enter_context(_own_cluster(num_cpus, imports))
        else:
            _probe(address)
            stack.enter_context(token_as_asked(address))
            _join(address)
        with Watch(_addresses(), stop or StopRequest(), patience_s=patience_s, started_here=is_ours) as watch:
            try:
                yield
            finally:
                watch.rest()
                ray.shutdown()


def _say_nothing(data: Any, ignore_prefix: bool) -> None:
    """Takes the place of Ray's function that prints."""


def _join(address: str) -> None:
    try:
        ray.init(address=address, **_QUIET)
    except ConnectionError as error:
        raise no_cluster(address, str(error)) from error


@contextmanager
def _own_cluster(num_cpus: int | None, imports: Sequence[str]) -> Iterator[None]:
    """Starts a cluster on this machine whose sockets, logs and token lie in a new folder."""
    machine.check_room_for_ray()
    with machine.folder_for_ray() as folder, own_token(folder), _waiting_workers():
        mark = folder / "in-use"  # Ray's processes create the folder again, but not this
        mark.touch()
        try:
            with _on_this_machine(), _set(_IMPORTS, ",".join(imports)):
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    object_store_memory=machine.OBJECT_STORE_BYTES,
                    _temp_dir=str(folder / "r"),  # Ray opens it to all users; what is above it stays private
                    _plasma_directory=str(machine.shared_memory() or folder),
                    **_QUIET,
                )
        except Exception as error:  # Ray raises just that where its processes do not come up
            ray.shutdown()
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(
                f"Ray does not start on this machine: {reason}. Check its limits (`ulimit -a`), memory and "
                "loopback network, join a cluster by --address, or use --executor in-process."
            ) from error
        try:
            yield
        except (TuneError, StorageError) as error:
            if mark.exists():
                raise
            raise ClusterLostError(
                f"Ray's folder {folder} was deleted while Ray ran. Let RAY_TMPDIR name a folder that nothing "
                "cleans up; the same command continues"
            ) from error


@contextmanager
def _waiting_workers() -> Iterator[None]:
    """Lets Tune take the processes that Ray starts with a cluster of ours: they have our environment.

    With variables of its own a worker would be a new process.
    """
    with _replaced(class_cache, "DEFAULT_ENV_VARS", {}), _replaced(class_cache, "ENV_VARS_TO_PROPAGATE", ()):
        yield


@contextmanager
def _set(variable: str, value: str) -> Iterator[None]:
    """Sets a variable of the environment for the time of the context, unless it is set."""
    if variable in os.environ or not value:
        yield
        return
    os.environ[variable] = value
    try:
        yield
    finally:
        del os.environ[variable]


@contextmanager
def _on_this_machine() -> Iterator[None]:
    """Lets Ray start on loopback, out of reach of signals to us, and with the processes that are needed."""
    services, node = ray._private.services, ray._private.node.Node
    with ExitStack() as stack:
        # Ray takes 127.0.0.1 for this machine's address only where it knows no clusters. It listens there,
        # and replaces a loopback address that it is given by one that others reach.
        stack.enter_context(_replaced(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False))
        # A signal to our group or terminal is for us alone: we answer it by saving what runs, and that needs
        # Ray's processes. They end with us all the same: the kernel kills the main ones when their parent
        # dies, and the others notice.
        new_session = partial(services.ConsolePopen, start_new_session=True)
        stack.enter_context(_replaced(services, "ConsolePopen", new_session))
        for method in _UNNEEDED:
            stack.enter_context(_replaced(node, method, lambda node, **options: None))
        yield


@dataclass(frozen=True)
class Access:
    """What a worker needs to open the storage, keys included.

    Give it to Tune with `tune.with_parameters`: Tune writes configurations to files, and these to none.

    Attributes:
        location: Of the storage; a URI may hold keys.
        environment: AWS keys of the driver's environment.
    """

    location: str = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)

    @staticmethod
    def to(store: Store) -> Access:
        """Returns the access that this process has."""
        return Access(store.location, {key: os.environ[key] for key in AWS_KEYS if key in os.environ})

    def open(self) -> Store:
        """Opens the storage in a worker; its other processes get the keys, too."""
        os.environ.update(self.environment)
        return Store.open(self.location)


@contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    """Gives an attribute of Ray's another value for the time of the context."""
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def _addresses() -> dict[str, Address]:
    """The addresses of the head and of the node of this process: without them nothing can run."""
    context = ray.get_runtime_context()
    host, _, port = context.gcs_address.rpartition(":")
    addresses = {f"its head at {host}:{port}": (host.strip("[]"), int(port))}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            addresses["the node of this process"] = (node["NodeManagerAddress"], node["NodeManagerPort"])
    return addresses


def _probe(address: str) -> None:
    """Finds out at once that nobody listens there; Ray tries for minutes, then ends the process."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise no_cluster(address, "an address is host:port")
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_S).close()
    except (OSError, OverflowError) as error:
        raise no_cluster(address, str(error)) from error


@contextmanager
def scratch(store: Store, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yields where Tune keeps its scratch files, as options of its run; they are removed at the end.

    On a joined cluster they lie beside the records, `tune/<name>/<run>`, and that folder is yielded, too:
    nodes may come at any time. What a killed run left is removed by the next; a lease on `name` keeps others
    away.
    """
    if ray._private.worker._global_node.is_head():  # this process has started the cluster, and alone uses it
        with tempfile.TemporaryDirectory(prefix="xferlab-tune-") as temporary:
            yield {"storage_path": temporary}, ""
        return
    folder = f"{SCRATCH}/{name}"
    store.delete_dir(folder)
    run = f"{folder}/{secrets.token_hex(4)}"
    yield {"storage_path": store.path(run), "storage_filesystem": store.filesystem}, run
    store.delete_dir(folder)


def logs_dir() -> str:
    """Returns the folder of the logs of the workers on this machine."""
    return str(ray._private.worker._global_node.get_logs_dir_path())


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Tune's tables and advice off the terminal: the live view tells what matters."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.air")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OSError as error:
        raise StorageError(f"Ray Tune cannot use its scratch folder: {error}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
