"""Gates on a worker: who passes trains, all are measured, and a part that is emptied is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Command
from tests.studies import attempts, write_study
from tests.takes import takes
from tests.tasks.labelled import Pack, stage
from tests.trial.conftest import Bench, Make
from xferlab.cohort import Selection
from xferlab.errors import TrainingError
from xferlab.plan.spec import GATE, Input, TrialSpec
from xferlab.records import reader
from xferlab.trial.examples import examples
from xferlab.trial.given import Given

pytestmark = pytest.mark.usefixtures("added_tasks")


def passed(trials: Bench, spec: TrialSpec) -> dict[str, float]:
    """The value `passed` of every case of the first evaluation."""
    record = reader.read_evaluation(trials.store, spec.trial_id, spec.evaluations[0].evaluation_id)
    assert record is not None
    rows: pd.DataFrame = reader.read_cases(trials.store, record).to_pandas()
    rows = rows[rows["metric"] == "passed"].astype({"case": str})
    assert len(rows) == record.num_cases
    return dict(zip(rows["case"], rows["value"], strict=True))


def called(trials: Bench, spec: TrialSpec, digests: tuple[str, ...]) -> list[int]:
    """The class that the network of a trial's gate takes each case for, predicted here and now."""
    given = spec.input(GATE)
    assert given is not None
    producer = trials.plan.by_id[given.trials[0]]
    learner = trials.learner(producer)
    loaded = examples(producer, producer.section, digests, trials.context)
    predicted = learner.predict(learner.load(loaded, np.arange(len(digests)), None))
    return [int(each.argmax()) for each in predicted]


DECISIVE = {"batch_size": 4, "max_epochs": 30, "patience": 30, "lr": 0.02}


def test_a_gate_filters_training_and_all_are_measured(bench: Make, tmp_path: Path) -> None:
    """Of dark, grey and bright images, two stages train on what the gate's network takes for theirs."""
    pack = Pack(tmp_path / "pack", ["bright", "dark", "grey"], each=20)
    kinds = stage("pack", training=DECISIVE, evaluate_on=[], repetitions=1)
    gate = {"from": "kinds", "keep": "dark"}
    fields = {"classes": {"column": "pathology"}, "evaluate_on": ["pack.test"], "repetitions": 1}
    gated = stage("pack", gate=gate, **fields)
    study = takes(
        data={"pack": pack.section()}, arms={"a": {}, "b": {"stages.gated.gate.keep": ["grey", "bright"]}}
    )
    stages = {"lungs": {"data": "pack", "evaluate_on": []}, "kinds": kinds, "gated": gated}
    trials = bench(**{**study, "repetitions": 1, "stages": stages})
    trials.run("a/kinds/r01")
    classes, sizes = trials["a/kinds/r01"].targets, []
    for name in ("a/gated/r01", "b/gated/r01"):
        spec, record = trials[name], trials.run(name)
        given = spec.input(GATE)
        assert given is not None
        assert [classes[place] for place in given.places] == list(given.names)
        selection = reader.read_selection(trials.store, spec.selection)
        for part, number in (("train", record.num_train), ("validation", record.num_validation)):
            calls = called(trials, spec, selection.part(part).digests)
            assert number == sum(call in given.places for call in calls)
            sizes.append((number, len(calls)))
        values = passed(trials, spec)
        calls = called(trials, spec, tuple(values))
        assert list(values.values()) == [float(call in given.places) for call in calls]
    (first, all_), (_, _), (second, _), (_, _) = sizes
    assert 0 < first < all_
    assert first + second == all_


@pytest.mark.parametrize(
    ("labels", "has_several"), [((0, 0, 1, 1, 1), False), ((0b01, 0b01, 0b11, 0b11, 0b10), True)]
)
def test_a_class_that_a_gate_takes_away_is_told(
    labels: tuple[int, ...], has_several: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the first class two cases pass, of the second none: a network would never see it."""
    passes = {"probability": np.array([0.9, 0.1])}, {"probability": np.array([0.1, 0.9])}
    cases: dict[str, Any] = {str(row): {str(row): passes[row > 1]} for row in range(5)}
    given = Given({GATE: cases}, {GATE: Input(GATE, ("t",), names=("frontal",), places=(0,))})
    identity = SimpleNamespace(has_several=has_several)
    spec: Any = SimpleNamespace(name="a/gated/r01", targets=("well", "ill"), identity=identity)

    def passing(part: str, several: tuple[int, ...] = labels) -> tuple[str, ...]:
        rows = tuple((str(row), part, str(label)) for row, label in enumerate(several))
        return given.passing(Selection("pack", rows), spec).digests

    lost = (
        "a/gated/r01: its gate lets none of the 3 %s cases of class 'ill' pass, since the stage that it asks"
    )
    with pytest.raises(TrainingError, match=lost % "train"):
        passing("train")
    assert passing("validation") == ("0", "1")
    assert lost % "validation" in caplog.text
    caplog.clear()
    assert passing("train", (0b01, 0b10, 0b01, 0b01, 0b10) if has_several else (0, 1, 1, 1, 1)) == ("0", "1")
    assert not caplog.text


def test_a_part_that_a_gate_empties_is_told_once_with_numbers(tmp_path: Path, command: Command) -> None:
    study = takes(repetitions=1, retries=3)
    # A network that learns nothing takes all images for one class, so that one of two gates is closed.
    study["stages"]["kinds"]["training"] = {"lr": 1e-12, "max_epochs": 1}
    for name in ("covid19", "normal"):
        study["stages"][f"only_{name}"] = {
            **study["stages"]["kinds"], "gate": {"from": "kinds", "keep": name},
        }  # fmt: skip
    del study["stages"]["seen"]
    path = write_study(tmp_path, **study)
    said = command("run", path, "--executor", "in-process", "--storage", "st", code=1)
    assert "its gate lets none of the 14 train cases pass, since the stage that it asks takes none for" in (
        said.out + said.err
    )
    tries = [[each["outcome"] for each in one] for one in attempts(tmp_path / "st").values()]
    assert sorted(tries) == [*[["complete"]] * 3, ["failed"]]
