"""The report as pages: Markdown beside its files, and one HTML file that holds everything."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.rendering import html_text, markdown_text, to_html, to_markdown


@dataclass(frozen=True)
class SavedPicture:
    """A figure on disk with its words; paths lie within the report's folder."""

    title: str
    caption: tuple[str, ...]
    png: Path
    svg: Path


LONG = 130
"""Lines above which a table is a link in Markdown and folded in HTML."""

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


def num_lines(table: Table) -> int:
    """Returns how many lines a table prints."""
    return sum(len(group.rows) for group in table.groups)


def markdown_page(page: Page, folder: Path) -> str:
    """Returns the report as Markdown; figures are links relative to `folder`."""
    status = markdown_text(" ".join(page.status))
    lines = [f"# {markdown_text(page.title)}", "", status if page.complete else f"**{status}**", ""]
    for section in page.sections:
        lines += [f"## {markdown_text(section.title)}", ""]
        for block in section.blocks:
            lines += [_markdown_block(block, folder), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_block(block: Block, folder: Path) -> str:
    if isinstance(block, str):
        return markdown_text(block)
    if isinstance(block, tuple):
        return "\n".join(f"- {markdown_text(item)}" for item in block)
    if isinstance(block, Table):
        files = ", ".join(f"[{ending}](tables/{block.name}.{ending})" for ending in ("csv", "tex"))
        if (lines := num_lines(block)) > LONG:
            words = markdown_text(" ".join((*block.caption, *block.notes)))
            whole = f"{lines} lines: [md](tables/{block.name}.md), {files}"
            return f"### {markdown_text(block.title)}\n\n{words}\n\n{whole}"
        return f"### {markdown_text(block.title)}\n\n{to_markdown(block)}\nFiles: {files}"
    png, svg = (path.relative_to(folder).as_posix() for path in (block.png, block.svg))
    caption = markdown_text(" ".join(block.caption))
    title = markdown_text(block.title)
    return f"### {title}\n\n![{title}]({png})\n\n{caption}\n\nFiles: [png]({png}), [svg]({svg})"


def html_page(page: Page) -> str:
    """Returns the report as one HTML file without outside references; all text is escaped."""
    status = html_text(" ".join(page.status))
    contents = "".join(
        f"<li><a href='#s{place}'>{html_text(section.title)}</a></li>"
        for place, section in enumerate(page.sections)
    )
    body = "".join(
        f"<section id='s{place}'><h2>{html_text(section.title)}</h2>"
        f"{''.join(_html_block(block) for block in section.blocks)}</section>"
        for place, section in enumerate(page.sections)
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html_text(page.title)}</title><style>{_CSS}</style></head><body>"
        f"<header><h1>{html_text(page.title)}</h1>"
        f"<p class='status {'complete' if page.complete else 'incomplete'}'>{status}</p>"
        f"<nav aria-label='Contents'><ol>{contents}</ol></nav></header><main>{body}</main></body></html>\n"
    )


def _html_block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{html_text(block)}</p>"
    if isinstance(block, tuple):
        return f"<ul>{''.join(f'<li>{html_text(item)}</li>' for item in block)}</ul>"
    if isinstance(block, Table):
        if (lines := num_lines(block)) > LONG:
            name = f"{html_text(block.title)} ({lines} lines)"
            return f"<details><summary>{name}</summary>{to_html(block)}</details>"
        return to_html(block)
    # Drawings stay sharp as SVG; overlays are smaller as PNG.
    smaller = min((block.svg, block.png), key=lambda path: path.stat().st_size)
    kind = "image/png" if smaller.suffix == ".png" else "image/svg+xml"
    data = base64.b64encode(smaller.read_bytes()).decode()
    title, caption = html_text(block.title), html_text(" ".join(block.caption))
    return (
        f"<figure><h3>{title}</h3><img src='data:{kind};base64,{data}' alt='{title}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


_CSS = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; color: var(--ink);
  background: #fff; max-width: 68rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem }
h1 { font-size: 1.7rem; margin: .2em 0 }
h2 { font-size: 1.25rem; margin: 2.4em 0 .6em; border-bottom: 1px solid var(--line); padding-bottom: .25em }
h3 { font-size: 1rem; margin: 0 0 .5em }
.status { padding: .6em .8em; border-left: 4px solid #1a7f37; background: #f3f8f4 }
.status.incomplete { border-color: #bc4c00; background: #fff5ec; font-weight: 600 }
nav ol { columns: 2; padding-left: 1.2em; color: var(--soft) }
a { color: #0550ae }
figure { margin: 1.6em 0 2.2em }
figcaption { color: var(--soft); font-size: .85rem; max-width: 60rem; margin-top: .5em }
summary { cursor: pointer; font-weight: 600; margin: .8em 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .85rem; border: solid var(--ink); border-width: 2px 0 }
th, td { padding: .18em .65em; text-align: left; font-weight: 400; white-space: nowrap }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom;
  white-space: normal }
th.n, td.n { text-align: right; font-variant-numeric: tabular-nums }
.group { font-style: italic; padding-top: .55em; white-space: normal }
tbody + tbody .group { border-top: 1px solid var(--line) }
tbody th[scope=row] { padding-left: 1.2em }
img { max-width: 100%; height: auto; display: block }
@media print {
  body { max-width: none; font-size: 10pt } figure { break-inside: avoid }
  .scroll { overflow: visible } nav { display: none }
}
"""
