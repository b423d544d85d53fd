from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.study.conftest import Write, problems
from xferlab.data.sources.phantom.config import PhantomMriData
from xferlab.errors import StudyError
from xferlab.study.load import load
from xferlab.study.paths import replaced, without

KEYS = st.sampled_from("abc")
TREES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=9)
PATHS = st.lists(KEYS, min_size=1, max_size=4)


def at(tree: object, path: list[str]) -> object:
    for part in path:
        tree = tree[part] if isinstance(tree, dict) else None
    return tree


@given(TREES, PATHS, st.integers())
def test_replacing_sets_one_path_and_removing_undoes_it(tree: object, path: list[str], value: int) -> None:
    before = repr(tree)
    result = replaced(tree, path, value)
    assert repr(tree) == before
    assert at(result, path) == value
    others = {key: entry for key, entry in result.items() if key != path[0]}
    assert others == ({k: v for k, v in tree.items() if k != path[0]} if isinstance(tree, dict) else {})
    assert replaced(result, path, value) == result
    parent = at(without(result, tuple(path)), path[:-1])
    assert isinstance(parent, dict)
    assert path[-1] not in parent


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


SETTINGS = "training: {lr: 1.0e-2, batch_size: 4, max_epochs: 3, patience: 3}\n"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            "arms: {wide: {training: {lr: 0.03}}}",
            ["arm 'wide': ", "batch_size, max_epochs, patience no longer"],
        ),
        ("arms: {wide: {training: {lr: 0.03}}}", ["write `training.lr` instead"]),
        (
            "profiles: {cpu: {training: {device: cpu}}}",
            ["profile 'cpu': ", "lr, batch_size, max_epochs, patience"],
        ),
        ("arms: {wide: {model: {init_features: 4}}}", ["values of name, image_size no longer hold"]),
    ],
)
def test_settings_that_a_whole_takes_away_are_warned_of(write: Write, more: str, told: list[str]) -> None:
    model = "model: {name: unet, init_features: 2, image_size: 32}\n"
    (warning,) = load(write(SETTINGS + model + more, base=BASE)).warnings
    assert all(words in str(warning) for words in ["s.yaml:6: warning: ", *told])


@pytest.mark.parametrize(
    "more",
    [
        "arms: {wide: {training.lr: 0.03}}",
        "arms: {wide: {training: {lr: 0.03, batch_size: 4, max_epochs: 3}, training.patience: 1}}",
        "arms: {other: {model: {name: unet_dropout}}}\nmodel: {name: unet, image_size: 64}",
        "arms: {wide: {stages.donor.training: {lr: 0.03}}}",
        "profiles: {cpu: {training: {device: cpu, batch_size: 2, max_epochs: 2, patience: 2}}}",
    ],
)
def test_of_a_whole_that_takes_nothing_away_nothing_is_said(write: Write, more: str) -> None:
    assert load(write(SETTINGS + more, base=BASE)).warnings == ()


def test_a_value_that_is_given_twice_is_refused(write: Write) -> None:
    arms = "arms: {wide: {training: {lr: 0.03, rotation: {degrees: 5}}, %s}}"
    for second in ("training.lr: 0.02", "training.rotation.degrees: 7", "training.rotation: null"):
        told = f"'wide' gives {second.partition(':')[0]} twice: here, and in `training`; leave one out"
        with pytest.raises(StudyError, match=told):
            load(write(arms % second, base=BASE))


BASE = """\
study: s
data: {mri: {source: phantom_mri, count: 20, where: {device: x}}}
stages: {donor: {data: mri}}
"""


def test_arms_may_add_sections_and_given_weights(write: Write) -> None:
    path = write(
        """\
        arms:
          a:
            stages.second.starts_from: donor
            stages.second.data: extra
            stages.donor: {weights: buda2019}
            data.extra: {source: lgg, root: x}
            stages.donor.weights.sha256: 0000000000000000000000000000000000000000000000000000000000000000
        """,
        base=BASE.replace("donor: {data: mri}", "second: {data: mri}"),
    )
    assert "sha256 is 0; it must be text" in problems(path)[0]
    path.write_text(path.read_text().replace("sha256: 0", "sha256: f"))
    loaded = load(path)
    arm = loaded.arms["a"]
    assert list(loaded.base.stages) == ["second"]
    assert {name: stage.repetitions for name, stage in arm.stages.items()} == {"second": 25, "donor": None}
    weights = arm.stages["donor"].weights
    assert weights is not None
    assert (weights.name, weights.sha256) == ("buda2019", "f" + "0" * 63)


LESS = """\
study: s
data: {mri: {source: phantom_mri, count: 20}, more: {source: phantom_mri, count: 30}}
stages: {donor: {data: mri}, second: {data: more}, third: {data: mri, starts_from: donor}}
arms:
  a: {}
  b: {stages.second.training: {lr: 0.1}, stages.third.training: {lr: 0.1}, data.more.count: 40}
"""


def test_a_profile_leaves_out_stages_with_all_that_arms_change_of_them(write: Write) -> None:
    path = write("profiles: {less: {stages.second: null, data.more: null}}\n", base=LESS)
    whole, less = load(path), load(path, profile="less")
    assert list(whole.arms["b"].stages) == ["donor", "second", "third"]
    for study in (less.base, *less.arms.values()):
        assert (list(study.stages), list(study.data)) == (["donor", "third"], ["mri"])
    assert less.arms["b"].training_of("third").lr == 0.1
    assert list(less.overrides["b"]) == ["stages.third.training"]


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("stages.secnd: null", "there is no stage 'secnd'.*Did you mean 'second'"),
        ("data.mor: null", "there is no data section 'mor'.*Did you mean 'more'"),
        ("stages.donor: null", "stage 'third' starts from 'donor', which is no stage of this study"),
        ("data.more: null", "stage 'second' .*'more'"),
    ],
)
def test_a_profile_cannot_leave_out_what_is_not_there_or_needed(
    write: Write, left_out: str, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        load(write(f"profiles: {{less: {{{left_out}}}}}\n", base=LESS), profile="less")


def test_a_profile_leaves_out_arms(write: Write) -> None:
    path = write("  c: {include: '#b'}\nprofiles: {less: {arms.b: null}}\n", base=LESS)
    assert list(load(path).arms) == ["a", "b", "c"]
    arms = load(path, profile="less").arms
    assert list(arms) == ["a", "c"]
    assert arms["c"].training_of("third").lr == 0.1


def test_a_profile_changes_no_arm(write: Write) -> None:
    path = write("profiles: {less: {arms.d: null, arms.b.data.more.count: 3}}\n", base=LESS)
    missing, changed = sorted(problems(path))
    assert "profile 'less': there is no arm 'd'; this study has a, b" in missing + changed
    assert "`arms.NAME: null` leaves one out" in missing + changed


def test_an_arm_leaves_out_no_stage(write: Write) -> None:
    assert "stages.second" in problems(write("", base=LESS + "  c: {stages.second: null}\n"))[0]


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


def test_what_arms_may_write(write: Write) -> None:
    """In any order, from another study's arms, and a section again if its hold-out is the same."""
    write("arms: {x: {training.lr: 0.5}}\n", base=BASE, name="other.yaml")
    path = write(
        """\
        arms:
          a: {training.rotation: {degrees: 5}, training.rotation.probability: 0.1}
          b: {training.rotation.probability: 0.1, training.rotation: {degrees: 5}}
          c: {include: other.yaml#x}
          d: {data.mri: {source: lgg, root: x, hold_out: 0.5}}
        """,
        base=BASE,
        edits={"count: 20": "count: 20, hold_out: 0.5"},
    )
    arms = load(path).arms
    assert arms["a"] == arms["b"]
    assert arms["c"].training.lr == 0.5
    assert arms["d"].data["mri"].hold_out == 0.5


def test_circles_and_long_chains_of_includes_are_refused(write: Write) -> None:
    write("a: {include: y.yaml#b}\n", base="", name="x.yaml")
    write("b: {include: x.yaml#a}\n", base="", name="y.yaml")
    path = write("arms: {c: {include: x.yaml#a}}\n", base=BASE)
    assert problems(path) == [
        f"{path.parent}/y.yaml:1: arms include each other in a circle: {path.parent}/x.yaml#a -> "
        f"{path.parent}/y.yaml#b -> {path.parent}/x.yaml#a"
    ]
    chain = "".join(f"a{n}: {{include: '#a{n + 1}'}}\n" for n in range(300)) + "a300: {}\n"
    write(chain, base="", name="x.yaml")
    path = write("arms: {c: {include: x.yaml#a0}}\n", base=BASE)
    assert problems(path) == [
        f"{path.parent}/x.yaml:16: more than 16 arms include each other in a row",
    ]


def test_includes_that_multiply_are_read_once_each(write: Write) -> None:
    many = "".join(f"a{n}: {{include: {[f'#a{n + 1}'] * 10}}}\n" for n in range(15))
    write(f"{many}a15: {{training.lr: 0.5}}\n", base="", name="x.yaml")
    assert load(write("arms: {c: {include: x.yaml#a0}}\n", base=BASE)).arms["c"].training.lr == 0.5


def test_a_priority_is_of_its_arm_alone_and_no_override(write: Write) -> None:
    study = load(
        write("arms: {a: {priority: 3}, b: {include: '#a', training.lr: 0.1}, c: {priority: 0}}", base=BASE)
    )
    assert study.priorities == {"a": 3}
    assert study.overrides == {"a": {}, "b": {"training.lr": 0.1}, "c": {}}
    assert study.arms["a"] == study.arms["c"]
