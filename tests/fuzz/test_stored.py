"""Whatever the bytes of a stored file are: what was written, nothing, or an error that names the file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.fuzz.mutations import feed, mutated
from xferlab.data.cache import open_table
from xferlab.data.case_table import read_table
from xferlab.data.sources.registry import open_source, read_section
from xferlab.errors import DonorError, RecordError
from xferlab.networks.donors import read_weights
from xferlab.records import codec, layout, reader
from xferlab.records.schema import EpochResult
from xferlab.records.store import Store

# --- records ---------------------------------------------------------------------------------------------


ID = "0123456789abcdef"
EPOCHS = [
    EpochResult(number, {"train_loss": 0.5, "validation_loss": 0.25}, 0.25, True, 1.5, 0.5)
    for number in (1, 2, 3)
]
HISTORY = b"".join(codec.json_bytes(epoch.to_json()) for epoch in EPOCHS)
CHECKED = codec.json_bytes(
    {"version": 1, "trial_id": ID, "losses": [0.5, 1e-3], "names": {"a": None, "é": True}}
)
TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b"\\", b"\n", b"\r", b"\0", b"\xff", b"NaN", b"Infinity", b"1e999", b"null",
    b"true", b"-", b"[" * 2000, b'{"a":' * 2000, b"9" * 5000, b"\xe2\x80\xa8", b"\\ud800", b"\x0b", b"\x85",
    b"[1]", b'"x"', b"{}", b"1.5", b",", b":", b'"epoch":',
]  # fmt: skip


def checked(store: Store) -> bool:
    body = codec.read_json(store, "x.json")
    assert isinstance(body, dict)
    return True


def run(store: Store) -> bool:
    found = reader.read_run(store, ID)
    assert found.get("version", 1) == 1
    return bool(found)


def history(store: Store) -> bool:
    epochs = reader.read_history(store, ID)
    numbers = [one.epoch for one in epochs]
    assert numbers == sorted(set(numbers))
    return epochs == EPOCHS


READERS: dict[str, tuple[str, Callable[[Store], Any], list[bytes]]] = {
    "json": ("x.json", checked, [CHECKED]),
    "run": (layout.TrialFiles(ID).run, run, [CHECKED]),
    "history": (layout.TrialFiles(ID).history, history, [HISTORY]),
}


@pytest.mark.parametrize("kind", READERS)
def test_records(local: Store, tmp_path: Path, kind: str, examples: int) -> None:
    name, reads, originals = READERS[kind]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)

    def read(data: bytes) -> bool:
        path.write_bytes(data)
        try:
            return bool(reads(local))
        except RecordError as error:
            told = str(error)
        assert name.rpartition("/")[2] in told
        return False

    assert read(originals[0])
    feed(mutated(originals, TOKENS), read, examples=examples, accepts=False)


@pytest.mark.component
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("resealed", [False, True])
def test_checkpoints(local: Store, tmp_path: Path, resealed: bool, examples: int) -> None:
    import torch

    from xferlab.trial.checkpoint import _MAGIC, Checkpoints

    saved = Checkpoints(local, ID)
    state = {"cursor": {"epoch": 1, "next_batch": 2}, "weights": {"w": torch.arange(6.0)}, "note": "x"}
    saved.save(state)
    (name,) = saved.names()
    path = tmp_path / layout.TrialFiles(ID).checkpoint / name
    whole = path.read_bytes()
    body = len(_MAGIC) + 32
    given: list[dict[str, Any]] = []

    def read(data: bytes) -> bool:
        if resealed:
            data = saved._head(_MAGIC, data) + data
        path.write_bytes(data)
        given.clear()
        resumed = saved.resume(given.append, torch.device("cpu"))
        assert resumed == bool(given)
        if resumed and not resealed:
            assert data == whole
        return resumed

    feed(mutated([whole[body:] if resealed else whole]), read, examples=examples, accepts=False)


# --- the cache of images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["json", "images", "targets"])
def test_tables(tmp_path: Path, ending: str, examples: int) -> None:
    config = read_section({"source": "phantom_cxr", "count": 3, "size_px": 32})
    cases = open_source("s", config, memo_dir=tmp_path).cases()
    digests = [case.digest for case in cases]
    table = open_table({"s": config}, size=8, digests=digests, cache_dir=tmp_path)
    expected = [np.array(pixels) for pixels in table.pixels]
    (index,) = (tmp_path / "tables-v6").rglob("*.json")
    path = index.with_suffix(f".{ending}")
    whole = path.read_bytes()

    def read(data: bytes) -> bool:
        path.unlink(missing_ok=True)  # a file that is mapped is not written over
        path.write_bytes(data)
        found = read_table(index)
        if found is not None:
            assert found.digests == table.digests
            assert all(map(np.array_equal, found.pixels, expected))
        return found is not None

    assert read(whole)
    feed(mutated([whole]), read, examples=examples, accepts=False)


# --- given weights, in which no code runs ----------------------------------------------------------------


STATE = {"a.weight": torch.arange(6.0), "a.num": torch.tensor(3)}


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


ORIGINALS = {
    "w.pt": [saved(STATE), saved({"state_dict": STATE, "epoch": 3})],
    "w.safetensors": [safetensors.torch.save(STATE)],
}


@pytest.mark.component
@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("name", ORIGINALS)
def test_weights(name: str, examples: int) -> None:
    def read(data: bytes) -> bool:
        try:
            state = read_weights(Path(name), data)
        except DonorError as error:
            told = str(error)
        else:
            assert all(isinstance(value, torch.Tensor) for value in state.values())
            return True
        assert told.startswith(name)
        return False

    assert all(read(original) for original in ORIGINALS[name])
    feed(mutated(ORIGINALS[name]), read, examples=examples, accepts=False)
