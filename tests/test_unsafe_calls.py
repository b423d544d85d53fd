"""Nothing that runs code from a file is called: read from the source, in the spirit of `test_layers`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for package in ("xferlab", "analysis", "benchmarks") for path in (ROOT / package).rglob("*.py")
)
MODULES = {"cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle", "runpy", "xmlrpc"}
"""May not be imported at all."""
ALLOWED_OF_PICKLE = {"UnpicklingError"}
CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pd.read_pickle", "pandas.read_pickle",
    "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "torch.export.load",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load",
    "yaml.full_load_all", "np.lib.format.read_array", "ET.parse", "xml.etree.ElementTree.parse",
}  # fmt: skip
UNSAFE_YAML = {"Loader", "UnsafeLoader", "FullLoader", "CLoader", "CUnsafeLoader", "CFullLoader"}

OWN_FILES = {"xferlab/exporting/torch_program.py": {"torch.export.load"}}
"""Calls of a source that read only what it has written itself, from memory."""


def findings(source: str) -> list[str]:
    """Returns line and reason of everything in a source that could run what a file says."""
    return [f"{line}: {what}" for node in ast.walk(ast.parse(source)) for line, what in _of(node)]


def _of(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        named = [alias.name for alias in node.names]
        yield from ((node.lineno, f"imports {name}") for name in named if name.split(".")[0] in MODULES)
    elif isinstance(node, ast.ImportFrom):
        package = (node.module or "").split(".")[0]
        if package in MODULES | {"pickle", "_pickle"} or (node.module or "") == "ray.cloudpickle":
            yield node.lineno, f"imports from {node.module}"
        hidden = {f"{node.module}.{alias.name}" for alias in node.names}
        calls = CALLS | {"torch.load", "numpy.load", "yaml.load"}
        yield from ((node.lineno, f"hides {name} behind a bare name") for name in hidden & calls)
    elif isinstance(node, ast.Attribute):
        name = ast.unparse(node)
        if name.startswith("pickle.") and node.attr not in ALLOWED_OF_PICKLE:
            yield node.lineno, name
        if name.startswith("yaml.") and node.attr in UNSAFE_YAML:
            yield node.lineno, name
    elif isinstance(node, ast.Call):
        yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[tuple[int, str]]:
    name = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in CALLS:
        yield node.lineno, name
    if name == "torch.load" and given.get("weights_only") != "True":
        yield node.lineno, "torch.load without weights_only=True"
    if given.get("allow_pickle", "False") != "False":
        yield node.lineno, f"{name} with allow_pickle"
    if given.get("shell", "False") != "False":
        yield node.lineno, f"{name} through a shell"
    if None in given and name in ("torch.load", "np.load"):
        yield node.lineno, f"{name} with options that nobody sees here"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_call_runs_what_a_file_says(path: Path) -> None:
    allowed = OWN_FILES.get(path.relative_to(ROOT).as_posix(), set())
    found = findings(path.read_text("utf-8"))
    assert [each for each in found if each.partition(": ")[2] not in allowed] == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(b'')",
        "import pickle\nclass A(pickle.Unpickler): pass",
        "from pickle import load",
        "import cloudpickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "torch.load(path, **options)",
        "from torch import load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, **options)",
        "pd.read_pickle(path)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.compose(text, Loader=yaml.FullLoader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert findings(source)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\ntry: pass\nexcept pickle.UnpicklingError: pass",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=False)",
        "model.eval()",
        "re.compile(text)",
        "yaml.compose(text, Loader=yaml.SafeLoader)",
    ],
)
def test_the_search_lets_pass_what_is_safe(source: str) -> None:
    assert findings(source) == []
