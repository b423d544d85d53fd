"""Parts of pages that are written from the code, at each build.

A page says where with a comment, such as `<!-- generated: metrics -->`. Where the value `sample` of the
configuration names a folder that `sample.py` has built, pages show what it holds.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import xferlab
from xferlab.cli.main import build_parser
from xferlab.cohort import Selection
from xferlab.metrics.metric import PASSED, Metric
from xferlab.plan.spec import EvaluationSpec, PlannedTrial, TrialSpec
from xferlab.records import predictions, schema
from xferlab.records.layout import SearchFiles, StudyFiles, TrialFiles
from xferlab.records.logs import LogLine
from xferlab.study.editors import json_schema
from xferlab.tasks import registry

_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_NOTEBOOK, _REPORT = "tutorials/notebook", "tutorials/sample-report"
_PAGES = Path(__file__).parent
_PREFIX = re.compile(r"xferlab__(?:tasks__)?(\w+?)__(?:sections__)?(\w+)")


def setup(app: Sphinx) -> dict[str, bool]:
    """Lets Sphinx fill the pages as it reads them; they are read again at each build."""
    app.add_config_value("sample", "", "")
    app.connect("source-read", _fill)
    app.connect("env-get-outdated", _written)
    app.connect("build-finished", _copy_report)
    return {"parallel_read_safe": True}


def _written(app: Sphinx, env: BuildEnvironment, *_: object) -> list[str]:
    return [name for name in env.found_docs if name.startswith(("reference/", _NOTEBOOK, _REPORT))]


def _sample(app: Sphinx) -> Path | None:
    return Path(app.config.sample).resolve() if app.config.sample else None


def _fill(app: Sphinx, name: str, source: list[str]) -> None:
    sample = _sample(app)
    parts = {**PARTS, "notebook": partial(notebook, sample), "sample_report": partial(sample_report, sample)}
    source[0] = _MARK.sub(lambda found: "\n".join(parts[found[1]]()), source[0])


def _copy_report(app: Sphinx, error: Exception | None) -> None:
    if error is None and (sample := _sample(app)):
        shutil.copytree(sample / "report", app.outdir / "sample-report", dirs_exist_ok=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yields the lines of a Markdown table."""
    yield from (f"| {' | '.join(head)} |", f"|{'---|' * len(head)}")
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", r"\<")


def command_line() -> Iterator[str]:
    """Yields the usage and the options of each verb, as its parser has them."""
    (verbs,) = (
        action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    for name, parser in verbs.choices.items():
        yield from (f"## xferlab {name}", "", parser.description or "", "")
        yield from ("```text", _usage(parser), "```", "")
        options = [
            action
            for action in parser._actions
            if not isinstance(action, argparse._HelpAction) and action.help != argparse.SUPPRESS
        ]
        if options:
            yield from table(("option", "meaning"), map(_option, options))


def _usage(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)
    return parser.format_usage().removeprefix("usage: ").replace("\n       ", "\n").strip()


def _option(action: argparse.Action) -> tuple[str, str]:
    meaning = argparse.HelpFormatter("")._expand_help(action) if action.help else ""
    values = action.metavar or "|".join(map(str, action.choices or ())) or ""
    value = values if isinstance(values, str) else " ".join(values)
    words = [", ".join(action.option_strings), "" if action.nargs == 0 else value]
    parts = [meaning]
    if action.option_strings:
        parts.insert(0, "required" if action.required else "")
        parts.append(f"default: {action.default}" if action.default and "default" not in meaning else "")
    return f"`{' '.join(filter(None, words))}`", "; ".join(filter(None, parts))


def study_schema() -> Iterator[str]:
    """Yields a section for the study and for each of its parts, with a table of the fields."""
    whole = json_schema()
    for name, part in {"Study": whole, **whole["$defs"]}.items():
        title = _title(name)
        yield from (f"## {title}", "", " ".join(part.get("description", "").split()), "")
        required = part.get("required", ())
        rows = [
            (f"`{field}`", _type(value), _default(value, field in required), value.get("description", ""))
            for field, value in part.get("properties", {}).items()
        ]
        yield from table(("field", "value", "default", "meaning"), rows)


def _title(name: str) -> str:
    """Returns `Model (translation)` for the name that pydantic gives to one of several classes `Model`."""
    found = _PREFIX.fullmatch(name)
    return f"{found[2]} ({found[1]})" if found and found[1] != "study" else name.rpartition("__")[2]


def _link(reference: str) -> str:
    title = _title(reference.rpartition("/")[2])
    return f"[{title}](#{re.sub(r'[^a-z0-9 ]', '', title.lower()).replace(' ', '-')})"


def _type(value: Mapping[str, Any]) -> str:
    """Returns what a field takes, in words."""
    if "$ref" in value:
        return _link(value["$ref"])
    for key in ("anyOf", "oneOf"):
        if key in value:
            return " or ".join(dict.fromkeys(map(_type, value[key])))
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    kind = value.get("type")
    if kind == "array":
        return _list(value)
    if kind == "object":
        inner = [*value.get("patternProperties", {}).values(), value.get("additionalProperties")]
        return next((f"{_inner(each)} by name" for each in inner if isinstance(each, dict)), "fields by name")
    return f"{kind or 'any'}{_bounds(value)}"


def _list(value: Mapping[str, Any]) -> str:
    if "prefixItems" in value:
        return f"[{', '.join(map(_type, value['prefixItems']))}]"
    return f"list of {_inner(value['items'])}" if value.get("items") else "list"


def _inner(value: Mapping[str, Any]) -> str:
    text = _type(value)
    return f"({text})" if " or " in text or "," in text else text


def _bounds(value: Mapping[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {value[key]}" for key, sign in words.items() if key in value]
    return f" {', '.join(limits)}" if limits else ""


def _default(value: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    if "default" not in value:
        return ""
    return f"`{json.dumps(value['default'])}`"


def metrics() -> Iterator[str]:
    """Yields a table of the metrics that each task declares, each metric under the first task that has it."""
    known = {PASSED.name}
    for task in registry.names():
        new = [
            each
            for each in registry.task(task).metrics(("first", "second"))
            if not each.of and each.name not in known
        ]
        known |= {each.name for each in new}
        for title, marker in ((task, False), (f"Markers of {task}", True)):
            rows = [_metric(each) for each in new if each.marker == marker]
            if rows:
                yield from (f"## {title.capitalize()}", "")
                yield from table(("name", "heading", "unit", "better", "definition", "source"), rows)
    yield from ("## Stages with a gate", "")
    yield from table(("name", "heading", "unit", "better", "definition", "source"), [_metric(PASSED)])


def _metric(metric: Metric) -> tuple[str, ...]:
    definition = f"{metric.definition} {metric.undefined}"
    return f"`{metric.name}`", metric.label, metric.unit, metric.better or "", definition, metric.source


def python() -> Iterator[str]:
    """Yields a table of the public names of the package, each with the first line of its documentation."""
    names = [name for name in dir(xferlab) if not name.startswith("_")]
    texts = [str(inspect.getdoc(getattr(xferlab, name))).partition("\n")[0] for name in names]
    yield from table(
        ("name", "what it is"), [(f"`xferlab.{name}`", text) for name, text in zip(names, texts, strict=True)]
    )


def _attributes(kind: type) -> dict[str, str]:
    """Returns what the docstrings of a class and of its bases say of each attribute."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section.partition("\n\n")[0], re.MULTILINE)
        texts |= {name: _literal(" ".join(text.split())) for name, text in found}
    return texts


def _literal(text: str) -> str:
    return text.replace("*", r"\*")


def _fields(kind: Any, *, without: type | None = None) -> Callable[[], Iterator[str]]:
    """Returns what yields a table of the fields of a dataclass, without those of a base."""

    def lines() -> Iterator[str]:
        texts, known = _attributes(kind), {each.name for each in fields(without)} if without else ()
        names = [each for each in fields(kind) if each.name not in known]
        rows = [(f"`{each.name}`", f"`{each.type}`", texts[each.name]) for each in names]
        yield from table(("field", "type", "meaning"), rows)

    return lines


def _files(files: Any) -> Callable[[], Iterator[str]]:
    """Returns what yields a table of the files that an object of `records.layout` names."""

    def lines() -> Iterator[str]:
        texts = _attributes(type(files))
        paths = sorted((path, name) for name, path in vars(files).items() if name != "folder")
        rows = [(f"`{path.split('/', 2)[2]}`", texts[name]) for path, name in paths]
        yield from table(("file", "content"), rows)

    return lines


def _columns(name: str, module: ModuleType = schema) -> Callable[[], Iterator[str]]:
    """Returns what yields a table of the columns of a parquet file: types, and the comments behind them."""

    def lines() -> Iterator[str]:
        pattern = rf'^{name} = pa\.schema\((.*?)\)\n"""(?:`.*?`: )?(.)(.*?)"""'
        ((body, first, rest),) = re.findall(pattern, inspect.getsource(module), re.DOTALL | re.MULTILINE)
        yield from (f"{first.upper()}{rest}", "")
        comments = dict(re.findall(r'\("(\w+)",.*\),  # (.*)', body))
        rows = [
            (f"`{each.name}`", f"`{_plain(each.type)}`", _literal(comments.get(each.name, "")))
            for each in getattr(module, name)
        ]
        yield from table(("column", "type", "meaning"), rows)

    return lines


def _plain(kind: pa.DataType) -> str:
    """Returns the type of a column in words; a dictionary only says how its values are stored."""
    inner = kind.value_type if pa.types.is_dictionary(kind) or pa.types.is_list(kind) else kind
    return f"list of {inner}" if pa.types.is_list(kind) else str(inner)


def notebook(sample: Path | None) -> Iterator[str]:
    """Yields the cells of the notebook but for its title, which the page has: text, and blocks of Python.

    With a sample, each block is followed by what it returned there.
    """
    path = _PAGES / "tutorials" / "results.ipynb"
    if sample is None:
        yield from ("`make docs` runs the cells and shows here what they return.", "")
    num_code = 0
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] != "code":
            yield from (re.sub(r"\A# .*\n", "", text), "")
            continue
        yield from ("```python", text, "```", "")
        if sample:
            yield from _returned(sample / "cells", num_code)
        num_code += 1


def _returned(cells: Path, number: int) -> Iterator[str]:
    """Yields what a cell returned: a figure, a table or a text."""
    (path,) = cells.glob(f"{number}.*")
    if path.suffix == ".png":
        yield f"![What the cell above returns]({os.path.relpath(path, _PAGES / 'tutorials')})"
    else:
        text = path.read_text("utf-8")
        yield from (text,) if path.suffix == ".html" else ("```text", text, "```")
    yield ""


def sample_report(sample: Path | None) -> Iterator[str]:
    """Yields a link to the report of a sample, or how to build it."""
    if sample:
        yield '<a href="../sample-report/index.html">Open the report</a>'
    else:
        yield "`make docs` runs the study once and puts a link to its report here."


PARTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "command_line": command_line,
    "study_schema": study_schema,
    "metrics": metrics,
    "python": python,
    "study_files": _files(StudyFiles("STUDY")),
    "trial_files": _files(TrialFiles("ID")),
    "search_files": _files(SearchFiles("ID")),
    "trial_record": _fields(schema.TrialRecord),
    "evaluation_record": _fields(schema.EvaluationRecord),
    "features_record": _fields(schema.FeaturesRecord),
    "history": _fields(schema.EpochResult),
    "logs": _fields(LogLine),
    "planned_trial": _fields(PlannedTrial),
    "evaluation_spec": _fields(EvaluationSpec),
    "trial_spec": _fields(TrialSpec, without=PlannedTrial),
    "selections": _fields(Selection),
    "cases": _columns("CASES_SCHEMA"),
    "outputs": _columns("OUTPUTS_SCHEMA"),
    "pictures": _columns("PICTURES_SCHEMA"),
    "features": _columns("FEATURES_SCHEMA"),
    "predictions": _columns("PREDICTIONS_SCHEMA", predictions),
}
