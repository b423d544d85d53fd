"""Damage to any file of a complete study: running again gives equal records or stops with a clear error.

Every file x {missing, empty, torn, a bit flipped, foreign, swapped with another's}, healed through the
command line with the in-process executor; the default tier takes one damage for each kind of file, the slow
tier all.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.studies import TINY, recorded, write_study
from tests.trial.conftest import STAGES, quick
from xferlab.cli import main
from xferlab.errors import RecordError
from xferlab.records import codec, layout, reader
from xferlab.records.schema import TrialRecord
from xferlab.records.store import Store
from xferlab.trial.origin import trained_weights

SEED, RERUNS, PARTS = 4, 3, 4
SMALL = {
    "repetitions": 1,
    "stages": {**STAGES, "general": {**STAGES["general"], "repetitions": 1}},
    "model": {"init_features": 1, "image_size": 16},
    "training": quick(max_epochs=2, patience=2, checkpoint_every_s=60),
    "arms": {"a": {}},
}


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a complete study, beside its file and its cache; tests damage a copy of it."""
    folder = tmp_path_factory.mktemp("whole")
    write_study(folder, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        code, _ = run(folder, folder / "st", patch)
    assert code == 0
    assert len([name for name in recorded(folder / "st") if name.endswith("best.safetensors")]) == 2
    return folder / "st"


def run(folder: Path, storage: Path, patch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Runs the study on a storage; returns the exit code and what was said of failures."""
    patch.setenv("XFERLAB_CACHE", str(folder / "cache"))
    code = main(["run", str(folder / "study.yaml"), "--storage", str(storage), "--executor", "in-process"])
    failures = [path.read_text() for path in storage.glob("trials/*/failure.json")]
    return code, "\n".join(failures)


def files(storage: Path, kind: str = "") -> list[Path]:
    """All files but logs, which are no records, or those of a kind, by their path in the storage."""
    found = (path.relative_to(storage) for path in storage.rglob("*") if path.is_file())
    paths = sorted(path for path in found if "logs" not in path.parts)
    return [path for path in paths if kind in ("", kind_of(path))]


Damage = Callable[[bytes, random.Random], bytes]


def flipped(data: bytes, draw: random.Random) -> bytes:
    position = draw.randrange(len(data))
    return data[:position] + bytes([data[position] ^ 1 << draw.randrange(8)]) + data[position + 1 :]


DAMAGES: dict[str, Damage | None] = {
    "missing": None,
    "empty": lambda data, draw: b"",
    "first byte": lambda data, draw: data[:1],
    "half": lambda data, draw: data[: len(data) // 2],
    "last byte gone": lambda data, draw: data[:-1],
    "torn anywhere": lambda data, draw: data[: draw.randrange(len(data))],
    "a bit": flipped,
    "another bit": flipped,
    "a third bit": flipped,
    "zeros": lambda data, draw: bytes(len(data)),
    "foreign": lambda data, draw: b"<html><body>503 Service Unavailable</body></html>\n",
    "foreign json": lambda data, draw: b'{"version": 1, "trials": []}\n',
}
KINDS = (
    "plan.json", "index.json", "selections/", "spec.json", "history.jsonl", "best.safetensors", "run.json",
    "/cases.parquet", "/outputs.parquet", "/pictures.parquet", "evaluations/*/record.json", "record.json",
)  # fmt: skip


def kind_of(path: Path) -> str:
    name = path.as_posix()
    if "/evaluations/" in name and name.endswith("record.json"):
        return "evaluations/*/record.json"
    return next(kind for kind in KINDS if kind in name)


@dataclass(frozen=True)
class Copy:
    """A damaged copy of the study, and how it is healed.

    Attributes:
        whole: The storage that it is a copy of.
        storage: The copy.
        capfd: What runs print.
        patch: Sets their cache.
    """

    whole: Path
    storage: Path
    capfd: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def restore(self) -> None:
        """Makes it equal to the whole again."""
        shutil.rmtree(self.storage, ignore_errors=True)
        shutil.copytree(self.whole, self.storage)

    def run(self) -> tuple[int, str]:
        """Runs the study; returns the exit code and all that was said."""
        code, failures = run(self.whole.parent, self.storage, self.patch)
        said = self.capfd.readouterr()
        assert "Traceback" not in said.out + said.err
        return code, said.out + said.err + failures

    def forget_child(self) -> str:
        """Makes a trial that has a parent incomplete; returns the parent."""
        plan = reader.read_plan(Store.open(self.whole), str(TINY["study"]))
        child = next(trial for trial in plan["trials"] if trial["inputs"])
        (self.storage / layout.TrialFiles(child["trial_id"]).record).unlink(missing_ok=True)
        return str(child["inputs"][0]["trials"][0])

    def heal(self) -> int:
        """Runs until complete; returns how many runs it took."""
        for number in range(1, RERUNS + 1):
            code, said = self.run()
            if code == 0:
                self.check()
                return number
            assert str(self.storage) in said
            assert "run the study again" in said
        pytest.fail(f"not healed by {RERUNS} runs: {said}")

    def check(self) -> None:
        """All records are as they were, except files that are refused when they are read."""
        store, records, whole = Store.open(self.storage), recorded(self.storage), recorded(self.whole)
        for name in (name for name, digest in whole.items() if records.get(name) != digest):
            assert name.endswith("best.safetensors")  # nothing is trained from them any more
            with pytest.raises(RecordError, match=r"is altered .* run the study again"):
                trained_weights(store, name.split("/")[1])
        for trial in {name.split("/")[1] for name in whole}:
            record = TrialRecord.from_json(codec.read_json(store, layout.TrialFiles(trial).record) or {})
            try:
                history = reader.read_history(store, trial, sha256=record.history_sha256)
            except RecordError as error:
                assert "history.jsonl" in str(error)  # noqa: PT017 - one more trial lies in its way
            else:
                assert len(history) == record.num_epochs


@pytest.fixture
def study(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Copy:
    copy = Copy(whole, tmp_path / "st", capfd, monkeypatch)
    copy.restore()
    return copy


def spoil(path: Path, damage: str) -> None:
    change, draw = DAMAGES[damage], random.Random(f"{SEED} {path.parent.name} {path.name} {damage}")
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes(), draw))


@pytest.mark.parametrize(
    "part", [pytest.param(None, id="some"), *(pytest.param(n, marks=pytest.mark.slow) for n in range(PARTS))]
)
def test_each_kind_of_file_is_healed(study: Copy, part: int | None) -> None:
    """One damage after another; every second study also lacks the record of a child, and must run."""
    draw, by_kind = random.Random(SEED), {kind: files(study.whole, kind) for kind in KINDS}
    assert all(by_kind.values())
    damages = [(path, damage) for path in files(study.whole) for damage in DAMAGES]
    if part is None:
        damages = [(draw.choice(paths), draw.choice(list(DAMAGES))) for paths in by_kind.values()]
    draw.shuffle(damages)
    for number, (path, damage) in enumerate(damages if part is None else damages[part::PARTS]):
        study.restore()
        spoil(study.storage / path, damage)
        if number % 2:
            study.forget_child()
        study.heal()


@pytest.mark.parametrize("damage", ["missing", "half", "a bit", "foreign json"])
def test_a_damaged_selection_that_is_read_is_written_again(study: Copy, damage: str) -> None:
    for path in files(study.whole, "selections/"):
        spoil(study.storage / path, damage)
    study.forget_child()
    assert study.heal() == (1 if damage == "missing" else 2)
    assert recorded(study.storage) == recorded(study.whole)


def test_files_of_two_trials_that_change_places_are_detected(study: Copy) -> None:
    """Each is whole by itself, and in the wrong place."""
    for kind in KINDS[2:]:
        first, *others = (study.storage / path for path in files(study.whole, kind))
        study.restore()
        content = first.read_bytes()
        other = next(path for path in others if path.read_bytes() != content)
        first.write_bytes(other.read_bytes())
        other.write_bytes(content)
        study.heal()


def test_a_whole_trial_in_the_place_of_another_is_detected(study: Copy) -> None:
    first, second, *_ = sorted((study.storage / "trials").iterdir())
    shutil.rmtree(first)
    shutil.copytree(second, first)
    assert study.heal() == 1


def test_no_child_starts_from_altered_weights_and_a_run_heals(study: Copy) -> None:
    weights = study.storage / layout.TrialFiles(study.forget_child()).weights
    spoil(weights, "a bit")
    altered = weights.read_bytes()
    code, said = study.run()
    assert code == 0
    assert f"{weights}: is altered" in said
    assert "its files are damaged; it is trained again" in said
    (aside,) = weights.parent.glob("best.safetensors.damaged-*")
    assert aside.read_bytes() == altered
    assert recorded(study.storage) == recorded(study.whole)


@pytest.mark.parametrize("kind", ["/cases.parquet", "evaluations/*/record.json", "record.json"])
def test_damage_that_no_listing_shows_is_detected_by_the_report_and_healed_by_the_next_run(
    study: Copy, kind: str, tmp_path: Path
) -> None:
    path = study.storage / files(study.whole, kind)[0]
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = ["report", str(study.whole.parent / "study.yaml"), "--storage", str(study.storage)]
    assert main([*report, "--out", str(tmp_path / "report")]) == 1
    assert len(list(path.parent.glob(f"{path.name}.damaged-*"))) == 1
    assert study.heal() == 1
    assert recorded(study.storage) == recorded(study.whole)


@pytest.mark.parametrize(
    ("pattern", "complete"),
    [
        ("studies/*/plan.json", True),
        ("trials/*/record.json", True),
        ("trials/*/evaluations/*/record.json", True),
        ("trials/*/spec.json", False),
        ("trials/*/run.json", False),
    ],
)
def test_a_file_of_a_newer_version_is_an_error_and_stays(study: Copy, pattern: str, complete: bool) -> None:
    path = sorted(study.storage.glob(pattern))[0]
    body = codec.read_json(Store.open(study.storage), str(path.relative_to(study.storage)))
    assert body is not None
    path.write_bytes(codec.json_bytes({**body, "version": 99}))
    if not complete:
        (path.parent / "record.json").unlink()
    before = path.read_bytes()
    code, said = study.run()
    assert code == (2 if complete else 1)
    advice = "" if complete else r", and this xferlab needs version \d; use the xferlab that wrote it"
    assert re.search(rf"{path}: .*version 99{advice}", said)
    assert path.read_bytes() == before
