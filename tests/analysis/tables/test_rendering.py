"""Text formats: aligned, balanced, every text from data escaped; long tables lie beside their page."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import pandas as pd
import pytest

from xferlab.analysis.pages import FOLDED, LONG, Page, Section, written
from xferlab.analysis.tables.model import (
    Group,
    Layout,
    Row,
    Table,
    file_name,
    interval,
    number,
    p_value,
    starred,
)
from xferlab.analysis.tables.rendering import (
    html_text,
    latex_text,
    markdown_text,
    to_latex,
    to_markdown,
    write_table,
)

NASTY = '<script>alert("x")</script> a|b *c* _d_ [e](f) & 50 % $g$ #h ~i^ {j} \\k `l`\nnew line'


def table(*, rows: int = 2, text: str = "baseline") -> Table:
    lines = tuple(Row(f"{text} {place}", ("0.1234", "−1.50")) for place in range(rows))
    return Table(
        name="table3",
        title=f"Table 3: {text}",
        caption=(f"Caption {text}.",),
        notes=(f"Note {text}.",),
        head=("Arm", "Repetitions"),
        stub="Statistic",
        columns=("DICE", "HD95 (px)"),
        groups=(Group((text, "3 of 4"), lines), Group(("frozen", "4 of 4"), lines)),
        data=pd.DataFrame({"arm": [text], "mean": [0.1 + 0.2]}),
    )


def test_markdown_columns_line_up() -> None:
    lines = [line for line in to_markdown(table()).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4
    assert len({len(line) for line in lines}) == 1
    bars = [[m.start() for m in re.finditer(r"(?<!\\)\|", line)] for line in lines]
    assert all(place == bars[0] for place in bars)


def test_markdown_numbers_are_to_the_right() -> None:
    lines = to_markdown(table()).splitlines()
    assert lines[1].endswith("---: | --------: |")
    assert lines[2].endswith("| 0.1234 |     −1.50 |")


def test_markdown_escapes_mark_up_and_leaves_the_rest() -> None:
    text = markdown_text(NASTY)
    assert "\n" not in text
    assert "<" not in text.replace("&lt;", "")
    assert r"a\|b \*c\* \_d\_ [e\](f)" in text
    assert (
        markdown_text("portable.hold_out [+0.1, −0.2] p <0.001") == "portable.hold_out [+0.1, −0.2] p <0.001"
    )


@pytest.mark.parametrize("rows", [2, 60])
def test_latex_is_balanced_and_has_one_cell_per_column(rows: int) -> None:
    text = to_latex(table(rows=rows, text=NASTY))
    bare = re.sub(r"\\[{}\\]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin{") == text.count(r"\end{")
    body = [line for line in text.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line]
    cells = [line for line in body if r"\caption" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in cells} == {2}
    assert text.count(r"\begin{table}") == (3 if rows == 60 else 1)
    assert text.count(", continued") == (2 if rows == 60 else 0)
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))


def test_latex_escapes_every_special_character() -> None:
    assert not re.search(r"\\(input|frac)", latex_text(r"$\frac{1}{0$ \input{x}"))
    text = latex_text("50 % & $x$ #1 a_b {c} ~d ^e \\f <g> ±1 −2")
    assert text == (
        r"50 \% \& \$x\$ \#1 a\_b \{c\} \textasciitilde{}d \textasciicircum{}e \textbackslash{}f "
        r"\textless{}g\textgreater{} $\pm$1 $-$2"
    )


def test_html_escapes_quotes_too() -> None:
    assert html_text("'\"<&>") == "&#x27;&quot;&lt;&amp;&gt;"


def test_the_csv_keeps_full_precision(tmp_path) -> None:
    write_table(table(text=NASTY), tmp_path)
    with (tmp_path / "table3.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert float(row["mean"]) == 0.1 + 0.2
    assert row["arm"] == NASTY
    assert {path.suffix for path in tmp_path.iterdir()} == {".csv", ".md", ".tex"}


def test_numbers() -> None:
    assert number(0.95544) == "0.9554"
    assert number(-1.234, "px") == "−1.23"
    assert number(0.01, signed=True) == "+0.0100"
    assert number(float("nan")) == number(None) == "–"
    assert number(2332.7758, "s") == "2,332.8"
    assert (p_value(0.0004), p_value(0.0126), p_value(float("nan"))) == ("<0.001", "0.013", "–")
    values = (0.0009, 0.001, 0.01, 0.049, 0.05, float("nan"))
    assert [starred(p) for p in values] == ["<0.001 ***", "0.001 **", "0.010 *", "0.049 *", "0.050", "–"]
    assert interval(-0.1, 0.2) == "[−0.1000, +0.2000]"
    assert interval(float("nan"), 0.2) == "–"


def test_what_would_round_to_a_bound_has_more_decimals() -> None:
    values = (0.0497, 0.04996, 0.0098, 0.00996, 0.00099, 0.0502, 0.0104)
    told = ("0.0497 *", "0.04996 *", "0.0098 **", "0.00996 **", "<0.001 ***", "0.050", "0.010 *")
    assert tuple(map(starred, values)) == told
    assert interval(0.00003, 0.02) == "[+0.00003, +0.0200]"
    assert interval(-0.03, -0.002, "mm") == "[−0.03, −0.002]"
    assert interval(-0.0100, 0.00996) == "[−0.0100, +0.0100]"
    assert interval(-0.01004, 0.00996, margin=0.01) == "[−0.01004, +0.00996]"
    assert interval(0.0, 1e-17, margin=0.01) == "[+0.0000, +0.0000]"


def test_file_names_from_data_stay_in_the_folder() -> None:
    assert file_name("../../etc/passwd") == "etc-passwd"
    assert file_name("a b/ç") == "a-b"
    assert file_name("//") == "unnamed"


LAYOUT = Layout((("Arm", "arm"),), ("Metric", "metric"), (("Value", "value"),))
EMPTY = Table("table1", "Table 1", ("What it is.",), ("A note.",), pd.DataFrame())


def page_of(num_lines: int, **subject: str) -> Page:
    records = [{"arm": f"a{n // 9}", "metric": f"row {n}", "value": n} for n in range(num_lines)]
    table = LAYOUT.fill(replace(EMPTY, subject=subject), records)
    return Page("Title", ("Complete.",), True, (Section("S", (table,)),))


@pytest.mark.parametrize("extra", [0, 1])
def test_a_long_table_is_a_link_in_markdown(extra: int) -> None:
    markdown = written(page_of(LONG + extra), "page.md")
    assert ("row 7" in markdown) == (extra == 0)
    assert (f"{LONG + 1} lines: [md](tables/table1.md), [csv]" in markdown) == (extra == 1)
    assert "What it is. A note." in markdown


@pytest.mark.parametrize(
    ("num_lines", "subject", "is_folded"),
    [
        (FOLDED, {}, False),
        (FOLDED + 1, {}, True),
        (2, {"metrics": "further"}, True),
        (2, {"metrics": "headline"}, False),
    ],
)
def test_long_tables_and_those_of_further_metrics_are_folded_in_html(
    num_lines: int, subject: dict[str, str], is_folded: bool
) -> None:
    html = written(page_of(num_lines, **subject), "page.html")
    assert html.count("<details class='folded'>") == html.count("</details>") == is_folded
    assert "row 1" in html
