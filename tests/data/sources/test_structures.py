"""Structures of a manifest: several in one mask, in masks of their own, joined, overlapping, absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import (
    Folder,
    cases_of,
    data_section,
    digests_of,
    make_image,
    write_rows,
)
from xferlab.data.cache import open_table
from xferlab.data.sources.registry import open_source
from xferlab.data.sources.source import Decoded
from xferlab.errors import DataError

LABELS = {"heart": [85], "left_lung": [170], "right_lung": [255], "ignore": [127]}
LUNGS = {"lungs": ["left_lung", "right_lung"]}
COLUMNS = ("image", "mask", "mask_heart", "mask_clavicles", "patient_id", "pathology")
BOXES = {"heart": np.s_[10:20, 10:16], "left_lung": np.s_[5:30, 18:26], "right_lung": np.s_[5:30, 2:9]}
CLAVICLES = np.s_[4:8, 2:26]
"""They lie over the lungs: a mask of their own has them."""


def mask_of(number: int) -> np.ndarray:
    mask = np.zeros((40, 30), np.uint8)
    for name, box in BOXES.items():
        mask[box] = LABELS[name][0]
    mask[0, number] = 127
    return mask


@pytest.fixture
def pack(tmp_path: Path) -> Folder:
    """Four cases with masks in three columns; the last has no mask of the clavicles."""
    folder = Folder(tmp_path / "pack", 0)
    for number in range(4):
        folder.rows.append(folder.put(str(number), make_image(number), mask_of(number)))
        for name, box in (("heart", BOXES["heart"]), ("clavicles", CLAVICLES)):
            mask = np.zeros((40, 30), np.uint8)
            mask[box], path = 255, f"masks/{number}-{name}.png"
            Image.fromarray(mask).save(folder.root / path)
            folder.rows[-1][f"mask_{name}"] = path
    folder.rows[3]["mask_clavicles"] = ""
    write_rows(folder.root, folder.rows, COLUMNS)
    return folder


OWN = {"heart": "mask_heart", "clavicles": "mask_clavicles"}


def decoded(section: Any, tmp_path: Path, number: int = 0) -> Decoded:
    source = open_source("s", section, memo_dir=tmp_path / "memo")
    return source.decode(source.cases()[number])


def test_one_mask_has_several_structures(pack: Folder, tmp_path: Path) -> None:
    section = pack.section(labels=LABELS)
    assert section.targets == ("heart", "left_lung", "right_lung")
    targets = decoded(section, tmp_path).targets
    for plane, name in zip(targets, section.targets, strict=True):
        expected = np.zeros((40, 30), np.uint8)
        expected[BOXES[name]], expected[0, 0] = 255, 127
        assert (plane == expected).all()
    turned = decoded(section.reading(["right_lung", "heart"]), tmp_path).targets
    assert (turned == targets[[2, 0]]).all()


def test_joined_structures_and_masks_of_their_own_may_overlap(pack: Folder, tmp_path: Path) -> None:
    section = pack.section(labels=LABELS, structures={**LUNGS, "clavicles": "mask_clavicles"})
    assert section.targets == ("heart", "left_lung", "right_lung", "lungs", "clavicles")
    _, left, right, lungs, clavicles = decoded(section, tmp_path).targets
    assert (lungs == np.maximum(left, right)).all()
    assert (lungs == 255).sum() == (left == 255).sum() + (right == 255).sum()
    assert ((clavicles == 255) & (lungs == 255)).sum() == 3 * (7 + 8)
    assert (clavicles == 255).sum() == 4 * 24


def test_columns_of_their_own_need_no_labels(pack: Folder, tmp_path: Path) -> None:
    section = pack.section(labels={}, structures=OWN)
    heart, clavicles = decoded(section, tmp_path).targets
    assert set(np.unique(heart)) == set(np.unique(clavicles)) == {0, 255}
    assert (heart == 255).sum() == 60


def test_an_absent_mask_is_ignored_everywhere_and_told(pack: Folder, tmp_path: Path) -> None:
    section = pack.section(labels={}, structures=OWN)
    heart, clavicles = decoded(section, tmp_path, 3).targets
    assert (heart == 255).any()
    assert (clavicles == 127).all()
    survey = open_source("s", section, memo_dir=tmp_path / "memo").survey
    assert [(problem.what, problem.kind) for problem in survey.problems] == [
        ("the cell of column mask_clavicles is empty: no such mask is read.", "absent masks")
    ]
    assert [case.has_mask for case in survey.cases] == [True] * 4
    assert [case.has_mask for case in cases_of(section.reading(["clavicles"]), tmp_path)] == [True] * 3 + [
        False
    ]


JOINED = {**OWN, "both": ["heart", "clavicles"]}


@pytest.mark.parametrize("labels", [{}, {"heart": [255], "clavicles": [255], "ignore": [127]}])
def test_a_joined_structure_needs_the_masks_of_all_its_parts(
    pack: Folder, tmp_path: Path, labels: dict[str, Any]
) -> None:
    section = pack.section(labels=labels, structures=JOINED)
    for number, read in [(0, section.targets), (3, section.targets), (3, ("both",)), (3, ("both", "heart"))]:
        planes = dict(zip(read, decoded(section.reading(list(read)), tmp_path, number).targets, strict=True))
        assert set(np.unique(planes["both"])) == ({0, 255} if number == 0 else {127})
        assert (planes.get("heart", planes["both"]) == 255).any() == (number == 0 or "heart" in read)
    assert [case.has_mask for case in cases_of(section.reading(["both"]), tmp_path)] == [True] * 3 + [False]
    assert all(case.has_mask for case in cases_of(section.reading(["both", "heart"]), tmp_path))
    problems = open_source("s", section, memo_dir=tmp_path / "memo").survey.problems
    assert [problem.what for problem in problems] == [
        "the cell of column mask_clavicles is empty: no such mask is read. both, made of it and others, is "
        "ignored here."
    ]


def test_a_joined_structure_without_a_part_is_not_the_other_part(pack: Folder, tmp_path: Path) -> None:
    section = pack.section(labels={}, structures=JOINED)
    both, heart = (digests_of(section.reading([name]), tmp_path) for name in ("both", "heart"))
    assert not set(both) & set(heart)


def test_ignored_pixels_of_one_mask_count_in_a_joined_structure_where_another_has_it(
    pack: Folder, tmp_path: Path
) -> None:
    labels = {"heart": [255], "clavicles": [255], "ignore": [127]}
    mask = np.zeros((40, 30), np.uint8)
    mask[BOXES["heart"]] = 127
    mask[11, 11] = 255
    Image.fromarray(mask).save(pack.root / pack.rows[0]["mask_clavicles"])
    mask = np.zeros((40, 30), np.uint8)
    mask[12, 12] = 255
    Image.fromarray(mask).save(pack.root / pack.rows[0]["mask_heart"])
    (both,) = decoded(pack.section(labels=labels, structures=JOINED, read=["both"]), tmp_path).targets
    assert np.argwhere(both == 255).tolist() == [[11, 11], [12, 12]]
    assert (both == 127).sum() == 60 - 2


def test_an_absent_mask_stays_absent_behind_a_simulated_device(pack: Folder, tmp_path: Path) -> None:
    section = pack.section(labels={}, structures=OWN, simulate="portable")
    plain = decoded(pack.section(labels={}, structures=OWN), tmp_path, 3).targets
    heart, clavicles = decoded(section, tmp_path, 3).targets
    assert (heart == 255).any()
    assert (heart != plain[0]).any()
    assert (clavicles == 127).all()


def test_what_is_not_read_is_neither_opened_nor_in_a_digest(pack: Folder, tmp_path: Path) -> None:
    section = pack.section(labels=LABELS, structures={**OWN, **LUNGS} | {"heart": "mask_heart"})
    kinds = {name: section.reading([name]) for name in ("heart", "lungs", "clavicles")}
    kinds |= {"image": section.reading([]), "all": section}
    before = {name: digests_of(kind, tmp_path) for name, kind in kinds.items()}
    assert len({digest for kind in before.values() for digest in kind}) == 5 * 4
    Image.fromarray(255 - 255 * (mask_of(0) > 0).astype(np.uint8)).save(pack.root / "masks/0-heart.png")
    after = {name: digests_of(kind, tmp_path) for name, kind in kinds.items()}
    assert {name for name in kinds if before[name] != after[name]} == {"heart", "all"}
    for path in (pack.root / "masks").iterdir():
        path.unlink()
    read = decoded(kinds["image"], tmp_path)
    assert read.targets.shape == (0, 40, 30)
    assert read.image.any()


def test_a_single_structure_keeps_the_digest_that_it_had(pack: Folder, tmp_path: Path) -> None:
    for row in pack.rows:
        mask = pack.root / row["mask"]
        Image.fromarray(255 * (np.asarray(Image.open(mask)) == 255).astype(np.uint8)).save(mask)
    alone = digests_of(pack.section(labels={"lung": [255]}), tmp_path)
    assert alone == digests_of(pack.section(labels={"heart": [1], "x": [255]}, read=["x"]), tmp_path)
    assert alone == digests_of(pack.section(labels={}, structures={"y": "mask"}), tmp_path)


@pytest.mark.parametrize("size", [16, "native"])
@pytest.mark.parametrize("read", [[], ["heart"], ["lungs", "clavicles", "heart"]])
def test_tables_hold_a_plane_for_each_structure(
    pack: Folder, tmp_path: Path, size: Any, read: list[str]
) -> None:
    section = pack.section(labels=LABELS, structures={**LUNGS, "clavicles": "mask_clavicles"}, read=read)
    source = open_source("s", section, memo_dir=tmp_path / "memo")
    names = [case.digest for case in source.cases()]
    table = open_table({"s": section}, size=size, digests=names, cache_dir=tmp_path / "cache")
    for row, digest in zip(table.rows(names).tolist(), names, strict=True):
        image, targets, _ = table.case(digest)
        assert len(targets) == len(read)
        assert targets.shape[1:] == image.shape[1:] == (40, 30) if size == "native" else (16, 16)
        if size == "native":
            (case,) = (case for case in source.cases() if case.digest == digest)
            assert (targets == source.decode(case).targets).all()
        else:
            assert (table.targets[row] == targets).all()


def test_a_folder_without_masks_and_strata(pack: Folder, tmp_path: Path) -> None:
    write_rows(
        pack.root,
        [{name: row[name] for name in ("image", "patient_id")} for row in pack.rows],
        ["image", "patient_id"],
    )
    found = cases_of(pack.section(labels={}, read=[]), tmp_path)
    assert [(case.pathology, case.has_mask) for case in found] == [("all", True)] * 4
    with pytest.raises(DataError, match=r"no column 'mask' .* Set `read: \[\]` if there are no masks"):
        open_source("s", pack.section(), memo_dir=tmp_path / "memo").cases()


def test_a_value_of_another_structure_is_background_and_of_none_is_refused(
    pack: Folder, tmp_path: Path
) -> None:
    heart = pack.section(labels=LABELS, read=["heart"])
    assert set(np.unique(decoded(heart, tmp_path).targets)) == {0, 127, 255}
    labels = {"heart": [85], "left_lung": [170]}
    with pytest.raises(DataError, match=r"mask values 127 .1 px., 255 .* \(accepted: 0, 85, 170\)"):
        decoded(pack.section(labels=labels, read=["heart"]), tmp_path)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"labels": {"a": [1], "b": [1]}}, "no value may stand twice"),
        (
            {"labels": {"a": [1], "b": {"above": 9}}},
            "`above` is for masks of one structure, and 'mask' has a, b",
        ),
        ({"labels": {"ignore": [1]}}, "names no structure beside `ignore`"),
        ({"structures": {"a": ["b"]}}, "'a' joins 'b', which is no structure with masks"),
        ({"labels": LABELS, "structures": {"l": ["left_lun"]}}, "Did you mean 'left_lung'?"),
        ({"labels": LABELS, "structures": {"heart": ["left_lung"]}}, "'heart' joins others, so it has no"),
        ({"labels": LABELS, "structures": {"l": ["heart", "heart"]}}, "'l' joins a structure twice"),
        ({"labels": LABELS, "structures": {"ignore": "x"}}, "`ignore` is no structure"),
        ({"labels": LABELS, "read": ["hart"]}, "read names 'hart', .* Did you mean 'heart'?"),
        ({"labels": LABELS, "read": ["heart", "heart"]}, "read names a structure twice: heart, heart"),
    ],
)
def test_structures_that_cannot_be(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        data_section(source="manifest", root="r", **fields)


def test_structures_of_a_real_set_agree(real_data: Path, tmp_path: Path) -> None:
    root = str(real_data / "jsrt-scr-512")
    labels = {"heart": [85], "left_lung": [170], "right_lung": [255]}
    one = data_section(source="manifest", root=root, labels=labels, structures=LUNGS)
    own = {"heart": "mask_heart", "lungs": "mask_lungs", "clavicles": "mask_clavicles"}
    values = {name: [85, 170, 255] for name in own}
    several = data_section(source="manifest", root=root, labels=values, structures=own)
    for number in (0, 60, 120):
        heart, *_, lungs = decoded(one, tmp_path, number).targets == 255
        own_heart, own_lungs, clavicles = decoded(several, tmp_path, number).targets == 255
        # Where both overlap, the one mask has the heart.
        assert (heart == own_heart).mean() > 0.999
        assert (lungs == own_lungs).mean() > 0.999
        assert 0 < clavicles.mean() < 0.1
        assert (clavicles & own_lungs).any()
