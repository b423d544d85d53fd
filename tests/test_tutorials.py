"""docs/tutorials/, docs/how-to/: the commands of a page run in an empty folder, and print what it quotes.

A page is read from top to bottom. A block after "Save this as `NAME`" is written to this file, a block `sh`
is run by bash, and a block `text` is what the commands before it print: with other decimal numbers, ids and
precision (by the processor), and `...` for any text. Whole numbers count images, epochs or trials, and are as
quoted; only in a word with a decimal number, such as a line of CSV, they may differ, too.
`<!-- not run: REASON -->` stands before a block that is passed over. `<!-- after: PAGE -->` is on a page that
continues another one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
QUICK = ("own-images",)
"""Pages that take half a minute of a core."""
MINUTES = ("smoke", "report", "tuning")
"""Pages that take up to some minutes, with those that they continue."""
CONTINUED = ("ablation",)
REAL = ("papers",)
"""Pages that need the images below `XFERLAB_DATA`."""
ELSEWHERE = ("slurm",)
"""Pages whose commands need a cluster."""
EXTERNAL = "../how-to/external-test-set"
FILLED = ("notebook", "sample-report")
"""Pages that `docs/generated.py` fills with what `docs/sample.py` runs, such as cells of `results.ipynb`."""
DATA = os.environ.get("XFERLAB_DATA")

_BLOCK = re.compile(r"^```(sh|text|yaml|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_DECIMAL = re.compile(r"\d\.\d")
_VARYING = re.compile(r"(?:\\\.){3}|b?float\d\d|[0-9a-f]{16}")
_NUMBERS = re.compile(_VARYING.pattern + r"|\d+(?:\\\.\d+)?")

pytestmark = pytest.mark.component
needs_data = pytest.mark.skipif(not DATA, reason="XFERLAB_DATA names no folder of real images")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the file that it is saved as, if any."""

    language: str
    text: str
    file: str


def read(page: str) -> str:
    return (TUTORIALS / f"{page}.md").read_text()


def blocks(text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        before = text[: found.start()].rstrip().rpartition("\n\n")[2]
        file = re.search(r"[Ss]ave this as `([\w./-]+)`", before)
        if not before.startswith("<!-- not run: "):
            yield Block(found[1], found[2], file[1] if file else "")


def shape(line: str) -> re.Pattern[str]:
    """Returns the pattern of a quoted line: what the processor changes and widths of columns may differ."""
    words = (
        (_NUMBERS if _DECIMAL.search(word) else _VARYING).sub(
            lambda found: ".*" if found[0] == r"\.\.\." else r"\S+", re.escape(word)
        )
        for word in line.split()
    )
    return re.compile(r"\s+".join(words))


def unseen(quoted: str, printed: str) -> list[str]:
    """Returns the first quoted line that was not printed after those before it."""
    lines = iter(printed.splitlines())
    for line in quoted.splitlines():
        pattern = shape(line)
        if line.strip() != "..." and not any(pattern.fullmatch(each.strip()) for each in lines):
            return [line]
    return []


def follow(page: str, folder: Path, change: Callable[[str], str] = str) -> None:
    """Does what a page says, with some words changed, in a folder."""
    text = change(read(page))
    before = re.search(r"^<!-- after: (\S+) -->$", text, re.MULTILINE)
    if before:
        follow(before[1], folder)
    printed = ""
    for block in blocks(text):
        if block.file:
            (folder / block.file).write_text(block.text)
        elif block.language == "sh":
            printed = run(block.text, folder)
        elif block.language == "text":
            assert unseen(block.text, printed) == [], printed


def run(commands: str, folder: Path) -> str:
    variables = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "XFERLAB_CACHE": str(folder / "cache"),
    }
    done = subprocess.run(
        ("bash", "-euo", "pipefail", "-c", commands),
        cwd=folder,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}"
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what pages use of the checkout."""
    for name in ("jobs", "search_spaces"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    "page",
    [
        *QUICK,
        *(pytest.param(page, marks=pytest.mark.slow) for page in MINUTES),
        *(pytest.param(page, marks=[pytest.mark.slow, needs_data]) for page in REAL),
    ],
)
def test_what_a_tutorial_shows_happens(page: str, checkout: Path) -> None:
    follow(page, checkout)


@pytest.mark.slow
@needs_data
def test_the_tutorial_of_own_images_works_with_real_ones(tmp_path: Path) -> None:
    pack = Path(str(DATA)) / "montgomery-512"
    for name in ("images", "masks"):
        shutil.copytree(pack / name, tmp_path / "chests" / name)
    image = min((pack / "images").iterdir()).name

    def change(text: str) -> str:
        """Of a page: real names in place of drawn ones, and no quotations."""
        text = text.replace("python draw.py\n", "").replace("P[0-9]+", "MCUCXR_[0-9]+")
        return re.sub(r"^```text\n", "```\n", text.replace("P00_0.png", image), flags=re.MULTILINE)

    follow("own-images", tmp_path, change)
    assert (tmp_path / "reports" / "quick" / "index.html").is_file()
    assert image in (tmp_path / "predictions" / "predictions.csv").read_text()


DRAWN = """
from pathlib import Path
from PIL import Image
from xferlab.phantoms import PATHOLOGIES, chest_mask, chest_xray
for name, seed, count in (("chests/P", 1, 24), ("clinic/C", 2, 10)):
    folder, letter = name.split("/")
    for kind in ("images", "masks"):
        Path(folder, kind).mkdir(parents=True)
    for index in range(count):
        drawn = chest_xray(seed=seed, index=index, pathology=PATHOLOGIES[index % 3], size_px=32)
        file = f"{letter}{index // 2:02}_{index % 2}.png"
        Image.fromarray(drawn.image).save(f"{folder}/images/{file}")
        Image.fromarray(chest_mask(drawn.labels)).save(f"{folder}/masks/{file}")
"""
"""Draws the images of two hospitals."""


@pytest.mark.slow
def test_a_finished_study_gets_an_external_test_set(tmp_path: Path) -> None:
    (tmp_path / "draw.py").write_text(DRAWN)
    run("python draw.py; xferlab init --from chests/images chests/masks --patient 'P[0-9]+'", tmp_path)
    path = tmp_path / "study.yaml"
    small = {
        "repetitions": 2,
        "model": {"init_features": 2, "image_size": 32},
        "training": {"max_epochs": 1, "patience": 1, "device": "cpu"},
    }
    study = yaml.safe_load(path.read_text()) | small
    path.write_text(yaml.safe_dump(study))
    run("xferlab run study.yaml --executor in-process", tmp_path)
    trained = {file: file.read_bytes() for file in tmp_path.glob("xferlab-results/trials/*/record.json")}

    def change(text: str) -> str:
        """Of the page: the study with the sections and the stage that it shows."""
        (piece,) = (block.text for block in blocks(text) if block.language == "yaml")
        whole = yaml.safe_dump(study | yaml.safe_load(piece))
        return text.replace(f"```yaml\n{piece}", f"Save this as `study.yaml`:\n\n```yaml\n{whole}")

    follow(EXTERNAL, tmp_path, change)
    assert len(trained) == 6
    assert {
        file: file.read_bytes() for file in tmp_path.glob("xferlab-results/trials/*/record.json")
    } == trained
    logs = [file.read_text() for file in tmp_path.glob("xferlab-results/trials/*/logs/*")]
    assert sum("measures what is missing" in text for text in logs) == 6


@pytest.mark.slow
def test_the_cells_of_the_notebook_run(checkout: Path) -> None:
    run("xferlab run jobs/smoke.yaml --storage xferlab-results --executor in-process", checkout)
    run(f"python -W error {ROOT / 'docs' / 'sample.py'} --cells cells", checkout)
    returned = sorted((checkout / "cells").iterdir(), key=lambda path: int(path.stem))
    assert [path.suffix for path in returned].count(".png") == 4 + 1
    assert returned[0].read_text().endswith("arms baseline, scratch; 9 of 9 trials complete)")
    assert returned[-1].suffix == ".png"
    shown = [path.read_text() for path in returned if path.suffix == ".txt"]
    assert all(len(text) < 200 for text in shown if text.startswith(("StudyResults", "Predictor")))
    assert len(shown) == 5


def test_the_notebook_has_no_outputs() -> None:
    notebook = json.loads((TUTORIALS / "results.ipynb").read_text("utf-8"))
    assert [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")] == []


def test_every_tutorial_is_tried_or_needs_a_cluster() -> None:
    pages = {path.stem for path in TUTORIALS.glob("*.md")}
    assert pages - {"index"} == {*QUICK, *MINUTES, *CONTINUED, *REAL, *ELSEWHERE, *FILLED}
    assert all(f"<!-- after: {page} -->" in "".join(map(read, MINUTES)) for page in CONTINUED)


def test_a_quoted_line_may_differ_in_decimal_numbers_and_ids_alone() -> None:
    printed = "trial 0123456789abcdef x 0.7\ny\n9 complete\na_0.png,64,1084,0.265,2"
    assert unseen("trial  a1b2c3d4e5f60718 x  0.25\n...\n9 complete\na_0.png,64,985,0.24,1", printed) == []
    assert unseen("left: 2,340 training images", "left: 1,800 training images") == [
        "left: 2,340 training images"
    ]
    assert unseen("9 complete", "10 complete") == ["9 complete"]
    assert unseen("9 complete\nfirst", "first\n9 complete") == ["first"]
    assert unseen("9 complete", "9 incomplete") == ["9 complete"]
