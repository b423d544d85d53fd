"""The report as pages: Markdown beside its files, and one HTML file that holds everything."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.rendering import rendered

LONG = 130
"""Lines above which a table is a link in Markdown and folded in HTML."""


@dataclass(frozen=True)
class SavedPicture:
    """A figure on disk with its words; the files lie in the folder `figures` beside the page."""

    title: str
    caption: tuple[str, ...]
    png: Path
    svg: Path
    pdf: Path

    @property
    def data_uri(self) -> str:
        """The smaller file of both: drawings are sharp as SVG, overlays of images are smaller as PNG."""
        smaller = min((self.svg, self.png), key=lambda path: path.stat().st_size)
        kind = "image/png" if smaller == self.png else "image/svg+xml"
        return f"data:{kind};base64,{base64.b64encode(smaller.read_bytes()).decode()}"


Block = str | tuple[str, ...] | Table | SavedPicture
"""A paragraph, a list, a table or a figure."""


@dataclass(frozen=True)
class Section:
    """A heading with its blocks."""

    title: str
    blocks: tuple[Block, ...]


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
    return f"{rendered(template, page=page, longest=LONG).rstrip()}\n"
