"""The audit: who shares an exposure is one person, before any split; what arms add moves nobody."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import Folder, data_section, index_sections
from tests.refusals import problems_of
from xferlab.cohort import Case, Cohort
from xferlab.errors import DataError
from xferlab.leakage import comparisons
from xferlab.leakage.index import StudyIndex
from xferlab.phantoms import PATHOLOGIES, brain_mri, chest_xray

SIZE_PX = 96
PEOPLE = 8


def chest(number: int) -> Image.Image:
    drawn = chest_xray(seed=5, index=number, pathology=PATHOLOGIES[number % 3], size_px=SIZE_PX)
    return Image.fromarray(drawn.image)


class Pack(Folder):
    """A manifest folder of chests: 0..3 of fixed devices, 4..7 of portable ones, of patients p0..p7."""

    def __init__(self, root: Path):
        super().__init__(root, 0)
        for number in range(PEOPLE):
            self.show(f"{number}", chest(number), device="fixed" if number < 4 else "portable")

    def show(self, name: str, image: Image.Image, *, patient: str = "", device: str = "fixed") -> None:
        mask = np.zeros((image.height, image.width), np.uint8)
        mask[10:40, 10:30] = 255
        mask[0, len(self.rows)] = 255
        cells = {"patient_id": patient or f"p{name}", "device": device}
        self.rows.append(self.put(name, np.asarray(image), mask, **cells))
        self.write()

    def sections(self, **fields: Any) -> dict[str, Any]:
        return {
            name: data_section(
                source="manifest", root=str(self.root), where={"device": device}, **fields.get(name, {})
            )
            for name, device in (("general", "fixed"), ("portable", "portable"))
        }


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return Pack(tmp_path / "pack")


@pytest.fixture
def index(pack: Pack, tmp_path: Path) -> Callable[..., StudyIndex]:
    def index(arms: Any = None, memo: str = "memo", **fields: Any) -> StudyIndex:
        return StudyIndex(pack.sections(**fields), arms=arms, memo_dir=tmp_path / memo)

    return index


def altered(number: int) -> Image.Image:
    image = chest(number)
    return image.crop((2, 0, SIZE_PX, SIZE_PX - 2)).point(lambda grey: 255 * (grey / 255) ** 0.8)


@pytest.fixture
def copied(pack: Pack) -> Pack:
    """The folder with an altered copy of p2's image, under another patient."""
    pack.show("copy", altered(2), patient="a2", device="portable")
    return pack


def patients(index: StudyIndex, pack: Pack, **fields: Any) -> dict[str, str]:
    """Image -> patient, over both sections."""
    cases = (case for name, config in pack.sections(**fields).items() for case in index(name, config))
    return {Path(case.name).stem: case.patient for case in cases}


def test_patients_of_one_exposure_are_one_person_in_all_sections(
    pack: Pack, index: Any, tmp_path: Path
) -> None:
    result = index()
    plain = index_sections(pack.sections(), memo_dir=tmp_path / "memo")
    assert {name: result(name, config) for name, config in pack.sections().items()} == plain
    assert (result.audit.persons, result.audit.warnings, result.audit.summary) == ({}, (), ())
    pack.show("copy", altered(2), patient="a2", device="portable")
    pack.show("other", chest(20), patient="a2", device="portable")
    result = index()
    people = patients(result, pack)
    assert people == {**{f"{n}": f"p{n}" for n in range(PEOPLE)}, "2": "a2", "copy": "a2", "other": "a2"}
    (warning,) = result.audit.warnings
    assert (warning.severity, warning.where) == ("warning", "data.general, data.portable")
    assert "images/copy.png (a2)" in warning.what
    assert "images/2.png (p2)" in warning.what
    assert "show one exposure (correlation 0.99" in warning.what or "(correlation 1.0" in warning.what
    assert "`same_patient: [[a2, p2]]`" in warning.what
    (summary,) = result.audit.summary
    assert "a2" not in str(summary)
    assert "p2" not in str(summary)


def test_who_is_joined_is_in_one_part_of_every_split(copied: Pack, index: Any) -> None:

    def straddling(sections: dict[str, tuple[Case, ...]]) -> int:
        apart = 0
        for seed in range(20):
            cohort = Cohort(seed, sections, hold_out={"portable": 0.5})
            parts = cohort.parts(1)
            of = {case.name: parts[case.patient] for cases in sections.values() for case in cases}
            apart += of["images/2.png"] != of["images/copy.png"]
        return apart

    result = index()
    joined = {name: result(name, config) for name, config in copied.sections().items()}
    apart = {name: result._source(name, config).survey.cases for name, config in copied.sections().items()}
    assert straddling(joined) == 0
    assert straddling(apart) > 5  # or the test would prove nothing


def test_declared_and_found_are_the_same_cases(copied: Pack, index: Any) -> None:
    same = {"same_patient": [["p2", "a2"]]}
    declared = {"general": same, "portable": same}
    said = index(**declared)
    assert said.audit.warnings == ()
    assert patients(said, copied, **declared) == patients(index(), copied)
    for name, config in copied.sections(**declared).items():
        assert said(name, config) == index()(name, copied.sections()[name])


def test_who_is_declared_different_is_left_apart(copied: Pack, index: Any) -> None:
    copied.show("again", altered(3), patient="a3", device="portable")
    result = index(portable={"different_patients": [["p2", "a2", "p0"]]})
    assert patients(result, copied)["2"] == "p2"
    assert patients(result, copied)["3"] == "a3"
    assert len(result.audit.warnings) == 1


def test_persons_with_many_ids_and_images_are_reported_in_one_line(pack: Pack, index: Any) -> None:
    for letter in "abcd":
        pack.show(letter, altered(1), patient=letter, device="portable")
    result = index()
    assert {people for image, people in patients(result, pack).items() if image in "1abcd"} == {"a"}
    (warning,) = result.audit.warnings
    assert "; 7 more pairs: patients 'a', 'b', 'c', 'd', 'p1'" in warning.what
    assert "\n" not in warning.what


def test_rows_of_one_image_and_mask_join_their_patients(pack: Pack, index: Any) -> None:
    pack.rows.append({**pack.rows[1], "patient_id": "a1"})
    pack.write()
    pack.show("other", chest(21), patient="a1", device="portable")
    pack.rows.append({**pack.rows[2]})
    pack.write()
    assert patients(index(), pack)["other"] == patients(index(), pack)["1"] == "a1"
    assert len(index().audit.warnings) == 1


def test_images_behind_a_device_simulation_are_known(copied: Pack, index: Any) -> None:
    result = index(general={"simulate": "portable"})
    simulated = copied.sections(general={"simulate": "portable"})["general"]
    assert {case.patient for case in result("general", simulated)} == {"p0", "p1", "a2", "p3"}


def test_images_alike_but_in_their_detail_are_left_apart_and_dark_slices_are_nobodys(
    pack: Pack, index: Any
) -> None:
    rng, dark = np.random.default_rng(0), np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    smooth = np.asarray(chest(9).resize((256, 256)))
    dark[40:60, 40:60] = chest(9).crop((40, 40, 60, 60))
    for letter in "ab":
        pixels = np.clip(smooth + rng.normal(0.0, 9.0, smooth.shape), 0, 255)
        pack.show(letter, Image.fromarray(pixels.astype(np.uint8)))
        pack.show(f"dark-{letter}", Image.fromarray(dark))
    audit = index().audit
    (near,) = audit.near
    assert audit.persons == {}
    assert near.startswith("images/a.png (pa) and images/b.png (pb): half of their detail correlates by 0.8")
    assert near.endswith("or more, the best quarter by 0.88")


def more(tmp_path: Path, **images: Image.Image) -> tuple[Pack, dict[str, Any]]:
    """A folder of its own that only an arm reads, and the arm's sections."""
    pack = Pack(tmp_path / "more")
    pack.rows = []
    for name, image in images.items():
        pack.show(name, image)
    return pack, {"added": data_section(source="manifest", root=str(pack.root))}


def test_who_only_an_arm_adds_takes_the_id_of_the_study(pack: Pack, index: Any, tmp_path: Path) -> None:
    added, arm = more(tmp_path, b=chest(30), c=chest(31), b2=altered(31))
    added.show("a2", altered(2), patient="a first id")
    result = index(arms={"a": pack.sections(), "b": arm})
    assert patients(result, pack) == patients(index(), pack)
    joined = {Path(case.name).stem: case.patient for case in result("added", arm["added"])}
    assert joined == {"a2": "p2", "b": "pb", "c": "pb2", "b2": "pb2"}


def test_what_an_arm_says_of_two_people_of_the_study_parts_nobody(
    copied: Pack, index: Any, tmp_path: Path
) -> None:
    added, _ = more(tmp_path, b=chest(30), c=chest(31), b2=altered(31))
    apart = [["p2", "a2"], ["pc", "pb2"]]
    arm = {"added": data_section(source="manifest", root=str(added.root), different_patients=apart)}
    result = index(arms={"b": arm})
    assert patients(result, copied) == patients(index(), copied)
    assert set(result.audit.persons) == {"a2", "p2"}


def test_an_image_of_an_arm_may_not_join_two_people_of_the_study(
    pack: Pack, index: Any, tmp_path: Path
) -> None:
    added, arm = more(tmp_path, a2=altered(2))
    added.show("a5", altered(5), patient="pa2")
    (problem,) = problems_of(DataError, index, arms={"b": arm})
    assert problem.severity == "error"
    assert problem.where == "data.general, data.portable, data.added"
    assert "an image that only an arm has joins patients 'p2', 'p5' of the study" in problem.what
    assert "`same_patient: [[p2, p5, pa2]]`" in problem.what
    same = {"same_patient": [["p2", "p5"]]}
    declared = {"general": same, "portable": same}
    assert patients(index(arms={"b": arm}, **declared), pack, **declared)["5"] == "p2"


def test_a_known_set_decodes_and_compares_nothing(
    copied: Pack, index: Any, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index().audit
    assert len(decoded) == PEOPLE + 1
    for path in (tmp_path / "memo").rglob("*.npz"):
        path.unlink()
    monkeypatch.setattr(comparisons, "find_pairs", None)
    assert index().audit == before
    assert len(decoded) == PEOPLE + 1


def test_new_images_are_compared_with_known_ones(pack: Pack, index: Any, decoded: list[str]) -> None:
    index()
    decoded.clear()
    pack.show("copy", altered(2), patient="a2", device="portable")
    pack.show("twin", altered(2), patient="b2", device="portable")
    step_by_step = index()
    assert sorted(decoded) == ["images/copy.png", "images/twin.png"]
    at_once = index(memo="empty")
    assert step_by_step.audit.persons == at_once.audit.persons == dict.fromkeys(("a2", "b2", "p2"), "a2")
    assert step_by_step.audit.warnings == at_once.audit.warnings


def test_a_corrected_patient_id_is_seen(pack: Pack, index: Any) -> None:
    pack.show("copy", altered(2), patient="p2", device="portable")
    assert index().audit.persons == {}
    pack.rows[-1]["patient_id"] = "a2"
    pack.write()
    assert set(index().audit.persons) == {"a2", "p2"}


def test_torn_files_of_the_memo_are_written_again(copied: Pack, index: Any, tmp_path: Path) -> None:
    before = index().audit
    files = list((tmp_path / "memo").rglob("thumbnails-*/*"))
    assert {path.suffix for path in files} == {".npz", ".json"}
    for content in (b"", b"{", b"[]", b'{"members": 3, "pairs": []}'):
        for path in files:
            path.write_bytes(content)
        assert index().audit == before
    for path in files:
        path.write_bytes(path.read_bytes()[:-20])
    assert index().audit == before


def test_an_altered_comparison_is_not_believed(copied: Pack, index: Any, tmp_path: Path) -> None:
    """A digit of a correlation decides who is one person, and so about parts and identities."""
    before = index().audit
    (path,) = (tmp_path / "memo").rglob("thumbnails-*/*.json")
    text = path.read_text()
    place = text.rindex("0.")
    path.write_text(f"{text[:place]}-{text[place + 1 :]}")
    assert index().audit == before
    path.unlink()
    copied.rows.pop()
    copied.write()
    assert index().audit.persons == {}
    (fewer,) = (tmp_path / "memo").rglob("thumbnails-*/*.json")
    path.write_bytes(fewer.read_bytes())  # under the name of the cases with the copy
    copied.show("copy", altered(2), patient="a2", device="portable")
    assert index().audit == before


def test_an_image_that_cannot_be_decoded_is_left_out_and_tried_again(copied: Pack, index: Any) -> None:
    path = copied.root / "masks/copy.png"
    mask = path.read_bytes()
    path.write_bytes(b"z" * len(mask))
    assert index().audit.persons == {}
    path.write_bytes(mask)
    assert set(index().audit.persons) == {"a2", "p2"}


def test_known_images_are_not_compared_again_beside_an_unusable_one_or_in_a_smaller_study(
    copied: Pack, index: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied.root / "masks/3.png"
    path.write_bytes(b"z" * path.stat().st_size)
    before = index().audit
    assert set(before.persons) == {"a2", "p2"}
    monkeypatch.setattr(comparisons, "find_pairs", None)
    assert index().audit == before
    del copied.rows[0]
    copied.write()
    assert index().audit.persons == before.persons


def test_folder_that_cannot_be_written_costs_nothing_but_time(
    copied: Pack, index: Any, tmp_path: Path
) -> None:
    (tmp_path / "memo").write_text("a file where the folder should be")
    assert set(index().audit.persons) == {"a2", "p2"}


def test_two_at_once_find_the_same_and_remember_no_patient(pack: Pack, index: Any, tmp_path: Path) -> None:
    pack.show("copy", altered(2), patient="patient-named", device="portable")
    with ThreadPoolExecutor(4) as pool:
        audits = list(pool.map(lambda _: index().audit, range(4)))
    assert audits == [index(memo="alone").audit] * 4
    files = list((tmp_path / "memo").rglob("thumbnails-*/*"))
    assert {path.suffix for path in files} == {".npz", ".json"}
    assert not any(b"patient-named" in path.read_bytes() for path in files)


def test_slices_of_one_head_under_two_patients(tmp_path: Path) -> None:
    for folder, brighter in (("TCGA_AA_1_19990101", 0), ("TCGA_BB_2_19990101", 5), ("TCGA_CC_3_19990101", 0)):
        path = tmp_path / "kaggle_3m" / folder
        path.mkdir(parents=True)
        for place in range(1, 4):
            head = brain_mri(seed=4, index=place + 40 * folder.startswith("TCGA_CC"), size_px=64).image
            Image.fromarray(np.clip(head.astype(int) + brighter, 0, 255).astype(np.uint8)).save(
                path / f"{folder}_{place}.tif"
            )
            Image.new("L", (64, 64)).save(path / f"{folder}_{place}_mask.tif")
    config = data_section(source="lgg", root=str(tmp_path), drop_ends=0)
    result = StudyIndex({"mri": config}, memo_dir=tmp_path / "memo")
    assert result.audit.persons == dict.fromkeys(("TCGA_AA_1", "TCGA_BB_2"), "TCGA_AA_1")
    assert {case.patient for case in result("mri", config)} == {"TCGA_AA_1", "TCGA_CC_3"}
