"""The report as pages: Markdown beside its files, and one HTML file that holds everything."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from xferlab.analysis.contents import FURTHER
from xferlab.analysis.gallery import Gallery
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.rendering import rendered

LONG = 130
"""Lines above which a table is a link in Markdown."""
FOLDED = 40
"""Lines above which a table is folded in HTML."""
_SCRIPT = Path(__file__).with_name("templates") / "page.js"


@dataclass(frozen=True)
class SavedPicture:
    """A figure on disk with its words; the files lie in the folder `figures` beside the page.

    `alt` says what is drawn, for those who do not see it; `width_px` is its width on a narrow screen, which
    scrolls it.
    """

    title: str
    caption: tuple[str, ...]
    png: Path
    svg: Path
    pdf: Path
    alt: str = ""
    width_px: int = 0

    @property
    def data_uri(self) -> str:
        """The smaller file of both: drawings are sharp as SVG, overlays of images are smaller as PNG."""
        smaller = min((self.svg, self.png), key=lambda path: path.stat().st_size)
        kind = "image/png" if smaller == self.png else "image/svg+xml"
        return f"data:{kind};base64,{base64.b64encode(smaller.read_bytes()).decode()}"


class Point(NamedTuple):
    """An item of a list that begins with some words in bold.

    Attributes:
        head: These.
        text: The rest.
    """

    head: str
    text: str


Block = str | tuple[str | Point, ...] | Table | SavedPicture | Gallery
"""A paragraph, a list, a table, a figure or cases with their pictures."""


@dataclass(frozen=True)
class Section:
    """A heading with its blocks.

    Attributes:
        title: Heading.
        blocks: In order.
        brief: Whether what stands below tables and figures is folded on the page.
    """

    title: str
    blocks: tuple[Block, ...]
    brief: bool = False


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: Heading.
        status: Sentences on completeness, above all else.
        complete: Whether all planned trials are in it.
        sections: The rest.
    """

    title: str
    status: tuple[str, ...]
    complete: bool
    sections: tuple[Section, ...]


def written(page: Page, template: str) -> str:
    """Returns the report as `page.md`, with links to its files, or `page.html`, which needs no other."""
    script = _SCRIPT.read_text("utf-8")
    # A browser runs this script and no other, whatever text from data is on the page.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {"page": page, "longest": LONG, "folded": folded, "script": Markup(script), "digest": digest}
    return f"{rendered(template, **values).rstrip()}\n"


def folded(table: Table) -> bool:
    """Returns whether a table is folded in HTML: a long one, one of further metrics, or a checklist."""
    is_aside = table.subject.get("metrics") == FURTHER or table.subject.get("kind") == "checklist"
    return table.num_lines > FOLDED or is_aside
