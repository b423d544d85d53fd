"""No text from data is read as mark-up, a command, a formula or a change of direction by any reader."""

from __future__ import annotations

import csv
import re
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

from tests.analysis.conftest import STUDY, Parsed, StudyBuilder
from xferlab.analysis import write_report
from xferlab.analysis.tables.rendering import html_text, latex_text, markdown_text, visible, write_csv

UNSEEN = "\u202e\u2066\u200b\ufeff\u200f\x1b\x00\x7f\u2028\ud800"
NASTY = (
    "=HYPERLINK(\"http://x\")<script src=//x>alert('1')</script><img src=x onerror=y>\"'>`a`|b|\n"
    "# h\n- l\n[l](javascript:x)&amp;&lt; 50% $\\frac{1}{0$ \\input{x} #1 _a_ ^b^ ~c~ {d} } \\"
)
STUDY_SIZE = {"missing": {"baseline/portable/r02"}, "repetitions": 2, "images": 12}
FORMULAS = ["=1+1", "+1 a", "-2 b", "@SUM(A1)", "  =x", "\t=x", "\n+x"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study whose every text from data is nasty."""
    folder = tmp_path_factory.mktemp("escaping")
    nasty = {
        "note": NASTY,
        "section_notes": {"portable": NASTY + UNSEEN[:-1]},
        "pathologies": ("=x|<b>$y_1^{2$\u202e", "../&\\input{x}", "@normal"),
        "warnings": (NASTY,),
    }
    storage = StudyBuilder(folder / "storage", **STUDY_SIZE, **nasty).write()
    return write_report(storage, STUDY, folder / "out").parent


@pytest.mark.slow
def test_no_element_of_the_page_comes_from_data(written: Path, tmp_path: Path) -> None:
    page = Parsed((written / "index.html").read_text("utf-8"))
    storage = StudyBuilder(tmp_path / "harmless", **STUDY_SIZE).write()
    plain = write_report(storage, STUDY, tmp_path / "plain")
    expected = Parsed(plain.with_name("index.html").read_text("utf-8"))
    assert page.tags == expected.tags
    assert {name for name, _ in page.attributes} == {name for name, _ in expected.attributes}
    assert "<script src=//x>alert('1')</script>" in page.text


@pytest.mark.slow
@pytest.mark.component
def test_no_file_holds_what_reorders_or_controls(written: Path) -> None:
    pages = [file for file in written.rglob("*") if file.suffix in (".html", ".md", ".tex", ".csv")]
    assert len(pages) > 10
    for page in pages:
        text = page.read_text("utf-8")
        assert not set(UNSEEN) & set(text), page
    assert "<U+202E>" in Parsed((written / "index.html").read_text("utf-8")).text


@pytest.mark.component
def test_tables_and_drawings_of_nasty_names_can_be_read(written: Path) -> None:
    files = [file for file in written.rglob("*") if file.is_file()]
    assert {file.parent for file in files} == {written, written / "figures", written / "tables"}
    for file in files:
        if file.suffix == ".svg":
            ElementTree.parse(file)
        elif file.suffix == ".tex":
            assert balanced(file.read_text("utf-8")), file
        elif file.suffix == ".csv":
            assert not [cell for cell in cells(file) if dangerous(cell)], file
        elif file.suffix == ".md":
            check_markdown(file.read_text("utf-8"))


def balanced(latex: str) -> bool:
    depth = 0
    for one in re.findall(r"\\.|[{}]", latex, flags=re.DOTALL):
        depth += {"{": 1, "}": -1}.get(one, 0)
        if depth < 0:
            return False
    return depth == 0


def cells(file: Path) -> list[str]:
    with open(file, newline="", encoding="utf-8") as lines:
        return [cell for row in csv.reader(lines) for cell in row]


def dangerous(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.lstrip().startswith(("=", "+", "-", "@"))
    return False


def check_markdown(text: str) -> None:
    assert not re.search(r"<[A-Za-z/!?]", text)
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    for is_table, lines in groupby(text.splitlines(), key=lambda line: line.startswith("|")):
        borders = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}
        assert not is_table or len(borders) == 1  # what is no column's border is escaped


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_spreadsheet_takes_no_text_for_a_formula(tmp_path: Path, formula: str) -> None:
    frame = pd.DataFrame({"name": [formula, "a"], formula: [-1.5, float("nan")], "n": pd.array([-3, None])})
    write_csv(frame, tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as lines:
        head, first, second = csv.reader(lines)
    assert head == ["name", f"'{formula}", "n"]
    assert first == [f"'{formula}", "-1.5", "-3"]  # numbers stay numbers
    assert second == ["a", "", ""]


def test_a_category_column_is_text_too(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"arm": pd.Categorical(["=x", "=x"])}), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text("utf-8") == "arm\n'=x\n'=x\n"


@pytest.mark.parametrize("escaped", [visible, html_text, markdown_text, latex_text])
def test_what_is_not_seen_is_shown(escaped: Any) -> None:
    text = escaped(f"a{UNSEEN}b 肺炎 é ±")
    assert not set(UNSEEN) & set(text)
    assert text.encode("utf-8")
    assert "U+202E" in text
    assert "肺炎 é" in text
