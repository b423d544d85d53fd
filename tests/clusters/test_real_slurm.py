"""The batch scripts under SLURM itself: what its notices, `scancel` and `scontrol requeue` do to them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.slurm import Slurm, lacking, slurm
from tests.studies import TINY, attempts, environment, has_trained, outcomes, write_study

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(lacking()), reason=lacking() or "-")]

JOBS = Path(__file__).parents[2] / "jobs"
ONE_GPU, NODES = JOBS / "slurm-one-gpu.sbatch", JOBS / "slurm.sbatch"
ASKED = {ONE_GPU: ("--cpus-per-task=2", "--mem=1G"), NODES: ("--nodes=2", "--cpus-per-task=1")}
LONG: dict[str, Any] = {
    "training": {**TINY["training"], "max_epochs": 60, "patience": 60, "checkpoint_every_s": 5},
    "stages": {"general": {"data": "general", "repetitions": 2, "evaluate_on": ["general.test"]}},
    "arms": {"a": {}},
}


class Job:
    """A study that has been submitted."""

    def __init__(self, cluster: Slurm, folder: Path, script: Path):
        self.cluster, self.script, self.storage = cluster, script, folder / "st"
        self._log = folder / "job.log"
        self._words = (*ASKED[script], f"--output={self._log}", script, write_study(folder, **LONG))
        self._env = {**environment(folder), "XFERLAB_VENV": sys.prefix, "HOME": str(folder)}
        self.submit()

    def submit(self) -> None:
        self.number = self.cluster.submit(*self._words, "--storage", self.storage, **self._env)

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def is_in(self, *states: str) -> Callable[[], bool]:
        return lambda: self.cluster.job(self.number)["JobState"] in states

    def until(self, holds: Callable[[], object]) -> None:
        try:
            self.cluster.until(holds, within_s=240.0)
        except AssertionError as error:
            raise AssertionError(f"{self.cluster.job(self.number)}\n{self.log}") from error

    def until_training(self) -> None:
        """Waits until a trial has finished some epochs."""
        self.until(lambda: has_trained(self.storage))

    def again(self) -> None:
        """Starts it at once where it waits in the queue, for which SLURM takes two minutes."""
        self.until(self.is_in("PENDING"))
        self.cluster.says("scontrol", "update", f"JobId={self.number}", "StartTime=now")


@pytest.fixture(params=[ONE_GPU, NODES], ids=lambda script: script.stem)
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    with slurm(tmp_path, "head", "east") as cluster:
        yield Job(cluster, tmp_path, request.param)


def test_the_notice_of_the_time_limit_requeues_and_the_job_continues(job: Job) -> None:
    job.until_training()
    job.cluster.says("scancel", "--batch", "--signal=USR1", job.number)  # as `--signal=B:USR1@240` does
    job.again()
    assert job.cluster.job(job.number)["Restarts"] == "1"
    assert {ended for tries in outcomes(job.storage).values() for ended in tries} == {"interrupted"}
    job.until(job.is_in("COMPLETED", "FAILED"))
    assert job.is_in("COMPLETED")(), job.log
    assert "all 2 trials complete" in job.log
    hosts = {attempt["host"] for tries in attempts(job.storage).values() for attempt in tries}
    assert len(hosts) == (2 if job.script == NODES else 1)


def test_a_job_that_is_cancelled_stays_so_and_the_next_one_continues(job: Job) -> None:
    job.until_training()
    job.cluster.says("scancel", job.number)
    job.until(job.is_in("CANCELLED"))
    assert job.cluster.job(job.number)["Restarts"] == "0"
    job.submit()
    job.until(job.is_in("COMPLETED", "FAILED"))
    assert job.is_in("COMPLETED")(), job.log


def test_a_job_that_is_requeued_by_others_continues(job: Job) -> None:
    job.until_training()
    job.cluster.says("scontrol", "requeue", job.number)
    job.again()
    job.until(job.is_in("COMPLETED", "FAILED"))
    assert job.is_in("COMPLETED")(), job.log
    assert job.cluster.job(job.number)["Restarts"] == "1"
