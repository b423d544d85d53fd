"""The task of docs/tasks.md, added as the page says: two files in a folder, and nothing else changes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.tasks.contract import LearnerContract
from tests.training.images import noisy, resized
from xferlab import tasks
from xferlab.analysis import load_study
from xferlab.cli.main import main
from xferlab.tasks import registry
from xferlab.tasks.config import TrialIdentity
from xferlab.training.examples import ImageExamples

pytestmark = pytest.mark.component

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
CONFIG, LEARNER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(STUDY,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def coverage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's task, in a folder beside the package's tasks."""
    folder = tmp_path / "tasks" / "coverage"
    folder.mkdir(parents=True)
    for name, text in (("__init__", ""), ("config", CONFIG), ("learner", LEARNER)):
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder.parent)])
    registry.names.cache_clear()
    yield
    registry.names.cache_clear()
    registry.task.cache_clear()


@pytest.fixture
def study(coverage: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's study."""
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
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


def test_a_new_task_runs_from_plan_to_report(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(study)]) == 0
    assert main(["run", str(study), "--executor", "in-process"]) == 0
    said = capsys.readouterr().out
    assert "all 3 trials complete" in said
    assert "ERROR on chest.hold_out after stage second" in said
    location = study.parent / yaml.safe_load(STUDY)["storage"]
    cases = load_study(location, "coverage").cases
    assert set(cases["metric"]) == {"ERROR"}
    assert cases["value"].between(0, 1).all()
    assert main(["run", str(study), "--executor", "in-process"]) == 0  # nothing is left to do
    out = study.parent / "report"
    assert main(["report", str(study), "--out", str(out)]) == 0
    assert "Absolute error" in (out / "report.md").read_text()
    capsys.readouterr()
    assert main(["status", str(study)]) == 0
    assert "best validation loss (lower is better)" in capsys.readouterr().out


def test_predict_says_what_the_task_declares(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(study), "--executor", "in-process"]) == 0
    folder = study.parent
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(folder / "image.bmp")
    where = [str(folder), "--study", str(study), "--out", str(folder / "out")]
    capsys.readouterr()
    assert main(["predict", "baseline/second/r01", *where]) == 0
    said = capsys.readouterr().out
    assert said.startswith("1 image predicted by baseline/second/r01, trial ")
    assert said.splitlines()[0].endswith(f"at 32 px (cpu); written to {folder / 'out'}: predictions.csv")
    assert main(["predict", "baseline/second/r01", *where, "--threshold", "0.7"]) == 2
    assert "--threshold: task 'coverage' has no threshold. Leave this option" in capsys.readouterr().err
    location = folder / yaml.safe_load(STUDY)["storage"]
    shutil.copy(next(location.glob("trials/*/checkpoint/best.safetensors")), folder / "bare.safetensors")
    assert main(["predict", str(folder / "bare.safetensors"), *where]) == 2
    assert "Weights of another task need the record of their trial" in capsys.readouterr().err


def test_a_stage_is_checked_by_its_task(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = study.read_text()
    study.write_text(text.replace("max_epochs: 5,", "max_epoch: 5,"))
    assert main(["plan", str(study)]) == 2
    said = capsys.readouterr().err
    assert (
        f"{study}:7: unknown field 'max_epoch' in stages.first.training. Did you mean 'max_epochs'?" in said
    )
    study.write_text(text.replace("starts_from: first", "starts_from: first\n    adapt: {fold: sum}"))
    assert main(["plan", str(study)]) == 2
    assert (
        "stages of task 'coverage' take over weights as they are; leave adapt out" in capsys.readouterr().err
    )
    study.write_text(text.replace("task: coverage, data", "data"))
    assert main(["plan", str(study)]) == 2
    assert "weights carry over between stages of one task only" in capsys.readouterr().err
    study.write_text(text.replace("task: coverage, data", "task: coverag, data"))
    assert main(["plan", str(study)]) == 2
    assert "'coverag' is no task" in capsys.readouterr().err
