"""Black bands that are cut off and images that are degraded: pixels, masks, spacing, digests, remarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tests.data.conftest import cases_of, digests_of, make_image
from tests.data.sources.test_lgg import slice_pixels
from tests.data.test_dicom import write as write_dicom
from xferlab.data.check import check_sections
from xferlab.data.preprocessing import degraded, height_without_band, recipe
from xferlab.data.sources.registry import open_source
from xferlab.data.sources.source import Decoded
from xferlab.leakage.index import StudyIndex


def banded(height: int, *, band: int, seed: int = 0, width: int = 31) -> np.ndarray:
    """A radiograph without a dark pixel, with so many black rows at its bottom."""
    image = np.random.default_rng(seed).integers(9, 256, (height, width), dtype=np.uint8)
    image[height - band :] = 0
    return image


@pytest.mark.parametrize("seed", range(20))
def test_a_band_is_found_wherever_it_begins_in_the_lower_half(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(2, 90, 2).tolist()
    band = int(rng.integers(0, height // 2 + 1))
    image = banded(height, band=band, seed=seed, width=width)
    assert height_without_band(image) == height - band
    edges = np.arange(width) != width // 2
    image[:, edges] = rng.integers(0, 256, (height, width - 1))  # markers beside the centre change nothing
    assert height_without_band(image) == height - band


def test_what_is_no_band() -> None:
    image = banded(40, band=10)
    speck = image.copy()
    speck[22, 15] = 0  # a black pixel above tissue
    assert height_without_band(speck) == 30
    image[30:, 15] = [0, 3, 8, 1, 0, 0, 2, 0, 7, 8]  # what JPEG leaves of black
    assert height_without_band(image) == 30
    image[39, 15] = 9
    assert height_without_band(image) == 40
    image[30:, 15] = 5  # dark, and nowhere black
    assert height_without_band(image) == 40
    assert height_without_band(np.zeros((41, 3), np.uint8)) == 21  # the upper half always stays


def test_degrading_is_shrinking_and_enlarging() -> None:
    image = make_image(1, height=40, width=20)
    small = Image.fromarray(image).resize((5, 10), Image.Resampling.BILINEAR)
    expected = np.asarray(small.resize((20, 40), Image.Resampling.BILINEAR))
    assert (degraded(image, 10) == expected).all()
    assert degraded(image, 40) is image
    colours = np.stack([image, image[::-1], 255 - image], axis=-1)
    assert (degraded(colours, 10)[..., 0] == expected).all()
    assert degraded(make_image(2, height=1, width=300), 8).shape == (1, 300)


def decoded(section: Any, tmp_path: Path) -> list[Decoded]:
    source = open_source("s", section, memo_dir=tmp_path / "memo")
    return [source.decode(case) for case in source.cases()]


def put_banded(folder: Any, number: int, *, mask_rows: slice) -> None:
    mask = np.zeros((40, 31), np.uint8)
    mask[mask_rows, 4:9] = 255
    folder.put(str(number), banded(40, band=10, seed=number), mask)


def test_masks_and_spacing_follow_the_image(folder: Any, tmp_path: Path, opener: Any) -> None:
    for number in range(6):
        put_banded(folder, number, mask_rows=slice(5 + number, 25))
    plain = decoded(folder.section(), tmp_path)
    config = folder.section(crop_black_band=True, degrade_to=16)
    for before, after in zip(plain, decoded(config, tmp_path), strict=True):
        assert after.image.shape == (30, 31)
        assert (after.image == degraded(before.image[:30], 16)).all()
        assert (after.targets == before.targets[:, :30]).all()
        assert after.remarks == ()
    assert opener(config, size="native").image(0).shape == (1, 30, 31)
    assert opener(config, size=32).images.shape == (6, 1, 32, 32)


def test_spacing_is_that_of_the_rows_that_stay(folder: Any, tmp_path: Path, opener: Any) -> None:
    image = banded(40, band=10)
    window = {"WindowCenter": 128, "WindowWidth": 256}
    write_dicom(folder.root / "images/0.dcm", image.astype(np.uint16), PixelSpacing=[0.2, 0.3], **window)
    Image.fromarray(np.zeros_like(image)).save(folder.root / "masks/0.png")
    folder.rows = [folder.rows[0] | {"image": "images/0.dcm"}]
    folder.write()
    table = opener(folder.section(crop_black_band=True), size=16)
    assert table.spacing_mm[0] == pytest.approx([0.2 * 30 / 16, 0.3 * 31 / 16])


def test_a_structure_that_the_crop_cuts_is_a_remark(folder: Any, tmp_path: Path) -> None:
    put_banded(folder, 0, mask_rows=slice(30, 40))
    put_banded(folder, 1, mask_rows=slice(10, 35))
    config = folder.section(crop_black_band=True)
    cut = [p for p in check_sections({"s": config}, memo_dir=tmp_path / "memo") if "cuts" in p.what]
    assert [(problem.where, problem.severity) for problem in cut] == [
        ("data.s: images/0.png", "warning"),
        ("data.s: images/1.png", "warning"),
    ]
    assert cut[0].what.startswith(
        "crop_black_band cuts 50 of 50 px of the mask of lung away: they lie in the black band that begins at"
        " row 30."
    )
    assert "cuts 25 of 125 px of the mask of lung away" in cut[1].what
    assert not any(
        "cuts" in p.what for p in check_sections({"s": folder.section()}, memo_dir=tmp_path / "memo")
    )


def write_slices(volume: Path) -> None:
    volume.mkdir(parents=True)
    for number in range(4):
        Image.fromarray(slice_pixels(number)).save(volume / f"{volume.name}_{number}.tif")
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(volume / f"{volume.name}_{number}_mask.tif")


DEGRADED: list[dict[str, Any]] = [{"degrade_to": 16}, {"degrade_to": 17}]
OF_RADIOGRAPHS: list[dict[str, Any]] = [
    {"crop_black_band": True}, {"equalise": True}, {"gamma": 0.5}, {"gamma": 0.6},
    {"equalise": True, "gamma": 0.5},
]  # fmt: skip
OFF = {"crop_black_band": False, "degrade_to": None, "equalise": False, "gamma": None}


@pytest.mark.parametrize("source", ["manifest", "phantom_cxr", "phantom_mri", "lgg"])
def test_steps_are_part_of_digests_and_off_they_are_not(
    section: Any, folder: Any, tmp_path: Path, source: str
) -> None:
    fields: dict[str, Any] = {"source": source, "count": 4, "size_px": 32}
    if source == "manifest":
        fields = {"source": source, "root": str(folder.root), "labels": {"lung": [255], "ignore": [127]}}
    if source == "lgg":
        write_slices(tmp_path / "kaggle_3m" / "TCGA_CS_1_19990101")
        fields = {"source": source, "root": str(tmp_path)}
    steps = DEGRADED if source in ("phantom_mri", "lgg") else DEGRADED + OF_RADIOGRAPHS
    plain = digests_of(section(**fields), tmp_path)
    assert digests_of(section(**fields, **OFF), tmp_path) == plain
    assert recipe(section(**fields, degrade_to=16)) == {"steps": {"degrade_to": 16, "version": 1}}
    several = [digests_of(section(**fields, **step), tmp_path) for step in steps]
    assert len({digest for each in (plain, *several) for digest in each}) == (len(steps) + 1) * len(plain)


def test_a_simulated_device_sees_the_image_without_its_band(folder: Any, tmp_path: Path) -> None:
    """The picture is that of the cropped film, and loses sharpness last."""
    from xferlab.phantoms.device import simulate_portable

    put_banded(folder, 0, mask_rows=slice(5, 25))
    folder.rows = folder.rows[:1]
    folder.write()
    config = folder.section(simulate="portable", crop_black_band=True, degrade_to=16)
    (plain,), (after,) = decoded(folder.section(), tmp_path), decoded(config, tmp_path)
    (case,) = cases_of(config, tmp_path)
    image, targets = simulate_portable(plain.image[:30], plain.targets[:, :30], seed=0, key=case.image_sha256)
    assert (after.image == degraded(image, 16)).all()
    assert (after.targets == targets).all()


def test_steps_of_radiographs_are_refused_elsewhere(section: Any) -> None:
    for step in OF_RADIOGRAPHS:
        with pytest.raises(ValidationError, match="this is for X-rays, whose images are grey; leave it out"):
            section(source="phantom_mri", count=4, **step)
    with pytest.raises(ValidationError, match="gamma"):
        section(source="phantom_cxr", count=4, gamma=0)
    plain = {"source": "phantom_cxr", "count": 4}
    assert section(**plain, gamma=1) == section(**plain)  # it changes nothing, and no id
    with pytest.raises(ValidationError, match="degrade_to"):
        section(source="phantom_cxr", count=4, degrade_to=7)


def test_people_are_compared_by_their_images_as_taken(folder: Any, tmp_path: Path) -> None:
    """At 8 px all radiographs are alike."""
    sections = {"s": folder.section(degrade_to=8, crop_black_band=True, equalise=True, gamma=0.5)}
    assert sections["s"].as_taken() == folder.section()
    index = StudyIndex(sections, memo_dir=tmp_path / "memo")
    plain = StudyIndex({"s": folder.section()}, memo_dir=tmp_path / "memo")
    assert index.audit.persons == plain.audit.persons
    assert len({case.patient for case in index("s", sections["s"])}) == 6
