"""A package that is really installed adds a source, a network, a metric and a task; studies name them."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.conftest import Command
from tests.studies import environment
from tests.trial.conftest import Bench
from xferlab import plugins
from xferlab.analysis import load_study
from xferlab.cli.options import StudyOptions
from xferlab.cli.session import Session
from xferlab.data.sources.registry import open_source, read_section
from xferlab.errors import PluginError, XferlabError
from xferlab.metrics import measuring
from xferlab.networks.build import build
from xferlab.plan.selection import without_patients
from xferlab.records import codec, layout
from xferlab.schedule.study import publish
from xferlab.study.load import load
from xferlab.tasks import registry
from xferlab.trial.examples import fit_examples
from xferlab.trial.reprediction import Member, measured_together

ROOT = Path(__file__).parents[2]
PACKAGE = Path(__file__).parent / "package"
PAGE = (ROOT / "docs" / "tasks.md").read_text()
TASK_FILES = dict(
    zip(("config", "learner"), re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), strict=True)
)

STUDY: dict[str, Any] = {
    "study": "added",
    "repetitions": 1,
    "storage": "./out",
    "data": {"stripes": {"source": "stripes", "count": 15}},
    "model": {"name": "tiny", "image_size": 32, "in_channels": 1},
    "stages": {
        "first": {"data": "stripes", "evaluate_on": ["stripes.test"]},
        "second": {
            "task": "coverage", "data": "stripes", "model": {"image_size": 32, "width": 2},
            "training": {"max_epochs": 1}, "evaluate_on": ["stripes.test"],
        },
    },
    "training": {"batch_size": 4, "max_epochs": 1, "device": "cpu", "precision": "float32"},
    "metrics": ["EXTENT"],
}  # fmt: skip

DRAWN: dict[str, Any] = {"source": "phantom_cxr", "count": 15, "size_px": 32}
ALONE: dict[str, Any] = {
    "sources": {"model": {"image_size": 32}, "metrics": []},
    "networks": {"data": {"stripes": DRAWN}, "metrics": []},
    "metrics": {"data": {"stripes": DRAWN}, "model": {"image_size": 32}},
    "tasks": {
        "data": {"stripes": DRAWN}, "model": {}, "metrics": [],
        "training": {"device": "cpu", "precision": "float32"},
    },
}  # fmt: skip
"""Changes of the study after which it uses one part of the package alone."""

pytestmark = pytest.mark.component


def write_package(folder: Path, **edits: str) -> Path:
    """Writes the package's source, with the task of docs/tasks.md; texts of its pyproject.toml replaced."""
    source = shutil.copytree(PACKAGE, folder)
    (source / "added_parts" / "coverage").mkdir()
    for name, text in TASK_FILES.items():
        moved = text.replace("xferlab.tasks.coverage.", "added_parts.coverage.")
        (source / "added_parts" / "coverage" / f"{name}.py").write_text(moved)
    project = source / "pyproject.toml"
    for old, new in edits.items():
        project.write_text(project.read_text().replace(old.replace("__", "-"), new))
    return source


def install(source: Path, target: Path) -> Path:
    """Installs a package's source into a folder."""
    words = ["install", "--no-deps", "--no-index", "--no-build-isolation", "--target", target, source]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into."""
    folder = tmp_path_factory.mktemp("site")
    return install(write_package(folder / "source"), folder / "installed")


def declare(folder: Path, package: str, group: str, *points: str) -> Path:
    """Writes what an installer would of a package that declares these entry points."""
    info = folder / f"{package.replace('-', '_')}-3.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[xferlab.{group}]", *points, ""]))
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes this process find the packages of some folders, and no others."""
    caches = (plugins._declared, plugins._imported, registry.names, registry.task, measuring.added)

    def forget() -> None:
        for cache in caches:
            cache.cache_clear()
        for name in [name for name in sys.modules if name.startswith("added_parts")]:
            del sys.modules[name]

    def find(*folders: Path) -> None:
        forget()
        monkeypatch.setattr(sys, "path", [*map(str, folders), *paths])
        importlib.invalidate_caches()

    paths = list(sys.path)
    yield find
    monkeypatch.undo()
    forget()


def write(folder: Path, **changes: Any) -> str:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False))
    return str(path)


def published(folder: Path, group: str, **changes: Any) -> Bench:
    """Returns the planned study of one stage that uses one part of the package."""
    stage = "second" if group == "tasks" else "first"
    options = StudyOptions(study=write(folder, **ALONE[group], stages={stage: STUDY["stages"][stage]}))
    session = Session.open(options)
    bench = Bench(session, session.plan())
    publish(bench.plan, bench.store)
    return bench


def identities(storage: Path) -> dict[str, Any]:
    specs = [json.loads(path.read_text()) for path in storage.glob("trials/*/spec.json")]
    return {spec["stage"]: spec["identity"] for spec in specs}


def assert_all_was_used(folder: Path) -> None:
    cases = load_study(folder / "out", "added").cases
    metrics = {stage: set(rows["metric"]) for stage, rows in cases.groupby("stage")}
    assert metrics["second"] == {"ERROR"}
    assert {"DICE", "EXTENT"} <= metrics["first"]
    assert pd.Series(cases.loc[cases["metric"] == "EXTENT", "value"]).between(0, 1).all()
    of = identities(folder / "out")
    assert of["first"]["model"]["package"] == "added-parts 1.2"
    assert of["second"]["package"] == "added-parts 1.2"


def test_a_study_uses_what_a_package_adds(
    site: Path, tmp_path: Path, cache: Path, installed: Callable[..., None], command: Command
) -> None:
    installed(site)
    study = write(tmp_path)
    command("run", study, "--executor", "in-process", code=0)
    assert_all_was_used(tmp_path)
    command("report", study, "--out", tmp_path / "report", code=0)
    assert "Extent" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("--executor", "in-process"), ("--workers", "1")], ids=lambda each: each[-1]
)
def test_processes_that_start_know_the_package(site: Path, tmp_path: Path, options: tuple[str, str]) -> None:
    """With Ray, the workers import the code, and find it by the same registry."""
    path = os.pathsep.join(map(str, (site, ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "xferlab", "run", write(tmp_path), *options], cwd=tmp_path,
        env={**environment(tmp_path), "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_all_was_used(tmp_path)


def test_another_version_makes_other_trials_and_is_refused_for_planned_ones(
    site: Path, tmp_path: Path, cache: Path, installed: Callable[..., None], command: Command
) -> None:
    newer = install(write_package(tmp_path / "source", **{'"1.2"': '"1.3"'}), tmp_path / "newer")
    study, ids = write(tmp_path, stages={"first": STUDY["stages"]["first"]}), []
    for folder in (site, site, newer):
        installed(folder)
        plan = json.loads(command("plan", study, "--json", code=0).out)
        ids.append(
            [(trial["trial_id"], trial["evaluations"][0]["evaluation_id"]) for trial in plan["trials"]]
        )
    assert ids[0] == ids[1]
    assert all(one != other for one, other in zip(*ids[0], *ids[2], strict=True))
    installed(site)
    command("run", study, "--executor", "in-process", code=0)
    installed(newer)
    weights = next((tmp_path / "out" / "trials").glob("*/checkpoint/best.safetensors"))
    Image.fromarray(np.eye(32, dtype=np.uint8)).save(tmp_path / "image.png")
    said = command("predict", weights, tmp_path / "image.png", "--out", tmp_path / "p", code=2).err
    assert "was planned with added-parts 1.2, and this machine has added-parts 1.3; install the same" in said


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with another version of the package, whose stripes are brighter."""
    folder = tmp_path_factory.mktemp("newer")
    source = write_package(folder / "source", **{'"1.2"': '"1.3"'})
    reading = source / "added_parts" / "reading.py"
    reading.write_text(reading.read_text().replace("200, 60", "220, 60"))
    return install(source, folder / "installed")


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_a_worker_with_another_version_or_none_trains_nothing_and_is_not_tried_again(
    group: str, site: Path, newer: Path, tmp_path: Path, cache: Path, installed: Callable[..., None]
) -> None:
    installed(site)
    bench = published(tmp_path, group)
    (name,) = bench.plan.names
    for folders, has in (((newer,), "added-parts 1.3"), ((), "no package with it")):
        installed(*folders)
        message = f"of xferlab.{group} was planned with added-parts 1.2, and this machine has {has}; install"
        with pytest.raises(PluginError, match=message):
            bench.run(name)
        failure = codec.read_json(bench.store, layout.TrialFiles(bench[name].trial_id).failure)
        assert failure is not None
        assert (failure["type"], failure["kind"], failure["epoch"]) == ("PluginError", "machine", 0)
    installed(site)
    assert bench.epochs(name) == [1]


def test_networks_are_not_measured_together_by_another_version_of_a_metric(
    site: Path, newer: Path, tmp_path: Path, cache: Path, installed: Callable[..., None]
) -> None:
    installed(site)
    bench = published(tmp_path, "metrics")
    (name,) = bench.plan.names
    bench.run(name)
    cases = bench.measured(name)[0]["case"]
    member = Member(bench[name], bench[name].evaluations[0], set(cases))
    assert all("EXTENT" in values for values in measured_together([member], bench.context).values())
    installed(newer)
    with pytest.raises(PluginError, match=r"'EXTENT' of xferlab\.metrics was planned with added-parts 1\.2"):
        measured_together([member], bench.context)


def test_another_version_of_a_source_makes_other_trials_and_decodes_images_again(
    site: Path, newer: Path, tmp_path: Path, cache: Path, installed: Callable[..., None]
) -> None:
    seen = {}
    for folder in (site, newer, site):
        installed(folder)
        bench = published(tmp_path, "sources")
        (spec,) = bench.plan.trials
        train, _ = fit_examples(spec, bench.context)
        seen[spec.trial_id] = spec.data["stripes"]["package"], int(train.images.max())
    assert list(seen.values()) == [("added-parts 1.2", 200), ("added-parts 1.3", 220)]


def test_the_cases_of_xferlabs_own_sources_do_not_depend_on_packages(
    site: Path, tmp_path: Path, installed: Callable[..., None]
) -> None:
    """Other digests mean that finished work runs again."""
    installed(site)
    section = read_section(DRAWN)
    case = open_source("drawn", section, memo_dir=tmp_path).cases()[0]
    assert case.digest == "36d462ec48acc649470d6cf5a0d3b102fad4ef8ff33fa1918dd5f77ddeb7e7dd"
    assert "package" not in without_patients(section)


@pytest.mark.parametrize(
    ("group", "points", "changes", "message"),
    [
        ("networks", ["unet = a:b"], {"model": {"name": "unet"}},
         "the name 'unet' is one of xferlab's own networks; give the entry point another name"),
        ("networks", ["tiny = a:b"], {},
         "two plugins have the name 'tiny': package added-parts 1.2, .* and package other-parts 3.0, "),
        ("sources", ["broken = nowhere:Section"], {"data": {"stripes": {"source": "broken"}}},
         r"study.yaml:\d+: data.stripes: package other-parts 3.0, entry point 'broken' of xferlab.sources "
         r"\(nowhere:Section\): cannot be imported: ModuleNotFoundError: No module named 'nowhere'. Install"),
        ("sources", ["broken = json:dumps"], {"data": {"stripes": {"source": "broken"}}},
         "found a value of function; accepted: a subclass of xferlab.data.sources.config.SourceConfig"),
        ("metrics", ["LENGTH = json:JSONDecoder"], {"metrics": ["LENGTH"]},
         "found the class JSONDecoder; accepted: an xferlab.metrics.metric.ImageMetric with"),
        ("metrics", ["DICE = a:b"], {"metrics": ["DICE"]}, "the name 'DICE' is one of xferlab's own metrics"),
        ("tasks", ["other = json:dumps"], {"stages": {"first": {"task": "other", "data": "stripes"}}},
         "accepted: an xferlab.tasks.task.Task with the name 'other'. Correct the package"),
        ("sources", [], {"metrics": ["EXTEND"]},
         r"no installed package has a metric 'EXTEND' \(installed: EXTENT\). Did you mean 'EXTENT'\?"),
        ("sources", [], {"model": {"name": "tini"}}, "model.name is 'tini'; it must be one of .*, tiny. Did"),
        ("sources", [], {"data": {"stripes": {"source": "stripse"}}},
         r"study.yaml:\d+: data.stripes.source is 'stripse'; it must be one of manifest, lgg, phantom_mri, "
         r"phantom_cxr, stripes. Did you mean 'stripes'\?"),
        ("sources", [], {"data": {"stripes": {"source": "stripes", "coun": 3}}},
         r"unknown field 'coun' of source 'stripes'. Did you mean 'count'\?"),
        ("sources", [], {"data": {"stripes": {"source": "stripes", "count": 0}}},
         "data.stripes.count is 0; it must be at least 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_says_which_package_and_why(
    site: Path, tmp_path: Path, installed: Callable[..., None],
    group: str, points: list[str], changes: dict[str, Any], message: str,
) -> None:  # fmt: skip
    installed(site, declare(tmp_path / "other", "other-parts", group, *points))
    with pytest.raises(XferlabError, match=message):
        load(write(tmp_path, **changes))


def test_a_network_that_cannot_be_made_says_why(tmp_path: Path, installed: Callable[..., None]) -> None:
    points = ("absent = nowhere:Network", "other = json:dumps", "number = math:pi", "none = builtins:dict")
    installed(declare(tmp_path / "other", "other-parts", "networks", *points))
    for name, message in {
        "absent": "cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
        "other": "cannot be made with in_channels and out_channels: dumps",
        "number": "found a value of float; accepted: a class of torch.nn.Module",
        "none": "made a value of dict; accepted: a class of torch.nn.Module",
    }.items():
        with pytest.raises(PluginError, match=f"package other-parts 3.0, entry point '{name}'.*{message}"):
            build(name, in_channels=1, out_channels=1, package="other-parts 3.0")


def test_a_package_is_imported_when_its_name_is_used(
    site: Path, tmp_path: Path, installed: Callable[..., None]
) -> None:
    installed(site)
    own = {"data": {"c": {"source": "phantom_cxr", "count": 9}}, "stages": {"first": {"data": "c"}}}
    load(write(tmp_path, **own, metrics=[], model={}))
    assert not [name for name in sys.modules if name.startswith("added_parts")]
