"""Given weights on their way into the storage, where workers find them under their digest."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors

from xferlab.errors import DonorError, RecordError
from xferlab.networks.donors import fetch, file_sha256, read_bytes, read_weights
from xferlab.networks.published import published, shapes_of
from xferlab.networks.state_dicts import Note, check_usable, silent
from xferlab.plan.spec import Input, TrialSpec
from xferlab.records import codec, layout, reader
from xferlab.records.store import Store
from xferlab.study.stage import Weights
from xferlab.tasks import registry
from xferlab.trial.examples import TrialContext
from xferlab.trial.origin import give, load_origins


def at_hand(weights: Weights, *, cache_dir: Path) -> str | None:
    """Returns the digest of a donor's file if it is on this machine, without fetching it."""
    path = _path(weights, cache_dir)
    return file_sha256(path) if path.is_file() else None


def store_weights(weights: Weights, store: Store, *, cache_dir: Path, note: Note = silent) -> str:
    """Fetches a donor if need be, checks that it holds weights, and stores it.

    Args:
        weights: The donor.
        store: Where it is stored.
        cache_dir: Where published weights are kept.
        note: Called if the file is a checkpoint, or its names have a wrapper's prefix.

    Returns:
        Its SHA-256, hex.

    Raises:
        DonorError: It cannot be had, is no weights file, or its digest is not the one that the study gives.
    """
    if weights.name is not None:
        _take_stored(weights, store, cache_dir)
        fetch(weights.name, cache_dir=cache_dir / "donors", sha256=weights.sha256)
    path, data = _file(weights, cache_dir)
    read_weights(path, data, note=note)
    digest = hashlib.sha256(data).hexdigest()
    if not codec.matches(store.read(layout.donor_path(digest)), digest):
        store.write(layout.donor_path(digest), data)
    return digest


def _take_stored(weights: Weights, store: Store, cache_dir: Path) -> None:
    """Puts published weights that the storage has into the cache: their host may be out of reach."""
    path, digest = _path(weights, cache_dir), weights.sha256 or published(weights.name or "").sha256
    if digest is None or path.exists():
        return
    data = store.read(layout.donor_path(digest))
    if codec.matches(data, digest):
        Store.open(str(path.parent)).write(path.name, data)


def check_fits(spec: TrialSpec, given: Input, store: Store, *, cache_dir: Path) -> None:
    """Loads weights that a trial is given into its network on the CPU, and forgets both.

    Raises:
        DonorError: Names or shapes differ.
        RecordError: The stored weights are missing or altered.
    """
    context = TrialContext(store, cache_dir, torch.device("cpu"))
    load_origins(replace(spec, inputs=(given,)), registry.learner_of(spec.identity, context.device), context)


def check_parent(trial_id: str, store: Store) -> None:
    """Reads a complete trial's weights and changes nothing; a trial that is not complete is passed over.

    Raises:
        StorageError: They cannot be read, are missing, or differ from their digest.
        DonorError: A tensor holds NaN or infinity.
    """
    record = reader.read_trial(store, trial_id)
    if record is None:
        return
    name = layout.TrialFiles(trial_id).weights
    data = store.read(name)
    if not codec.matches(data, record.weights_sha256):
        what = "are missing" if data is None else "are altered (their digest is not the recorded one)"
        raise RecordError(f"{store.path(name)}: these weights {what}; the next `run` trains them again")
    check_usable(load_safetensors(data), origin=store.path(name))


def check_file(
    spec: TrialSpec, given: Input, weights: Weights, *, cache_dir: Path, note: Note = silent
) -> None:
    """Loads the file on this machine, or the known shapes of published weights not yet fetched.

    Args:
        spec: A trial that starts from the weights.
        given: What they are to it.
        weights: The weights.
        cache_dir: Where published weights are kept.
        note: Called if the file is a checkpoint, or its names have a wrapper's prefix.

    Raises:
        DonorError: There is no such file, it holds no weights, or names or shapes differ.
    """
    path = _path(weights, cache_dir)
    if weights.name is None or path.is_file():
        state = read_weights(*_file(weights, cache_dir), note=note)
    else:
        state = shapes_of(published(weights.name))
    learner = registry.learner_of(spec.identity, torch.device("cpu"))
    give(learner, given, state, title=f"donor {weights.name or weights.path}")


def _file(weights: Weights, cache_dir: Path) -> tuple[Path, bytes]:
    """Returns a donor's file and its bytes, read once: what is checked of them holds for what is stored."""
    path = _path(weights, cache_dir)
    if not path.is_file():
        raise DonorError(f"donor {path}: there is no such file; correct `weights.path` in the study")
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if weights.sha256 not in (None, digest):
        raise DonorError(
            f"donor {path} has SHA-256 {digest}; the study gives {weights.sha256}. If you trust the file, "
            "correct `weights.sha256`; else replace it."
        )
    return path, data


def _path(weights: Weights, cache_dir: Path) -> Path:
    if weights.path is not None:
        return Path(weights.path)
    return cache_dir / "donors" / published(weights.name or "").file_name
