"""The real data sets, where XFERLAB_DATA names them: everything is read, everything odd is told."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from xferlab.data.cache import open_table
from xferlab.data.index import StudyIndex, check_sections, index_sections
from xferlab.data.sources import open_source
from xferlab.errors import DataError

LABELS = {"lung": [255], "ignore": [127]}


def pack(section: Any, real_data: Path, name: str = "covid-lung-512", **fields: Any) -> Any:
    return section(source="manifest", root=str(real_data / name), labels=LABELS, **fields)


def test_numbers_of_the_pack(section: Any, real_data: Path, tmp_path: Path) -> None:
    sections = {
        "general": pack(section, real_data, where={"device": "fixed"}),
        "portable": pack(section, real_data, where={"device": "portable"}),
    }
    found = index_sections(sections, memo_dir=tmp_path)
    assert Counter(c.pathology for c in found["general"]) == {
        "covid19": 178,
        "normal": 241,
        "pathological": 512,
    }
    assert Counter(c.pathology for c in found["portable"]) == {
        "covid19": 160,
        "normal": 5,
        "pathological": 13,
    }
    assert len({c.patient for c in found["portable"]}) == 98
    assert len({c.patient for c in found["portable"]} & {c.patient for c in found["general"]}) == 12


def test_planning_the_known_pack_is_quick(section: Any, real_data: Path, tmp_path: Path) -> None:
    sections = {"all": pack(section, real_data)}
    first = index_sections(sections, memo_dir=tmp_path)
    best_s = np.inf
    for _ in range(3):
        start_s = time.perf_counter()
        assert index_sections(sections, memo_dir=tmp_path) == first
        best_s = min(best_s, time.perf_counter() - start_s)
    assert best_s < 0.3


def test_check_finds_the_image_of_two_masks(section: Any, real_data: Path, tmp_path: Path) -> None:
    (problem,) = check_sections({"all": pack(section, real_data)}, memo_dir=tmp_path)
    assert problem.severity == "warning"
    assert "one image has 2 different masks (images/1676519.jpg, images/1676588.jpg)" in problem.what


def test_the_audit_finds_three_persons_under_two_ids(section: Any, real_data: Path, tmp_path: Path) -> None:
    sections = {
        "general": pack(section, real_data, where={"device": "fixed"}),
        "portable": pack(section, real_data, where={"device": "portable"}),
    }
    index = StudyIndex(sections, memo_dir=tmp_path)
    # One pixel-equal file; one crop with other grey levels; one exposure with "day 1" burned in.
    assert index.audit.persons == {
        "cohen-78": "cohen-201", "cohen-201": "cohen-201",
        "cohen-137": "cohen-137", "cohen-202": "cohen-137",
        "cohen-192": "cohen-192", "cohen-196": "cohen-192",
    }  # fmt: skip
    assert 0 < index.audit.num_near < 20
    (known,) = (problem for problem in index.audit.warnings if "1676519" in problem.what)
    assert known.where == "data.general, data.portable"
    assert "images/1676588.jpg (cohen-201)" in known.what
    assert "`same_patient: [[cohen-201, cohen-78]]`" in known.what


def test_native_images_fill_a_table(section: Any, real_data: Path, tmp_path: Path) -> None:
    config = pack(section, real_data, "covid-lung-native")
    cases = index_sections({"native": config}, memo_dir=tmp_path)["native"]
    digests = [case.digest for case in cases]
    table = open_table("native", config, size_px=64, digests=digests, cache_dir=tmp_path)
    assert table.images.shape == (38, 1, 64, 64)
    assert set(np.unique(table.targets)) == {0, 127, 255}
    assert ((table.targets == 255).mean(axis=(1, 2)) > 0.05).all()


def test_every_slice_of_the_mri_sample_is_read_or_told(section: Any, real_data: Path, tmp_path: Path) -> None:
    root = real_data / "lgg-mri-sample"
    config = section(source="lgg", root=str(root), drop_ends=0)
    found = check_sections({"lgg": config}, memo_dir=tmp_path)
    told = {Path(problem.where).name.replace("_mask", "") for problem in found}
    source = open_source("lgg", config, memo_dir=tmp_path)
    read = set()
    for case in source.survey.cases:
        with suppress(DataError):
            decoded = source.decode(case)
            assert decoded.image.shape == (*decoded.target.shape, 3)
            read.add(Path(case.name).name)
    slices = {path.name for path in root.rglob("*[0-9].tif")}
    assert slices
    assert read | told >= slices
    assert not read & told
