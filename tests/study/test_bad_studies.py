"""A table of mistakes: each is reported with its line, and nothing else is."""

from __future__ import annotations

import pytest

from tests.study.conftest import BASE, Write, lines_of_problems, problems
from tests.study.mistakes import FIELDS
from tests.study.mistakes_of_arms import ADAPTED, ARMS, PROFILES
from xferlab.study.load import load

ADAPTED_FIELDS = [
    ("from: donor,", f"from: donor, adapt: {{{options}}},", 7, what) for options, what in ADAPTED
]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"), [*FIELDS, *ADAPTED_FIELDS], ids=lambda value: str(value)[:40]
)
def test_a_bad_field_is_reported_once_with_its_line(
    write: Write, old: str, new: str, line: int, what: str
) -> None:
    path = write(edits={old: new})
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:{line}: {what}")


@pytest.mark.parametrize(("override", "what"), ARMS, ids=lambda value: str(value)[:30])
def test_a_bad_arm_is_reported_once_with_its_line(write: Write, override: str, what: str) -> None:
    path = write(f"arms:\n  b: {{{override}}}\n")
    (problem,) = problems(path)
    message = problem.removeprefix(f"{path}:10: ").removeprefix("arm 'b': ").replace(f"{path.parent}/", "")
    assert message.startswith(what)


@pytest.mark.parametrize(("override", "what"), PROFILES, ids=lambda value: str(value)[:30])
def test_profiles_are_checked_even_if_not_chosen(write: Write, override: str, what: str) -> None:
    path = write(f"profiles:\n  p: {{{override}}}\narms: {{a: {{}}, b: {{}}}}\n")
    for profile in (None, "p"):
        (problem,) = problems(path, profile=profile)
        assert problem.startswith(f"{path}:10: profile 'p': {what}")


def test_all_problems_come_at_once_in_the_order_of_the_file(write: Write) -> None:
    more = """\
        seed: x
        split: {trian: 0.6}
        arms:
          a: {training.lrr: 1, stages.general.starts_from: nobody}
        profiles:
          p: {model.size: 3}
        """
    assert lines_of_problems(write(more, edits={"cxr.test": "crx.test"})) == [7, 9, 10, 12, 12, 14]


@pytest.mark.parametrize(
    ("edits", "more", "lines"),
    [
        ({"study: s": "study: a b", "from: donor": "from: x"}, "arms: {a: {training.lr: 0}}\n", [1, 7, 9]),
        (
            {"from: donor": "from: doner"},
            "arms: {a: {}, b: {training.lr: 0.1}, c: {training.lr: 0}}\n",
            [7, 9],
        ),
        ({BASE[BASE.index("stages:") :]: "stages: 3\n"}, "arms: {a: {stages.x.starts_from: null}}\n", [5]),
        ({"mri:": "a b:", "phantom_mri": "x"}, "", [3, 3, 6]),
    ],
    ids=["bad name", "base once, not for each arm", "no stages", "bad name and bad content"],
)
def test_a_mistake_hides_no_other_and_is_reported_once(
    write: Write, edits: dict[str, str], more: str, lines: list[int]
) -> None:
    assert lines_of_problems(write(more, edits=edits)) == lines


@pytest.mark.parametrize(
    ("included", "what"),
    [
        ("# arms\nx: {training.lrr: 1}\n", "2: arm 'a': unknown field 'lrr' in training. Did you mean 'lr'?"),
        ("# arms\nx: [1]\n", "2: 'x' is a list; it must be a mapping of dotted paths to values"),
    ],
)
def test_a_mistake_in_an_included_file_is_reported_once_with_its_line_there(
    write: Write, included: str, what: str
) -> None:
    space = write(included, base="", name="spaces/a.yaml")
    arms = "arms: {a: {include: spaces/a.yaml#x}, b: {include: spaces/a.yaml#x}}\n"
    (problem,) = problems(write(arms))
    assert problem.startswith(f"{space}:{what}")


@pytest.mark.parametrize(
    ("included", "what"),
    [
        ("x: {}\ny: [\n", "2: this is not valid YAML: "),
        ("x: {}\nx: {}\n", "2: 'x' is given twice, first on line 1; keep one"),
        (None, " there is no such file."),
    ],
)
def test_a_file_that_cannot_be_included_is_reported_once(
    write: Write, included: str | None, what: str
) -> None:
    if included:
        write(included, base="", name="a.yaml")
    path = write("arms: {a: {include: a.yaml#x}, b: {include: a.yaml#y}}\n")
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:9: cannot include {path.parent}/a.yaml:{what}")


def test_the_variables_of_a_profile_are_needed_if_it_is_chosen(write: Write) -> None:
    path = write("profiles:\n  p: {data.mri: {source: lgg, root: '${NOT_SET}/x'}}\n")
    load(path, environ={})
    what = "profile 'p': data.mri.root needs the environment variable `NOT_SET`, which is not set; for "
    assert problems(path, profile="p") == [f"{path}:10: {what}example: export NOT_SET=/path/to/it"]


def test_an_unknown_profile_is_suggested(write: Write) -> None:
    path = write("profiles:\n  cpu: {}\n  gpu: {}\n")
    expected = f"{path}:9: there is no profile 'cpuu'; this study has cpu, gpu. Did you mean 'cpu'?"
    assert problems(path, profile="cpuu") == [expected]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the file is empty; a study is a mapping that begins with"),
        ("- a\n", "this is a list; a study is"),
        ("3\n", "this is 3; a study is"),
    ],
)
def test_a_file_without_a_mapping(write: Write, text: str, what: str) -> None:
    path = write(base=text)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:1: {what}")


@pytest.mark.parametrize(
    ("edits", "line", "field"),
    [
        ({"{source: phantom_mri, count: 20}": "{source: lgg, root: '${A_B}/x'}"}, 3, "data.mri.root"),
        ({"study: s\n": "study: s\nstorage: '${A_B}/results'\n"}, 2, "storage"),
        ({"{data: mri}": "{weights: {path: '${A_B}/w'}}"}, 6, "stages.donor.weights.path"),
    ],
)
def test_a_missing_variable_is_named(write: Write, edits: dict[str, str], line: int, field: str) -> None:
    path = write("arms: {a: {}, b: {}}\n", edits=edits)
    what = f"{field} needs the environment variable `A_B`, which is not set; for example: export A_B="
    (problem,) = (problem for problem in problems(path) if f":{line}:" in problem)
    assert problem.startswith(f"{path}:{line}: {what}")
