"""The manifest source: who is in a section, and what its pixels are."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data import spoils
from tests.data.conftest import cases_of
from tests.data.test_dicom import write as write_dicom
from tests.refusals import problems_of
from xferlab.cohort import Case
from xferlab.data import memo
from xferlab.data.sources.registry import open_source
from xferlab.data.sources.source import Decoded
from xferlab.errors import DataError


def test_a_case_is_a_row(folder: Any, tmp_path: Path) -> None:
    all_cases = cases_of(folder.section(), tmp_path)
    assert [(c.name, c.patient, c.pathology, c.simulated) for c in all_cases] == [
        (f"images/{n}.png", f"p{n}", ("covid19", "normal")[n % 2], "") for n in range(6)
    ]
    assert len({c.digest for c in all_cases}) == 6
    assert all(len(c.digest) == 64 for c in all_cases)


@pytest.mark.parametrize(("lung", "ignore"), [(255, 127), (127, 255)])
def test_pixels_and_targets(folder: Any, tmp_path: Path, lung: int, ignore: int) -> None:
    labels = {"lung": [lung], "ignore": [ignore]}
    source = open_source("s", folder.section(labels=labels), memo_dir=tmp_path / "memo")
    for number, case in enumerate(source.cases()):
        decoded = source.decode(case)
        mask = np.asarray(Image.open(folder.root / f"masks/{number}.png"))
        assert (decoded.image == np.asarray(Image.open(folder.root / f"images/{number}.png"))).all()
        assert ((decoded.targets == 255) == (mask == lung)).all()
        assert ((decoded.targets == 127) == (mask == ignore)).all()
        assert set(np.unique(decoded.targets)) == {0, 127, 255}


def test_paths_of_windows_are_read(folder: Any, tmp_path: Path) -> None:
    before = cases_of(folder.section(), tmp_path)
    (folder.root / "images/1.png").rename(folder.root / r"images\1.png")  # a name that only looks like a path
    for row in folder.rows:
        row |= {column: row[column].replace("/", "\\") for column in ("image", "mask")}
    folder.write()
    after = cases_of(folder.section(), tmp_path)
    assert [case.digest for case in after] == [case.digest for case in before]
    assert [case.name for case in after] == [
        r"images\1.png" if number == 1 else f"images/{number}.png" for number in range(6)
    ]


def shuffled(folder: Any) -> None:
    random.Random(0).shuffle(folder.rows)
    folder.write()


def moved(folder: Any) -> None:
    folder.root = folder.root.rename(folder.root.with_name("elsewhere"))


def as_parquet(folder: Any) -> None:
    (folder.root / "metadata.csv").unlink()
    pq.write_table(pa.Table.from_pylist(folder.rows), folder.root / "metadata.parquet")


@pytest.mark.parametrize("change", [shuffled, moved, as_parquet])
def test_order_of_rows_place_and_format_change_nothing(folder: Any, tmp_path: Path, change: Any) -> None:
    folder.rows.append(folder.rows[1] | {"pathology": "covid19"})  # an equal row of another pathology
    folder.write()
    before = cases_of(folder.section(), tmp_path)
    change(folder)
    assert cases_of(folder.section(), tmp_path) == before


def lighter(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels.copy()
    pixels[20, 20] ^= 255
    return pixels


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (spoils.fields(labels={"lung": [255]}), 6),
        (spoils.fields(labels={"lung": [255, 1], "ignore": [127]}), 6),
        (spoils.fields(simulate="portable"), 6),
        (spoils.pixels("images/3.png", lighter), 1),
        (spoils.pixels("masks/3.png", lighter), 1),
        (spoils.fields(labels={"heart": [255], "ignore": [127]}), 0),
        (spoils.fields(where={"device": ["fixed", "portable"]}), 0),
        (spoils.fields(hold_out=0.5), 0),
        (spoils.fields(same_patient=[["p1", "p2"]]), 0),
    ],
)
def test_the_digest_covers_what_changes_pixels_and_nothing_else(
    folder: Any, tmp_path: Path, change: spoils.Spoil, number: int
) -> None:
    before = {c.digest: c.name for c in cases_of(folder.section(), tmp_path)}
    after = {c.digest: c.name for c in cases_of(folder.section(**(change(folder) or {})), tmp_path)}
    renewed = {after[digest] for digest in after.keys() - before.keys()}
    assert renewed == {f"images/{n}.png" for n in {0: [], 1: [3], 6: range(6)}[number]}


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ({"device": "portable"}, [0, 3]),
        ({"device": ["portable", "fixed"]}, [0, 1, 2, 3, 4, 5]),
        ({"device": "fixed", "pathology": "normal"}, [1, 5]),
        ({"age": 40}, [0, 2, 4]),
        ({"age": [40.0, 41]}, [0, 1, 2, 3, 4, 5]),
        ({"supine": True}, [0, 1]),
        ({"supine": False}, [2, 3, 4, 5]),
    ],
)
def test_where(folder: Any, tmp_path: Path, where: dict[str, Any], numbers: list[int]) -> None:
    for number, row in enumerate(folder.rows):
        row["age"] = "40.0" if number % 2 == 0 else "41"
        row["supine"] = ("True", "yes", "False", "no", "0", "false")[number]
    as_parquet(folder)
    all_cases = cases_of(folder.section(where=where), tmp_path)
    assert [c.name for c in all_cases] == [f"images/{n}.png" for n in numbers]


def test_joined_patients_do_not_depend_on_the_order_of_groups(folder: Any, tmp_path: Path) -> None:
    for groups in ([["p3", "p2"], ["p3", "p5"]], [["p5", "p3"], ["p2", "p5"]], [["p2", "p3", "p5"]]):
        all_cases = cases_of(folder.section(same_patient=groups), tmp_path)
        assert {c.name: c.patient for c in all_cases} == {
            f"images/{n}.png": "p2" if n in (2, 3, 5) else f"p{n}" for n in range(6)
        }


def test_a_case_keeps_what_its_row_says_also_the_id_before_it_was_joined(folder: Any, tmp_path: Path) -> None:
    for number, row in enumerate(folder.rows):
        row["device"] = f" site {number % 2} "
    folder.write()
    all_cases = cases_of(folder.section(same_patient=[["p2", "p3"]]), tmp_path)
    told = {case.name: (case.columns["patient_id"], case.columns["device"]) for case in all_cases}
    assert told == {f"images/{n}.png": (f"p{n}", f"site {n % 2}") for n in range(6)}


def test_equal_rows_are_one_case_the_first_by_patient(folder: Any, tmp_path: Path) -> None:
    folder.rows.insert(0, folder.rows[2] | {"patient_id": "zz"})
    folder.rows.insert(0, folder.rows[3] | {"patient_id": "a"})
    folder.write()
    all_cases = cases_of(folder.section(), tmp_path)
    assert [(c.patient, c.name) for c in all_cases if c.name in ("images/2.png", "images/1.png")] == [
        ("a", "images/2.png"),
        ("p1", "images/1.png"),
    ]


@pytest.mark.parametrize(("limit", "same"), [({}, True), ({"PixelPaddingRangeLimit": 9}, False)])
def test_only_dicom_with_a_range_of_padding_has_another_digest(
    folder: Any, tmp_path: Path, limit: dict[str, int], same: bool
) -> None:
    stored = np.arange(1200, dtype=np.uint16).reshape(40, 30)
    write_dicom(folder.root / "images/1.dcm", stored, PixelPaddingValue=0, **limit)
    folder.rows[1]["image"] = "images/1.dcm"
    folder.write()
    for _ in range(2):  # also when it is remembered
        (case,) = (case for case in cases_of(folder.section(), tmp_path) if case.name == "images/1.dcm")
        files = [(folder.root / name).read_bytes() for name in ("images/1.dcm", "masks/1.png")]
        image, mask = (hashlib.sha256(content).hexdigest() for content in files)
        labels = {"ignore": [127], "structure": [255]}
        recipe = {"image": image, "mask": mask, "labels": labels, "decode": 1}
        before = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        assert (case.digest == before) == same


@pytest.fixture
def padded(folder: Any) -> Any:
    """The folder, with two DICOM images that have a range of padding."""
    stored = np.arange(1200, dtype=np.uint16).reshape(40, 30)
    for number in (1, 2):
        fields = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9, "InstanceNumber": number}
        write_dicom(folder.root / f"images/{number}.dcm", stored, **fields)
        folder.rows[number]["image"] = f"images/{number}.dcm"
    folder.write()
    return folder


def test_dicom_that_cannot_be_read_while_planning_gets_no_digest(
    padded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cases_of(padded.section(), tmp_path / "other")

    def failing(path: Path) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(memo, "read_file", failing)
        refused = problems_of(DataError, cases_of, padded.section(), tmp_path)
    table, image = padded.root / "metadata.csv", padded.root / "images"
    assert [str(problem) for problem in refused] == [
        f"{table}:{number + 2}: {image}/{number}.dcm: cannot be read: Input/output error."
        for number in (1, 2)
    ]
    assert cases_of(padded.section(), tmp_path) == expected


def test_nothing_is_remembered_of_a_header_that_cannot_be_parsed(
    padded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cases_of(padded.section(), tmp_path / "other")

    def failing(*_: object, **__: object) -> None:
        raise NotImplementedError("this version of pydicom cannot parse the header")

    with monkeypatch.context() as patch:
        patch.setattr("xferlab.data.dicom_file.pydicom.dcmread", failing)
        cases_of(padded.section(), tmp_path)
    assert cases_of(padded.section(), tmp_path) == expected


def test_headers_of_several_images_are_read_at_once(
    padded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, both = memo.read_file, threading.Barrier(2, timeout=10)

    def waiting(path: Path) -> bytes:
        both.wait()
        return read(path)

    monkeypatch.setattr(memo, "read_file", waiting)
    monkeypatch.setattr("xferlab.parallel.num_workers", lambda: 2)
    assert len(cases_of(padded.section(), tmp_path)) == 6


@pytest.mark.usefixtures("remembering")
def test_planning_known_data_reads_no_image(
    folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cases_of(folder.section(), tmp_path)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert cases_of(folder.section(), tmp_path) == before


def test_a_simulated_section_says_so_and_is_the_same_each_time(folder: Any, tmp_path: Path) -> None:
    assert {case.simulated for case in cases_of(folder.section(simulate="portable"), tmp_path)} == {
        "portable"
    }
    first, second, plain = (
        decoded(folder, tmp_path, simulate=name) for name in ("portable", "portable", None)
    )
    assert (first.image == second.image).all()
    assert (first.targets == second.targets).all()
    assert set(np.unique(first.targets)) <= {0, 127, 255}
    assert (first.image != plain.image).any()


def test_simulated_devices_belong_to_images_not_to_masks(folder: Any, tmp_path: Path) -> None:
    for number in (0, 1):  # equal pixels in different files
        Image.new("L", (30, 40), 100).save(folder.root / f"images/{number}.png", compress_level=number)
    first, other = (decoded(folder, tmp_path, f"images/{n}.png", simulate="portable").image for n in (0, 1))
    assert (first != other).any()
    Image.new("L", (30, 40), 255).save(folder.root / "masks/0.png")
    assert (decoded(folder, tmp_path, "images/0.png", simulate="portable").image == first).all()


def decoded(folder: Any, tmp_path: Path, name: str = "images/1.png", **fields: Any) -> Decoded:
    source = open_source("s", folder.section(**fields), memo_dir=tmp_path / "memo")
    (case,) = (case for case in source.cases() if case.name == name)
    return source.decode(case)


def test_turned_image_with_a_turned_mask(folder: Any, tmp_path: Path) -> None:
    turned = [spoils.resaved(f"{kind}/1.png", orientation=6) for kind in ("images", "masks")]
    spoils.several(*turned)(folder)
    both = decoded(folder, tmp_path)
    assert both.image.shape == both.targets.shape[1:] == (30, 40)


def test_a_case_of_another_section_is_refused(folder: Any, tmp_path: Path) -> None:
    source = open_source("general", folder.section(), memo_dir=tmp_path / "memo")
    with pytest.raises(DataError, match=r"data.general: the section has no case 0{16} \(x.png\); plan the"):
        source.decode(Case("0" * 64, "x.png", "p", "normal"))


def test_the_size_of_a_mask_is_reported_before_the_values_that_resizing_made(
    folder: Any, tmp_path: Path
) -> None:
    with Image.open(folder.root / "masks/1.png") as mask:
        small = mask.resize((mask.width // 2, mask.height // 2), Image.Resampling.BILINEAR)
    small.save(folder.root / "masks/1.png")
    with pytest.raises(DataError, match=r"masks/1\.png: the mask is \d+x\d+ pixels, its image"):
        decoded(folder, tmp_path)


ROWS, IMAGES, MASKS = 100_000, 500, 200
MOST_S = 60.0
"""Of processor time; some seconds where nothing else runs."""


@pytest.mark.slow
@pytest.mark.usefixtures("remembering")
def test_a_hundred_thousand_rows_are_indexed_in_seconds(section: Any, tmp_path: Path) -> None:
    root = tmp_path / "pack"
    for kind, count in (("images", IMAGES), ("masks", MASKS)):
        (root / kind).mkdir(parents=True)
        for number in range(count):
            Image.new("I;16", (8, 8), number).save(root / kind / f"{number}.png")
    lines = ["image,mask,patient_id,pathology"]
    lines += [f"images/{n % IMAGES}.png,masks/{n // IMAGES}.png,p{n // 3},normal" for n in range(ROWS)]
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    config = section(source="manifest", root=str(root))
    for when in ("cold", "warm"):
        start_s = time.process_time()
        cases = cases_of(config, tmp_path)
        took_s = time.process_time() - start_s
        print(f"{when}: {len(cases):,} cases of {ROWS:,} rows in {took_s:.1f} s")
        assert len({case.digest for case in cases}) == ROWS
        assert took_s < MOST_S
