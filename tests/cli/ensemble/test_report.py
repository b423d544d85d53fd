"""The report of an ensemble and of temperatures, where they are asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.ensemble.conftest import Trained, probabilities
from tests.conftest import Command
from tests.studies import recorded
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.tables.ensembles import ensembles_tables
from xferlab.analysis.tables.metrics import metrics_tables
from xferlab.analysis.tables.model import Table
from xferlab.analysis.tables.temperature import temperature_tables
from xferlab.cli.last_plan import compare
from xferlab.cli.options import ReportOptions
from xferlab.cli.reprediction import repredictor
from xferlab.data.cache import default_cache_dir
from xferlab.errors import UsageError
from xferlab.records import layout, reader
from xferlab.tasks.segmentation.learner import SegmentationLearner
from xferlab.trial.examples import TrialContext
from xferlab.trial.reprediction import temperature_of

pytestmark = pytest.mark.component


def dice_of_mean(trained: Trained, trials: list[str], patient: int) -> float:
    """Of the mean of some networks, at their size, computed from the files of the image."""
    with (
        Image.open(trained.image(patient)) as picture,
        Image.open(trained.study.parent / f"pack/{patient}-fixed_mask.png") as target,
    ):
        mean = probabilities(trained, trials, np.asarray(picture)).mean(axis=0)
        truth = np.asarray(target.resize((32, 32), Image.Resampling.NEAREST)) > 127
    return 2 * (truth & (mean > 0.5)).sum() / (truth.sum() + (mean > 0.5).sum())


def contents(trained: Trained, storage: object, **asked: bool) -> tuple[Contents, list[str]]:
    """What a report is made of with reprediction, and what that says."""
    said: list[str] = []
    options = ReportOptions(study=str(trained.study), storage=str(storage), **asked)
    networks = repredictor(compare(options, must_have_run=True), options, said.append)
    return Contents(load_study(str(storage), "ensemble"), networks), said


def tables(trained: Trained, storage: object) -> tuple[dict[str, Table], list[str]]:
    """The tables of ensembles of a report by name, and what could not be read."""
    known, said = contents(trained, storage, ensembles=True)
    found = {table.name: table for table in ensembles_tables(known)}
    assert said[0] == "predicting again: cxr.test by 3 networks of a/alone"
    return found, known.results.problems


def test_a_report_shows_the_ensemble_of_those_who_never_saw_a_patient(trained: Trained) -> None:
    before = recorded(Path(trained.store.root))
    found, problems = tables(trained, trained.store.location)
    assert recorded(Path(trained.store.root)) == before
    assert not problems
    # The donor of all repetitions trained on test patients of two of them, which leaves one network.
    assert list(found) == ["ensembles_alone_on_cxr_test", "ensembles_general_on_cxr_hold_out"]
    alone, general = found.values()

    held = [patient for patient in trained.parts if trained.parts[patient]["part_r01"] == "hold_out"]
    hold_out = general.data.set_index(["pathology", "metric", "by"])
    together = hold_out.loc[("all", "DICE", "ensemble")]
    dice = [dice_of_mean(trained, trained.trials, patient) for patient in held]
    assert together["mean"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert together[["sd_repetitions", "num_repetitions"]].isna().all()
    each = [np.mean([dice_of_mean(trained, [trial], p) for p in held]) for trial in trained.trials]
    single = hold_out.loc[("all", "DICE", "single networks")]
    assert single["mean"] == pytest.approx(np.mean(each), abs=1e-6)

    plan = reader.read_plan(trained.store, "ensemble")
    ids = {name: trial["trial_id"] for trial in plan["trials"] for name in trial["names"]}
    members = {
        patient: [ids[f"a/alone/r{n:02}"] for n in (1, 2, 3) if parts[f"part_r{n:02}"] == "test"]
        for patient, parts in trained.parts.items()
    }
    enough = {patient: trials for patient, trials in members.items() if len(trials) > 1}
    left_out = sum(len(trials) == 1 for trials in members.values())
    assert enough
    assert left_out
    together = alone.data.set_index(["pathology", "metric", "by"]).loc[("all", "DICE", "ensemble")]
    dice = [dice_of_mean(trained, trials, patient) for patient, trials in enough.items()]
    assert together["mean"] == pytest.approx(np.mean(dice), abs=1e-6)
    assert alone.groups[0].labels[3:] == (str(len(enough)), str(len(enough)), str(left_out))


def test_ensembles_that_cannot_be_made_are_told(trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.store.location, tmp_path / "s")
    weights = tmp_path / "s" / layout.TrialFiles(trained.trials[0]).weights
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    found, problems = tables(trained, tmp_path / "s")
    assert list(found) == ["ensembles_alone_on_cxr_test"]
    (problem,) = problems
    assert problem.startswith("ensemble of a, stage general on cxr.hold_out: ")
    pack = trained.study.parent / "pack"
    pack.rename(pack.with_name("away"))
    try:
        with pytest.raises(UsageError, match=r"--ensembles: .* the data of the study cannot be read here"):
            tables(trained, trained.store.location)
    finally:
        pack.with_name("away").rename(pack)


LACKS = "task 'segmentation' declares ensemble_files, and its learner has no "


@pytest.mark.parametrize(
    ("asked", "method", "error", "reason"),
    [
        ("ensembles", "measure_ensemble", NotImplementedError(), f"{LACKS}measure_ensemble; the package"),
        ("temperature", "outcomes", NotImplementedError(), f"{LACKS}outcomes or measure_at; the package"),
        (
            "ensembles",
            "measure_ensemble",
            torch.OutOfMemoryError("CUDA out of memory.\nSee"),
            "OutOfMemoryError: CUDA out of memory; use a machine with more memory, or leave the option out",
        ),
        ("temperature", "measure_at", MemoryError(), "MemoryError; use a machine with more memory, or leave"),
    ],
)
def test_too_little_memory_or_a_task_that_cannot_do_it_leaves_the_rest_of_a_report(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, asked: str, method: str, error: Exception, reason: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(SegmentationLearner, method, fail)
    known, _ = contents(trained, trained.store.location, **{asked: True})
    assert not list(ensembles_tables(known)) + list(temperature_tables(known))
    assert len(known.results.problems) == (2 if asked == "ensembles" else 3)
    assert all(reason in problem for problem in known.results.problems)
    assert len(list(metrics_tables(known, hold_out=True)))


def test_a_temperature_is_fitted_to_validation_images_and_judged_on_others(trained: Trained) -> None:
    known, _ = contents(trained, trained.store.location, temperature=True)
    tables = {table.name: table for table in temperature_tables(known)}
    assert not list(ensembles_tables(known))
    table = tables["temperature_alone_on_cxr_test"]
    parts = {n: {p: each[f"part_r{n:02}"] for p, each in trained.parts.items()} for n in (1, 2, 3)}
    plan = reader.read_plan(trained.store, "ensemble")
    ids = {name: trial["trial_id"] for trial in plan["trials"] for name in trial["names"]}
    temperatures, errors = [], []
    for n in (1, 2, 3):
        trial = [ids[f"a/alone/r{n:02}"]]
        temperatures.append(fitted(trained, trial, {p for p in parts[n] if parts[n][p] == "validation"}))
        tested = [logits_of(trained, trial, p) for p, part in parts[n].items() if part == "test"]
        errors.append(np.mean([gap(1 / (1 + np.exp(-z / temperatures[-1])), y) for z, y in tested]))
    after = table.data.set_index(["pathology", "metric", "scaling"]).loc[("all", "ECE", "after")]
    numbers = ["temperature_min", "temperature_median", "temperature_max"]
    assert after[numbers].astype(float).tolist() == pytest.approx(sorted(temperatures), rel=2e-3)
    assert after["mean"] == pytest.approx(np.mean(errors), abs=1e-3)
    (group,) = table.groups
    assert [row.label for row in group.rows] == ["before", "after"]
    before = known.aggregated.query("stage == 'alone' and metric == 'ECE' and pathology == 'all'")
    assert group.rows[0].cells[1].startswith(f"{before['mean'].item():.4f}")

    # The donor of all repetitions learned from patients whom two of them validate on.
    table = tables["temperature_general_on_cxr_hold_out"]
    temperatures, told = [], []
    for n in (1, 2, 3):
        validation = {p for p, part in parts[n].items() if part == "validation"}
        kept = validation if n == 1 else {p for p in validation if parts[1][p] in {"test", "hold_out"}}
        temperatures += [fitted(trained, [trained.trials[n - 1]], kept)] if kept else []
        if kept != validation:
            told.append(f"a, repetition {n} ({len(validation - kept)} of {len(validation)})")
    assert told
    assert table.notes[0].endswith(f"in another repetition: {', '.join(told)}.")
    after = table.data.set_index(["pathology", "metric", "scaling"]).loc[("all", "ECE", "after")]
    expected = [np.min(temperatures), np.median(temperatures), np.max(temperatures)]
    assert after[numbers].astype(float).tolist() == pytest.approx(expected, rel=2e-3)
    assert after["num_repetitions"] == len(temperatures)


def test_without_validation_images_there_is_no_temperature(trained: Trained) -> None:
    spec = reader.required_spec(trained.store, trained.trials[0])
    every = frozenset(reader.read_selection(trained.store, spec.selection).digests)
    context = TrialContext(trained.store, default_cache_dir(), torch.device("cpu"))
    temperature = temperature_of(spec, context, without=every)
    assert temperature is not None
    assert np.isnan(temperature)


def fitted(trained: Trained, trial: list[str], patients: set[int]) -> float:
    """The temperature of a network on images of patients, by search on a grid."""
    logits, truth = zip(*(logits_of(trained, trial, patient) for patient in patients), strict=True)
    grid = 100 ** np.linspace(-1, 1, 4001)
    z, y = np.stack(logits).ravel(), np.stack(truth).ravel()
    sign = z * (1 - 2 * y)
    return float(grid[np.argmin([np.logaddexp(0, sign / temperature).sum() for temperature in grid])])


def logits_of(trained: Trained, trials: list[str], patient: int) -> tuple[np.ndarray, np.ndarray]:
    """Of one network and an image, with the truth of its pixels."""
    with (
        Image.open(trained.image(patient)) as picture,
        Image.open(trained.study.parent / f"pack/{patient}-fixed_mask.png") as target,
    ):
        p = probabilities(trained, trials, np.asarray(picture))[0].astype(float)
        truth = np.asarray(target.resize((32, 32), Image.Resampling.NEAREST)) > 127
    return np.log(p / (1 - p)), truth.astype(float)


def gap(p: np.ndarray, y: np.ndarray) -> float:
    """The expected calibration error of 15 bins."""
    bins = np.minimum((p * 15).astype(int), 14)
    return sum(abs((p - y)[bins == each].sum()) for each in range(15)) / p.size


@pytest.mark.slow
def test_the_page_has_ensembles_where_they_are_asked_for(trained: Trained, command: Command) -> None:
    words = ("report", trained.study, "--storage", trained.store.location, "--out", "report")
    for more, has_any in (((), False), (("--ensembles", "--temperature"), True)):
        command(*words, *more, code=0)
        page = " ".join(Path("report/report.md").read_text().split())
        assert ("no deviation over repetitions, no interval, no test and no verdict" in page) == has_any
        assert bool(list(Path("report/tables").glob("*_ensembles_alone_on_cxr_test.tex"))) == has_any
        assert ("fitted to its validation images" in page) == has_any
