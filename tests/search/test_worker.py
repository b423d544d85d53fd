"""Samples on phantoms: repetitions that step together equal those that train alone, bit for bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import index_sections
from tests.studies import TINY, write_study
from tests.takes import KINDS, LUNGS, takes
from tests.tasks.labelled import added
from xferlab.errors import InterruptedTrialError
from xferlab.networks.donors import save_weights
from xferlab.plan.expand import expand
from xferlab.plan.plan import Plan, Setting
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records import layout, reader
from xferlab.records.samples import SampleRecord, read_sample, search_store, write_sample
from xferlab.records.store import Store
from xferlab.schedule.study import publish
from xferlab.search import worker
from xferlab.search.plan import Tuning, Wanted
from xferlab.search.worker import run_sample
from xferlab.study.load import load
from xferlab.study.space import load_space
from xferlab.tasks import registry
from xferlab.trial import environment, examples
from xferlab.trial.examples import TrialContext
from xferlab.trial.run import run_trial
from xferlab.trial.training import load_weights

pytestmark = pytest.mark.component

HERE = Setting(device="cpu", bfloat16=False)
LR, BATCH, LOSS = (f"stages.portable.training.{name}" for name in ("lr", "batch_size", "loss"))
SPACE = """\
training.lr: {loguniform: [1.0e-4, 1.0e+30]}
training.batch_size: {choice: [4, 6]}
training.loss: {choice: [dice, dice_as_printed]}
"""
TRAINING = {"batch_size": 4, "max_epochs": 5, "patience": 2, "device": "cpu", "precision": "float32"}
POINT = {LR: 0.02, BATCH: 4, LOSS: "dice"}


@dataclass(frozen=True)
class Ground:
    """A study whose parents are complete, and a search over its last stage."""

    plan: Plan
    tuning: Tuning
    context: TrialContext

    @property
    def search(self) -> Store:
        return search_store(self.context.store, self.tuning.tuning_id)

    def sample(self, number: int, **point: Any) -> SampleSpec:
        return self.tuning.sample(number, {**POINT, **point})

    def run(self, number: int, **point: Any) -> SampleRecord:
        return run_sample(self.sample(number, **point), self.context)

    def outcomes(self, sample: SampleSpec) -> list[str]:
        attempts = reader.read_run(self.search, sample.sample_id)["attempts"]
        return [attempt["outcome"] for attempt in attempts]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("ground")
    cache, store = folder / "cache", Store.open(folder / "storage")
    arms = {"baseline": {}, "sample": {LR: 0.02}}
    stages = {name: dict(stage) for name, stage in TINY["stages"].items()}
    stages["portable"]["adapt"] = {"freeze": {"part": "encoder", "unfreeze_after": 1}}
    training = {**TRAINING, "checkpoint_every_s": 1e9}
    loaded = load(write_study(folder, training=training, stages=stages, arms=arms))

    def index(name: str, config: Any) -> Any:
        return index_sections({name: config}, memo_dir=cache)[name]

    plan = expand(loaded, index, HERE)
    publish(plan, store)
    for trial in plan.trials:
        if trial.stage == "general":
            run_trial(trial, store, cache_dir=cache)
    (folder / "space.yaml").write_text(SPACE)
    space = load_space(folder / "space.yaml", loaded.arms["baseline"], stage="portable")
    wanted = Wanted("baseline", "portable", repetitions=2, search="random", asha=False, seed=1)
    tuning = Tuning(loaded, space, wanted, index=index, setting=HERE)
    device = environment.prepare(tuning.base[0].identity.execution)
    return Ground(plan, tuning, TrialContext(store, cache, device))


@pytest.fixture
def repetitions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The repetitions of the samples that a test runs, as the worker holds them."""
    held: list[Any] = []

    class Held(worker._Repetition):
        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            held.append(self)

    monkeypatch.setattr(worker, "_Repetition", Held)
    return held


def test_repetitions_that_step_together_equal_separate_trainings(
    ground: Ground, repetitions: list[Any]
) -> None:
    record = ground.run(1)
    alone = [ground.plan.by_id[ground.plan.names[f"sample/portable/r{n:02d}"]] for n in (1, 2)]
    assert [curve.trial_id for curve in record.repetitions] == [trial.trial_id for trial in alone]
    store, cache_dir = ground.context.store, ground.context.cache_dir
    for trial, repetition, curve in zip(alone, repetitions, record.repetitions, strict=True):
        trained = run_trial(replace(trial, evaluations=()), store, cache_dir=cache_dir)
        history = reader.read_history(store, trial.trial_id)
        weights = hashlib.sha256(save_weights(repetition.trainer.best)).hexdigest()
        assert weights == trained.weights_sha256
        together = [result.outcome() for result in repetition.trainer.cursor.history]
        assert together == [result.outcome() for result in history]
        losses = [result.values["validation_loss"] for result in history]
        assert curve.scores == tuple(min(losses[: e + 1]) for e in range(len(losses)))
        assert (curve.best_epoch, curve.stopped_by) == (trained.best_epoch, trained.stopped_by)


def stopping_after(num_asked: int) -> Callable[[], bool]:
    """Asks to stop when it was asked itself so many times before."""
    answers: Iterator[bool] = iter([False] * num_asked)
    return lambda: next(answers, True)


@pytest.mark.parametrize("num_asked", [0, 3, 8])
def test_a_sample_that_was_stopped_equals_one_that_was_not(ground: Ground, num_asked: int) -> None:
    whole = ground.run(2)
    sample = ground.sample(100 + num_asked)
    with pytest.raises(InterruptedTrialError, match=f"sample {100 + num_asked}: stopped in epoch"):
        run_sample(sample, ground.context, stop=stopping_after(num_asked))
    checkpoint = layout.TrialFiles(sample.sample_id).checkpoint
    assert len(ground.search.list(checkpoint)) == 1
    told: list[SampleRecord] = []
    record = run_sample(sample, ground.context, on_epoch=told.append)
    assert record == read_sample(ground.search, sample.sample_id)
    assert replace(record, sample_id=whole.sample_id, number=2) == whole
    assert all(early.curve == record.curve[: early.num_epochs] for early in told)
    assert [early.num_epochs for early in told][-1] == record.num_epochs - 1
    assert ground.outcomes(sample) == ["interrupted", "complete"]
    assert not ground.search.exists(checkpoint)


def test_a_sample_that_is_one_of_the_worse_ends_as_its_driver_recorded_it(ground: Ground) -> None:
    stopped: list[SampleRecord] = []

    def record_and_stop(record: SampleRecord) -> None:
        write_sample(ground.search, record)
        stopped.append(record)

    sample = ground.sample(3)
    record = run_sample(sample, ground.context, stop=lambda: bool(stopped), on_epoch=record_and_stop)
    assert [record] == stopped
    assert (stopped[0].outcome, stopped[0].num_epochs) == ("stopped", 1)
    assert ground.outcomes(sample) == ["complete"]
    assert run_sample(sample, ground.context) == stopped[0]
    assert ground.outcomes(sample) == ["complete"]


def test_only_training_and_validation_cases_are_ever_opened(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: set[str] = set()
    open_table = examples.open_table

    def spying_open(*args: Any, **options: Any) -> Any:
        opened.update(options["digests"])
        return open_table(*args, **options)

    monkeypatch.setattr(examples, "open_table", spying_open)
    sample = ground.sample(4)
    run_sample(sample, ground.context)
    selections = ground.tuning.selections
    allowed = {row[0] for trial in sample.trials for row in selections[trial.selection].rows}
    assert opened == allowed


def test_a_sample_is_judged_by_the_untuned_loss_and_batch_size(
    ground: Ground, repetitions: list[Any]
) -> None:
    record = ground.run(6, **{LOSS: "dice_as_printed", BATCH: 6})
    untuned = ground.tuning.base[0].identity
    for repetition, curve in zip(repetitions, record.repetitions, strict=True):
        trainer = repetition.trainer
        as_printed = [result.values["validation_loss"] for result in trainer.cursor.history]
        assert min(as_printed) < curve.scores[-1]  # the printed loss is always the lower one
        load_weights(trainer.learner, trainer.best, origin="the best")
        judge = registry.learner_of(untuned, ground.context.device, share=trainer.learner)
        assert judge.validate(repetition._validation)["loss"] == curve.scores[-1]


def test_a_sample_is_judged_in_float32(ground: Ground, repetitions: list[Any]) -> None:
    sample, short = ground.sample(9), {"precision": "bfloat16", "validation": "bfloat16"}
    execution = sample.trials[0].identity.execution.model_copy(update=short)
    trials = [
        replace(trial, identity=trial.identity.model_copy(update={"execution": execution}))
        for trial in sample.trials
    ]
    record = run_sample(replace(sample, trials=tuple(trials)), ground.context)
    for repetition, curve in zip(repetitions, record.repetitions, strict=True):
        learner = repetition.trainer.learner
        load_weights(learner, repetition.trainer.best, origin="the best")
        judge = registry.learner_of(ground.tuning.base[0].identity, ground.context.device, share=learner)
        exact = judge.validate(repetition._validation)["loss"]
        assert curve.scores[-1] == exact != learner.validate(repetition._validation)["loss"]


def test_a_sample_that_diverges_is_finished(ground: Ground) -> None:
    record = ground.run(7, **{LR: 1e30})
    assert (record.outcome, record.score) == ("diverged", None)
    assert read_sample(ground.search, record.sample_id) == record


def test_a_failure_is_stored_with_its_attempt(ground: Ground, tmp_path: Path) -> None:
    elsewhere = replace(ground.context, store=Store.open(tmp_path))
    sample = ground.sample(8)
    with pytest.raises(Exception, match="is missing; run the study again"):
        run_sample(sample, elsewhere)
    search = search_store(elsewhere.store, sample.tuning_id)
    [attempt] = reader.read_run(search, sample.sample_id)["attempts"]
    assert (attempt["outcome"], attempt["failure"]["type"]) == ("failed", "RecordError")
    assert reader.read_failure(search, sample.sample_id) == attempt["failure"]


# --- predictions of others -------------------------------------------------------------------------------


SEEN_LR, FOLDS = "stages.seen.training.lr", ("a/lungs/r01/f1", "a/lungs/r01/f2")


def test_a_sample_takes_the_predictions_of_its_repetition(tmp_path: Path) -> None:
    cache, store, setting = tmp_path / "cache", Store.open(tmp_path / "st"), Setting("cpu", bfloat16=False)

    def index(name: str, config: Any) -> Any:
        return index_sections({name: config}, memo_dir=cache)[name]

    with added():
        study = takes(out_of_fold=2, repetitions=1, arms={"a": {}, "b": {SEEN_LR: 0.02}})
        loaded = load(write_study(tmp_path, **study))
        plan = expand(loaded, index, setting)
        publish(plan, store)
        for name in (LUNGS, *FOLDS, KINDS):
            run_trial(plan.by_id[plan.names[name]], store, cache_dir=cache)
        (tmp_path / "space.yaml").write_text(f"{SEEN_LR}: {{choice: [0.01, 0.02]}}\n")
        space = load_space(tmp_path / "space.yaml", loaded.arms["a"], stage="seen")
        wanted = Wanted("a", "seen", repetitions=1, search="random", asha=False, seed=1)
        tuning = Tuning(loaded, space, wanted, index=index, setting=setting)
        context = TrialContext(store, cache, environment.prepare(tuning.base[0].identity.execution))
        sample = tuning.sample(1, {SEEN_LR: 0.02})
        with pytest.raises(InterruptedTrialError, match="stopped; run the search again to go on"):
            run_sample(sample, context, stop=lambda: True)
        (curve,) = run_sample(sample, context).repetitions
        trained = plan.by_id[plan.names["b/seen/r01"]]
        assert curve.trial_id == trained.trial_id
        record = run_trial(trained, store, cache_dir=cache)
        assert (min(curve.scores), curve.best_epoch) == (record.best_score, record.best_epoch)
