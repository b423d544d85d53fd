"""`xferlab import` makes a table that `check` accepts, and brings it up to date."""

from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import Command
from tests.data.test_dicom import write as write_dicom
from tests.importing.layouts import table
from xferlab.cli.main import BAD_INPUT, COMPLETE, main
from xferlab.errors import StorageError
from xferlab.records.store import Store

STAGES = {"lungs": {"data": "mine", "structures": ["lungs"]}}


def study(text: str, folder: Path) -> Path:
    """A study around the section that was printed."""
    sections = yaml.safe_load(text[text.index("\ndata:") :])
    path = folder.parent / "study.yaml"
    path.write_text(yaml.safe_dump({"study": "mine", "repetitions": 1, **sections, "stages": STAGES}))
    return path


def test_the_printed_section_passes_the_check(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(folder / "images"), f"lungs={folder / 'left'}", f"lungs={folder / 'right'}"]
    assert main(["import", *words, "--patient", "P[0-9]+"]) == COMPLETE
    said = capsys.readouterr().out
    assert "12 images, 12 of them new" in said
    assert "6 patients, with up to 2 images each" in said
    assert table(folder)[0] == {
        "image": "images/P0_0.png", "mask_lungs_1": "left/P0_0_mask.png",
        "mask_lungs_2": "right/P0_0_mask.png", "patient_id": "P0",
    }  # fmt: skip
    path = study(said, folder)
    assert yaml.safe_load(path.read_text())["data"]["mine"]["structures"]["lungs"] == [
        "lungs_1",
        "lungs_2",
    ]
    assert main(["check", str(path)]) == COMPLETE, capsys.readouterr().out


def test_a_folder_whose_name_cannot_be_written_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = (folder / "left").rename(folder / "left\udcff")
    assert main(["import", str(folder / "images"), str(left)]) == 2
    assert "rename that file or folder: 'images/" in capsys.readouterr().err
    assert not (folder / "metadata.csv").exists()


def test_a_second_import_keeps_what_was_added(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["import", str(folder / "images"), str(folder / "left"), "--patient", "P[0-9]+"]
    assert main(words) == COMPLETE
    rows = table(folder)
    rows[0] |= {"patient_id": "P9", "pathology": "normal"}
    with open(folder / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0]], restval="")
        writer.writeheader()
        writer.writerows(rows)
    Image.new("L", (40, 40)).save(folder / "images" / "P7_1.png")
    capsys.readouterr()
    assert main(words) == COMPLETE
    assert "13 images, 1 of them new" in capsys.readouterr().out
    first, *_, last = table(folder)
    assert (first["patient_id"], first["pathology"]) == ("P0", "normal")
    assert (last["image"], last["mask"], last["patient_id"]) == ("images/P7_1.png", "", "P7")


def test_a_second_import_corrects_patients_only_if_it_is_told_who_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", str(folder / "images"), str(folder / "left")]
    by_name = ("--patient", "P[0-9]+")
    for more, number, changed in (((), 12, ""), (by_name, 6, "12 changed"), ((), 6, ""), (by_name, 6, "")):
        assert main([*words, *more]) == COMPLETE
        assert f"{number} patient" in (said := capsys.readouterr().out)
        assert changed in said
        assert len({row["patient_id"] for row in table(folder)}) == number


def test_a_table_names_images_by_more_or_less_of_their_paths(tmp_path: Path) -> None:
    for patient in ("P1", "P2", "P3"):
        (tmp_path / "images" / patient).mkdir(parents=True)
        Image.new("L", (40, 40)).save(tmp_path / "images" / patient / "0.png")
    facts = tmp_path / "facts.csv"
    facts.write_text("image,patient_id\nimages/P1/0.png,A\nP2/0.png,B\nP2/1.png,C\n")
    assert main(["import", str(tmp_path / "images"), "--patient", str(facts)]) == COMPLETE
    found = {row["image"]: row["patient_id"] for row in table(tmp_path / "images")}
    assert found == {"P1/0.png": "A", "P2/0.png": "B"}  # nobody knows who P3/0.png is


def test_a_table_of_somebody_else_loses_no_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "image,mask,patient_id\nimages\\P0_0.png,,A\nimages/P0_0.png,,B\n"
    (folder / "metadata.csv").write_text(text)
    assert main(["import", str(folder / "images"), str(folder / "left")]) == BAD_INPUT
    assert "images/P0_0.png has two rows" in capsys.readouterr().err
    assert (folder / "metadata.csv").read_text() == text
    (folder / "metadata.csv").rename(folder / "metadata.parquet")
    assert main(["import", str(folder / "images"), str(folder / "left")]) == BAD_INPUT
    assert "has a table already, metadata.parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (["left", "right"], "say what each marks: NAME=FOLDER"),
        (["a=left", "b=left"], "one folder holds the masks of several names"),
        (["left lung=left"], "'left lung' is no name of a structure"),
        (["a_1=left", "a=right", "a=images"], "'a_1' is named twice"),
        (["ignore=left"], "'ignore' is no name of a structure: it is the label of pixels that count nowhere"),
        ([f"{'a' * 60}=left"], f"its column 'mask_{'a' * 60}' has up to 64 letters"),
        ([f"a={'a' * 300}"], "File name too long"),
    ],
)
def test_names_and_folders_that_do_not_fit_are_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    masks: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    assert main(["import", "images", *masks]) == BAD_INPUT
    assert message in capsys.readouterr().err


def test_without_patients_it_warns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(folder / "images"), str(folder / "left")]) == COMPLETE
    assert "warning: every image counts as a patient of its own" in capsys.readouterr().out
    assert len({row["patient_id"] for row in table(folder)}) == 12


def test_a_table_says_who_is_on_an_image(folder: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.csv"
    lines = [f"P{number // 2}_{number}.png;A{number // 3};portable" for number in range(12)]
    facts.write_text("\n".join(["image;patient_id;device", *lines]))
    assert main(["import", str(folder / "images"), "--patient", str(facts)]) == COMPLETE
    assert [(row["patient_id"], row["device"]) for row in table(folder / "images")][2:4] == [
        ("A0", "portable"), ("A1", "portable"),
    ]  # fmt: skip


def test_ids_of_headers_are_hashed_unless_they_are_to_be_kept(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for number in range(3):
        pixels = np.full((32, 32), 100 * number, np.uint16)
        write_dicom(tmp_path / "files" / f"{number}.dcm", pixels, PatientID=f"Doe^{number // 2}")
    words = ["import", str(tmp_path / "files"), "--patient", "dicom"]
    assert main(words) == COMPLETE
    first, second, third = (row["patient_id"] for row in table(tmp_path / "files"))
    assert first == second != third
    assert "Doe" not in first + third
    (tmp_path / "files" / "metadata.csv").unlink()
    assert main([*words, "--keep-ids"]) == COMPLETE
    assert [row["patient_id"] for row in table(tmp_path / "files")] == ["Doe^0", "Doe^0", "Doe^1"]


def test_spellings_of_one_id_in_headers_have_one_hash(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for number, patient in enumerate(("P 7", "p07", "001", "1", "P8")):
        pixels = np.full((32, 32), 100 * number, np.uint16)
        write_dicom(tmp_path / "files" / f"{number}.dcm", pixels, PatientID=patient)
    assert main(["import", str(tmp_path / "files"), "--patient", "dicom"]) == COMPLETE
    first, second, third, fourth, fifth = (row["patient_id"] for row in table(tmp_path / "files"))
    assert (first, third) == (second, fourth)
    assert len({first, third, fifth}) == 3


def test_dicom_files_need_neither_an_ending_nor_a_preamble(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for number, name in enumerate(("IM0001", "1.2.840.99.7", "c.dcm")):
        path = write_dicom(tmp_path / "files" / name, PatientID=f"P{number}")
        path.write_bytes(path.read_bytes()[132 if number else 0 :])
    (tmp_path / "files" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "files" / "notes.txt").write_text("no image")
    words = ["import", str(tmp_path / "files"), "--patient", "dicom", "--keep-ids"]
    assert main(words) == COMPLETE
    found = {(row["image"], row["patient_id"]) for row in table(tmp_path / "files")}
    assert found == {("IM0001", "P0"), ("1.2.840.99.7", "P1"), ("c.dcm", "P2")}


def test_a_row_without_an_image_is_of_nobody(folder: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.csv"
    facts.write_text("image,patient_id\nP0_0.png,A\n,B\n.,C\n")
    assert main(["import", str(folder / "images"), "--patient", str(facts)]) == COMPLETE
    assert [row["patient_id"] for row in table(folder / "images")] == ["A"]


def test_a_long_expression_finds_patients(folder: Path) -> None:
    expression = f"({'|'.join(f'P{number}' for number in range(100))})_"
    assert main(["import", str(folder / "images"), "--patient", expression]) == COMPLETE
    assert len({row["patient_id"] for row in table(folder / "images")}) == 6


@pytest.mark.parametrize(
    ("patient", "message"),
    [
        ("(", "is no regular expression"),
        ("Q[0-9]+", "finds no patient in its name"),
        ("(Q)?", "its patient is empty"),
        ("dicom", "is no DICOM file"),
        ("absent.csv", "absent.csv: cannot be read as a table"),
    ],
)
def test_patients_that_cannot_be_found_are_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str], patient: str, message: str
) -> None:
    assert main(["import", str(folder / "images"), "--patient", patient]) == BAD_INPUT
    assert message in capsys.readouterr().err
    assert not (folder / "images" / "metadata.csv").exists()


@pytest.mark.parametrize(
    ("spacing", "cell", "code"),
    [("0.175", "0.175", COMPLETE), ("0.2 x 0.175", "0.2 x 0.175", COMPLETE), ("0,175", "", BAD_INPUT)],
)
def test_a_spacing_is_written_for_all_images(
    folder: Path, capsys: pytest.CaptureFixture[str], spacing: str, cell: str, code: int
) -> None:
    assert main(["import", str(folder / "images"), str(folder / "left")]) == COMPLETE
    words = ["import", str(folder / "images"), str(folder / "left"), "--spacing-mm", spacing]
    assert main(words) == code
    assert {row.get("spacing_mm", "") for row in table(folder)} == {cell}
    assert ("--spacing-mm '0,175' is no pixel spacing" in capsys.readouterr().err) == (code == BAD_INPUT)


def test_a_first_study_joins_by_a_pattern(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, mask in enumerate(sorted((folder / "left").iterdir())):
        mask.rename(mask.with_name(mask.name.replace("_mask", f"_reader{number}")))
    words = ["init", "--out", str(folder / "study.yaml"), "--from", str(folder / "images")]
    assert main([*words, str(folder / "left")]) == BAD_INPUT
    assert "or say by --mask which of them count" in capsys.readouterr().err
    assert main([*words, str(folder / "left"), "--mask", "(.*)_reader[0-9]+"]) == COMPLETE
    assert "mask: 12 of 12 images have one" in capsys.readouterr().out
    (folder / "study.yaml").unlink()
    assert main([*words, "--mask", "(.*)_reader[0-9]+"]) == BAD_INPUT
    assert "--mask says how masks are named; name their folder, too" in capsys.readouterr().err


def test_images_in_dicom_and_masks_in_png_make_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    for name in ("dicom", "masks"):
        (tmp_path / name).mkdir()
    for number in range(10):
        pixels = draw.integers(0, 4096, (40, 30), np.uint16)
        about = {"PatientID": f"Doe^{number // 2}", "Modality": "DX", "PixelSpacing": [0.2, 0.3]}
        write_dicom(tmp_path / "dicom" / f"IM{number:04}", pixels, **about)
        mask = np.zeros((40, 30), np.uint8)
        mask[8 + number : 30, 5:20] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"IM{number:04}.png")
    words = ["init", "--out", str(tmp_path / "study.yaml"), "--patient", "dicom"]
    assert main([*words, "--from", str(tmp_path / "dicom"), str(tmp_path / "masks")]) == COMPLETE
    said = capsys.readouterr().out
    assert "mask: 10 of 10 images have one" in said
    assert "5 patients, with up to 2 images each" in said
    assert main(["check", str(tmp_path / "study.yaml")]) == COMPLETE, capsys.readouterr().out
    capsys.readouterr()
    assert main(["plan", str(tmp_path / "study.yaml"), "--json"]) == COMPLETE
    trials = json.loads(capsys.readouterr().out)["trials"]
    assert len(trials) == 15
    assert "Doe" not in (tmp_path / "metadata.csv").read_text()


def test_layouts_have_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(folder), "--layout", "nnunnet"]) == BAD_INPUT
    accepted = "datalist, coco, nnunet, montgomery, shenzhen, jsrt, kermany, cohen, dicom-seg, none"
    what = f"--layout nnunnet: accepted are {accepted}. Did you mean 'nnunet'?"
    assert what in capsys.readouterr().err
    assert main(["import", str(folder / "images"), str(folder / "left"), "--layout", "jsrt"]) == BAD_INPUT
    assert "--layout is for one folder or file" in capsys.readouterr().err
    assert main(["import", str(folder), "--layout", "nnunet"]) == BAD_INPUT
    assert "dataset.json: cannot be read: No such file" in capsys.readouterr().err
    (folder / "CXR_png").mkdir()
    (folder / "ManualMask").mkdir()
    assert main(["import", str(folder)]) == BAD_INPUT
    assert "holds no images named as those of the Montgomery County set" in capsys.readouterr().err
    assert main(["import", str(folder / "images"), "--layout", "none"]) == COMPLETE
    (folder / "a.json").write_text("{}")
    assert main(["import", str(folder / "a.json")]) == BAD_INPUT
    assert "a.json has no layout that is known" in capsys.readouterr().err


def test_images_of_unknown_people_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["import", str(folder / "images"), str(folder / "left")]
    assert main([*words, "--patient", "P[0-9]+"]) == COMPLETE
    assert "warning" not in capsys.readouterr().out
    Image.new("L", (40, 40)).save(folder / "images" / "P1_12.png")
    assert main(words) == COMPLETE
    what = (
        "warning: nothing says who is on 1 of 13 images, such as images/P1_12.png: each counts as a patient"
    )
    assert what in capsys.readouterr().out
    assert main([*words, "--patient", "P[0-9]+"]) == COMPLETE
    assert "warning" not in capsys.readouterr().out
    assert len({row["patient_id"] for row in table(folder)}) == 6


def test_files_that_are_gone_are_named_and_not_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["import", str(folder / "images"), str(folder / "left"), "--patient", "P[0-9]+"]
    assert main(words) == COMPLETE
    for name in ("images/P0_0.png", "left/P0_0_mask.png", "left/P3_6_mask.png"):
        (folder / name).unlink()
    capsys.readouterr()
    assert main([*words, "--json"]) == COMPLETE
    said, told = capsys.readouterr()
    assert sorted(json.loads(said)["gone"]) == [
        "images/P0_0.png", "left/P0_0_mask.png", "left/P3_6_mask.png"
    ]  # fmt: skip
    assert "is named in the table, and not there" in told
    assert "mask: 10 of 12 images have one" in told
    assert table(folder)[0]["mask"] == "left/P0_0_mask.png"  # who made the table says what to do


def test_images_on_a_read_only_share_are_read_by_links(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Store.write

    def read_only(store: Store, name: str, data: bytes) -> None:
        if store.location == str(folder):
            error = OSError(errno.EROFS, "Read-only file system")
            raise StorageError(f"{store.path(name)}: cannot be written: {error}") from error
        write(store, name, data)

    monkeypatch.setattr(Store, "write", read_only)
    said = command("import", folder / "images", folder / "left")
    assert (
        "metadata.csv: cannot be written: [Errno 30] Read-only file system. If you may not write" in said.err
    )
    assert "links to the folders of images and masks (`ln -s`)" in said.err
    links = tmp_path / "links"
    links.mkdir()
    for name in ("images", "left"):
        (links / name).symlink_to(folder / name)
    command("import", links / "images", links / "left", code=0)
    assert table(links)[0]["mask"] == "left/P0_0_mask.png"


def test_a_row_of_several_images_is_nobodys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a/0.png", "b/0.png", "a/1.png", "b/2.png"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 40)).save(tmp_path / "images" / name)
    facts = tmp_path / "facts.csv"
    facts.write_text("image,patient_id\n0.png,A\n1.png,B\n2.png,C\n")
    assert main(["import", str(tmp_path / "images"), "--patient", str(facts)]) == COMPLETE
    said = capsys.readouterr().out
    assert (
        f"a/0.png: warning: has a row that fits {tmp_path / 'images' / 'b' / '0.png'}, too ({facts}:2)"
        in said
    )
    assert [row["image"] for row in table(tmp_path / "images")] == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize("word", ["lung=run=3", "lung=./run=3"])
def test_folders_may_have_an_equals_sign(folder: Path, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    (folder / "left").rename(folder / "run=3")
    monkeypatch.chdir(folder)
    assert main(["import", "images", word]) == COMPLETE
    assert table(folder)[0]["mask_lung"] == "run=3/P0_0_mask.png"
    assert main(["import", "images", "./run=3"]) == COMPLETE
    assert table(folder)[0]["mask"] == "run=3/P0_0_mask.png"


@pytest.mark.skipif(os.sep == "\\", reason="a backslash divides folders there")
def test_names_with_a_backslash_keep_their_row(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "images" / "P0_0.png").rename(folder / "images" / "P0\\0.png")
    (folder / "left" / "P0_0_mask.png").rename(folder / "left" / "P0\\0_mask.png")
    words = ["import", str(folder / "images"), str(folder / "left")]
    assert main([*words, "--patient", "P[0-9]+"]) == COMPLETE
    (folder / "metadata.csv").rename(folder / "facts.csv")
    for number in (12, 0):
        assert main([*words, "--patient", str(folder / "facts.csv")]) == COMPLETE
        assert f"12 images, {number} of them new" in capsys.readouterr().out
