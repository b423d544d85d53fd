"""Checkpoints: full states to resume from, each with its own digest; the two latest are kept."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from typing import Any

import torch

from xferlab.errors import RecordError, StorageError
from xferlab.networks.state_dicts import UNREADABLE
from xferlab.records import layout
from xferlab.records.store import Store
from xferlab.trial.failure import Kind, kind_of

log = logging.getLogger("xferlab.trial")

KEPT = 2
_MAGIC = b"xferlab-state-3\n"
_DIGEST_BYTES = 32


class Checkpoints:
    """The stored states of one trial, named by (epoch, batch) so that the latest sorts last."""

    def __init__(self, store: Store, trial_id: str, *, origin: str | None = None):
        """Takes the storage, the trial's id, and the SHA-256 of the weights and predictions it starts from.

        A state that goes on from others is not resumed: a parent that was lost may come back with other bits,
        or another of several parents may be the best by then.
        """
        self._store, self._origin, self._owner = store, origin, trial_id.encode()
        self._folder = layout.TrialFiles(trial_id).checkpoint

    def names(self) -> list[str]:
        """Returns the stored states, oldest first."""
        return [name for name in self._store.list(self._folder) if name.startswith("state-")]

    def save(self, state: dict[str, Any]) -> None:
        """Writes a state, then deletes all but the latest two."""
        cursor = state["cursor"]
        name = f"state-{cursor['epoch']:06d}-{cursor['next_batch']:06d}{layout.STATE}"
        self.keep(f"{self._folder}/{name}", state)
        for old in self.names()[:-KEPT]:
            self._store.delete(f"{self._folder}/{old}")

    def keep(self, name: str, state: dict[str, Any]) -> None:
        """Writes a state to a file."""
        buffer = io.BytesIO()
        torch.save(state if self._origin is None else {**state, "origin": self._origin}, buffer)
        payload = buffer.getvalue()
        self._store.write(name, self._head(_MAGIC, payload) + payload)

    def resume(self, restore: Callable[[dict[str, Any]], None], device: torch.device) -> bool:
        """Restores the latest state that verifies; returns whether there was one.

        Raises:
            StorageError: A state cannot be read, or a newer xferlab wrote it.
        """
        names = self.names()
        for name in reversed(names):
            try:
                state = self.load(f"{self._folder}/{name}", device)
            except RecordError as error:
                log.warning("%s; trying the one before", error)
                continue
            restore(state)
            return True
        if names:
            log.warning("%s: no state is whole; training from the start", self._store.path(self._folder))
        return False

    def clear(self) -> None:
        """Deletes all states, and what killed writers left of some: only the best weights are needed."""
        for name in self._store.list(self._folder):
            if name.startswith(("state-", ".state-")):
                self._store.delete(f"{self._folder}/{name}")

    def _head(self, magic: bytes, payload: bytes) -> bytes:
        """What stands before a state; its digest holds whose it is, so that no other's is resumed."""
        return magic + hashlib.sha256(magic + self._owner + b"\n" + payload).digest()

    def load(self, name: str, device: torch.device) -> dict[str, Any]:
        """Returns a state that `keep` wrote for the same trial.

        Raises:
            RecordError: It does not verify, or goes on from other weights.
            StorageError: It cannot be read, or a newer xferlab wrote it.
        """
        data, where = self._store.read(name) or b"", self._store.path(name)
        length = len(_MAGIC) + _DIGEST_BYTES
        magic, head, payload = data[: len(_MAGIC)], data[:length], data[length:]
        if head != self._head(magic, payload):
            raise RecordError(f"{where}: does not match its own digest")
        if magic != _MAGIC:
            raise StorageError(
                f"{where}: is a state that another xferlab wrote; use that one, or delete it to train from "
                "the start"
            )
        try:
            state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
        except UNREADABLE as error:
            if kind_of(type(error).__name__, str(error)) in (Kind.MEMORY, Kind.DEVICE):
                raise  # nothing is wrong with the file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RecordError(f"{where}: holds more than tensors and plain values ({reason})") from error
        if not isinstance(state, dict):
            raise RecordError(f"{where}: holds {type(state).__name__}, no state of a training")
        if self._origin is not None and state.pop("origin", self._origin) != self._origin:
            raise RecordError(
                f"{where}: goes on from other weights or predictions than those that its trial starts from "
                "now"
            )
        return state
