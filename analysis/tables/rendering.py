"""Tables as CSV, Markdown, LaTeX and HTML; text from data is escaped in each."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from xferlab.analysis.tables.model import ABSENT, Group, Table

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        '"': r"{\char34}",
        "|": r"\textbar{}",
        "[": "{[}",
        "]": "{]}",
        "±": r"$\pm$",
        "−": "$-$",
        "–": "--",
        "×": r"$\times$",
        "≥": r"$\geq$",
        "≤": r"$\leq$",
    }
)
_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes a cell for a formula by."""
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Unicode categories of characters that control, reorder, or show nothing."""
_LINES_OF_A_PAGE = 42
_NAMING = ("Section", "Stage", "Arm", "Pathology", "Source")


def write_table(table: Table, folder: Path) -> list[Path]:
    """Writes `name.csv`, `.md` and `.tex` into a folder and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{table.name}.{ending}" for ending in ("csv", "md", "tex")]
    write_csv(table.data, paths[0])
    paths[1].write_text(f"### {markdown_text(table.title)}\n\n{to_markdown(table)}", "utf-8")
    paths[2].write_text(to_latex(table), "utf-8")
    return paths


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a frame; text that a spreadsheet would run as a formula gets an apostrophe before it."""
    texts = frame.rename(columns=_no_formula)
    for position, kind in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            texts.isetitem(position, [_no_formula(value) for value in frame.iloc[:, position]])
    path.write_text(texts.to_csv(index=False, lineterminator="\n"), "utf-8")


def _no_formula(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = _with_codes(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def visible(text: object) -> str:
    """Returns text on one line; characters that control, reorder or show nothing stand as `<U+202E>`."""
    return _with_codes(" ".join(str(text).split()))


def _with_codes(text: str) -> str:
    if text.isprintable():
        return text
    unseen = {c for c in text if unicodedata.category(c) in _UNSEEN} - {"\n", "\t"}
    return "".join(f"<U+{ord(c):04X}>" if c in unseen else c for c in text)


# Only what would be mark-up is escaped, so that numbers and intervals stay readable as plain text.
_MARKUP = re.compile(
    r"&(?=[A-Za-z#])|<(?=[A-Za-z/!?])|[\\`*|~]|\](?=[(\[:])|^[#>+=-]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"
)
_ENTITIES = {"&": "&amp;", "<": "&lt;"}


def markdown_text(text: object) -> str:
    """Returns text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), visible(text))


_BEFORE_A_BREAK = re.compile(r"[0-9a-f]{16}(?=[0-9a-f]{16})|(?<=[a-z])\+(?=[a-z])")


def latex_text(text: object) -> str:
    """Returns text that LaTeX typesets as it is; digests and joined names may break without a hyphen."""
    return _BEFORE_A_BREAK.sub(r"\g<0>\\allowbreak{}", visible(text).translate(_LATEX))


def html_text(text: object) -> str:
    """Returns text that HTML shows as it is, on one line."""
    return html.escape(visible(text), quote=True)


def rendered(template: str, **values: object) -> str:
    """Returns a template filled with values, all of them escaped for the format that its name ends with."""
    escape = {"html": html_text, "md": markdown_text, "tex": latex_text}[template.rpartition(".")[2]]
    return _environment(escape).get_template(template).render(**values)


@cache
def _environment(escape: Callable[[object], str]) -> Environment:
    # Braces and percent signs mean something else in LaTeX.
    environment = Environment(
        loader=PackageLoader("xferlab.analysis"),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(escape(value)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<<",
        variable_end_string=">>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    environment.filters["group_title"] = group_title
    environment.filters["markdown"] = lambda table: Markup(to_markdown(table))
    return environment


def to_markdown(table: Table) -> str:
    """Returns a padded pipe table, then caption and notes; a group's labels stand on its first line."""
    num_left = len(table.head) + 1
    lines = [[*table.head, table.stub, *table.columns]]
    for group in table.groups:
        labels = [group.labels, *[("",) * len(table.head)] * (len(group.rows) - 1)]
        lines += [[*line, row.label, *row.cells] for line, row in zip(labels, group.rows, strict=True)]
    escaped = [[markdown_text(cell) for cell in line] for line in lines]
    # Sentences are not padded to the longest.
    widths = [3 if table.prose else max(3, *map(len, column)) for column in zip(*escaped, strict=True)]
    rule = ["-" * width for width in widths[:num_left]] + [
        "-" * (width - 1) + ":" for width in widths[num_left:]
    ]
    text = [_padded(line, widths, num_left) for line in [escaped[0], rule, *escaped[1:]]]
    sentences = [markdown_text(sentence) for sentence in (*table.caption, *table.notes)]
    return "\n".join([*text, "", " ".join(sentences), ""])


def _padded(line: list[str], widths: list[int], num_left: int) -> str:
    cells = [
        cell.ljust(width) if position < num_left else cell.rjust(width)
        for position, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return f"| {' | '.join(cells)} |"


def to_latex(table: Table) -> str:
    """Returns a booktabs table, none wider than the page; its first line says which packages it needs.

    Above 42 lines, it goes on in further ones; as a longtable if its cells are sentences.
    """
    return rendered(
        "table.tex",
        table=table,
        pieces=_pieces(table.groups),
        label=Markup(re.sub(r"[^A-Za-z0-9]+", "-", table.name)),
    )


def _pieces(groups: Sequence[Group]) -> list[list[Group]]:
    """Divides groups into pieces of at most 42 lines, with a line for the labels of each group."""
    pieces: list[list[Group]] = [[]]
    room = _LINES_OF_A_PAGE
    for group in groups:
        rows = group.rows
        while rows:
            if room < 3:
                pieces.append([])
                room = _LINES_OF_A_PAGE
            here, rows = rows[: room - 1], rows[room - 1 :]
            pieces[-1].append(replace(group, rows=here))
            room -= 1 + len(here)
    return pieces


def group_title(group: Group, table: Table) -> str:
    """Returns a group's labels as one line: names first, counts with what they count."""
    labels = dict(zip(table.head, group.labels, strict=True))
    names = [text for key, text in labels.items() if key in _NAMING and text]
    counts = [
        f"{key.lower()} {text}"
        for key, text in labels.items()
        if key not in _NAMING and text not in ("", ABSENT)
    ]
    return ": ".join(part for part in (", ".join(names), "; ".join(counts)) if part)
