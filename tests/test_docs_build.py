"""The pages that Sphinx builds: without a warning, every page in the table of contents, no dead link."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from tests.conftest import Command
from tests.studies import ONE_TRIAL, write_study
from xferlab.cli.main import VERBS

ROOT = Path(__file__).parents[1]
_VARIABLE = re.compile(r"\bXFERLAB_[A-Z_]+\b")

pytestmark = pytest.mark.component


def build(folder: Path, *options: str) -> dict[Path, BeautifulSoup]:
    """The pages by their paths. A page that no table of contents names is a warning, and so an error."""
    command = (sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", *options, ROOT / "docs", folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return {path: BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in folder.rglob("*.html")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("docs")


@pytest.fixture(scope="module")
def site(folder: Path) -> dict[Path, BeautifulSoup]:
    """The pages without a sample."""
    return build(folder)


def dead_links(site: dict[Path, BeautifulSoup]) -> list[str]:
    ids = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in site.items()}
    dead = []
    for path, page in site.items():
        for tag in page.select("article a[href], nav a[href], img[src]"):
            link = str(tag.get("href") or tag.get("src"))
            name, _, anchor = unquote(link).partition("#")
            target = (path.parent / name).resolve() if name else path
            is_dead = not target.exists() or (anchor and target in ids and anchor not in ids[target])
            if "://" not in link and is_dead:
                dead.append(f"{path.name}: {link}")
    return dead


def test_no_link_of_a_page_is_dead(site: dict[Path, BeautifulSoup]) -> None:
    assert dead_links(site) == []


@pytest.mark.slow
def test_pages_show_a_sample_where_one_is_built(
    site: dict[Path, BeautifulSoup], folder: Path, tmp_path: Path
) -> None:
    """With a stand-in for what `docs/sample.py` builds in minutes, on a copy of the pages."""
    cells, report = tmp_path / "sample" / "cells", tmp_path / "sample" / "report"
    for path in (cells, report):
        path.mkdir(parents=True)
    (report / "index.html").write_text("<!DOCTYPE html><title>Stand-in</title>")
    notebook = json.loads((ROOT / "docs" / "tutorials" / "results.ipynb").read_text("utf-8"))
    num = [cell["cell_type"] for cell in notebook["cells"]].count("code")
    Image.new("L", (1, 1)).save(cells / "0.png")
    for number in range(1, num):
        (cells / f"{number}.{('txt', 'html')[number % 2]}").write_text(f"<i>value {number}</i>")
    pages = build(shutil.copytree(folder, tmp_path / "docs"), "-D", f"sample={tmp_path / 'sample'}")
    assert dead_links(pages) == []
    shown, link = (
        pages[tmp_path / "docs" / "tutorials" / f"{name}.html"] for name in ("notebook", "sample-report")
    )
    values = [found for tag in shown.find_all(["i", "pre"]) for found in re.findall(r"value \d+", tag.text)]
    assert values == [f"value {number}" for number in range(1, num)]
    assert len(shown.find_all("img")) == 1
    assert link.find("a", href="../sample-report/index.html")


def test_every_verb_and_field_has_its_place_in_the_reference(site: dict[Path, BeautifulSoup]) -> None:
    text = {path.stem: page.get_text(" ") for path, page in site.items() if path.parent.name == "reference"}
    assert [verb for verb in VERBS if f"xferlab {verb}" not in text["command-line"]] == []
    assert {"--storage", "--power", "--yes"} <= set(re.findall(r"--\w+", text["command-line"]))
    assert {"DICE", "AUROC", "CYCLE", "passed", "CTR"} <= set(text["metrics"].split())
    assert {"label_fraction", "starts_from", "hold_out"} <= set(text["study-schema"].split())
    assert "xferlab.analysis." in text["python"]


def test_the_page_of_records_names_the_files_and_fields_of_a_storage(
    site: dict[Path, BeautifulSoup], command: Command, tmp_path: Path
) -> None:
    command("run", write_study(tmp_path, **ONE_TRIAL), "--executor", "in-process", code=0)
    (page,) = (page for path, page in site.items() if path.name == "records.html")
    words = {word for code in page.select("code") for word in re.findall(r"[\w.]+", code.get_text())}
    files = [path for path in (tmp_path / "xferlab-results").rglob("*") if path.is_file()]
    named = {path.name for path in files if path.parent.name not in ("logs", "selections")}
    fields = {field for path in files if path.name != "index.json" for field in fields_of(path)}
    assert {"plan.json", "cases.parquet", "best.safetensors"} <= named
    assert {"planned", "train_patients", "outcome", "score", "weights_sha256", "pathology"} <= fields
    assert (named | fields) - words == set()


def fields_of(path: Path) -> set[str]:
    """The fields of a file of a storage, also of the entries of its lists; the columns of a table."""
    if path.suffix == ".parquet":
        return set(pq.read_schema(path).names)
    if path.suffix not in (".json", ".jsonl"):
        return set()
    lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
    documents: list[dict[str, Any]] = [json.loads(line) for line in lines]
    lists = [value for document in documents for value in document.values() if isinstance(value, list)]
    entries = [entry for value in lists for entry in value if isinstance(entry, dict) and path.stem != "plan"]
    trials = [trial for document in documents if path.stem == "plan" for trial in document["trials"]]
    evaluations = [evaluation for trial in trials for evaluation in trial["evaluations"]]
    return {field for each in (*documents, *entries, *trials, *evaluations) for field in each}


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, BeautifulSoup]) -> None:
    tags = [tag for page in site.values() for tag in page.select("script[src], link[href], img[src]")]
    sources = {str(tag.get("src") or tag.get("href")) for tag in tags}
    assert [source for source in sources if "://" in source] == []


def test_pages_have_one_title_and_say_what_pictures_show(site: dict[Path, BeautifulSoup]) -> None:
    pages = {path.name: page for path, page in site.items() if page.find("article")}
    assert [name for name, page in pages.items() if len(page.find_all("h1")) != 1] == []
    assert [name for name, page in pages.items() for tag in page.find_all("img") if not tag.get("alt")] == []
    assert all(page.html and page.html.get("lang") for page in pages.values())


def test_every_environment_variable_is_on_its_page() -> None:
    folders = ("xferlab", "analysis", "jobs", "benchmarks", "docs", "examples")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    page = ROOT / "docs" / "reference" / "environment.md"
    texts = [
        path.read_text("utf-8")
        for path in files
        if path.suffix in {".py", ".yaml", ".yml", ".sbatch", ".sh", ".md"} and path != page
    ]
    used = {name for text in texts for name in _VARIABLE.findall(text)}
    assert used == set(_VARIABLE.findall(page.read_text()))
