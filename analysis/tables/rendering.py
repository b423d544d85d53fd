"""Tables as CSV, Markdown, LaTeX and HTML; text from data is escaped in each."""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata
from pathlib import Path

import pandas as pd

from xferlab.analysis.tables.model import Row, Table

_LATEX = {
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
    '"': r"\textquotedbl{}",
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
_FORMULA = ("=", "+", "-", "@")
"""What a spreadsheet takes a cell for a formula by."""
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Unicode categories of characters that control, reorder, or show nothing."""
_LONG_TABLE_ROWS = 42
_NAMING = ("Section", "Stage", "Arm", "Pathology", "Source")


def write_table(table: Table, folder: Path) -> None:
    """Writes `name.csv`, `.md` and `.tex` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(table.data, folder / f"{table.name}.csv")
    (folder / f"{table.name}.md").write_text(
        f"### {markdown_text(table.title)}\n\n{to_markdown(table)}", "utf-8"
    )
    (folder / f"{table.name}.tex").write_text(to_latex(table), "utf-8")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Writes a frame; text that a spreadsheet would run as a formula gets an apostrophe before it."""
    texts = frame.rename(columns=_no_formula)
    for place, kind in enumerate(frame.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            texts.isetitem(place, [_no_formula(value) for value in frame.iloc[:, place]])
    path.write_text(texts.to_csv(index=False, lineterminator="\n"), "utf-8")


def _no_formula(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = _shown(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def visible(text: object) -> str:
    """Returns text on one line; characters that control, reorder or show nothing stand as `<U+202E>`."""
    return _shown(" ".join(str(text).split()))


def _shown(text: str) -> str:
    if text.isprintable():
        return text
    unseen = {c for c in text if unicodedata.category(c) in _UNSEEN} - {"\n", "\t"}
    return "".join(f"<U+{ord(c):04X}>" if c in unseen else c for c in text)


def markdown_text(text: str) -> str:
    """Returns text that Markdown shows as it is, on one line."""
    flat = visible(text)
    # Only what would be mark-up is escaped, so that numbers and intervals stay readable as plain text.
    flat = re.sub(r"&(?=[A-Za-z#])", "&amp;", flat)
    flat = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", flat)
    flat = re.sub(r"([\\`*|~])", r"\\\1", flat)
    flat = re.sub(r"\](?=[(\[:])", r"\\]", flat)
    flat = re.sub(r"^([#>+=-])", r"\\\1", flat)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", flat)


def latex_text(text: str) -> str:
    """Returns text that LaTeX typesets as it is, on one line."""
    return "".join(_LATEX.get(character, character) for character in visible(text))


def html_text(text: str) -> str:
    """Returns text that HTML shows as it is, on one line."""
    return html.escape(visible(text), quote=True)


def to_markdown(table: Table) -> str:
    """Returns a padded pipe table, then caption and notes; a group's labels stand on its first line."""
    heading = [*table.head, table.stub, *table.columns]
    lines = [
        [*(group.labels if place == 0 else [""] * len(group.labels)), row.label, *row.cells]
        for group in table.groups
        for place, row in enumerate(group.rows)
    ]
    escaped = [[markdown_text(cell) for cell in line] for line in [heading, *lines]]
    widths = [max(3, *(len(line[column]) for line in escaped)) for column in range(len(heading))]
    num_left = len(table.head) + 1
    text = [_padded(line, widths, num_left) for line in escaped]
    rule = [
        "-" * width if place < num_left else "-" * (width - 1) + ":" for place, width in enumerate(widths)
    ]
    text.insert(1, _padded(rule, widths, num_left))
    sentences = [markdown_text(sentence) for sentence in (*table.caption, *table.notes)]
    return "\n".join([*text, "", " ".join(sentences), ""])


def _padded(line: list[str], widths: list[int], num_left: int) -> str:
    cells = [
        cell.ljust(width) if place < num_left else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return f"| {' | '.join(cells)} |"


def to_latex(table: Table) -> str:
    """Returns a booktabs table (longtable above 42 lines); needs `booktabs` and `longtable`."""
    num_lines = sum(len(group.rows) + 1 for group in table.groups)
    spec = f"@{{}}l{'r' * len(table.columns)}@{{}}"
    heading = " & ".join([latex_text(table.stub), *map(_latex_heading, table.columns)]) + r" \\"
    caption = rf"\caption{{{latex_text(' '.join((_after_number(table.title) + '.', *table.caption)))}}}"
    label = rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', table.name)}}}"
    notes = rf"\par\smallskip\raggedright {latex_text(' '.join(table.notes))}\par" if table.notes else ""
    body = "\n\\midrule\n".join(_latex_group(table, group.labels, group.rows) for group in table.groups)
    opening = "% Needs \\usepackage{booktabs}, and for long tables \\usepackage{longtable}.\n"
    if num_lines > _LONG_TABLE_ROWS:
        note = f"\n{{{notes}}}\n" if notes else "\n"
        return (
            f"{opening}\\begingroup\\footnotesize\\setlength{{\\tabcolsep}}{{4pt}}\n"
            f"\\begin{{longtable}}{{{spec}}}\n{caption}{label}\\\\\n\\toprule\n"
            f"{heading}\n\\midrule\n\\endfirsthead\n\\toprule\n{heading}\n\\midrule\n\\endhead\n"
            f"\\bottomrule\n\\endfoot\n{body}\n\\end{{longtable}}{note}\\endgroup\n"
        )
    return (
        f"{opening}\\begin{{table}}[tbp]\n\\centering\\footnotesize\\setlength{{\\tabcolsep}}{{4pt}}\n"
        f"{caption}\n{label}\n\\smallskip\n"
        f"\\begin{{tabular}}{{{spec}}}\n\\toprule\n{heading}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"
        f"{notes}\n\\end{{table}}\n"
    )


def _latex_heading(text: str) -> str:
    """Returns a heading on several lines where it is long, so that the table stays narrow."""
    if len(text) <= 10:
        return latex_text(text)
    lines = r" \\ ".join(latex_text(word) for word in textwrap.wrap(text, 10))
    return rf"\shortstack[r]{{{lines}}}"


def _latex_group(table: Table, labels: tuple[str, ...], rows: tuple[Row, ...]) -> str:
    title = latex_text(group_title(table, labels))
    lines = [rf"\multicolumn{{{len(table.columns) + 1}}}{{@{{}}l}}{{\itshape {title}}} \\"]
    # Empty braces keep a cell that starts with a bracket from being read as an option of \\.
    lines += [
        " & ".join(f"{{}}{latex_text(text)}" for text in (row.label, *row.cells)) + r" \\" for row in rows
    ]
    return "\n".join(lines)


def group_title(table: Table, labels: tuple[str, ...]) -> str:
    """Returns a group's labels as one line: names first, counts with what they count."""
    named = dict(zip(table.head, labels, strict=True))
    names = [named[key] for key in table.head if key in _NAMING and named[key]]
    counted = [
        f"{key.lower()} {text}" for key, text in named.items() if key not in _NAMING and text not in ("", "–")
    ]
    return ": ".join(part for part in (", ".join(names), "; ".join(counted)) if part)


def to_html(table: Table) -> str:
    """Returns a `<figure>` with the table, its caption and notes."""
    heading = f"<th scope='col'>{html_text(table.stub)}</th>" + "".join(
        f"<th scope='col' class='n'>{html_text(column)}</th>" for column in table.columns
    )
    body = []
    for group in table.groups:
        title = html_text(group_title(table, group.labels))
        span = f"scope='rowgroup' class='group' colspan='{len(table.columns) + 1}'"
        body.append(f"<tbody><tr><th {span}>{title}</th></tr>")
        for row in group.rows:
            cells = "".join(f"<td class='n'>{html_text(cell)}</td>" for cell in row.cells)
            body.append(f"<tr><th scope='row'>{html_text(row.label)}</th>{cells}</tr>")
        body.append("</tbody>")
    sentences = html_text(" ".join((*table.caption, *table.notes)))
    return (
        f"<figure class='table' id='{html_text(table.name)}'><h3>{html_text(table.title)}</h3>"
        f"<div class='scroll'><table><thead><tr>{heading}</tr></thead>{''.join(body)}</table></div>"
        f"<figcaption>{sentences}</figcaption></figure>"
    )


def _after_number(title: str) -> str:
    return title.partition(": ")[2] or title
