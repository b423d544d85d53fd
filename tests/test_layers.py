"""The import table, read from the source: data moves one way, heavy libraries stay in their rooms."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("xferlab", "analysis") for path in (ROOT / package).rglob("*.py"))

REGISTRY = "xferlab.data.sources.registry"
SOURCE_CONFIGS = [
    f"xferlab.data.sources.{path.parent.name}.config"
    for path in (ROOT / "xferlab/data/sources").glob("*/config.py")
]

TASKS = sorted(path.parent.name for path in (ROOT / "xferlab" / "tasks").glob("*/config.py"))
REPORTS = [
    f"xferlab.tasks.{path.parent.name}.report" for path in (ROOT / "xferlab" / "tasks").glob("*/report.py")
]
FIGURES = {
    task: [path.stem for path in sorted((ROOT / "xferlab" / "tasks" / task).glob("figures_*.py"))]
    for task in TASKS
}
"""Parts of a task's report."""
TASK_CONFIGS = ("xferlab.tasks.registry", "xferlab.tasks.task", "xferlab.tasks.config", "xferlab.tasks.roles")

# Room -> what it may import of ours beside itself. A longer name wins over a shorter one.
TABLE: dict[str, tuple[str, ...]] = {
    "xferlab.errors": (),
    "xferlab.parallel": (),
    "xferlab.plugins": ("xferlab.errors",),
    "xferlab.section": ("xferlab.errors",),
    "xferlab.cohort": ("xferlab.errors",),
    "xferlab.metrics": ("xferlab.plugins", "xferlab.errors"),
    "xferlab.networks": ("xferlab.plugins", "xferlab.errors"),
    # Networks have the layer, and the loop reseeds it.
    "xferlab.training": (
        "xferlab.metrics",
        "xferlab.networks.dropout",
        "xferlab.records.schema",
        "xferlab.errors",
    ),
    "xferlab.phantoms": ("xferlab.cohort", "xferlab.section", "xferlab.parallel", "xferlab.errors"),
    "xferlab.data": (
        "xferlab.phantoms",
        "xferlab.cohort",
        "xferlab.section",
        "xferlab.parallel",
        "xferlab.errors",
    ),
    REGISTRY: ("xferlab.data.sources", "xferlab.plugins", "xferlab.errors"),
    **dict.fromkeys(SOURCE_CONFIGS, ("xferlab.data.sources.config", "xferlab.section", "xferlab.errors")),
    "xferlab.importing": (
        "xferlab.data",
        "xferlab.records.store",
        "xferlab.section",
        "xferlab.parallel",
        "xferlab.errors",
    ),
    "xferlab.leakage": (
        "xferlab.data",
        "xferlab.cohort",
        "xferlab.section",
        "xferlab.parallel",
        "xferlab.errors",
    ),
    "xferlab.tasks.roles": ("xferlab.section", "xferlab.errors"),
    "xferlab.tasks.config": ("xferlab.metrics.score", "xferlab.section", "xferlab.errors"),
    "xferlab.tasks.task": (
        "xferlab.tasks.config",
        "xferlab.tasks.roles",
        "xferlab.metrics.measuring",
        "xferlab.metrics.metric",
        "xferlab.metrics.sets",
        "xferlab.section",
        "xferlab.errors",
    ),
    "xferlab.tasks.supervised": ("xferlab.tasks.config", "xferlab.section"),
    # Of the kit and the learner, the registry knows the types only.
    "xferlab.tasks.registry": (
        "xferlab.tasks",
        "xferlab.training.learner",
        "xferlab.metrics.metric",
        "xferlab.analysis",
        "xferlab.plugins",
        "xferlab.errors",
    ),
    **{
        f"xferlab.tasks.{task}{part}": allowed
        for task in TASKS
        for part, allowed in {
            # `sections` and `checks` are parts of a large configuration.
            **dict.fromkeys(
                (".config", ".sections", ".checks"),
                (
                    "xferlab.tasks.config",
                    "xferlab.tasks.task",
                    "xferlab.tasks.roles",
                    "xferlab.tasks.supervised",
                    f"xferlab.tasks.{task}.sections",
                    f"xferlab.tasks.{task}.checks",
                    "xferlab.metrics",
                    "xferlab.plugins",
                    "xferlab.section",
                    "xferlab.errors",
                ),
            ),
            ".report": (
                f"xferlab.tasks.{task}.config",
                *(f"xferlab.tasks.{task}.{name}" for name in FIGURES[task]),
                "xferlab.tasks.pictures",
                "xferlab.analysis",
                "xferlab.metrics.classes",
            ),
            **{
                f".{name}": (f"xferlab.tasks.{task}.config", "xferlab.analysis", "xferlab.metrics.markers")
                for name in FIGURES[task]
            },
            "": (
                "xferlab.tasks.config",
                "xferlab.tasks.roles",
                "xferlab.tasks.pictures",
                "xferlab.networks",
                "xferlab.training",
                "xferlab.metrics",
                "xferlab.section",
                "xferlab.errors",
            ),
        }.items()
    },
    "xferlab.study": (
        REGISTRY,
        *TASK_CONFIGS,
        "xferlab.analysis.published",
        "xferlab.metrics.measuring",
        "xferlab.plugins",
        "xferlab.cohort",
        "xferlab.section",
        "xferlab.errors",
    ),
    "xferlab.plan": (
        "xferlab.study",
        REGISTRY,
        *TASK_CONFIGS,
        "xferlab.metrics.claims",
        "xferlab.cohort",
        "xferlab.errors",
    ),
    "xferlab.records": ("xferlab.plan", "xferlab.cohort", "xferlab.errors"),
    "xferlab.tracking": ("xferlab.records", "xferlab.plan", "xferlab.cohort", "xferlab.errors"),
    "xferlab.trial": (
        "xferlab.plan",
        "xferlab.records",
        "xferlab.training",
        *TASK_CONFIGS,
        "xferlab.networks",
        "xferlab.data",
        "xferlab.phantoms",
        "xferlab.metrics",
        "xferlab.plugins",
        "xferlab.cohort",
        "xferlab.tracking",
        "xferlab.parallel",
        "xferlab.errors",
        "xferlab.study.stage",
    ),
    "xferlab.exporting": (
        "xferlab.trial.predictor",
        "xferlab.trial.trained_on",
        "xferlab.trial.training",
        "xferlab.training",
        "xferlab.records",
        *TASK_CONFIGS,
        "xferlab.data.decode",
        "xferlab.data.sources.described",
        "xferlab.cohort",
        "xferlab.errors",
    ),
    "xferlab.schedule": (
        "xferlab.plan",
        "xferlab.records",
        "xferlab.trial",
        "xferlab.cohort",
        "xferlab.parallel",
        "xferlab.errors",
    ),
    "xferlab.search": (
        "xferlab.trial",
        "xferlab.training",
        "xferlab.schedule",
        "xferlab.records",
        "xferlab.plan",
        "xferlab.study",
        REGISTRY,
        *TASK_CONFIGS,
        "xferlab.cohort",
        "xferlab.errors",
    ),
    "xferlab.analysis": (
        "xferlab.records",
        "xferlab.plan.identity",
        "xferlab.plan.sharing",
        "xferlab.cohort",
        "xferlab.metrics.claims",
        "xferlab.metrics.metric",
        "xferlab.metrics.sets",
        "xferlab.metrics.curves",
        "xferlab.metrics.extremes",
        "xferlab.metrics.temperature",
        "xferlab.errors",
    ),
    "xferlab.analysis.published": ("xferlab.errors",),  # names of papers, without the kit
    "xferlab.analysis.sections": ("xferlab.analysis", "xferlab.tasks.registry"),
    "xferlab.analysis.report": (
        "xferlab.analysis",
        "xferlab.records.store",
        "xferlab.tasks.registry",
        "xferlab.errors",
    ),
    "xferlab.analysis.plots": ("xferlab.analysis", "xferlab.metrics.metric", "xferlab.errors"),
    "xferlab.cli": ("xferlab",),
    "xferlab.__main__": ("xferlab.cli",),
    "xferlab.__init__": (),
}
MIRROR = "xferlab.tracking"
MAY_MIRROR = ("xferlab.cli", "xferlab.trial", MIRROR)
BEFORE_A_VERB = (
    "cli/__init__.py",
    "cli/main.py",
    "cli/options.py",
    "cli/output.py",
    "__main__.py",
    "__init__.py",
    "errors.py",
)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@cache
def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def module_of(path: Path) -> str:
    """The import name; the folder `analysis` at the top is installed as `xferlab.analysis`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "xferlab" else ("xferlab", *parts))


def imports(module: str, source: str) -> Iterator[tuple[int, str]]:
    """Every imported module with its line: at the top, inside functions and under TYPE_CHECKING alike."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if is_module(inner) else base


def violations(module: str, source: str) -> list[str]:
    room = max((name for name in TABLE if within(module, name)), key=len, default="")
    found = []
    for line, target in imports(module, source):
        if not within(target, "xferlab"):
            continue
        own = within(target, room) or target == "xferlab"  # the package itself holds the version only
        if not room or not (own or any(within(target, allowed) for allowed in TABLE[room])):
            found.append(f"{module}:{line} imports {target}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_every_room_imports_only_what_the_table_allows(path: Path) -> None:
    assert violations(module_of(path), path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("xferlab.study.load", "from xferlab.plan import identity"),
        ("xferlab.study.load", "def f():\n    import xferlab.plan.identity"),
        ("xferlab.data.check", "from xferlab.study.load import load"),
        ("xferlab.data.check", "from ..study import load"),
        ("xferlab.training.loop", "from xferlab.records import codec"),
        ("xferlab.training.loop", "from xferlab.records.store import Store"),
        ("xferlab.schedule.graph", "from xferlab.tracking import live"),
        ("xferlab.records.reader", "from ..tracking import live"),
        ("xferlab.analysis.loading", "from xferlab.plan.plan import Plan"),
        ("xferlab.analysis.loading", "from xferlab.tracking.content import x"),
        ("xferlab.new_room.file", "from xferlab.errors import StudyError"),
        ("xferlab.errors", "from xferlab.cohort import Case"),
        ("xferlab.plan.expand", "if TYPE_CHECKING:\n    from xferlab.records.store import Store"),
    ],
)
def test_the_table_finds_a_forbidden_import(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


# --- names -------------------------------------------------------------------------------------------------

NAMES = re.compile(
    r"\b(segmentation|classification|lungs?|lesions?|heart|clavicles?|vidal2021|oh2020|arias\w*|oliveira2018"
    r"|buda2019)\b",
    re.IGNORECASE,
)
"""Tasks, structures and papers."""

MAY_NAME = {
    "xferlab.tasks": "a task is a folder here, and the registry knows the default one",
    "xferlab.phantoms": "they draw structures",
    "xferlab.data.sources": "a source knows what its masks mark",
    "xferlab.analysis.published": "published values",
    "xferlab.importing.published": "published folders are named after structures",
    "xferlab.importing.coco": "a field of COCO has the name of a task",
    "xferlab.metrics.markers": "markers of a chest X-ray are named after organs",
    "xferlab.metrics.metric": "a metric names the paper and the equation that it is taken from",
    "xferlab.networks.published": "published weights have names",
}


def named(source: str) -> list[str]:
    """The identifiers and strings of a module, without docstrings, that name a task, structure or paper."""
    tree = ast.parse(source)
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        str(getattr(node, field))
        for node in ast.walk(tree)
        for field in ("name", "id", "attr", "arg", "value")
        if isinstance(getattr(node, field, None), str) and id(node) not in documented
    ]
    return [text for text in texts if NAMES.search(text.replace("_", " "))]


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_the_engine_names_no_task_structure_or_paper(path: Path) -> None:
    if not any(within(module_of(path), room) for room in MAY_NAME):
        assert named(path.read_text()) == []


def test_ray_is_imported_in_five_files() -> None:
    names = ("nodes", "ray_session", "ray_token", "ray_tune", "ray_worker", "worker_failures")
    assert files_that_import("ray") == [f"xferlab/schedule/{name}.py" for name in names]


def test_wandb_is_imported_in_the_mirror_alone() -> None:
    assert all(path.startswith("xferlab/tracking/") for path in files_that_import("wandb"))


@pytest.mark.parametrize("room", ["study", "plan", "cohort", "errors.py", "cli/main.py", "cli/__init__.py"])
def test_rooms_that_name_no_torch(room: str) -> None:
    assert not [path for path in files_that_import("torch") if path.startswith(f"xferlab/{room}")]


def test_what_answers_before_a_verb_imports_only_errors() -> None:
    allowed = {module_of(ROOT / "xferlab" / name).removesuffix(".__init__") for name in BEFORE_A_VERB}
    for name in BEFORE_A_VERB:
        path = ROOT / "xferlab" / name
        ours = {
            target for _, target in imports(module_of(path), path.read_text()) if within(target, "xferlab")
        }
        assert ours <= allowed, name


def files_that_import(library: str) -> list[str]:
    return [
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if any(within(target, library) for _, target in imports(module_of(path), path.read_text()))
    ]


def loaded_by(code: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after `code`."""
    tail = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def import_all(package: str, *, without: str = "") -> str:
    names = [
        module_of(path).removesuffix(".__init__")
        for path in SOURCES
        if within(module_of(path), package) and not (without and within(module_of(path), without))
    ]
    return "import " + ", ".join(names)


@pytest.mark.component  # each starts an interpreter
@pytest.mark.parametrize(
    ("code", "absent"),
    [
        # Tasks declare their metrics beside the functions, which take NumPy arrays.
        (import_all("xferlab.study"), {"torch", "ray", "wandb", "scipy", "pandas", "pyarrow"}),
        (import_all("xferlab.cohort"), {"torch", "ray", "wandb", "numpy", "pydantic"}),
        (import_all("xferlab.plan"), {"torch", "ray", "wandb", "pandas"}),
        (import_all("xferlab.records"), {"torch", "ray", "wandb"}),
        (
            import_all("xferlab.analysis") + "".join(f", {report}" for report in REPORTS),
            {"torch", "ray", "wandb"},
        ),
        ("import xferlab.analysis", {"torch", "ray", "wandb", "matplotlib"}),
    ],
    ids=["study", "cohort", "plan", "records", "analysis", "notebook"],
)
def test_a_room_stays_light(code: str, absent: set[str]) -> None:
    assert all(importlib.util.find_spec(name) for name in absent), "the test would prove nothing"
    assert not loaded_by(code) & absent


@pytest.mark.component
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["rnu", "study.yaml"]])
def test_the_command_line_answers_before_it_loads_anything(arguments: list[str]) -> None:
    code = f"from xferlab.cli import main\ntry:\n    main({arguments})\nexcept SystemExit:\n    pass"
    heavy = {"numpy", "torch", "ray", "pandas", "pydantic", "pyarrow", "wandb", "yaml", "rich"}
    assert not loaded_by(code) & heavy
