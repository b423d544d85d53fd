"""Predictions of other trials: made once, used by all, made again where lost, and equal after any stop."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import Command
from tests.records.faults import Faults, faulty, onwards, without_pauses
from tests.studies import attempts, recorded, write_study
from tests.takes import KINDS, LUNGS, SEEN, takes
from tests.trial.conftest import Bench, Make, flip_bit, replace_weights, stop_at
from xferlab.data.cache import open_table, resized
from xferlab.data.sources.registry import read_section
from xferlab.data.sources.source import Decoded
from xferlab.errors import InterruptedTrialError, RecordError, StorageError
from xferlab.plan.spec import GATE, MASKS
from xferlab.records import codec, layout, reader
from xferlab.records.prune import find_surplus
from xferlab.trial.examples import examples, fit_examples
from xferlab.trial.given import Given
from xferlab.trial.predictions import predictions_for

pytestmark = pytest.mark.usefixtures("added_tasks")

FOLDS = ("a/lungs/r01/f1", "a/lungs/r01/f2")
BEFORE = (LUNGS, *FOLDS, KINDS)
OPERATIONS = 9
"""Every so many operations of an object store fail in the default tier; the slow tier takes all, in parts."""
PARTS = 3


@pytest.fixture(scope="module")
def whole(bench_in: Make, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A stage whose masks are out of fold, and all that it needs, ran undisturbed."""
    return bench_in(tmp_path_factory.mktemp("whole"), **takes(out_of_fold=2)).ran(*BEFORE, SEEN)


@pytest.fixture
def copied(whole: Bench, copy_of: Make, tmp_path: Path) -> Make:
    """Makes copies of the storage, of which the stage itself and its predictions may be lacking."""

    def copied(storage: str = "copy", *, lacking: bool = True, **changes: Any) -> Bench:
        trials = copy_of(whole, storage, **takes(out_of_fold=2, **changes))
        if lacking:
            shutil.rmtree(trials.folder(SEEN))
            shutil.rmtree(tmp_path / storage / "predictions")
        return trials

    return copied


def stored(trials: Bench) -> list[Path]:
    """All files of predictions."""
    return sorted(Path(trials.store.root).glob("predictions/*/*"))


def used(trials: Bench, role: str) -> dict[str, str]:
    record = reader.read_trial(trials.store, trials[SEEN].trial_id)
    assert record is not None
    assert record.predictions is not None
    return dict(record.predictions[role])


def test_records_name_what_they_used_and_other_records_say_nothing(whole: Bench) -> None:
    spec = whole[SEEN]
    assert len(used(whole, MASKS)) == 3
    assert len(used(whole, GATE)) == 1
    for name in BEFORE:
        body = codec.read_json(whole.store, layout.TrialFiles(whole[name].trial_id).record)
        assert body
        assert "predictions" not in body
    for evaluation in spec.evaluations:
        measured = reader.read_evaluation(whole.store, spec.trial_id, evaluation.evaluation_id)
        assert measured is not None
        assert measured.predictions is not None
        for role in (MASKS, GATE):
            for prediction_id, sha256 in measured.predictions[role].items():
                record = codec.read_json(whole.store, layout.prediction_files(prediction_id).record) or {}
                assert list(record["tables"].values()) == [sha256]
                assert record["variant"] == ("implant version 1" if evaluation.variant else "")
    assert not [one for one in find_surplus(whole.store) if "predictions" in one.kind]


def test_out_of_fold_no_network_trained_on_the_training_cases_that_it_predicts(whole: Bench) -> None:
    spec = whole[SEEN]
    own = reader.read_selection(whole.store, spec.selection)
    train = set(own.part("train").digests)
    predicted: dict[str, set[str]] = {}
    for item in spec.predicted:
        digests = set(reader.read_selection(whole.store, item.selection).digests)
        predicted[item.role] = predicted.get(item.role, set()) | digests
        if item.role == MASKS:
            producer = whole.plan.by_id[item.trial]
            trained = reader.read_selection(whole.store, producer.selection).part("train").digests
            assert not set(trained) & digests & train
            assert bool(producer.fold) == bool(digests & train)
    assert predicted == {MASKS: set(own.digests), GATE: set(own.digests)}


def test_masks_are_what_the_network_predicts_at_its_own_size_stretched(whole: Bench) -> None:
    spec, context = whole[SEEN], whole.context
    given = predictions_for(spec, spec.predicted, spec.section, context)
    train, _ = fit_examples(spec, context, given)
    digests = reader.read_selection(whole.store, spec.selection).part("train").digests
    assert train.masks is not None
    assert train.masks.structures == ("lung",)
    by_case = {
        digest: item.trial
        for item in spec.predicted
        if item.role == MASKS
        for digest in reader.read_selection(whole.store, item.selection).digests
    }
    for row, digest in enumerate(digests):
        producer = whole.plan.by_id[by_case[digest]]
        learner = whole.learner(producer)
        alone = examples(producer, "chests", [digest], context)
        (prediction,) = learner.predict(learner.load(alone, np.array([0]), None))
        plane = np.where(np.squeeze(prediction) > 0.5, 255, 0).astype(np.uint8)
        expected = resized(Decoded(plane, plane[None]), 24)[1]  # as a target of this size would be
        assert np.array_equal(train.masks_of(row), expected)
    assert np.array_equal(train.take_masks(np.array([1, 0])).numpy(), [train.masks_of(1), train.masks_of(0)])


def test_stopped_at_any_question_and_run_again_gives_equal_bytes(whole: Bench, copied: Make) -> None:
    trials = copied()
    made = []
    for question in (1, 5, 12, 20, 27, 33, 36, 41, 46, 60, 75, 90):
        with suppress(InterruptedTrialError):
            trials.run(SEEN, stop=stop_at(question))
        made.append(len(stored(trials)))
    trials.run(SEEN)
    assert trials.records == whole.records
    assert made[0] == 0
    assert sorted(made) == made
    assert 0 < made[3] < len(stored(whole))


def test_a_stop_says_what_was_stopped(copied: Make) -> None:
    trials = copied()
    with pytest.raises(InterruptedTrialError, match="stopped while it took the predictions of others"):
        trials.run(SEEN, stop=lambda: True)


@pytest.mark.parametrize(
    "part", [pytest.param(None, id="some"), *(pytest.param(n, marks=pytest.mark.slow) for n in range(PARTS))]
)
def test_a_storage_that_fails_at_any_operation_leaves_nothing_that_counts(
    whole: Bench, copied: Make, part: int | None
) -> None:
    def run(trials: Bench, faults: Faults) -> None:
        replace(trials, session=replace(trials.session, store=faulty(trials.store, faults))).run(SEEN)

    counted, calm = Faults(), copied("calm")
    run(calm, counted)
    assert calm.records == whole.records
    total = len(counted.log)
    numbers = range(3, total, total // OPERATIONS) if part is None else range(part + 1, total, PARTS)
    for number in numbers:
        trials = copied(str(number))
        with without_pauses(), suppress(StorageError):
            run(trials, Faults(onwards(number), error=errno.EIO))
        assert trials.records.items() <= whole.records.items()
        run(trials, Faults())
        assert trials.records == whole.records
        shutil.rmtree(trials.store.root)


def test_consumers_at_once_make_and_read_one_prediction(whole: Bench, copied: Make) -> None:
    trials = copied()
    spec = trials[SEEN]

    def take(number: int) -> Given:
        return predictions_for(spec, spec.predicted, spec.section, trials.context)

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(take, range(4)))
    assert all(each.used == given[0].used for each in given)
    assert trials.records.items() <= whole.records.items()


@pytest.mark.parametrize("kind", ["record.json", "*.parquet"])
@pytest.mark.parametrize("change", [flip_bit, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_predictions_are_made_again(
    whole: Bench, copied: Make, kind: str, change: Callable[[Path], Any]
) -> None:
    trials = copied(lacking=False)
    for damaged in Path(trials.store.root).glob(f"predictions/*/{kind}"):
        change(damaged)
    assert trials.run(SEEN).trial_id == whole[SEEN].trial_id  # complete: nothing is read
    shutil.rmtree(trials.folder(SEEN))
    trials.run(SEEN)
    assert trials.records == whole.records


def test_stored_predictions_are_not_made_again(whole: Bench, copied: Make) -> None:
    trials = copied(lacking=False)
    shutil.rmtree(trials.folder(SEEN))
    before = {path: path.stat().st_mtime_ns for path in stored(trials)}
    trials.run(SEEN)
    assert {path: path.stat().st_mtime_ns for path in stored(trials)} == before


def test_without_its_producer_a_trial_cannot_run(copied: Make) -> None:
    trials = copied()
    (trials.folder(FOLDS[0]) / "record.json").unlink()
    producer = trials[FOLDS[0]].trial_id
    what = f"{SEEN}: trial {producer}, which predicts its masks, is not complete; run the study again"
    with pytest.raises(RecordError, match=what):
        trials.run(SEEN)


def test_a_producer_without_its_spec_is_told(copied: Make) -> None:
    trials = copied()
    (trials.folder(KINDS) / "spec.json").unlink()
    with pytest.raises(RecordError, match=r"spec\.json: is missing or damaged; run the study again, which"):
        trials.run(SEEN)


def test_other_weights_predict_anew_and_no_state_of_the_old_predictions_goes_on(
    whole: Bench, copied: Make, caplog: pytest.LogCaptureFixture
) -> None:
    trials = copied()
    epochs: list[int] = []
    trials.interrupt(SEEN, stop=lambda: len(epochs) == 2, on_epoch=lambda result, best: epochs.append(1))
    assert trials.states(SEEN)
    replace_weights(trials, LUNGS)
    with caplog.at_level(logging.WARNING):
        assert trials.epochs(SEEN) == [1, 2, 3]
    assert "goes on from other weights or predictions than those that its trial starts from" in caplog.text
    changed = {id_ for id_, sha in used(trials, MASKS).items() if used(whole, MASKS).get(id_) != sha}
    assert len(changed) == 1  # the validation cases, by the one network whose weights changed
    assert used(trials, GATE) == used(whole, GATE)


def test_an_unchanged_producer_lets_a_state_go_on(copied: Make) -> None:
    trials = copied()
    epochs: list[int] = []
    trials.interrupt(SEEN, stop=lambda: len(epochs) == 2, on_epoch=lambda result, best: epochs.append(1))
    assert trials.epochs(SEEN) == [3]


def test_lost_weights_of_a_producer_are_trained_again_by_the_next_run(
    tmp_path: Path, command: Command
) -> None:
    study = write_study(tmp_path, **takes(out_of_fold=2, repetitions=1))
    words = ("run", study, "--executor", "in-process", "--storage", "st")
    command(*words, code=0)
    records, names = recorded(tmp_path / "st"), attempts(tmp_path / "st")
    plan = reader.read_plan(reader.Store.open(tmp_path / "st"), "tiny")
    ids = {trial["names"][0]: trial["trial_id"] for trial in plan["trials"]}
    for damage in (flip_bit, Path.unlink):
        shutil.rmtree(tmp_path / "st/trials" / ids[SEEN])
        shutil.rmtree(tmp_path / "st/predictions")
        damage(tmp_path / "st/trials" / ids[FOLDS[0]] / "checkpoint/best.safetensors")  # type: ignore[operator]
        command(*words, code=0)
        assert recorded(tmp_path / "st") == records
    assert len(attempts(tmp_path / "st")) == len(names)


# --- predict -----------------------------------------------------------------------------------------------


def test_predict_runs_what_the_inputs_need_first(whole: Bench, tmp_path: Path, command: Command) -> None:
    """Files with the pixels of the hold-out get the numbers that its evaluation has."""
    spec = whole[SEEN]
    evaluation = next(each for each in spec.evaluations if each.name == "chests.hold_out")
    record = reader.read_evaluation(whole.store, spec.trial_id, evaluation.evaluation_id)
    assert record is not None
    rows: pd.DataFrame = reader.read_cases(whole.store, record).to_pandas()
    values = rows.astype({"case": str, "metric": str}).pivot(index="case", columns="metric", values="value")
    sections = {"chests": read_section(spec.data["chests"])}
    cache = whole.session.cache_dir
    table = open_table(sections, size="native", digests=list(values.index), cache_dir=cache)
    (tmp_path / "images").mkdir()
    for digest in values.index:
        image = table.case(digest)[0][0]
        Image.fromarray(np.array(image)).save(tmp_path / "images" / f"{digest}.png")
    command("predict", SEEN, "images", "--storage", whole.store.root, "--out", "out", code=0)
    predicted = pd.read_csv(tmp_path / "out" / "predictions.csv")
    predicted.index = pd.Index([Path(name).stem for name in predicted["input"]])
    for name in ("P_covid19", "P_normal", "passed"):
        assert predicted[name].to_dict() == pytest.approx(values[name].to_dict(), abs=1e-6)


def test_a_file_of_weights_that_need_others_is_refused(
    whole: Bench, tmp_path: Path, command: Command
) -> None:
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "image.png")
    asked = ("image.png", "--out", "out")
    refused = command("predict", whole.weights(SEEN), *asked, code=2)
    assert (
        "best.safetensors, trial " + whole[SEEN].trial_id + ": these weights need masks and a gate of "
        "another stage of their study, which a file does not give; name the trial (arm/stage/rNN, or its "
    ) in refused.err
    command("predict", whole.weights(KINDS), *asked, code=0)
