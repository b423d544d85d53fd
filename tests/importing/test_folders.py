"""Images are joined with the masks of their names, however these are written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pytest

from tests.refusals import problems_of
from xferlab.errors import DataError, UsageError, XferlabError
from xferlab.importing.folders import LOOKED_AT, joined_by_name
from xferlab.importing.found import Listing, spelled
from xferlab.importing.patients import with_patients

Form = Literal["NFC", "NFD"]


def touch(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def pairs(listing: Listing, column: str = "mask") -> dict[str, str]:
    """Names of images and of their masks; empty where there is none."""
    return {
        entry.image.name: entry.masks[column].name if column in entry.masks else ""
        for entry in listing.images
    }


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["1.png", "11.jpg", "2.png"], ["1.png", "11.png", "2.png"]),
        (["1.png", "11.png", "2.png"], ["1_mask.png", "11_mask.png", "2_mask.png"]),
        (["1.png", "11.png", "2.png"], ["mask1.tif", "mask11.tif", "mask2.tif"]),
        (["a1.png", "a2.png", "b.png"], ["seg_a1_v2.png", "seg_a2_v2.png", "seg_b_v2.png"]),
        (["m/1.png", "n/1.png", "n/2.png"], ["m/1-m.png", "n/1-m.png", "n/2-m.png"]),
    ],
)
def test_masks_are_found_by_what_their_names_have_in_common(
    tmp_path: Path, images: list[str], masks: list[str]
) -> None:
    folder, of_masks = touch(tmp_path / "images", images), touch(tmp_path / "masks", masks)
    listing = joined_by_name(folder, {"mask": of_masks})
    found = {
        each.image.relative_to(folder).as_posix(): each.masks["mask"].relative_to(of_masks).as_posix()
        for each in listing.images
    }
    assert (found, listing.left_out) == (dict(zip(images, masks, strict=True)), ())


def test_images_and_masks_may_lie_in_one_folder(tmp_path: Path) -> None:
    folder = touch(tmp_path, ["1.png", "1_mask.png", "2.png", "2_mask.png", "3.png", "notes.txt"])
    assert pairs(joined_by_name(folder, {"mask": folder})) == {
        "1.png": "1_mask.png", "2.png": "2_mask.png", "3.png": "",
    }  # fmt: skip


def test_of_numbers_in_one_folder_none_is_the_mask_of_another(tmp_path: Path) -> None:
    numbers = [f"{number}.png" for number in range(1, 61)]
    folder = touch(tmp_path, [*numbers, "1_mask.png", "2_mask.png"])
    found = pairs(joined_by_name(folder, {"mask": folder}))
    assert {name: mask for name, mask in found.items() if mask} == {
        "1.png": "1_mask.png",
        "2.png": "2_mask.png",
    }
    assert found.keys() == set(numbers)


def test_hidden_files_and_folders_of_masks_are_no_images_and_links_are_followed(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere", ["2.PNG"])
    images = touch(tmp_path / "images", ["1.png", "._1.png", ".cache/1.png", "masks/1.png", "masks/a/2.png"])
    (images / "a").symlink_to(elsewhere)
    (images / "a" / "circle").symlink_to(images)
    listing = joined_by_name(images, {"mask": images / "masks"})
    assert pairs(listing) == {"1.png": "1.png", "2.PNG": "2.png"}


def test_what_has_no_counterpart_is_said(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", ["1.png", "2.png", "3.png"])
    masks = touch(tmp_path / "masks", ["1.png", "2.png", "4.png"])
    listing = joined_by_name(images, {"mask": masks})
    assert pairs(listing) == {"1.png": "1.png", "2.png": "2.png", "3.png": ""}
    assert [str(problem) for problem in listing.left_out] == [
        f"{masks / '4.png'}: warning: is the mask of no image."
    ]


def test_structures_have_folders_of_their_own(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", ["1.png", "2.png"])
    left, right = (touch(tmp_path / side, ["1.png", "2.png"]) for side in ("left", "right"))
    listing = joined_by_name(images, {"mask_left": left, "mask_right": right})
    assert listing.columns == ("mask_left", "mask_right")
    assert pairs(listing, "mask_right") == {"1.png": "1.png", "2.png": "2.png"}


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ([], ["1.png"], r"images: there is no such folder\.$"),
        (["notes.txt"], ["1.png"], r"images: holds no images \(\.png, "),
        (["a\n.png"], ["1.png"], r"has letters in its name that cannot be written; rename it"),
        (["1.png", "1.jpg"], ["1.png"], r"1\.png: has the name of .*1\.jpg; remove or rename one"),
        (
            ["x.png"],
            ["a.png", "b.png", "c.png"],
            r"no mask has the name of an image: masks are called 'a', 'b'",
        ),
    ],
)
def test_what_cannot_be_joined_is_refused(
    tmp_path: Path, images: list[str], masks: list[str], message: str
) -> None:
    folder, of_masks = touch(tmp_path / "images", images), touch(tmp_path / "masks", masks)
    problems_of(DataError, joined_by_name, folder, {"mask": of_masks}, match=message)


@pytest.mark.parametrize(
    ("pattern", "images", "masks"),
    [
        ("{name}_seg.png", ["1.png", "11.png"], ["1_seg.png", "11_seg.png"]),
        ("{name}_seg", ["a/1.png", "b/1.png"], ["a/1_seg.png", "b/1_seg.png"]),
        ("{name}/{name}_m.png", ["1.png", "a/2.png"], ["1/1_m.png", "a/2/2_m.png"]),
        (r"(\d+)_v\d", ["1.png", "2.jpg"], ["1_v7.png", "2_v1.png"]),
        (r"_(?P<name>[^_/]+)_[0-9a-f]{4}\.", ["p/x.png", "q/y.png"], ["seg_x_01ab.png", "seg_y_9f00.png"]),
    ],
)
def test_masks_are_named_by_a_pattern(
    tmp_path: Path, pattern: str, images: list[str], masks: list[str]
) -> None:
    folder, of_masks = touch(tmp_path / "images", images), touch(tmp_path / "masks", [*masks, "other.png"])
    listing = joined_by_name(folder, {"mask": of_masks}, pattern)
    found = [each.masks["mask"].relative_to(of_masks).as_posix() for each in listing.images]
    assert found == masks
    assert [str(problem) for problem in listing.left_out] == [
        f"{of_masks / 'other.png'}: warning: is the mask of no image."
    ]


def test_in_one_folder_what_fits_a_pattern_is_no_image(tmp_path: Path) -> None:
    folder = touch(tmp_path, ["1.png", "1-a_seg.png", "2.png", "2-b_seg.png", "3-c_seg.png"])
    listing = joined_by_name(folder, {"mask": folder}, "(.+)-._seg")
    assert pairs(listing) == {"1.png": "1-a_seg.png", "2.png": "2-b_seg.png"}
    assert [problem.where for problem in listing.left_out] == [str(folder / "3-c_seg.png")]


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("(", UsageError, r"--mask '\(' is no regular expression"),
        ("{nam}_seg.png", UsageError, r"does not say where the name of the image is: write \{name\} there"),
        ("(.)_seg", DataError, r"2_seg_b\.?\w*: is a mask of 2, as 2_seg_a is; make --mask fit one of them"),
        ("{name}_mask", DataError, r"joins no mask with an image\. It finds no name; images are called '1'"),
        ("(seg)", DataError, r"It finds 'seg' in '1_seg', 'seg' in '2_seg_a'; images are called '1', '2'"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(
    tmp_path: Path, pattern: str, error: type[XferlabError], message: str
) -> None:
    images = touch(tmp_path / "images", ["1.png", "2.png"])
    masks = touch(tmp_path / "masks", ["1_seg.png", "2_seg_a.png", "2_seg_b.png"])
    with pytest.raises(error, match=message):
        joined_by_name(images, {"mask": masks}, pattern)


def test_masks_of_two_kinds_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = touch(tmp_path, ["1.png", "1_left.png", "1_right.png", "2.png", "2_left.png", "2_right.png"])
    what = "its files are named 'NAME_left' and 'NAME_right'; give masks of each kind a folder of their own"
    problems_of(DataError, joined_by_name, folder, {"mask": folder}, match=what)
    listing = joined_by_name(folder, {"mask": folder}, "{name}_left")
    assert pairs(listing)["1.png"] == "1_left.png"


@pytest.mark.parametrize("others", [["{}_left", "{}_right"], ["{}", "{}_right"]])
def test_masks_of_two_kinds_in_their_folder_are_refused(tmp_path: Path, others: list[str]) -> None:
    """One side would be the mask, and the other dropped."""
    images = touch(tmp_path / "images", (f"P{number}.png" for number in range(12)))
    names = (f"{other.format(f'P{number}')}.png" for number in range(12) for other in others)
    masks = touch(tmp_path / "masks", names)
    kinds = " and ".join(repr(other.format("NAME")) for other in others)
    what = f"its files are named {kinds}; give masks of each kind a folder of their own, or say by --mask"
    problems_of(DataError, joined_by_name, images, {"mask": masks}, match=what)
    listing = joined_by_name(images, {"mask": masks}, others[0].format("{name}"))
    assert {problem.where for problem in listing.left_out} == {
        str(masks / f"P{number}_right.png") for number in range(12)
    }


def test_numbers_of_other_masks_are_no_second_kind(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", (f"{number}.png" for number in range(1, 6)))
    masks = touch(tmp_path / "masks", (f"{number}.png" for number in range(1, 100)))
    listing = joined_by_name(images, {"mask": masks})
    assert (len(listing.left_out), {entry.image.name for entry in listing.images if entry.masks}) == (
        94,
        {f"{number}.png" for number in range(1, 6)},
    )


def test_a_mask_without_its_image_is_no_image(tmp_path: Path) -> None:
    images = [f"benign ({number}).png" for number in range(1, 6)]
    masks = [f"benign ({number})_mask.png" for number in range(1, 6)]
    spare = ["benign (20)_mask.png", "benign (21)_mask_1.png"]
    folder = touch(tmp_path, [*images, *masks, *spare, "normal (1).png"])
    listing = joined_by_name(folder, {"mask": folder})
    assert pairs(listing) == {**dict(zip(images, masks, strict=True)), "normal (1).png": ""}
    assert [str(problem) for problem in listing.left_out] == [
        f"{folder / name}: warning: is the mask of no image." for name in spare
    ]


@pytest.mark.parametrize("is_same", [True, False])
@pytest.mark.parametrize("second", ["2_mask_1", "2_mask2", "2_mask (2)"])
def test_a_second_mask_of_an_image_is_refused(tmp_path: Path, is_same: bool, second: str) -> None:
    """Its lesion would count as background."""
    folder = touch(tmp_path / "images", ["1.png", "2.png", "3.png"])
    masks = touch(
        folder if is_same else tmp_path / "masks",
        ["1_mask.png", "2_mask.png", "3_mask.png", f"{second}.png"],
    )
    what = r"is a second mask of one image, beside .*2_mask\.png; draw both into one file"
    (problem,) = problems_of(DataError, joined_by_name, folder, {"mask": masks}, match=what)
    assert problem.where == str(masks / f"{second}.png")


def test_a_number_behind_a_bare_name_is_that_of_another_image(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", ["P1.png", "P2.png"])
    masks = touch(tmp_path / "masks", ["P1.png", "P1_1.png", "P2.png"])
    listing = joined_by_name(images, {"mask": masks})
    assert [problem.where for problem in listing.left_out] == [str(masks / "P1_1.png")]


def test_many_files_in_one_folder_are_joined(tmp_path: Path) -> None:
    """By turns images and masks, of which not all are looked at."""
    numbers = range(1000, 1000 + LOOKED_AT)
    folder = touch(tmp_path, (f"{number}{end}.png" for number in numbers for end in ("", "_mask")))
    assert all(pairs(joined_by_name(folder, {"mask": folder})).values())


@pytest.mark.parametrize(("of_images", "of_masks"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("pattern", [None, "{name}_öl.png", "(Müller_.*)_öl"])
def test_names_from_a_mac_are_joined_and_files_keep_them(
    tmp_path: Path, of_images: Form, of_masks: Form, pattern: str | None
) -> None:
    pairs_of = [(f"Müller_{number}.png", f"Müller_{number}_öl.png") for number in range(3)]
    names = {normalize(of_images, name): normalize(of_masks, mask) for name, mask in pairs_of}
    images, masks = touch(tmp_path / "images", names), touch(tmp_path / "masks", names.values())
    for text in (pattern, pattern and normalize("NFD", pattern)):
        listing = joined_by_name(images, {"mask": masks}, text)
        assert (pairs(listing), listing.left_out) == (names, ())
        assert all(
            path.is_file() for entry in listing.images for path in (entry.image, *entry.masks.values())
        )


@pytest.mark.parametrize("patient", ["Müller_(PAT[0-9])", "patients.csv"])
@pytest.mark.parametrize(("of_images", "of_patients"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_patients_are_found_in_names_from_a_mac(
    tmp_path: Path, of_images: Form, of_patients: Form, patient: str
) -> None:
    names = [f"Müller_PAT{number}.png" for number in range(3)]
    images = touch(tmp_path / "images", (normalize(of_images, name) for name in names))
    listing = joined_by_name(images, {})
    if patient.endswith(".csv"):
        patient = str(tmp_path / patient)
        rows = "".join(f"{normalize(of_patients, name)},{name[7:11]}\n" for name in names)
        Path(patient).write_text(f"image,patient_id\n{rows}", encoding="utf-8")
    for source, known in ((patient, "PAT{}"), (None, "Müller_PAT{}")):
        listing = with_patients(
            listing, source and normalize(of_patients, source), images=images, keep_ids=False
        )
        assert [entry.cells["patient_id"] for entry in listing.images] == [known.format(n) for n in range(3)]
        listing = joined_by_name(images, {})


@pytest.mark.parametrize(("on_disk", "said"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_description_may_spell_the_letters_of_a_file_otherwise(
    tmp_path: Path, on_disk: Form, said: Form
) -> None:
    file, name = normalize(on_disk, "Röntgen/ä.png"), normalize(said, "Röntgen/ä.png")
    touch(tmp_path, [file])
    assert spelled(name, [tmp_path / "nowhere", tmp_path]) == file
    assert spelled(name.replace("/", "\\"), [tmp_path]) == file
    assert spelled(file, [tmp_path]) == file
    assert spelled("ü.png", [tmp_path]) == "ü.png"
