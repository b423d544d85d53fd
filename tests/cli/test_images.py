from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_dicom import write
from xferlab.cli.images import _named, check_outputs, find
from xferlab.errors import UsageError

Touch = Callable[..., None]


@pytest.fixture
def touch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Touch:
    """Makes files below an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def touch(*names: str, content: bytes = b"") -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return touch


def names(*paths: str, out: str = "out") -> dict[str, str]:
    return {name: str(path) for name, path in find(paths, out=out).images.items()}


def test_a_folder_is_searched_and_its_folders_are_mirrored(touch: Touch) -> None:
    touch("in/b.png", "in/a.JPG", "in/x/a.tif", "in/x/y/a.dcm")
    assert list(names("in").items()) == [
        ("a", "in/a.JPG"),
        ("b", "in/b.png"),
        ("x/a", "in/x/a.tif"),
        ("x/y/a", "in/x/y/a.dcm"),
    ]


def test_what_is_no_image_is_counted_and_skipped(touch: Touch) -> None:
    skipped = ("in/notes.txt", "in/._a.png", "in/sub/table.csv")
    touch("in/a.png", *skipped, "in/.hidden/b.png", "in/out/a_mask.png")
    found = find(["in"], out="in/out")
    assert (list(found.images), found.num_skipped) == (["a"], len(skipped))  # other folders are not entered
    assert found.problems == []


def test_dicom_is_known_by_content_and_its_index_is_none(touch: Touch) -> None:
    touch("in/1.2.840.99", "in/IM0001", "in/DICOMDIR", content=b"\0" * 128 + b"DICM")
    assert names("in") == {"1.2.840.99": "in/1.2.840.99", "IM0001": "in/IM0001"}


def test_objects_that_mark_images_are_no_images(tmp_path: Path) -> None:
    for name, modality in (("a.dcm", "CT"), ("b.dcm", "SEG"), ("c", "SEG")):
        write(tmp_path / name, Modality=modality)
    (tmp_path / "d.dcm").write_bytes(b"no DICOM")
    files = find([str(tmp_path)], out="out")
    assert sorted(files.images) == ["a", "d"]
    assert [(Path(problem.where).name, problem.severity) for problem in files.problems] == [
        ("b.dcm", "warning"), ("c", "warning"),
    ]  # fmt: skip


def test_a_named_file_is_taken_whatever_its_name(touch: Touch) -> None:
    touch("a.txt")
    assert names("a.txt", "absent.png") == {"a.txt": "a.txt", "absent": "absent.png"}


@pytest.mark.parametrize(
    ("files", "paths", "outputs"),
    [
        ("in/a.png in/a.jpg in/a.png.png", "in", "a.png a.jpg a.png.png"),
        ("one/b.png two/b.png", "one/b.png two/b.png", "one/b two/b"),
        ("one/b.png two/b.png", "one two", "one/b two/b"),
        # Outputs of a folder keep their paths, whatever else is named; the outer folder names them.
        ("here/in/a.png here/in/ward/b.png", "here/in", "a ward/b"),
        ("here/in/a.png here/in/ward/b.png there/c.png", "here/in there/c.png", "a ward/b c"),
        ("here/in/a.png there/in/ward/d.png there/c.png", "here/in there/in there/c.png", "a ward/d c"),
        ("here/in/a.png here/in/ward/b.png", "here/in/ward here/in", "a ward/b"),
        # Only what would have one name keeps more of its path.
        ("one/a.png one/b.png two/a.png two/c.png two/c.jpg", "one two", "one/a b two/a two/c.png two/c.jpg"),
    ],
)
def test_names_are_as_short_as_sets_them_apart(touch: Touch, files: str, paths: str, outputs: str) -> None:
    touch(*files.split())
    assert set(names(*paths.split())) == set(outputs.split())


def test_a_file_given_twice_is_one_and_the_order_does_not_matter(touch: Touch) -> None:
    touch("in/a.png", "b.png", "c.png")
    assert names("in", "in/a.png", os.path.abspath("in/../in/a.png")) == {"a": "in/a.png"}
    assert list(names("in", "c.png", "b.png")) == list(names("b.png", "c.png", "in"))


def test_outputs_among_the_images_of_a_folder_are_refused(touch: Touch) -> None:
    touch("in/a.png")
    with pytest.raises(UsageError, match="next search would take outputs for images") as caught:
        find(["in"], out="./in/")
    assert "--out ./in/predictions" in str(caught.value)


def test_outputs_that_would_replace_an_image_are_refused(touch: Touch) -> None:
    touch("a.png", "a_mask.png")
    assert names("a.png", out=".") == {"a": "a.png"}
    images = find(["a.png", "a_mask.png"], out=".").images
    with pytest.raises(UsageError, match=r"a_mask\.png, of a\.png, would replace an image"):
        check_outputs(images, out=".", endings=["_mask.png"])


def test_a_folder_that_cannot_be_read_is_a_problem(touch: Touch, monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/a.png", "in/closed/b.png")
    listing = os.scandir

    def guarded(path: str) -> Any:  # root, who may run tests, reads folders of any mode
        if path.endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", guarded)
    found = find(["in"], out="out")
    assert list(found.images) == ["a"]
    assert [str(problem) for problem in found.problems] == [
        "in/closed: cannot be searched: Permission denied."
    ]


@settings(max_examples=30)
@given(
    st.sets(
        st.text("ab.", min_size=1, max_size=4).map(lambda stem: f"/r/x{stem}.png"), min_size=1, max_size=8
    )
)
def test_names_are_always_distinct(files: set[str]) -> None:
    extra = {file + ".png" for file in files} | {file.replace(".png", ".dcm") for file in files}
    paths = {file: Path(file) for file in files | extra}
    assert sorted(_named(paths, ["/r"], "/r").values()) == sorted(paths.values())
