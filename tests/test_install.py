"""What a user installs: the wheel in a bare environment, beside files of the user's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from xferlab.cli.templates import templates

ROOT = Path(__file__).parents[1]
SHIPPED = (
    "pyproject.toml", "README.md", "LICENSE", "xferlab", "analysis", "examples", "jobs", "search_spaces",
)  # fmt: skip
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
MODULES = sorted(
    ".".join((ROOT / "xferlab" / path.relative_to(ROOT)).relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "analysis").rglob("*.py")
    if path.name != "__init__.py"
)

pytestmark = pytest.mark.component


def call(*command: str | Path, cwd: Path, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SHIPPED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    call(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment that holds the wheel and, without the checkout, this one's libraries."""
    folder = tmp_path_factory.mktemp("install")
    venv.create(folder / "bare", with_pip=False, symlinks=True)
    python = folder / "bare" / "bin" / "python"
    call(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    site = next((folder / "bare" / "lib").glob("python*")) / "site-packages"
    # A line of a .pth file adds a folder, but none of the folder's own .pth files: no editable install.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_one_name_only(bare: Path) -> None:
    site = next(bare.parents[1].glob("lib/python*/site-packages"))
    ours = {path.name for path in site.iterdir() if not path.name.endswith((".dist-info", ".pth"))}
    assert ours == {"xferlab"}
    published = {path.name for path in site.glob("xferlab/analysis/published/vidal2021/*")}
    assert published == {"cohorts.csv", "layout.yaml", "significance.csv", "tables.csv", "times.csv"}
    assert (site / "xferlab/analysis/templates/page.html").is_file()


@pytest.mark.parametrize("name", templates())
def test_a_template_is_in_the_wheel(bare: Path, tmp_path: Path, name: str) -> None:
    said = json.loads(call(bare, "-m", "xferlab", "init", "--template", name, "--json", cwd=tmp_path))
    for path, content in templates()[name].contents().items():
        assert (tmp_path / path).read_text() == content
    assert sorted(said["files"]) == sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )


def test_every_module_of_the_analysis_is_imported_from_the_wheel(bare: Path, tmp_path: Path) -> None:
    code = f"import importlib\nfor name in {MODULES}:\n    print(importlib.import_module(name).__file__)"
    paths = call(bare, "-c", code, cwd=tmp_path).splitlines()
    assert len(paths) == len(MODULES) > 20
    assert all(path.startswith(str(bare.parents[1])) for path in paths)


@pytest.mark.slow
def test_files_of_the_user_do_not_take_our_place(bare: Path, tmp_path: Path) -> None:
    for name in ("analysis", "study", "report", "data", "models", "training", "metrics", "plan", "trial"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('THE USER OWN SCRIPT RAN')\n")
    (tmp_path / "s.yaml").write_text(
        "study: s\nseed: 1\nrepetitions: 2\nstorage: ./out\n"
        "data: {d: {source: phantom_cxr, count: 24, size_px: 32}}\n"
        "model: {init_features: 4, image_size: 32}\n"
        "stages: {one: {data: d}}\ntraining: {max_epochs: 1, patience: 1, device: cpu}\n"
    )
    here = {"PYTHONPATH": str(tmp_path), "XFERLAB_CACHE": str(tmp_path / "cache")}
    xferlab = (bare, "-m", "xferlab")
    call(*xferlab, "run", "s.yaml", "--executor", "in-process", cwd=tmp_path, **here)
    assert "report.md" in call(*xferlab, "report", "s.yaml", cwd=tmp_path, **here)
    assert (tmp_path / "reports" / "s" / "index.html").is_file()
    code = "from xferlab import analysis; print(len(analysis.load('out', 's')))"
    assert int(call(bare, "-c", code, cwd=tmp_path, **here)) > 0


@pytest.mark.slow
def test_the_wheel_runs_with_the_libraries_that_pip_installs_for_it(wheel: Path, tmp_path: Path) -> None:
    """In an environment that holds nothing else. It needs an index of packages, and takes minutes."""
    venv.create(tmp_path / "clean", with_pip=False, symlinks=True)
    programs = tmp_path / "clean" / "bin"
    pip = (*PIP, "--python", programs / "python")
    try:
        call(*pip, "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    except AssertionError as error:
        if "NewConnectionError" in str(error) or "NameResolutionError" in str(error):
            pytest.skip("no index of packages can be reached")
        raise
    call(*pip, "check", cwd=tmp_path)
    xferlab, here = programs / "xferlab", {"XFERLAB_CACHE": str(tmp_path / "cache")}
    version = json.loads(call(xferlab, "version", "--json", cwd=tmp_path, **here))
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    names = ("torch", "numpy", "pyarrow", "ray", "scipy")
    assert {name: version[name].partition("+")[0] for name in names} == {name: pinned[name] for name in names}
    call(xferlab, "init", "--template", "smoke", cwd=tmp_path, **here)
    call(xferlab, "run", "jobs/smoke.yaml", "--executor", "in-process", cwd=tmp_path, **here)
    call(xferlab, "report", "jobs/smoke.yaml", "--out", "reports/smoke", cwd=tmp_path, **here)
    assert (tmp_path / "reports" / "smoke" / "index.html").is_file()
    status = json.loads(call(xferlab, "status", "jobs/smoke.yaml", "--json", cwd=tmp_path, **here))
    assert status["counts"] == {"complete": 9}
