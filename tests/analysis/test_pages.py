"""Pages: what is too long for one lies beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from xferlab.analysis.pages import LONG, Page, Section, html_page, markdown_page
from xferlab.analysis.tables.model import Group, Row, Table

SHORT = Table(
    name="table1",
    title="Table 1",
    caption=("What it is.",),
    notes=("A note.",),
    head=("Arm",),
    stub="Metric",
    columns=("Value",),
    groups=(Group(("a",), tuple(Row(f"row {n}", (str(n),)) for n in range(LONG))),),
    data=pd.DataFrame(),
)


@pytest.mark.parametrize("extra", [0, 1])
def test_a_long_table_is_a_link_in_markdown_and_folded_in_html(extra: int) -> None:
    more = Group(("b",), tuple(Row(f"more {n}", ("0",)) for n in range(extra)))
    page = Page(
        "Title", ("Complete.",), True, (Section("S", (replace(SHORT, groups=(*SHORT.groups, more)),)),)
    )
    markdown, html = markdown_page(page, Path("out")), html_page(page)
    assert ("row 7" in markdown) == (extra == 0)
    assert (f"{LONG + 1} lines: [md](tables/table1.md), [csv]" in markdown) == (extra == 1)
    assert "What it is. A note." in markdown
    assert html.count("<details>") == html.count("</details>") == extra
    assert "row 7" in html
