"""Tokens of Ray clusters: a new one for a cluster of this machine, that of the head for one to join."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from xferlab.errors import UsageError

_TOKEN_PATH, _AUTH_MODE = "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"
_DIFFERS = {
    "token": "the cluster asks for a token, and RAY_AUTH_MODE={mode} is set here; unset it",
    "disabled": "the cluster asks for no token, so that everybody who reaches it can run code on it, and "
    "RAY_AUTH_MODE={mode} is set here; start all of its nodes with RAY_AUTH_MODE=token, or unset it here",
}
"""Where a person has chosen otherwise than the cluster asks."""


@contextmanager
def own_token(folder: Path) -> Iterator[None]:
    """Gives the cluster of this machine a token in `folder`; Ray would write one into the home folder."""
    if any(name in os.environ for name in ("RAY_AUTH_TOKEN", _TOKEN_PATH)):
        yield
        return
    path = folder / "token"
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secrets.token_hex(32))
    os.environ[_TOKEN_PATH] = str(path)
    _loader().reset_cache()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        del os.environ[_TOKEN_PATH]
        _loader().reset_cache()


@contextmanager
def token_as_asked(address: str) -> Iterator[None]:
    """Lets this process use a token just where the cluster asks for one.

    Ray itself waits forever, or fails to start workers, where the two differ.

    Raises:
        UsageError: There is no such cluster, its token is not here, or RAY_AUTH_MODE says otherwise.
    """
    before = os.environ.get(_AUTH_MODE)
    try:
        wanted = "disabled" if _admits(address, "disabled") else "token"
        if before not in (None, wanted):
            raise UsageError(f"--address {address}: {_DIFFERS[wanted].format(mode=before)}")
        if wanted == "token" and not _admits(address, "token"):
            has = "another" if _has_token() else "none"
            raise UsageError(
                f"--address {address}: the cluster asks for a token, and this machine has {has}; copy "
                "~/.ray/auth_token of its head to here, readable by you only"
            )
        yield
    finally:
        _use_auth_mode(before)


def _admits(address: str, mode: str) -> bool:
    """Whether the head answers in this mode (`disabled`, `token`), which stays."""
    _use_auth_mode(mode)
    if mode == "token" and not _has_token():
        return False
    try:
        with _silent_stderr():  # Ray's C++ code prints a warning
            head = ray._private.services.canonicalize_bootstrap_address(address)
            if head is None:
                raise ConnectionError("this machine runs no Ray")
            ray._raylet.GcsClient(address=head)
    except ray.exceptions.AuthenticationError:
        return False
    except (OSError, ray.exceptions.RayError) as error:
        raise no_cluster(address, str(error)) from error
    return True


def _use_auth_mode(mode: str | None) -> None:
    """Sets RAY_AUTH_MODE for this process, also for what Ray has read of it, and for all that it starts."""
    os.environ.pop(_AUTH_MODE, None)
    if mode is not None:
        os.environ[_AUTH_MODE] = mode
    ray._raylet.Config.initialize("")
    _loader().reset_cache()


def _has_token() -> bool:
    return bool(_loader().has_token(ignore_auth_mode=True))


def _loader() -> Any:
    return ray._raylet.AuthenticationTokenLoader.instance()


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Sends to nowhere what this process, also its code in C++, writes to standard error."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def no_cluster(address: str, why: str) -> UsageError:
    """Returns the error that no Ray cluster answers at an address."""
    return UsageError(
        f"--address {address}: no Ray cluster answers ({why}). Give the address that "
        "`ray start --head` printed, `auto` on a node of the cluster, or leave it out to run here."
    )
