from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xferlab.data.sources.phantom.config import PhantomMriData
from xferlab.errors import StudyError
from xferlab.study.load import load
from xferlab.study.paths import complaint, replaced, without
from xferlab.study.schema import Study

Write = Callable[..., Path]
KEYS = st.sampled_from("abc")
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=9)
PATHS = st.lists(KEYS, min_size=1, max_size=4)


def at(tree: object, path: list[str]) -> object:
    for part in path:
        tree = tree[part] if isinstance(tree, dict) else None
    return tree


@given(TREES, PATHS, st.integers())
def test_replacing_sets_one_path_and_leaves_the_argument_alone(
    tree: object, path: list[str], value: int
) -> None:
    before = repr(tree)
    result = replaced(tree, path, value)
    assert repr(tree) == before
    assert at(result, path) == value
    if isinstance(tree, dict):
        assert {k: v for k, v in result.items() if k != path[0]} == {
            k: v for k, v in tree.items() if k != path[0]
        }
    assert replaced(result, path, value) == result


@given(TREES, PATHS)
def test_removing_undoes_adding(tree: object, path: list[str]) -> None:
    added = replaced(tree, path, 1)
    parent = at(without(added, tuple(path)), path[:-1])
    assert isinstance(parent, dict)
    assert path[-1] not in parent


def every_path(model: Study) -> list[str]:
    return [".".join(path) for path in leaves(model.model_dump())]


def leaves(tree: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(tree, dict):
        return [path]
    return [path] * bool(path) + [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]


def test_every_field_of_a_study_has_a_path(write: Write) -> None:
    study = load(write("tracking: {wandb: {}}\n")).base
    tree = study.model_dump()
    assert [path for path in every_path(study) if complaint(tree, path.split("."))] == []


def test_an_override_replaces_its_value_as_a_whole(write: Write) -> None:
    arms = load(
        write(
            """\
            arms:
              a: {data.mri.where: {sex: f}}
              b: {data.mri.where.age: 3}
              c: {training.rotation: {degrees: 5}}
              d: {training.rotation.degrees: 5}
              e: {data.mri: {source: phantom_mri, count: 3}}
            training: {rotation: {probability: 0.5}}
            """,
            base=BASE,
        )
    ).arms
    assert arms["a"].data["mri"].where == {"sex": "f"}
    assert arms["b"].data["mri"].where == {"device": "x", "age": 3}
    rotations = [arms[name].training.rotation for name in "cd"]
    assert [(r.degrees, r.probability) for r in rotations if r] == [(5, 0.75), (5, 0.5)]
    assert arms["e"].data["mri"] == PhantomMriData(source="phantom_mri", count=3)


BASE = """\
study: s
data: {mri: {source: phantom_mri, count: 20, where: {device: x}}}
stages: {donor: {data: mri}}
"""


def test_arms_may_add_sections_and_stages(write: Write) -> None:
    path = write(
        """\
        arms:
          a:
            stages.second.starts_from: first
            stages.first: {data: extra}
            stages.second: {data: mri}
            data.extra: {source: lgg, root: x}
            stages.donor: {weights: buda2019}
            stages.donor.weights.sha256: 0000000000000000000000000000000000000000000000000000000000000000
        """,
        base=BASE,
    )
    with pytest.raises(StudyError, match="sha256 is 0; it must be text"):
        load(path)
    path.write_text(path.read_text().replace("sha256: 0", "sha256: f"))
    loaded = load(path)
    arm = loaded.arms["a"]
    assert list(loaded.base.stages) == ["donor"]
    assert {name: stage.repetitions for name, stage in arm.stages.items()} == {
        "donor": None,
        "first": 1,
        "second": 25,
    }
    weights = arm.stages["donor"].weights
    assert weights is not None
    assert (weights.name, weights.sha256) == ("buda2019", "f" + "0" * 63)


def test_own_overrides_win_over_includes_and_later_includes_over_earlier(write: Write) -> None:
    write(
        "a: {training.lr: 0.1, training.patience: 1}\nb: {include: '#a', training.lr: 0.2}\n"
        "c: {training.lr: 0.3, training.rotation: null}\n",
        base="",
        name="spaces/x.yaml",
    )
    write("d: {include: x.yaml#b, model.init_features: 8}\n", base="", name="spaces/y.yaml")
    path = write(
        """\
        arms:
          plain: {training.batch_size: 2}
          one: {include: ../spaces/y.yaml#d}
          two: {include: [../spaces/y.yaml#d, ../spaces/x.yaml#c]}
          three: {include: [../spaces/x.yaml#c, ../spaces/y.yaml#d, "#plain"]}
          own: {include: ../spaces/y.yaml#d, training.lr: 0.4}
          whole: {include: ../spaces/x.yaml#c, training.rotation.degrees: 3}
        """,
        base=BASE,
        name="jobs/s.yaml",
    )
    arms = load(path).arms
    assert {name: arm.training.lr for name, arm in arms.items()} == {
        "plain": 1e-3,
        "one": 0.2,
        "two": 0.3,
        "three": 0.2,
        "own": 0.4,
        "whole": 0.3,
    }
    assert [arms[name].training.patience for name in ("one", "two", "three")] == [1, 1, 1]
    assert arms["three"].training.rotation is None
    assert arms["three"].training.batch_size == 2
    assert arms["three"].model.init_features == 8
    assert (arms["whole"].training.rotation or pytest.fail("no rotation")).degrees == 3


def test_the_order_of_overrides_in_an_arm_does_not_matter(write: Write) -> None:
    path = write(
        """\
        arms:
          a: {training.rotation: {degrees: 5}, training.rotation.probability: 0.1}
          b: {training.rotation.probability: 0.1, training.rotation: {degrees: 5}}
        """,
        base=BASE,
    )
    arms = load(path).arms
    assert arms["a"] == arms["b"]


def test_arms_of_another_study_can_be_included(write: Write) -> None:
    write("arms: {x: {training.lr: 0.5}}\n", base=BASE, name="other.yaml")
    assert load(write("arms: {y: {include: other.yaml#x}}\n", base=BASE)).arms["y"].training.lr == 0.5


def test_circles_and_long_chains_of_includes_are_refused(write: Write) -> None:
    write("a: {include: y.yaml#b}\n", base="", name="x.yaml")
    write("b: {include: x.yaml#a}\n", base="", name="y.yaml")
    with pytest.raises(StudyError) as caught:
        load(write("arms: {c: {include: x.yaml#a}}\n", base=BASE))
    (problem,) = caught.value.problems
    assert problem.where.endswith("y.yaml:1")
    for part in ("arms include each other in a circle: ", "x.yaml#a -> ", "y.yaml#b -> "):
        assert part in problem.what
    chain = "".join(f"a{n}: {{include: '#a{n + 1}'}}\n" for n in range(300)) + "a300: {}\n"
    write(chain, base="", name="x.yaml")
    with pytest.raises(StudyError, match="more than 16 arms include each other in a row"):
        load(write("arms: {c: {include: x.yaml#a0}}\n", base=BASE))


def test_a_section_may_be_given_again_with_the_same_hold_out(write: Write) -> None:
    path = write(
        """\
        arms:
          a: {data.cxr: {source: lgg, root: x, hold_out: 0.5}}
        """
    )
    assert load(path).arms["a"].data["cxr"].hold_out == 0.5
