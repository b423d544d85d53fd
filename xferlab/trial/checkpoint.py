"""Checkpoints: full states to resume from, each with its own digest; the two latest are kept."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from typing import Any

import torch

from xferlab.errors import RecordError
from xferlab.records import layout
from xferlab.records.store import Store

log = logging.getLogger("xferlab.trial")

KEPT = 2
_MAGIC = b"xferlab-state-1\n"


class Checkpoints:
    """The stored states of one trial, named by (epoch, batch) so that the latest sorts last."""

    def __init__(self, store: Store, trial_id: str):
        """Takes the storage and the trial's id."""
        self._store, self._folder = store, layout.checkpoint_dir(trial_id)

    def names(self) -> list[str]:
        """Returns the stored states, oldest first."""
        return [name for name in self._store.list(self._folder) if name.startswith("state-")]

    def save(self, state: dict[str, Any]) -> None:
        """Writes a state, then deletes all but the latest two."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getvalue()
        cursor = state["cursor"]
        name = f"state-{cursor['epoch']:06d}-{cursor['next_batch']:06d}.pt"
        data = _MAGIC + hashlib.sha256(payload).digest() + payload
        self._store.write(f"{self._folder}/{name}", data)
        for old in self.names()[:-KEPT]:
            self._store.delete(f"{self._folder}/{old}")

    def resume(self, restore: Callable[[dict[str, Any]], None], device: torch.device) -> bool:
        """Restores the latest state that verifies; returns whether there was one."""
        for name in reversed(self.names()):
            try:
                restore(self._load(f"{self._folder}/{name}", device))
            except RecordError as error:
                log.warning("%s; trying the one before", error)
            else:
                return True
        return False

    def clear(self) -> None:
        """Deletes all states, and what killed writers left of some: only the best weights are needed."""
        for name in self._store.list(self._folder):
            if name.startswith(("state-", ".state-")):
                self._store.delete(f"{self._folder}/{name}")

    def _load(self, name: str, device: torch.device) -> dict[str, Any]:
        data = self._store.read(name) or b""
        head, payload = data[: len(_MAGIC) + 32], data[len(_MAGIC) + 32 :]
        if head != _MAGIC + hashlib.sha256(payload).digest():
            raise RecordError(f"{self._store.path(name)}: does not match its own digest")
        state = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
        assert isinstance(state, dict)
        return state
