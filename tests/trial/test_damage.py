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
from itertools import count
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

pytestmark = pytest.mark.component

SEED, RERUNS, PARTS = 4, 3, 4
SMALL = {
    "repetitions": 1,
    "stages": {**STAGES, "general": {**STAGES["general"], "repetitions": 1}},
    "model": {"init_features": 1, "image_size": 16},
    "training": quick(max_epochs=2, patience=2, checkpoint_every_s=60),
    "arms": {"a": {}},
}


@dataclass(frozen=True)
class Whole:
    """A complete study that every test damages a copy of.

    Attributes:
        folder: Of the study file, the storage `st` and the cache.
        records: Digests of all that is a function of the specs.
    """

    folder: Path
    records: dict[str, str]

    @property
    def storage(self) -> Path:
        return self.folder / "st"

    def files(self) -> list[Path]:
        """All files, by their path in the storage."""
        return sorted(path.relative_to(self.storage) for path in self.storage.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    write_study(folder, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        code, _ = run(folder, folder / "st", patch)
    assert code == 0
    records = recorded(folder / "st")
    assert len([name for name in records if name.endswith("best.safetensors")]) == 2
    return Whole(folder, records)


def run(folder: Path, storage: Path, patch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Runs the study on a storage; returns the exit code and what was said of failures."""
    patch.setenv("XFERLAB_CACHE", str(folder / "cache"))
    code = main(["run", str(folder / "study.yaml"), "--storage", str(storage), "--executor", "in-process"])
    failures = [path.read_text() for path in storage.glob("trials/*/failure.json")]
    return code, "\n".join(failures)


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
    "/cases.parquet", "/outputs.parquet", "evaluations/*/record.json", "record.json",
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
        whole: What it was.
        storage: The copy.
        capfd: What runs print.
        patch: Sets their cache.
    """

    whole: Whole
    storage: Path
    capfd: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    def run(self) -> tuple[int, str]:
        """Runs the study; returns the exit code and all that was said."""
        code, failures = run(self.whole.folder, self.storage, self.patch)
        said = self.capfd.readouterr()
        assert "Traceback" not in said.out + said.err
        return code, said.out + said.err + failures

    def forget_child(self) -> str:
        """Makes a trial that has a parent incomplete; returns the parent."""
        plan = reader.read_plan(Store.open(self.whole.storage), str(TINY["study"]))
        child = next(trial for trial in plan["trials"] if trial["parents"])
        (self.storage / layout.TrialFiles(child["trial_id"]).record).unlink(missing_ok=True)
        return str(child["parents"][0])

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
        store, records = Store.open(self.storage), recorded(self.storage)
        altered = [name for name, digest in self.whole.records.items() if records.get(name) != digest]
        for name in altered:
            assert name.endswith("best.safetensors")  # nothing is trained from them any more
            with pytest.raises(RecordError, match=r"is altered .* run the study again"):
                trained_weights(store, name.split("/")[1])
        for trial in {name.split("/")[1] for name in self.whole.records}:
            record = TrialRecord.from_json(codec.read_json(store, layout.TrialFiles(trial).record) or {})
            try:
                history = reader.read_history(store, trial, sha256=record.history_sha256)
            except RecordError as error:
                assert "history.jsonl" in str(error)  # noqa: PT017 - one more trial lies in its way
            else:
                assert len(history) == record.num_epochs


MakeCopy = Callable[[], Copy]


@pytest.fixture
def make_copy(
    whole: Whole, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> MakeCopy:
    """Makes a copy of the whole study, to be damaged."""
    numbers = count()

    def make() -> Copy:
        storage = tmp_path / f"st{next(numbers)}"
        shutil.copytree(whole.storage, storage)
        return Copy(whole, storage, capfd, monkeypatch)

    return make


def spoil(path: Path, damage: str) -> None:
    change, draw = DAMAGES[damage], random.Random(f"{SEED} {path.parent.name} {path.name} {damage}")
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes(), draw))


def damages(whole: Whole) -> list[tuple[Path, str]]:
    return [(path, damage) for path in whole.files() for damage in DAMAGES]


def heal_all(make_copy: MakeCopy, chosen: list[tuple[Path, str]]) -> None:
    """Heals one damage after another; every second study also lacks the record of a child, and must run."""
    for number, (path, damage) in enumerate(chosen):
        study = make_copy()
        spoil(study.storage / path, damage)
        if number % 2:
            study.forget_child()
        study.heal()
        shutil.rmtree(study.storage)


def test_each_kind_of_file_is_healed(whole: Whole, make_copy: MakeCopy) -> None:
    draw = random.Random(SEED)
    by_kind: dict[str, list[tuple[Path, str]]] = {}
    for path, damage in damages(whole):
        by_kind.setdefault(kind_of(path), []).append((path, damage))
    assert set(by_kind) == set(KINDS)
    heal_all(make_copy, [draw.choice(by_kind[kind]) for kind in KINDS])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_every_damage_to_every_file_is_healed(whole: Whole, make_copy: MakeCopy, part: int) -> None:
    chosen = damages(whole)
    random.Random(SEED).shuffle(chosen)
    heal_all(make_copy, chosen[part::PARTS])


@pytest.mark.parametrize("damage", ["missing", "half", "a bit", "foreign json"])
def test_a_damaged_selection_that_is_read_is_written_again(
    whole: Whole, make_copy: MakeCopy, damage: str
) -> None:
    study = make_copy()
    for path in whole.files():
        if kind_of(path) == "selections/":
            spoil(study.storage / path, damage)
    study.forget_child()
    assert study.heal() == (1 if damage == "missing" else 2)
    assert recorded(study.storage) == whole.records


def test_files_of_two_trials_that_change_places_are_detected(whole: Whole, make_copy: MakeCopy) -> None:
    """Each is whole by itself, and in the wrong place."""
    for kind in KINDS[2:]:
        paths = [path for path in whole.files() if kind_of(path) == kind]
        content = {path: (whole.storage / path).read_bytes() for path in paths}
        other = next(path for path in paths if content[path] != content[paths[0]])
        study = make_copy()
        (study.storage / paths[0]).write_bytes(content[other])
        (study.storage / other).write_bytes(content[paths[0]])
        study.heal()


def test_a_whole_trial_in_the_place_of_another_is_detected(whole: Whole, make_copy: MakeCopy) -> None:
    study = make_copy()
    first, second, *_ = sorted((study.storage / "trials").iterdir())
    shutil.rmtree(first)
    shutil.copytree(second, first)
    assert study.heal() == 1


def test_no_child_starts_from_altered_weights_and_a_run_heals(whole: Whole, make_copy: MakeCopy) -> None:
    study = make_copy()
    weights = study.storage / layout.TrialFiles(study.forget_child()).weights
    spoil(weights, "a bit")
    code, said = study.run()
    assert code == 0
    assert f"{weights}: is altered" in said
    assert "its files are damaged; it is trained again" in said
    assert len(list(weights.parent.glob("best.safetensors.damaged-*"))) == 1
    assert recorded(study.storage) == whole.records


@pytest.mark.parametrize("kind", ["/cases.parquet", "evaluations/*/record.json", "record.json"])
def test_damage_that_no_listing_shows_is_detected_by_the_report_and_healed_by_the_next_run(
    whole: Whole, make_copy: MakeCopy, kind: str, tmp_path: Path
) -> None:
    study = make_copy()
    path = study.storage / next(file for file in whole.files() if kind_of(file) == kind)
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = ["report", str(whole.folder / "study.yaml"), "--storage", str(study.storage)]
    assert main([*report, "--out", str(tmp_path / "report")]) == 1
    assert len(list(path.parent.glob(f"{path.name}.damaged-*"))) == 1
    assert study.heal() == 1
    assert recorded(study.storage) == whole.records


@pytest.mark.parametrize(
    "name", ["studies/*/plan.json", "trials/*/record.json", "trials/*/evaluations/*/record.json"]
)
def test_a_file_of_a_newer_version_is_an_error_and_stays(make_copy: MakeCopy, name: str) -> None:
    study = make_copy()
    path = newer(study, name)
    before = path.read_bytes()
    code, said = study.run()
    assert code == 2
    assert f"{path}: " in said
    assert "version 99" in said
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["trials/*/spec.json", "trials/*/run.json"])
def test_a_trial_with_a_file_of_a_newer_version_is_not_written_over(make_copy: MakeCopy, name: str) -> None:
    study = make_copy()
    path = newer(study, name)
    (path.parent / "record.json").unlink()
    before = path.read_bytes()
    code, said = study.run()
    assert code != 0
    assert re.search(
        rf"{path}: has version 99, and this xferlab needs version \d; use the xferlab that wrote it",
        said,
    )
    assert path.read_bytes() == before


def newer(study: Copy, pattern: str) -> Path:
    path = sorted(study.storage.glob(pattern))[0]
    store, name = Store.open(study.storage), str(path.relative_to(study.storage))
    body = codec.read_json(store, name)
    assert body is not None
    path.write_bytes(codec.json_bytes({**body, "version": 99}))
    return path
