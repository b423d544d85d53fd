"""README and docs/: links resolve, and what readers copy works: studies, pieces of YAML, commands."""

from __future__ import annotations

import math
import re
import shlex
import textwrap
import tomllib
import typing
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

from tests.analysis.conftest import StudyBuilder
from tests.plan.studies import HERE, SITES, text_digest
from xferlab.cli.main import COMPLETE, VERBS, build_parser, main
from xferlab.cohort import Case
from xferlab.data.decode import read_image, read_labels
from xferlab.data.pixels import stretch
from xferlab.data.sources.config import FileConfig
from xferlab.data.sources.manifest.table import read_table
from xferlab.metrics import overlap
from xferlab.plan.expand import expand
from xferlab.study.load import LoadedStudy, load
from xferlab.study.schema import Study
from xferlab.study.space import load_space
from xferlab.tasks import registry
from xferlab.tasks.config import Engine

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
MAX_README_BYTES = 6_000
ENVIRONMENT = {"XFERLAB_DATA": "/data"}
TASKS = ("segmentation", "classification", "translation")
CLASSES = ("normal", "covid19", "pathological")

BASE = {
    "study": "study: base\n",
    "data": """data:
  mri: {source: phantom_mri, count: 300}
  general: {source: phantom_cxr, count: 300}
  portable: {source: phantom_cxr, count: 300, seed: 1, hold_out: 0.5}
""",
    "stages": """stages:
  donor: {data: mri}
  general: {data: general, starts_from: donor, evaluate_on: [general.test, portable.hold_out]}
  portable: {data: portable, starts_from: general, evaluate_on: [portable.test, portable.hold_out]}
""",
    "arms": """arms:
  baseline: {}
  scratch: {stages.general.starts_from: null}
""",
}
"""A study that pieces of YAML are put into, by its fields."""


def blocks(page: Path, *languages: str) -> list[str]:
    """The code blocks of a page in some languages; the empty one has no name."""
    fences = re.findall(r"^```(\S*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in fences if language in languages]


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if "://" not in target]


def numbered(*languages: str) -> list[Any]:
    """All blocks in some languages, each with the page and its number on it as test id."""
    return [
        pytest.param(text, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, text in enumerate(blocks(page, *languages), start=1)
    ]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= MAX_README_BYTES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_relative_link_resolves(page: Path) -> None:
    broken = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_links_to_every_page_or_its_folder() -> None:
    linked = {link.partition("#")[0] for link in links(ROOT / "README.md")}
    pages = {page.relative_to(ROOT) for page in DOCS.rglob("*.md") if page.stem != "index"}
    assert [str(page) for page in pages if not {str(page), str(page.parent)} & linked] == []


def loaded(text: str, folder: Path, profile: str | None = None) -> LoadedStudy:
    """A study as a user would save it in `jobs/`, beside our search spaces."""
    path = folder / "jobs" / "study.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    spaces = folder / "search_spaces"
    if not spaces.exists():
        spaces.symlink_to(ROOT / "search_spaces")
    return load(path, profile=profile, environ=ENVIRONMENT)


def completed(text: str) -> str:
    """A whole study with some fields, or some arms."""
    piece = yaml.safe_load(text) or {}
    if not set(piece) <= {*Study.model_fields, "arms", "profiles"}:
        return completed("arms:\n  baseline: {}\n" + textwrap.indent(text, "  "))
    if "data" in piece:
        if "stages" not in piece:
            text += "stages:\n" + "".join(f"  {name}: {{data: {name}}}\n" for name in piece["data"])
        return f"study: base\n{text}"
    base = dict(BASE)
    if "stages" in piece:
        named = sorted({stage["data"] for stage in piece["stages"].values() if "data" in stage})
        sections = {name: {"source": "phantom_cxr", "count": 300} for name in named}
        base |= {"data": f"data: {sections}\n", "arms": ""}
    return "".join(field for name, field in base.items() if name not in piece) + text


def cases_of(name: str, config: Any) -> list[Case]:
    """Three hundred patients of a section, with the columns that pages name; its files are not read."""
    return [
        Case(
            digest=text_digest(f"{name} {number}"),
            name=f"{number}.png",
            patient=f"{name} {number}",
            pathology=CLASSES[number % 3],
            columns={"pathology": CLASSES[number % 3], "source": SITES[number // 3 % 3]},
        )
        for number in range(300)
    ]


@pytest.mark.parametrize("text", numbered("yaml"))
def test_every_piece_of_yaml_can_be_planned(text: str, tmp_path: Path) -> None:
    """A whole study, fields of one, arms, or a search space: by the keys at the top."""
    piece = yaml.safe_load(text)
    if any(stage.get("task", TASKS[0]) not in TASKS for stage in piece.get("stages", {}).values()):
        return  # tests/tasks/test_new_task.py and tests/plan/test_page_example.py add these tasks
    if all(key.startswith("training.") for key in piece):
        space = tmp_path / "space.yaml"
        space.write_text(text)
        base = loaded(completed(""), tmp_path).base
        assert len(load_space(space, base, stage="portable").parameters) == len(piece)
        return
    whole = text if "study" in piece else completed(text)
    for profile in [None, *piece.get("profiles", ())]:
        assert expand(loaded(whole, tmp_path, profile), cases_of, HERE).warnings == ()


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's lines on a stored study of the name that they load, `smoke`."""
    StudyBuilder(tmp_path / "xferlab-results", study="smoke", repetitions=1).write()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for text in blocks(DOCS / "reading-results.md", "python"):
        exec(text, names)
    assert {"name", "pathology", "image"} < set(names["outputs"].columns)
    assert {"DICE"} < set(names["rows"]["metric"])


@pytest.mark.parametrize("text", blocks(DOCS / "extending.md", "python"))
def test_pieces_of_python_run_where_they_belong(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(text, {**vars(typing), **vars(overlap), "math": math, "FileConfig": FileConfig})


def test_volumes_are_cut_into_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page says; stored from head to foot, the slices are those of `z` from below."""
    monkeypatch.chdir(tmp_path)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "Dataset001_Heart" / folder).mkdir(parents=True)
    affine = np.diag([-0.5, 0.75, -3.0, 1.0])
    values, marked = np.random.default_rng(0).integers(0, 999, (24, 20, 12), np.int16), np.zeros((24, 20, 12))
    marked[4:9, 5:11, 7:10] = 1
    for patient in ("heart_001", "heart_002"):
        for name, array in (
            (f"imagesTr/{patient}_0000", values),
            (f"labelsTr/{patient}", marked.astype(np.uint8)),
        ):
            file = tmp_path / "Dataset001_Heart" / f"{name}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, affine), file)
    (text,) = blocks(DOCS / "data.md", "python")
    exec(text, {})
    (command,) = (line for text in blocks(DOCS / "data.md", "") for line in text.splitlines() if "_z" in line)
    assert main(shlex.split(command)[1:]) == COMPLETE
    rows = read_table(tmp_path / "slices" / "metadata.csv").rows
    assert Counter(row.cells["patient_id"] for row in rows) == {"heart_001": 5, "heart_002": 5}
    assert [row.cells["image"][-10:-7] for row in rows[:5]] == ["000", "002", "003", "004", "008"]
    file = Path("heart_001_z002.nii.gz")  # the tenth from above
    picture = read_image("slices/images" / file)
    assert picture.spacing_mm == (0.75, 0.5)
    assert (picture.pixels == stretch(values[:, ::-1, 9].T)).all()
    assert (read_labels("slices/masks" / file).values == marked[:, ::-1, 9].T).all()


COMMANDS = [
    pytest.param(line, id=f"{page.stem}: {line.partition('#')[0].strip()}")
    for page in PAGES
    for text in blocks(page, "", "sh")
    for line in text.splitlines()
    if line.startswith("xferlab ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one_that_we_have(line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    assert program == "xferlab"
    assert build_parser().parse_args(words).verb == words[0]


def test_the_page_of_commands_names_every_verb() -> None:
    text = (DOCS / "commands.md").read_text()
    assert [verb for verb in VERBS if f"`xferlab {verb}" not in text] == []


def test_the_page_of_commands_names_every_optional_part() -> None:
    parts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = (DOCS / "commands.md").read_text()
    assert [part for part in parts if f"'.[{part}]'" not in text] == []


def test_the_citation_has_the_fields_of_its_format_and_the_numbers_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # those that it requires
    assert citation["cff-version"] == "1.2.0"
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert (citation["version"], citation["license"]) == (package["version"], package["license"])
    assert package["version"] in (ROOT / "CHANGELOG.md").read_text()


def rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of a table, given the first cell of its head."""
    _, _, rest = page.read_text().partition(f"| {heading} |")
    table = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


@pytest.mark.parametrize(
    ("task", "page"),
    [("segmentation", "study-file"), ("classification", "classification"), ("translation", "translation")],
)
def test_the_tables_of_a_task_name_every_field(task: str, page: str) -> None:
    text = (DOCS / f"{page}.md").read_text()
    named = set(re.findall(r"`(\w+)", " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))))
    declared = registry.task(task)
    training = set(declared.training.model_fields) - (
        set(Engine.model_fields) if page != "study-file" else set()
    )
    assert {*declared.model.model_fields, *training} - named == set()


def test_every_promise_names_tests_that_exist() -> None:
    named = [
        name for row in rows(DOCS / "promises.md", "promise") for name in re.findall(r"`([\w/.]+)`", row[-1])
    ]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []


def test_the_architecture_names_every_room() -> None:
    named = {
        name for row in rows(DOCS / "architecture.md", "room") for name in re.findall(r"`(\w+)`", row[0])
    }
    packages = {
        path.parent.name for path in (ROOT / "xferlab").glob("*/__init__.py")
    }  # `analysis` by its link
    assert packages <= named


def test_the_functions_that_the_architecture_names_exist() -> None:
    named = re.findall(r"`((?:\w+\.)+\w+)`", prose(DOCS / "architecture.md"))
    parts = [name.split(".") for name in named if not name.endswith((".py", ".json", ".parquet"))]
    in_modules = [part for part in parts if (ROOT / "xferlab" / part[0]).is_dir()]
    assert len(in_modules) > 15
    assert [part for part in in_modules if not is_there(part)] == []


def is_there(parts: list[str]) -> bool:
    """Whether a name in `room.module.Class.method` is a module of ours or is defined in it."""
    for length in range(len(parts), 0, -1):
        path = (ROOT / "xferlab").joinpath(*parts[:length]).with_suffix(".py")
        if path.is_file():
            text = path.read_text()
            return all(
                re.search(rf"^\s*(?:class|def) {name}\b|^{name}\b", text, re.MULTILINE)
                for name in parts[length:]
            )
    return (ROOT / "xferlab").joinpath(*parts).is_dir()
