"""Pages: what is too long for one lies beside it."""

from __future__ import annotations

import pandas as pd
import pytest

from xferlab.analysis.pages import LONG, Page, Section, written
from xferlab.analysis.tables.model import Layout, Table

LAYOUT = Layout((("Arm", "arm"),), ("Metric", "metric"), (("Value", "value"),))
EMPTY = Table("table1", "Table 1", ("What it is.",), ("A note.",), pd.DataFrame())


@pytest.mark.parametrize("extra", [0, 1])
def test_a_long_table_is_a_link_in_markdown_and_folded_in_html(extra: int) -> None:
    records = [{"arm": f"a{n // 9}", "metric": f"row {n}", "value": n} for n in range(LONG + extra)]
    page = Page("Title", ("Complete.",), True, (Section("S", (LAYOUT.fill(EMPTY, records),)),))
    markdown, html = written(page, "page.md"), written(page, "page.html")
    assert ("row 7" in markdown) == (extra == 0)
    assert (f"{LONG + 1} lines: [md](tables/table1.md), [csv]" in markdown) == (extra == 1)
    assert "What it is. A note." in markdown
    assert html.count("<details>") == html.count("</details>") == extra
    assert "row 7" in html
