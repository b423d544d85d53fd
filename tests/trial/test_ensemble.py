"""Ensembles without a study: what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.trial.test_predict import predictor
from xferlab.errors import UsageError
from xferlab.trial.ensemble import Ensemble


def test_a_task_whose_outputs_are_not_averaged_is_refused(tmp_path: Path) -> None:
    translating = replace(predictor(tmp_path), identity=cast("Any", SimpleNamespace(task="translation")))
    with pytest.raises(
        UsageError, match=r"a/b: outputs of task 'translation' are not averaged over networks"
    ):
        Ensemble.of({"0": translating}, origin="a/b")
