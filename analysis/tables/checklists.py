"""Items of reporting guidelines, filled from the records where they can be; the others are named as open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.answers import OPEN, Facts, answer
from xferlab.analysis.tables.model import Layout, Record, Table

FOLDER = Path(__file__).parents[1] / "checklists"
_LAYOUT = Layout((("Section", "section"),), ("Item", "item"), (("Asked for", "asked"), ("Answer", "answer")))


def checklists_tables(contents: Contents, *, has_cases: bool = True) -> Iterator[Table]:
    """Yields a table for each guideline in the folder `checklists`; see `Facts`."""
    facts = Facts(contents, has_cases)
    for path in sorted(FOLDER.glob("*.yaml")):
        yield _table(path.stem, yaml.safe_load(path.read_text("utf-8")), facts)


def _table(name: str, checklist: Mapping[str, Any], facts: Facts) -> Table:
    records = list(_records(checklist, facts))
    filled = sum(not record["answer"].startswith(OPEN) for record in records)
    return _LAYOUT.fill(
        Table(
            name=name,
            title=f"{checklist['title']}, {filled} of {len(records)} items with something from the records",
            caption=(
                f"Items by their numbers in {checklist['source']}, in words of our own.",
                "Answers are what the records hold: a start, which the authors complete.",
            ),
            notes=(),
            data=pd.DataFrame(records),
            subject={"kind": "checklist"},
            prose=True,
        ),
        records,
    )


def _records(checklist: Mapping[str, Any], facts: Facts) -> Iterator[Record]:
    for section, items in checklist["sections"].items():
        for item, words in items.items():
            asked, *names = words
            answers = (answer(name, facts) for name in names)
            text = " ".join(filter(None, answers)) or OPEN
            yield {"section": section, "item": item, "asked": asked, "answer": text}
