"""The task of docs/tasks.md, added as the page says: two files in a folder, and nothing else changes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import Command
from tests.refusals import problems_of
from tests.studies import attempts
from tests.tasks.contract import LearnerContract, run
from tests.training.images import noisy, resized
from xferlab import tasks
from xferlab.analysis import load_study
from xferlab.errors import StudyError
from xferlab.study.load import load
from xferlab.tasks import registry
from xferlab.tasks.config import OBJECTS, TrialIdentity
from xferlab.training.examples import ImageExamples

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tasks.md").read_text()
CONFIG, LEARNER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(STUDY,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def write_task(folder: Path, edits: Mapping[str, str]) -> None:
    """Writes the page's two files; each edit is made where its text stands."""
    folder.mkdir(parents=True)
    for name, text in (("config", CONFIG), ("learner", LEARNER)):
        for old, new in edits.items():
            text = text.replace(old, new)
        (folder / f"{name}.py").write_text(text)


@pytest.fixture
def coverage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """The page's task, in a folder beside the package's tasks; a test may be parametrised by edits."""
    write_task(tmp_path / "tasks" / "coverage", getattr(request, "param", {}))
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(tmp_path / "tasks")])
    registry.names.cache_clear()
    yield
    registry.names.cache_clear()
    registry.task.cache_clear()
    for name in [name for name in sys.modules if name.startswith("xferlab.tasks.coverage")]:
        del sys.modules[name]


@pytest.fixture
def study(coverage: None, cache: Path, tmp_path: Path) -> Path:
    """The page's study."""
    path = tmp_path / "study" / "coverage.yaml"
    path.parent.mkdir()
    path.write_text(STUDY)
    return path


@pytest.mark.usefixtures("coverage")
class TestCoverage(LearnerContract):
    @property
    def identity(self) -> TrialIdentity:
        return registry.identity_of(
            {
                "task": "coverage", "version": 1, "selection": "", "seed": 1,
                "model": {"image_size": 16, "width": 4},
                "training": {"batch_size": 2, "max_epochs": 2, "patience": 9, "lr": 0.01},
                "execution": {"device": "cpu", "precision": "float32", "compile": False},
            }
        )  # fmt: skip

    def examples(self) -> ImageExamples:
        return resized(*noisy(5, 16))


def test_a_new_task_runs_from_plan_to_report(study: Path, command: Command) -> None:
    assert command("check", study, code=0).out.endswith("0 errors, 0 warnings\n")
    said = run(command, study)
    assert "all 4 trials complete" in said
    assert "ERROR on chest.hold_out after stage second" in said
    location = study.parent / yaml.safe_load(STUDY)["storage"]
    cases = load_study(location, "coverage").cases
    assert set(cases["metric"]) == {"ERROR"}
    assert cases["value"].between(0, 1).all()
    run(command, study)  # nothing is left to do
    command("report", study, "--out", study.parent, code=0)
    assert "Absolute error" in (study.parent / "report.md").read_text()
    assert "best validation loss (lower is better)" in command("status", study, code=0).out


def test_predict_says_what_the_task_declares(study: Path, command: Command) -> None:
    run(command, study)
    folder = study.parent
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(folder / "image.bmp")
    where = (folder, "--study", study, "--out", folder / "out")
    said = command("predict", "baseline/second/r01", *where, code=0).out
    assert said.startswith("1 image predicted by baseline/second/r01, trial ")
    assert said.splitlines()[0].endswith(f"at 32 px (cpu); written to {folder / 'out'}: predictions.csv")
    refused = command("predict", "baseline/second/r01", *where, "--threshold", "0.7", code=2)
    assert (
        "--threshold: the outputs of this network (task 'coverage') have none. Leave this option"
        in refused.err
    )
    location = folder / yaml.safe_load(STUDY)["storage"]
    shutil.copy(next(location.glob("trials/*/checkpoint/best.safetensors")), folder / "bare.safetensors")
    refused = command("predict", folder / "bare.safetensors", *where, code=2)
    assert "Weights of another task need the record of their trial" in refused.err


@pytest.mark.parametrize("check", [("format", "--check"), ("check",)], ids=lambda check: check[0])
@pytest.mark.parametrize("text", [CONFIG, LEARNER], ids=["config", "learner"])
def test_the_page_is_formatted_as_the_package_is(text: str, check: tuple[str, ...]) -> None:
    options = ["--config", "lint.isort.known-first-party = ['xferlab']"]  # the task's folder is not there
    command = [sys.executable, "-m", "ruff", *check, *options, "--stdin-filename", "xferlab/tasks/part.py"]
    done = subprocess.run([*command, "-"], input=text, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


FIRST = "first: {task: coverage, data"
MORE = "training: {device: cpu}\n"


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        (
            "max_epochs: 5,", "max_epoch: 5,", 7,
            "unknown field 'max_epoch' in stages.first.training. Did you mean 'max_epochs'?",
        ),
        (
            "starts_from: first", "starts_from: first\n    adapt: {fold: sum}", 12,
            "stages of task 'coverage' take over weights as they are; leave adapt out",
        ),
        (
            FIRST, "first: {data", 11,
            "stage 'second' has task 'coverage' and starts from 'first', which has task 'segmentation'; "
            "weights carry over between stages of one task only",
        ),
        (FIRST, "first: {task: cover, model: {width: 8}, data", 7, "stages.first.task: 'cover' is no task"),
        (
            "starts_from: first", "starts_from: first\n    model: {width: 4}", 12,
            "width is 4, and 8 in stage 'first'; give both the same",
        ),
        (
            "hold_out]", "hold_out@original]", 12,
            "'chest.hold_out@original': task 'coverage' has no variant 'original' of an evaluation (it has "
            f"{', '.join(OBJECTS)}); leave @original out",
        ),
        (
            MORE, f"{MORE}features: {{on: chest.hold_out}}\n", 15,
            "task coverage names no layers whose features could be stored; leave `features` out",
        ),
        (
            MORE, "training: {device: cpu, lr: 0.5}\n", 14,
            "no stage reads training.lr: outside of the stages, it is for task 'segmentation', and the "
            "stages have task coverage; give it in the stages that it is for (stages.NAME.training), or ",
        ),
        (MORE, f"{MORE}model: {{init_features: 4}}\n", 15, "no stage reads model.init_features: "),
        (MORE, f"{MORE}arms: {{a: {{training.lr: 0.5}}}}\n", 15, "arm 'a': no stage reads training.lr: "),
        (MORE, f"{MORE}profiles: {{p: {{model.name: unet}}}}\n", 15, "profile 'p': no stage reads model."),
        (
            MORE, f"{MORE}arms: {{a: {{model.colour: 4}}}}\n", 15,
            "arm 'a': unknown field 'colour' in model. Fields of task 'segmentation': name, ",
        ),
        (
            MORE, f"{MORE}arms: {{a: {{stages.second.model.features: 4}}}}\n", 15,
            "arm 'a': unknown field 'features' in stages.second.model. Fields of task 'coverage': image_",
        ),
        (
            MORE, f"{MORE}arms: {{a: {{stages.second.model.width: 4}}}}\n", 15,
            "arm 'a': width is 4, and 8 in stage 'first'; give both the same",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_once_with_its_line(
    study: Path, old: str, new: str, line: int, what: str
) -> None:
    study.write_text(STUDY.replace(old, new))
    (problem,) = problems_of(StudyError, load, study)
    assert str(problem).startswith(f"{study}:{line}: {what}")


@pytest.mark.parametrize(
    "more",
    [
        "  third: {data: chest}\nmodel: {init_features: 4}\ntraining: {lr: 0.5}\n",
        "training: {device: cpu}\narms: {a: {stages.second.evaluate_on: [chest.hold_out@cable]}}\n",
    ],
)
def test_what_a_stage_reads_is_accepted(study: Path, more: str) -> None:
    study.write_text(STUDY.replace(MORE, more))
    load(study)


def edited(old: str, new: str) -> dict[str, str]:
    assert old in CONFIG + LEARNER
    return {old: new}


ADAPT = "class Adapt(Section):\n    freeze: bool = True\n\n\nTASK = Task(\n    adapt=Adapt,"
CLASS = "class Identity(TrialIdentity):\n"
SCORE = "from xferlab.metrics.score import Score\n\n\n"
SCORED = "    score = property(lambda identity: Score('mae', 'lower'))\n"


@pytest.mark.parametrize(
    ("coverage", "what"),
    [
        (
            edited('headline="ERROR"', 'headline="EROR"'),
            "task 'coverage': headline is 'EROR', which is none of its metrics of a case (ERROR). Did",
        ),
        (edited('name="coverage"', 'name="other"'), "the task in folder 'coverage' has the name 'other'"),
        (
            edited("TASK = Task(", ADAPT),
            "task 'coverage': its identity does not take adapt.freeze (Extra inputs are not permitted); "
            "declare in it each section that the task has, such as `adapt: Adapt | None = None`",
        ),
    ],
    indirect=["coverage"],
)  # fmt: skip
def test_a_declaration_that_cannot_be_is_refused_before_anything_runs(
    study: Path, command: Command, what: str
) -> None:
    study.write_text(STUDY.replace("starts_from: first", "starts_from: first\n    adapt: {}"))
    assert what in command("plan", study, code=2).err


@pytest.mark.parametrize(
    ("coverage", "what"),
    [
        (
            edited('{"ERROR": abs', '{"EROR": abs'),
            "what Learner.measure returned lacks 'ERROR' and has 'EROR', unlike Task.metrics; use the same ",
        ),
        (
            edited(CLASS, SCORE + CLASS + SCORED),
            "what Learner.validate returned lacks 'mae', unlike Identity.score",
        ),
        (
            edited("    model: Model\n", "    layers = ('conv9',)\n    model: Model\n"),
            "what Learner.layers returned lacks 'conv9', unlike Identity.layers",
        ),
        (
            edited("learner:CoverageLearner", "learner:Coverage"),
            "task 'coverage' names 'xferlab.tasks.coverage.learner:Coverage', which cannot be imported: ",
        ),
        (edited("import torch\n", "import torhc\n"), "which cannot be imported: No module named 'torhc'"),
    ],
    indirect=["coverage"],
    ids=["measure", "validate", "layers", "learner", "import"],
)  # fmt: skip
def test_code_that_its_declaration_does_not_match_fails_once(
    study: Path, command: Command, what: str
) -> None:
    said = command("run", study, "--executor", "in-process")
    assert said.code != 0
    assert what in said.out + said.err
    assert {len(tries) for tries in attempts(study.parent / yaml.safe_load(STUDY)["storage"]).values()} == {1}
