"""What lies outside of a folder, and what an absent file may be called."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from xferlab.data.sources.manifest.table import Nearest, outside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one file, three links that stay and three that leave, reached by a link itself."""
    real, other = tmp_path / "real", tmp_path / "real-other"
    for folder in (real / "images", other):
        folder.mkdir(parents=True)
        (folder / "a.png").write_text("")
    (real / "same").symlink_to("images")
    (real / "images/b.png").symlink_to("a.png")
    (real / "images/c.png").symlink_to(real / "same/b.png")
    (real / "masks").symlink_to(other)
    (real / "images/d.png").symlink_to("../../real-other/a.png")
    (real / "images/e.png").symlink_to("d.png")
    (tmp_path / "root").symlink_to(real)
    return tmp_path / "root"


def test_only_what_links_lead_out_is_outside(root: Path, tmp_path: Path) -> None:
    staying = ["images/a.png", "images/b.png", "images/c.png", "same/a.png"]
    leaving = ["images/d.png", "images/e.png", "masks/a.png"]
    assert outside(root, staying) == {}
    assert outside(root, [*leaving, *staying]) == dict.fromkeys(leaving, str(tmp_path / "real-other/a.png"))


def test_names_that_look_alike(tmp_path: Path) -> None:
    composed = "é.png"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / composed).write_text("")
    nearest = Nearest(tmp_path)
    hint = f" Did you mean {'images/' + composed!r}?"
    assert nearest.hint("images/É.PNG") == hint
    assert nearest.hint("images/" + unicodedata.normalize("NFD", composed)) == hint
    for name in ("images/f.png", "nowhere/é.png", "é.png", "a\0/b.png", f"images/{composed}"):
        assert nearest.hint(name) == ""
