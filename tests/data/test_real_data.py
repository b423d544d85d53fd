"""The real data sets, where XFERLAB_DATA names them: everything is read, everything odd is told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import index_sections
from xferlab.data.check import check_sections
from xferlab.data.sources.lgg import reading as lgg
from xferlab.data.sources.manifest.table import read_table
from xferlab.data.sources.patients import person_key, spelled_alike
from xferlab.data.sources.registry import open_source
from xferlab.leakage.index import StudyIndex

LABELS = {"lung": [255], "ignore": [127]}


def pack(section: Any, real_data: Path, name: str = "covid-lung-512", **fields: Any) -> Any:
    return section(source="manifest", root=str(real_data / name), labels=LABELS, **fields)


@pytest.fixture
def both(section: Any, real_data: Path) -> dict[str, Any]:
    """The images of fixed devices and of portable ones."""
    devices = {"general": "fixed", "portable": "portable"}
    return {name: pack(section, real_data, where={"device": device}) for name, device in devices.items()}


def best_s(work: Callable[[], object]) -> float:
    """The shortest of three times."""
    times_s = []
    for _ in range(3):
        start_s = time.perf_counter()
        work()
        times_s.append(time.perf_counter() - start_s)
    return min(times_s)


def test_numbers_of_the_pack(both: dict[str, Any], real_memo: Path) -> None:
    results = index_sections(both, memo_dir=real_memo)
    assert Counter(c.pathology for c in results["general"]) == {
        "covid19": 178,
        "normal": 241,
        "pathological": 512,
    }
    assert Counter(c.pathology for c in results["portable"]) == {
        "covid19": 160,
        "normal": 5,
        "pathological": 13,
    }
    assert len({c.patient for c in results["portable"]}) == 98
    assert len({c.patient for c in results["portable"]} & {c.patient for c in results["general"]}) == 12


@pytest.mark.slow
def test_planning_knows_usable_masks_without_decoding(section: Any, real_data: Path, real_memo: Path) -> None:
    sections = {"all": pack(section, real_data)}
    assert StudyIndex(sections, memo_dir=real_memo).audit.unusable == {}
    assert best_s(lambda: index_sections(sections, memo_dir=real_memo)) < 0.3
    assert best_s(lambda: StudyIndex(sections, memo_dir=real_memo)) < 0.3
    root, some = sections["all"].root, {"device": "portable"}
    bare = section(source="manifest", root=root, labels={"lung": [255]}, where=some)
    index = StudyIndex({"some": bare}, memo_dir=real_memo)
    unusable = [problem for problems in index.unusable.values() for problem in problems]
    assert [problem.kind for problem in unusable] == ["masks with values that no label names"] * 22


@pytest.mark.slow
def test_check_finds_the_image_of_two_masks(section: Any, real_data: Path, real_memo: Path) -> None:
    results = check_sections({"all": pack(section, real_data)}, memo_dir=real_memo)
    assert {problem.severity for problem in results} == {"warning"}
    masks, scout = (problem.what for problem in results)
    assert "one image has different masks (images/1676519.jpg, images/1676588.jpg)" in masks
    # A CT scout among radiographs: arms and abdomen are on it, so the lungs are small.
    assert scout == "the structure fills 9.26% of the image, in most of the section about 34%."


@pytest.mark.slow
def test_the_audit_finds_three_persons_under_two_ids(both: dict[str, Any], real_memo: Path) -> None:
    index = StudyIndex(both, memo_dir=real_memo)
    # One pixel-equal file; one crop with other grey levels; one exposure with "day 1" burned in.
    assert index.audit.persons == {
        "cohen-78": "cohen-201", "cohen-201": "cohen-201",
        "cohen-137": "cohen-137", "cohen-202": "cohen-137",
        "cohen-192": "cohen-192", "cohen-196": "cohen-192",
    }  # fmt: skip
    assert index.audit.near == ()
    (known,) = (problem for problem in index.audit.warnings if "1676519" in problem.what)
    assert known.where == "data.general, data.portable"
    assert "images/1676588.jpg (cohen-201)" in known.what
    assert "`same_patient: [[cohen-201, cohen-78]]`" in known.what


def test_people_of_other_hospitals_are_joined_with_nobody(
    section: Any, real_data: Path, real_memo: Path
) -> None:
    names = ("jsrt-scr-512", "montgomery-512", "shenzhen-512")
    sections = {name: section(source="manifest", root=str(real_data / name), read=[]) for name in names}
    audit = StudyIndex(sections, memo_dir=real_memo).audit
    assert audit.persons == {}
    # Two exposures, likely of one person: the same findings, other ribs in the same places.
    assert any("MCUCXR_0243_1.jpg" in pair and "MCUCXR_0173_1.jpg" in pair for pair in audit.near)
    assert len(audit.near) < 10


@pytest.mark.slow
def test_people_of_the_mri_set_are_joined_with_nobody(section: Any, real_data: Path, real_memo: Path) -> None:
    config = section(source="lgg", root=str(real_data / "lgg-mri-192"), drop_ends=0)
    assert StudyIndex({"lgg": config}, memo_dir=real_memo).audit.persons == {}


@pytest.mark.parametrize("name", ["lgg-mri-256", pytest.param("lgg-mri-192", marks=pytest.mark.slow)])
def test_every_slice_of_the_mri_sample_is_read_or_reported(
    section: Any, real_data: Path, real_memo: Path, name: str
) -> None:
    config = section(source="lgg", root=str(real_data / name), drop_ends=0)
    reported = {Path(problem.where).name for problem in check_sections({"lgg": config}, memo_dir=real_memo)}
    read = {Path(case.name).name for case in index_sections({"lgg": config}, memo_dir=real_memo)["lgg"]}
    slices = {path.name for path in (real_data / name).rglob("*[0-9].tif")}
    assert len(slices) == {"lgg-mri-256": 60, "lgg-mri-192": 3031}[name]
    assert read == slices
    assert not reported & {*slices, *map(lgg.mask_of, slices)}


@pytest.mark.slow
def test_the_mri_set_that_a_donor_trains_on(section: Any, real_data: Path, real_memo: Path) -> None:
    source = open_source(
        "lgg", section(source="lgg", root=str(real_data / "lgg-mri-192"), drop_ends=0), memo_dir=real_memo
    )
    cases = source.cases()
    assert len({case.patient for case in cases}) == 85
    assert Counter(case.pathology for case in cases) == {lgg.LESION: 1055, lgg.NO_LESION: 1976}
    volume = [case for case in cases if case.patient == "TCGA_CS_4941"]
    for decoded in map(source.decode, volume):
        assert decoded.image.shape == (*decoded.targets.shape[1:], 3)
        assert decoded.image.std() > 10
    lesions = [bool(source.decode(case).targets.any()) for case in volume]
    assert lesions == [case.pathology == lgg.LESION for case in volume]


@pytest.mark.parametrize(
    ("name", "labels", "pathologies", "few_levels"),
    [
        ("jsrt-scr-512", {"lungs": [170, 255], "ignore": [85]}, {"normal": 79, "nodule": 104}, 4),
        ("montgomery-512", {"lungs": [255]}, {"normal": 60, "tuberculosis": 40}, 0),
        ("shenzhen-512", {"lungs": [255]}, {"normal": 31, "tuberculosis": 31}, 0),
    ],
)
def test_lungs_of_other_hospitals(
    section: Any,
    real_data: Path,
    real_memo: Path,
    name: str,
    labels: Any,
    pathologies: dict[str, int],
    few_levels: int,
) -> None:
    config = section(source="manifest", root=str(real_data / name), labels=labels)
    results = check_sections({"s": config}, memo_dir=real_memo)
    assert [problem.kind for problem in results] == ["images of few grey levels"] * few_levels
    cases = index_sections({"s": config}, memo_dir=real_memo)["s"]
    assert Counter(case.pathology for case in cases) == pathologies
    assert len({case.patient for case in cases}) == len(cases)


def test_no_real_ids_are_taken_for_spellings_of_one(real_data: Path) -> None:
    tables = [
        read_table(path) for path in real_data.glob("*-*/metadata.csv") if path.parent.name != "views-512"
    ]
    ids = {row.cells["patient_id"] for table in tables for row in table.rows}
    assert len(ids) > 1000
    assert spelled_alike(ids, key=person_key) == []
