"""`xferlab archive`: one file, whose report is that of the storage; what it tells nobody; damage."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.studies import TINY, write_study
from xferlab.analysis import load
from xferlab.cli import main
from xferlab.errors import RecordError
from xferlab.plan.identity import json_with_checksum
from xferlab.records import archive, codec
from xferlab.records.layout import StudyFiles, TrialFiles
from xferlab.records.store import Store
from xferlab.study.yaml_lines import read

pytestmark = pytest.mark.component

STUDY: dict[str, Any] = {
    "training": {**TINY["training"], "max_epochs": 1, "patience": 1},
    "stages": {"portable": {"data": "portable", "evaluate_on": ["portable.hold_out"]}},
    "arms": {"baseline": {}, "still": {"training.rotation": None}},
    "tracking": {"wandb": {"entity": "jane-roe", "mode": "disabled"}},
    "overlay_cases": 0,
    "storage": "results",
}
HOST = socket.gethostname().encode()


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a study of four trainings that have run, and its image cache."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XFERLAB_CACHE", str(folder / "cache"))
        assert main(["run", str(write_study(folder, **STUDY)), "--executor", "in-process"]) == 0
    return folder


@pytest.fixture
def study(ran: Path, tmp_path: Path) -> Path:
    """The study file, beside a storage of the test's own."""
    shutil.copytree(ran / "results", tmp_path / "results")
    shutil.copy(ran / "study.yaml", tmp_path)
    return tmp_path / "study.yaml"


@pytest.fixture(scope="module")
def packed(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the study."""
    path = tmp_path_factory.mktemp("packed") / "tiny.zip"
    assert main(["archive", str(ran / "study.yaml"), "--out", str(path), "--licence", "CC-BY-4.0"]) == 0
    return path


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "tables").iterdir()}


@pytest.mark.slow
def test_the_report_of_an_archive_is_that_of_the_storage(
    command: Command, ran: Path, study: Path, packed: Path, tmp_path: Path
) -> None:
    command("report", study, "--out", tmp_path / "stored", code=0)
    shutil.rmtree(tmp_path / "results")
    command("report", packed, "--out", tmp_path / "archived", code=0)
    stored, archived = tmp_path / "stored", tmp_path / "archived"
    word = re.compile(rb"(?<![\w.-])" + re.escape(HOST) + rb"(?![\w-])")
    expected = {name: word.sub(b"host-01", data) for name, data in tables(stored).items()}
    assert len(expected) > 20
    assert tables(archived) == expected
    assert {f"tables/{name}": data for name, data in expected.items()}.items() <= entries(packed).items()
    for page in ("index.html", "report.md"):
        shown = (stored / page).read_bytes().replace(f"{ran}/".encode(), b"")  # in warnings of the plan
        assert (archived / page).read_bytes() == word.sub(b"host-01", shown)
    assert not any(HOST in word.findall(data) for data in tables(archived).values())
    command("report", study, "--storage", ran / "results", "--compare", packed, "--out", stored, code=0)
    assert "## Against another study" in (stored / "report.md").read_text()


def test_other_verbs_and_python_read_an_archive(command: Command, packed: Path, tmp_path: Path) -> None:
    rows = json.loads(command("status", packed, "--json", code=0).out)
    assert rows["counts"] == {"complete": 4}
    assert "no trial failed" in command("failures", packed, code=0).out
    assert len(load(packed, "tiny")["case"].unique()) > 3
    refused = command("report", packed, "--storage", tmp_path, code=2).err
    assert "an archive has its own records" in refused
    assert "report, status and failures read" in command("watch", packed, code=2).err


@pytest.mark.slow
def test_the_same_storage_gives_the_same_file_and_another_one_is_not_replaced(
    command: Command, study: Path, packed: Path, tmp_path: Path
) -> None:
    words = ("archive", study, "--out", tmp_path / "out" / "tiny.zip", "--licence", "CC-BY-4.0")
    for _ in range(2):
        told = json.loads(command(*words, "--json", code=0).out)
        data = (tmp_path / "out" / "tiny.zip").read_bytes()
        assert data == packed.read_bytes()
    assert told["sha256"] == hashlib.sha256(data).hexdigest()
    assert (told["bytes"], told["complete"], told["missing"]) == (len(data), True, [])
    other = command(*words[:-1], "CC0-1.0", code=2).err
    assert "exists and holds something else" in other
    assert (tmp_path / "out" / "tiny.zip").read_bytes() == data
    command(*words[:-1], "CC0-1.0", "--force", code=0)
    assert (tmp_path / "out" / "tiny.zip").read_bytes() != data
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tiny.zip"]  # nothing temporary
    assert "ends in .zip" in command("archive", study, "--out", tmp_path / "tiny", code=2).err


@pytest.mark.slow
def test_an_archive_holds_no_images_accounts_hosts_or_folders(
    command: Command, study: Path, tmp_path: Path
) -> None:
    store, text = Store.open(tmp_path / "results"), study.read_text()
    plan = codec.read_json(store, StudyFiles("tiny").plan) or {}
    last = plan["trials"][-1]["trial_id"]
    store.delete(TrialFiles(last).record)
    failure = {
        "type": "OSError", "kind": "other", "message": "/home/jane/cxr/patient 7.png on gpu7.lab.org",
        "traceback": "/home/jane/venv/x.py", "host": "gpu7.lab.org", "pid": 7, "epoch": 0,
        "when": "2026-01-01T00:00:00+00:00", "signal": None, "memory_peak_gib": None,
    }  # fmt: skip
    codec.write_json(store, TrialFiles(last).failure, failure)
    run = codec.read_json(store, TrialFiles(last).run) or {}
    attempt = {**run["attempts"][0], "outcome": "failed", "failure": failure}
    codec.write_json(store, TrialFiles(last).run, {**run, "attempts": [attempt]})
    study.write_text(f"{text}note: '\\d/ /s/ \\alpha'\n# see /home/jane/notes\n")
    said = command("archive", study, "--out", tmp_path / "a.zip", code=1)
    name = plan["trials"][-1]["names"][0]
    assert f"missing: {name}: failed: OSError" in said.out
    assert "study.yaml is in the archive without comments, folders, buckets and accounts" in said.err
    assert "study.yaml has changed since the last plan" in said.err
    held = entries(tmp_path / "a.zip")
    assert not [each for each in held if "outputs" in each or "pictures" in each or "safetensors" in each]
    secret = re.compile(rb"jane|gpu7|/home|" + re.escape(str(tmp_path).encode()) + rb'|"' + HOST + rb'"')
    assert {each: secret.findall(data) for each, data in held.items() if secret.search(data)} == {}
    (tmp_path / "shared.yaml").write_bytes(held["study/study.yaml"])
    shared, own = read(tmp_path / "shared.yaml").value, read(study).value
    assert shared == {**own, "tracking": {"wandb": {"entity": None, "mode": "disabled"}}}
    assert own["note"] == r"\d/ /s/ \alpha"
    listed = json.loads(held[archive.MANIFEST])
    assert [each["trial_id"] for each in listed["missing"]] == [last]
    command("report", tmp_path / "a.zip", "--out", tmp_path / "r", code=1)
    assert "Incomplete: 3 of 4 planned trials" in (tmp_path / "r" / "report.md").read_text()

    patients = {**TINY["data"]["portable"], "same_patient": [["phantom-2-0", "phantom-2-1"]]}
    write_study(tmp_path, **{**STUDY, "data": {**TINY["data"], "portable": patients}})
    left = command("archive", study, "--out", tmp_path / "b.zip", code=1).err
    assert "study.yaml is left out: it lists patients of portable" in left
    assert not [each for each in entries(tmp_path / "b.zip") if each.startswith("study/")]


@pytest.mark.parametrize("shareable", [False, True])
def test_patients_that_another_profile_lists_leave_the_study_file_out(
    command: Command, study: Path, tmp_path: Path, shareable: bool
) -> None:
    patients = [["phantom-2-0", "phantom-2-1"]]
    data = {**TINY["data"], "portable": {**TINY["data"]["portable"], "shareable": shareable}}
    write_study(tmp_path, **{
        **STUDY, "data": data, "profiles": {"joined": {"data.portable.different_patients": patients}},
    })  # fmt: skip
    said = command("archive", study, "--out", tmp_path / "a.zip").err
    held = entries(tmp_path / "a.zip")
    assert ("study/study.yaml" in held) == shareable
    assert ("study.yaml is left out: it lists patients of portable, not `shareable`" in said) != shareable
    if not shareable:
        assert not [name for name, entry in held.items() if b"phantom-2-1" in entry]


def test_weights_go_in_if_they_are_asked_for(command: Command, study: Path, tmp_path: Path) -> None:
    command("archive", study, "--out", tmp_path / "w.zip", "--weights", code=0)
    weights = {name: data for name, data in entries(tmp_path / "w.zip").items() if "safetensors" in name}
    assert len(weights) == 4
    for name, data in weights.items():
        assert data == (tmp_path / "results" / name.removeprefix(archive.STORAGE)).read_bytes()
    store = Store.open(tmp_path / "w.zip")
    assert store.read(next(iter(weights)).removeprefix(archive.STORAGE)) == next(iter(weights.values()))


def test_the_metadata_is_an_ro_crate(packed: Path) -> None:
    """What version 1.2 demands of an attached crate: structure, descriptor, root and files."""
    held = entries(packed)
    document = json.loads(held[archive.CRATE])
    assert document.keys() == {"@context", "@graph"}
    assert document["@context"] == "https://w3id.org/ro/crate/1.2/context"
    graph = {entity["@id"]: entity for entity in document["@graph"]}
    assert len(graph) == len(document["@graph"])
    values = [
        each
        for entity in graph.values()
        for value in entity.values()
        for each in (value if isinstance(value, list) else [value])
    ]
    references = [value["@id"] for value in values if isinstance(value, dict)]
    assert all(isinstance(value, str) or value.keys() == {"@id"} for value in values)  # flattened
    assert set(references) - {"https://w3id.org/ro/crate/1.2"} <= graph.keys()
    assert all(entity["@type"] for entity in graph.values())

    descriptor, root = graph[archive.CRATE], graph["./"]
    assert (descriptor["@type"], descriptor["about"]) == ("CreativeWork", {"@id": "./"})
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.2"}
    assert root["@type"] == "Dataset"
    assert root["name"]
    assert root["description"]
    assert datetime.fromisoformat(root["datePublished"]).year > 2000
    assert graph[root["license"]["@id"]]["name"] == "CC-BY-4.0"
    files = {entity["@id"]: entity for entity in graph.values() if entity["@type"] == "File"}
    assert {part["@id"] for part in root["hasPart"]} == files.keys() == held.keys() - {archive.CRATE}
    for name, entity in files.items():
        assert re.fullmatch(r"[\w./@+-]+", name)  # a relative URI
        assert entity["contentSize"] == str(len(held[name]))
        assert entity["sha256"] == hashlib.sha256(held[name]).hexdigest()
        assert "/" in entity["encodingFormat"]
    software = [entity for entity in graph.values() if entity["@type"] == "SoftwareApplication"]
    assert [(entity["name"], bool(entity["version"])) for entity in software] == [("xferlab", True)]
    runs = graph["#trials"]
    assert (runs["object"], len(runs["result"])) == ({"@id": "study/study.yaml"}, 8)


def rewritten(packed: Path, path: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """The archive with some entries changed, each with the checksum of its own entry."""
    held = entries(packed)
    change(held)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in held.items():
            opened.writestr(name, data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_that_is_compressed_otherwise_is_refused(
    packed: Path, tmp_path: Path, method: int
) -> None:
    """A part of such an entry cannot be read alone: 120 kB of LZMA may be 1 GB."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as opened:
        for name, data in entries(packed).items():
            opened.writestr(name, data)
    with pytest.raises(RecordError, match=r"entry '.*': it is compressed in another way than xferlab"):
        Store.open(tmp_path / "a.zip")


@pytest.mark.parametrize("entry", ["environment.json", archive.MANIFEST])
def test_no_more_of_an_entry_is_expanded_than_it_declares(packed: Path, tmp_path: Path, entry: str) -> None:
    """The size in the directory of the file is changed, and the entry is 100 MB."""
    path = rewritten(packed, tmp_path / "a.zip", lambda held: held.update({entry: bytes(100_000_000)}))
    data, size = path.read_bytes(), len(entries(packed)[entry])
    path.write_bytes(data.replace((100_000_000).to_bytes(4, "little"), size.to_bytes(4, "little")))
    tracemalloc.start()
    with pytest.raises(RecordError, match=f"entry '{entry}': it "):
        Store.open(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("name", ["STUDY.ZIP", "~/study.zip"])
def test_an_archive_is_known_by_its_ending(
    command: Command, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for words in (("status", name), ("report", packed, "--compare", name), ("status", "x.zip")):
        assert "there is no such archive" in command(*words, code=2).err
    assert not list(tmp_path.iterdir())
    shutil.copy(packed, tmp_path / Path(name).name)
    assert json.loads(command("status", name, "--json", code=0).out)["counts"] == {"complete": 4}


def relisted(held: dict[str, bytes], **changes: Any) -> None:
    body = {**json.loads(held[archive.MANIFEST]), **changes}
    del body["sha256"]
    held[archive.MANIFEST] = json_with_checksum(body) + b"\n"


PLAN = archive.STORAGE + StudyFiles("tiny").plan
CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], Any], str]] = {
    "altered": (lambda held: held.update({PLAN: held[PLAN].replace(b"0.5", b"6.0")}), f"'{PLAN}': .*digest"),
    "longer": (lambda held: held.update({PLAN: held[PLAN] + b"\n"}), f"entry '{PLAN}': it has .* bytes"),
    "missing": (lambda held: held.pop("environment.json"), "entry 'environment.json': it is missing"),
    "more": (lambda held: held.update(x=b""), "entry 'x': the archive does not list it"),
    "outside": (lambda held: held.update({"../x": b""}), "entry '../x': its name leads out"),
    "absolute": (lambda held: held.update({"/tmp/x": b""}), "entry '/tmp/x': its name leads out"),
    "backslash": (lambda held: held.update({"a\\..\\x": b""}), "its name leads out"),
    "bomb": (lambda held: held.update(x=bytes(1 << 27)), "entry 'x': it says that it holds 134217728 bytes"),
    "no list": (lambda held: held.pop(archive.MANIFEST), "`xferlab archive` did not write it"),
    "list": (
        lambda held: held.update({archive.MANIFEST: held[archive.MANIFEST].replace(b"tiny", b"tine", 1)}),
        "entry 'xferlab-archive.json': it is damaged .*digest",
    ),
    "newer": (
        lambda held: relisted(held, versions={**archive.VERSIONS, "archives": 2}, written_by="9.0"),
        "written by xferlab 9.0 with archives of version 2, and this xferlab reads version 1",
    ),
    "older": (
        lambda held: relisted(held, versions={**archive.VERSIONS, "records": 1}),
        "with records of version 1, and this xferlab reads version 2",
    ),
    "other list": (lambda held: relisted(held, files=7), "entry 'xferlab-archive.json': it is damaged"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_an_altered_archive_is_refused_by_the_name_of_the_entry(
    packed: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], Any], message: str
) -> None:
    path = rewritten(packed, tmp_path / "a.zip", change)
    with pytest.raises(RecordError, match=message):
        Store.open(path)
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]  # nothing is ever extracted


def test_whatever_byte_is_damaged_the_archive_is_refused_or_whole(packed: Path, tmp_path: Path) -> None:
    data, path = packed.read_bytes(), tmp_path / "a.zip"
    whole = Store.open(packed).walk("")
    for position in range(7, len(data), len(data) // 150):
        path.write_bytes(data[:position] + bytes([data[position] ^ 255]) + data[position + 1 :])
        try:
            assert [name for name, _ in Store.open(path).walk("")] == [name for name, _ in whole]
        except RecordError as error:
            assert str(path) in str(error)  # noqa: PT017
        path.write_bytes(data[:position])
        with pytest.raises(RecordError, match="is no whole zip file"):
            Store.open(path)


def test_an_archive_without_its_plan_is_refused(command: Command, packed: Path, tmp_path: Path) -> None:
    def planless(held: dict[str, bytes]) -> None:
        del held[PLAN]
        listed = json.loads(held[archive.MANIFEST])["files"]
        relisted(held, files={name: facts for name, facts in listed.items() if name != PLAN})

    path = rewritten(packed, tmp_path / "a.zip", planless)
    assert "holds plans of 0 studies" in command("status", path, code=2).err


def test_an_archive_cannot_be_written_to(command: Command, packed: Path, study: Path) -> None:
    with pytest.raises(Exception, match="Read-only file system"):
        Store.open(packed).write("trials/x", b"")
    before = packed.read_bytes()
    assert "cannot be written" in command("run", study, "--storage", packed, code=2).err
    assert packed.read_bytes() == before
