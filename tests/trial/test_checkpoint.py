"""States to resume from: which trial they belong to, what is damaged, and that nothing in one ever runs."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trial.conftest import GENERAL, PORTABLE, Make, flip_bit, replace_weights, stop_at
from xferlab.errors import RecordError, StorageError
from xferlab.records import layout
from xferlab.records.store import Store
from xferlab.trial.checkpoint import Checkpoints


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.victim,)


def state(epoch: int, batch: int = 0) -> dict[str, Any]:
    return {"cursor": {"epoch": epoch, "next_batch": batch}, "value": epoch}


def resumed(store: Store, trial_id: str = "t") -> int | None:
    """The epoch of the state that is resumed; None from the start."""
    states: list[dict[str, Any]] = []
    has_resumed = Checkpoints(store, trial_id).resume(states.append, torch.device("cpu"))
    assert has_resumed == bool(states)
    return states[0]["value"] if states else None


def saved(store: Store, *epochs: int, trial_id: str = "t") -> list[Path]:
    states = Checkpoints(store, trial_id)
    for epoch in epochs:
        states.save(state(epoch))
    return [Path(store.path(layout.TrialFiles(trial_id).checkpoint)) / name for name in states.names()]


def test_the_latest_two_are_kept_and_the_latest_is_resumed(local: Store) -> None:
    assert resumed(local) is None
    assert [path.name for path in saved(local, 1, 2, 3)] == [
        "state-000002-000000.pt",
        "state-000003-000000.pt",
    ]
    assert resumed(local) == 3


def test_a_flipped_bit_or_a_torn_end_falls_back_to_the_one_before_and_then_to_the_start(
    local: Store, caplog: pytest.LogCaptureFixture
) -> None:
    first, latest = saved(local, 1, 2)
    whole = latest.read_bytes()
    for length in (0, 1, 15, 16, 47, 48, 49, 300):
        latest.write_bytes(whole[:length])
        assert resumed(local) == 1
    for position in [*range(60), *range(60, len(whole), 211), len(whole) - 1]:
        latest.write_bytes(whole)
        flip_bit(latest, position)
        assert resumed(local) == 1
    assert "state-000002-000000.pt: does not match its own digest; trying the one before" in caplog.text
    flip_bit(first)
    assert resumed(local) is None
    assert "trials/t/checkpoint: no state is whole; training from the start" in caplog.text


def test_a_lack_of_memory_is_not_taken_for_damage(local: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    saved(local, 1, 2)
    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        resumed(local)


def test_the_state_of_another_trial_is_not_resumed(local: Store) -> None:
    (state_path,) = saved(local, 1)
    (other,) = saved(local, 2, trial_id="u")
    state_path.with_name(other.name).write_bytes(other.read_bytes())
    assert resumed(local) == 1


def test_a_state_that_goes_on_from_other_weights_is_not_resumed(
    copied: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The parent was lost between, and came back with other bits, as from another device."""
    late, early = copied("late", lacking=PORTABLE), copied("early", lacking=PORTABLE)
    early.interrupt(PORTABLE, stop_at(4))
    assert early.states(PORTABLE)
    for trials in (late, early):
        replace_weights(trials, GENERAL)
        trials.run(PORTABLE)
    assert (
        "goes on from other weights or predictions than those that its trial starts from now" in caplog.text
    )
    assert early.records == late.records


def test_a_state_of_another_version_is_reported_and_stays(local: Store) -> None:
    _, latest = saved(local, 1, 2)
    data = forged("t", b"what a later version writes", magic=b"xferlab-state-4\n")
    latest.write_bytes(data)
    with pytest.raises(StorageError, match="is a state that another xferlab wrote; use that one, or"):
        resumed(local)
    assert latest.read_bytes() == data


def forged(trial_id: str, payload: bytes, *, magic: bytes = b"xferlab-state-3\n") -> bytes:
    """A state with a right digest."""
    return magic + hashlib.sha256(magic + trial_id.encode() + b"\n" + payload).digest() + payload


def payloads(victim: Path) -> dict[str, bytes]:
    """Pickles that run code when they are loaded, as `torch.save` and as `pickle` write them."""
    buffer = io.BytesIO()
    torch.save({**state(9), "evil": Evil(victim)}, buffer)
    return {"torch": buffer.getvalue(), "pickle": pickle.dumps(Evil(victim), protocol=2)}


def test_the_malicious_files_of_this_test_do_harm(tmp_path: Path) -> None:
    torch.load(io.BytesIO(payloads(tmp_path / "torch")["torch"]), weights_only=False)
    pickle.loads(payloads(tmp_path / "pickle")["pickle"])
    assert {path.name for path in tmp_path.iterdir()} == {"torch", "pickle"}


@pytest.mark.parametrize("kind", ["torch", "pickle", "empty", "torn"])
def test_a_state_that_is_malicious_or_no_state_is_refused_and_did_not_run(
    local: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Some errors of torch have no message, only a type."""
    victim = tmp_path / "harm"
    torn = b"PK\x03\x04" + bytes(26) + b"\x10\x00\x12\x00archive/data.pklFB"
    payload = {**payloads(victim), "empty": b"", "torn": torn}[kind]
    saved(local, 1, 2)[-1].write_bytes(forged("t", payload))
    assert resumed(local) == 1
    assert not victim.exists()
    assert "holds more than tensors and plain values (" in caplog.text


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_malicious_weights_of_a_parent_are_refused_and_did_not_run(
    copied: Make, tmp_path: Path, kind: str
) -> None:
    trials, victim = copied(lacking=PORTABLE), tmp_path / "harm"
    replace_weights(trials, GENERAL, payloads(victim)[kind])
    with pytest.raises(RecordError, match=r"best\.safetensors: is no safetensors file"):
        trials.run(PORTABLE)
    assert not victim.exists()
