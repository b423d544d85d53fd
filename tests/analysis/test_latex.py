"""LaTeX takes the tables as they are written, and none is wider than the page."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.analysis.conftest import STUDY, StudyBuilder
from tests.analysis.tables.test_rendering import NASTY, table
from xferlab.analysis import write_report
from xferlab.analysis.tables.rendering import latex_text, to_latex

PROGRAM = shutil.which("pdflatex")
PAGE = r"""\documentclass{article}
\usepackage[%s]{fontenc}
%s
\begin{document}
%s
\end{document}
"""
HAS_PACKAGES = PROGRAM is not None and not subprocess.run(
    ["kpsewhich", "adjustbox.sty", "booktabs.sty", "longtable.sty"], capture_output=True, check=False
).returncode  # fmt: skip
needs_latex = pytest.mark.skipif(not HAS_PACKAGES, reason="needs pdflatex with the package adjustbox")


def complaints(tables: Iterable[str], folder: Path, *, fonts: str) -> list[str]:
    """What pdflatex says of tables, in a paper with nothing but the packages that they name."""
    texts = list(tables)
    packages = dict.fromkeys(re.findall(r"^% Needs (\\usepackage\{.*\})\.$", "\n".join(texts), re.MULTILINE))
    body = "\n\\clearpage\n".join(texts)
    (folder / "paper.tex").write_text(PAGE % (fonts, "\n".join(packages), body), "utf-8")
    assert PROGRAM is not None
    for _ in range(2):  # the second knows the widths of long tables
        words = [PROGRAM, "-interaction=nonstopmode", "-no-shell-escape", "paper.tex"]
        done = subprocess.run(words, cwd=folder, capture_output=True, timeout=300, check=False)
    said = done.stdout.decode(errors="replace").splitlines()
    assert (folder / "paper.pdf").is_file()
    return [line for line in said if line.startswith(("!", "Overfull", "LaTeX Warning"))]


@needs_latex
@pytest.mark.component
@pytest.mark.parametrize("fonts", ["T1", "OT1"])
def test_latex_takes_every_character(tmp_path: Path, fonts: str) -> None:
    tables = [
        to_latex(replace(table(rows=rows, text=text), name=f"table{rows}{number}"))
        for rows in (2, 30)
        for number, text in enumerate((NASTY, "50 % ± −2 × 3 – ≥ ≤ |a| [b] \"c\" 'd' ~e ^f ü é ß"))
    ]
    assert [line for line in complaints(tables, tmp_path, fonts=fonts) if line.startswith("!")] == []


@needs_latex
@pytest.mark.component
def test_latex_takes_all_tables_of_a_report(tmp_path: Path) -> None:
    report = write_report(StudyBuilder(tmp_path / "storage").write(), STUDY, tmp_path / "report")
    tables = [path.read_text("utf-8") for path in sorted((report.parent / "tables").glob("*.tex"))]
    assert len(tables) > 20
    assert complaints(tables, tmp_path, fonts="T1") == []


def test_columns_of_prose_wrap_and_digests_and_joined_names_break() -> None:
    digest = "0123456789abcdef" * 4
    text = to_latex(replace(table(text=digest), prose=True))
    (columns,) = re.findall(r"\\begin\{tabular\}\{(.*)\}$", text, re.MULTILINE)
    assert columns == r"@{}l" + r">{\raggedright\arraybackslash}p{0.34\linewidth}" * 2 + "@{}"
    assert r"\allowbreak{}".join(["0123456789abcdef"] * 4) in text
    assert latex_text("on a+b.test by +0.5") == r"on a+\allowbreak{}b.test by +0.5"


@pytest.mark.parametrize("rows", [1, 19, 20, 21, 40, 41, 42, 100])
def test_long_tables_go_on_in_others_with_every_row_once(rows: int) -> None:
    text = to_latex(table(rows=rows))
    tables = text.split(r"\begin{tabular}")[1:]
    labels = [[line for line in part.splitlines() if line.startswith("{}")] for part in tables]
    titles = [part.count(r"\itshape") for part in tables]
    assert max(len(lines) + title for lines, title in zip(labels, titles, strict=True)) <= 42
    expected = [f"{{}}baseline {number} & {{}}0.1234 & {{}}$-$1.50 \\\\" for number in range(rows)]
    assert [line for lines in labels for line in lines] == expected * 2
    assert len(tables) <= 1 + (2 * rows + 2) // 38
    prose = to_latex(replace(table(rows=rows), prose=True))
    assert (r"\begin{longtable}" in prose) == (len(tables) > 1)


def test_groups_without_a_name_have_no_line_of_their_own() -> None:
    first, *_ = table().groups
    unnamed = replace(table(), groups=(replace(first, labels=("", "")),))
    assert r"\itshape" in to_latex(table())
    assert r"\itshape" not in to_latex(unnamed)
