"""Samples on phantoms: repetitions that step together equal those that train alone, bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import index_sections
from tests.studies import TINY, write_study
from xferlab.networks.donors import save_weights
from xferlab.plan.expand import Plan, Setting, expand
from xferlab.plan.sample_spec import SampleSpec
from xferlab.records import layout, reader
from xferlab.records.samples import SampleRecord, read_attempts, read_sample, write_begun
from xferlab.records.store import Store
from xferlab.schedule.study import publish
from xferlab.search.plan import Tuning, Wanted
from xferlab.search.worker import SampleRun
from xferlab.study.load import load
from xferlab.study.space import load_space
from xferlab.tasks import registry
from xferlab.training.examples import ImageExamples
from xferlab.trial import environment, examples
from xferlab.trial.examples import TrialContext
from xferlab.trial.run import run_trial

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
    place: TrialContext


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
    return Ground(
        plan, tuning, TrialContext(store, cache, environment.prepare(tuning.base[0].identity.execution))
    )


def began(ground: Ground, number: int, **point: Any) -> tuple[SampleSpec, SampleRun]:
    sample = ground.tuning.sample(number, {**POINT, **point})
    write_begun(ground.place.store, sample)
    return sample, SampleRun.begin(sample, ground.place)


def finished(run: SampleRun) -> SampleRecord:
    while not (step := run.step()).done:
        pass
    return step.record


def test_repetitions_that_step_together_equal_separate_trainings(ground: Ground) -> None:
    sample, run = began(ground, 1)
    record = finished(run)
    alone = [ground.plan.by_id[ground.plan.names[f"sample/portable/r{n:02d}"]] for n in (1, 2)]
    assert [trial.trial_id for trial in sample.trials] == [trial.trial_id for trial in alone]
    for trial, member, curve in zip(alone, run._members, record.repetitions, strict=True):
        trained = run_trial(
            replace(trial, evaluations=()), ground.place.store, cache_dir=ground.place.cache_dir
        )
        history = reader.read_history(ground.place.store, trial.trial_id)
        weights = hashlib.sha256(save_weights(member.trainer.best)).hexdigest()
        assert weights == trained.weights_sha256
        assert [one.outcome() for one in member.trainer.cursor.history] == [one.outcome() for one in history]
        losses = [one.values["validation_loss"] for one in history]
        assert curve.losses == tuple(min(losses[: e + 1]) for e in range(len(losses)))
        assert (curve.best_epoch, curve.stopped_by) == (trained.best_epoch, trained.stopped_by)


def test_a_repetition_that_has_stopped_carries_its_loss_on(ground: Ground) -> None:
    record = finished(began(ground, 1, **{LR: 0.5})[1])
    lengths = [len(one.losses) for one in record.repetitions]
    assert record.num_epochs == max(lengths) == len(record.curve)
    for epoch, mean in enumerate(record.curve):
        carried = [one.losses[min(epoch, len(one.losses) - 1)] for one in record.repetitions]
        assert mean == sum(carried) / 2


@pytest.mark.parametrize("num_batches", [1, 4, 9])
def test_a_sample_that_was_left_equals_one_that_was_not(
    ground: Ground, num_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finished(began(ground, 2)[1])
    sample, run = began(ground, 100 + num_batches)
    ticks = iter(range(num_batches))

    class Killed(BaseException):
        pass

    def tick() -> None:
        run._ticks += 1
        if next(ticks, None) is None:
            run._states.save(run._state())
            raise Killed

    monkeypatch.setattr(run, "_tick", tick)
    with pytest.raises(Killed):
        finished(run)
    again = SampleRun.begin(sample, ground.place)
    told = []
    while not (step := again.step()).done:
        told.append(step.record.curve)
    assert [len(curve) for curve in told] == list(range(1, len(told) + 1))
    same = replace(step.record, sample_id=whole.sample_id, number=whole.number)
    assert json.dumps(same.to_json()) == json.dumps(whole.to_json())
    outcomes = [
        one["outcome"] for one in read_attempts(ground.place.store, sample.tuning_id, sample.sample_id)
    ]
    assert outcomes == ["killed", "complete"]


def test_leaving_stores_the_state_and_finishing_removes_it(ground: Ground) -> None:
    sample, run = began(ground, 3)
    folder = layout.SearchFiles(sample.tuning_id).open_sample(sample.sample_id)
    run.step()
    run.leave()
    assert any(name.startswith("state-") for name in ground.place.store.list(folder))
    again = SampleRun.begin(sample, ground.place)
    assert again._epoch == 2
    record = finished(again)
    again.leave()
    assert not ground.place.store.exists(folder)
    assert read_sample(ground.place.store, sample.tuning_id, sample.sample_id) == record


def test_only_training_and_validation_cases_are_ever_indexed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: set[str] = set()
    taken: set[int] = set()
    open_table, take = examples.open_table, ImageExamples.take

    def spying_open(*args: Any, **options: Any) -> Any:
        opened.update(options["digests"])
        return open_table(*args, **options)

    def spying_take(self: ImageExamples, rows: Any) -> Any:
        taken.update(self.keys[rows].tolist())
        return take(self, rows)

    monkeypatch.setattr(examples, "open_table", spying_open)
    monkeypatch.setattr(ImageExamples, "take", spying_take)
    sample, run = began(ground, 4)
    finished(run)
    selections = ground.tuning.selections
    allowed = {row[0] for trial in sample.trials for row in selections[trial.selection].rows}
    assert opened == allowed
    assert taken == {int(digest[:16], 16) for digest in allowed}
    held_out = {
        digest
        for trial in ground.plan.trials
        for one in trial.evaluations
        if (one.section, one.part) == ("portable", "hold_out")
        for digest in ground.plan.selections[one.selection].digests
    }
    assert held_out
    assert held_out.isdisjoint(opened)


def test_a_sample_is_judged_by_the_untuned_loss_and_batch_size(ground: Ground) -> None:
    run = began(ground, 6, **{LOSS: "dice_as_printed", BATCH: 6})[1]
    record = finished(run)
    untuned = ground.tuning.base[0].identity
    for member, curve in zip(run._members, record.repetitions, strict=True):
        own = [one.values["validation_loss"] for one in member.trainer.cursor.history]
        assert min(own) < curve.losses[-1]  # the printed loss is always the lower one
        learner = member.trainer.learner
        learner.networks["network"].load_state_dict(member.trainer.best)
        judge = registry.learner_of(untuned, ground.place.device, share=learner)
        assert judge.validate(member._validation)["loss"] == curve.losses[-1]


def test_a_sample_that_diverges_is_finished(ground: Ground) -> None:
    sample, run = began(ground, 7, **{LR: 1e30})
    record = finished(run)
    assert record.outcome == "diverged"
    assert record.loss is None
    assert read_sample(ground.place.store, sample.tuning_id, sample.sample_id) == record


def test_a_failure_is_kept_with_its_attempt(ground: Ground, tmp_path: Path) -> None:
    sample = ground.tuning.sample(8, POINT)
    elsewhere = replace(ground.place, store=Store.open(tmp_path))
    with pytest.raises(Exception, match="is missing; run the study again"):
        SampleRun.begin(sample, elsewhere)
    [attempt] = read_attempts(elsewhere.store, sample.tuning_id, sample.sample_id)
    told: Mapping[str, Any] = attempt
    assert told["outcome"] == "failed"
    assert told["failure"].startswith("RecordError: ")
