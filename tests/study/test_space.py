"""What a search may vary: every mistake is reported with its line; a point of a space is a valid study."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.refusals import problems_of
from tests.study.conftest import Write
from xferlab.errors import StudyError
from xferlab.study.load import load
from xferlab.study.schema import Study
from xferlab.study.space import Space, load_space

SpaceOf = Callable[[str], Space]


@pytest.fixture
def study(write: Write) -> Study:
    return load(write(), environ={}).arms["baseline"]


@pytest.fixture
def space_of(write: Write, study: Study) -> SpaceOf:
    def space_of(text: str) -> Space:
        return load_space(write(text, base="", name="space.yaml"), study, stage="general")

    return space_of


def test_training_is_that_of_the_tuned_stage(space_of: SpaceOf) -> None:
    space = space_of(
        """\
        training.lr: {loguniform: [1e-4, 1e-2]}
        training.batch_size: {choice: [4, 8]}
        training.plateau.patience: {int: [2, 5]}
        training.rotation: {grid: [null, {degrees: 5}]}
        """
    )
    assert [(each.path, each.kind, each.values, each.line) for each in space.parameters] == [
        ("stages.general.training.lr", "loguniform", (1e-4, 1e-2), 1),
        ("stages.general.training.batch_size", "choice", (4, 8), 2),
        ("stages.general.training.plateau.patience", "int", (2, 5), 3),
        ("stages.general.training.rotation", "grid", (None, {"degrees": 5}), 4),
    ]
    assert space.size is None
    assert [parameter.num_values for parameter in space.parameters] == [None, 2, 4, 2]


def test_a_point_changes_the_stage_and_nothing_else(space_of: SpaceOf, study: Study) -> None:
    space = space_of(
        "training.lr: {loguniform: [1e-4, 1e-2]}\ntraining.plateau.factor: {uniform: [0.1, 0.5]}"
    )
    point = {space.parameters[0].path: 0.004, space.parameters[1].path: 0.25}
    changed = space.applied(study, point)
    general = changed.training_of("general")
    assert (general.lr, general.plateau and general.plateau.factor) == (0.004, 0.25)
    assert general.plateau is not None
    assert general.plateau.patience == 10
    assert changed.training_of("donor") == study.training_of("donor")
    assert changed.model_copy(update={"stages": study.stages}) == study


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("training.lr: {logunifrom: [1e-4, 1e-2]}", 1, "Did you mean 'loguniform'"),
        ("training.lr: 0.1", 1, "it must be {uniform: [...]} or"),
        ("training.lr: {uniform: [1, 2], choice: [3]}", 1, "it must be {uniform: [...]} or"),
        ("\ntraining.lrr: {uniform: [0.1, 0.2]}", 2, "Did you mean 'lr'"),
        ("training.lr: {uniform: [0.2, 0.1]}", 1, "low < high"),
        ("training.lr: {uniform: [0.1, .inf]}", 1, "low < high"),
        ("training.lr: {uniform: [0.1]}", 1, "[low, high]"),
        ("training.lr: {loguniform: [0, 0.1]}", 1, "above 0"),
        (
            "training.lr: {uniform: [-1.0, 0.1]}",
            1,
            "stages.general.training.lr is -1.0; it must be more than 0",
        ),
        ("training.batch_size: {int: [4, 8.5]}", 1, "whole numbers"),
        ("training.batch_size: {uniform: [4.5, 8]}", 1, "it must be a whole number"),
        ("training.batch_size: {choice: []}", 1, "a list of values"),
        ("training.batch_size: {choice: [4, 4]}", 1, "every value once"),
        ("training.loss: {grid: [dice, dise]}", 1, "Did you mean 'dice'"),
        ("data.cxr.hold_out: {uniform: [0.1, 0.4]}", 1, "an arm may not override 'data.cxr.hold_out'"),
        ("seed: {int: [1, 4]}", 1, "an arm may not override 'seed'"),
        ("stages.genral.training.lr: {uniform: [0.1, 0.4]}", 1, "Did you mean 'general'"),
        (
            "training.plateau: {choice: [null]}\ntraining.plateau.factor: {uniform: [0.1, 0.4]}",
            2,
            "training.plateau.factor and training.plateau vary the same field",
        ),
        ("[1, 2]", 1, "a mapping of dotted paths"),
        ("", 1, "a mapping of dotted paths"),
    ],
)
def test_a_mistake_is_reported_with_its_line(space_of: SpaceOf, text: str, line: int, words: str) -> None:
    with pytest.raises(StudyError, match=rf"space\.yaml:{line}: .*{re.escape(words)}"):
        space_of(text)


def test_all_mistakes_are_reported_at_once(space_of: SpaceOf) -> None:
    text = "training.lrr: {uniform: [0.1, 0.2]}\ntraining.patience: {int: [0, 5]}\nseed: {int: [1, 4]}"
    assert [problem.where.rpartition(":")[2] for problem in problems_of(StudyError, space_of, text)] == [
        "1",
        "2",
        "3",
    ]


def test_values_that_do_not_fit_together_are_reported(space_of: SpaceOf, study: Study) -> None:
    space = space_of("training.rotation.degrees: {uniform: [0.0, 20.0]}")
    with pytest.raises(StudyError, match=r"with .*degrees 999\.0: .* at most 180"):
        space.applied(study, {space.parameters[0].path: 999.0})


def test_the_space_that_is_shipped_loads(study: Study) -> None:
    shipped = Path(__file__).parents[2] / "search_spaces/optimizer.yaml"
    assert load_space(shipped, study, stage="general").size is None
