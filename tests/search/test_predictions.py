"""A sample of a stage that takes predictions trains as a study would that has its parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import index_sections
from tests.studies import write_study
from tests.takes import KINDS, LUNGS, takes
from tests.tasks.labelled import added
from xferlab.errors import InterruptedTrialError
from xferlab.plan.expand import expand
from xferlab.plan.plan import Setting
from xferlab.records.store import Store
from xferlab.schedule.study import publish
from xferlab.search.plan import Tuning, Wanted
from xferlab.search.worker import run_sample
from xferlab.study.load import load
from xferlab.study.space import load_space
from xferlab.trial import environment
from xferlab.trial.examples import TrialContext
from xferlab.trial.run import run_trial

pytestmark = pytest.mark.component

LR, FOLDS = "stages.seen.training.lr", ("a/lungs/r01/f1", "a/lungs/r01/f2")


def test_a_sample_takes_the_predictions_of_its_repetition(tmp_path: Path) -> None:
    cache, store, setting = tmp_path / "cache", Store.open(tmp_path / "st"), Setting("cpu", bfloat16=False)

    def index(name: str, config: Any) -> Any:
        return index_sections({name: config}, memo_dir=cache)[name]

    with added():
        study = takes(out_of_fold=2, repetitions=1, arms={"a": {}, "b": {LR: 0.02}})
        loaded = load(write_study(tmp_path, **study))
        plan = expand(loaded, index, setting)
        publish(plan, store)
        for name in (LUNGS, *FOLDS, KINDS):
            run_trial(plan.by_id[plan.names[name]], store, cache_dir=cache)
        (tmp_path / "space.yaml").write_text(f"{LR}: {{choice: [0.01, 0.02]}}\n")
        space = load_space(tmp_path / "space.yaml", loaded.arms["a"], stage="seen")
        wanted = Wanted("a", "seen", repetitions=1, search="random", asha=False, seed=1)
        tuning = Tuning(loaded, space, wanted, index=index, setting=setting)
        context = TrialContext(store, cache, environment.prepare(tuning.base[0].identity.execution))
        sample = tuning.sample(1, {LR: 0.02})
        with pytest.raises(InterruptedTrialError, match="stopped; run the search again to go on"):
            run_sample(sample, context, stop=lambda: True)
        (curve,) = run_sample(sample, context).repetitions
        trained = plan.by_id[plan.names["b/seen/r01"]]
        assert curve.trial_id == trained.trial_id
        record = run_trial(trained, store, cache_dir=cache)
        assert (min(curve.scores), curve.best_epoch) == (record.best_score, record.best_epoch)
