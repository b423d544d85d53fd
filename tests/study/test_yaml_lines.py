from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.refusals import problems_of
from tests.study.conftest import Write
from xferlab.errors import StudyError
from xferlab.study.yaml_lines import read


def test_every_key_and_item_knows_its_line(write: Write) -> None:
    text = "a: 1\nb:\n  c:\n    - x\n    - {d: 2,\n       e: 3}\n"
    document = read(write(text, base=""))
    assert document.value == {"a": 1, "b": {"c": ["x", {"d": 2, "e": 3}]}}
    lines = {("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "c", 0): 4, ("b", "c", 1): 5, ("b", "c", 1, "e"): 6}
    assert {path: document.line(path) for path in lines} == lines
    assert document.line(("b", "c", 7, "nothing")) == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        (".5", 0.5),
        ("-12", -12),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("on", "on"),
        ("no", "no"),
        ("Off", "Off"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2021-01-01", "2021-01-01"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("-.inf", -math.inf),
        (".NaN", math.nan),
        ("-1.5E3", -1500.0),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_scalars_follow_yaml_1_2(write: Write, text: str, value: object) -> None:
    result = read(write(f"a: {text}\n", base="")).value["a"]
    assert repr(result) == repr(value)


def test_quotes_tags_keys_and_anchors(write: Write) -> None:
    text = "a: '1'\n2: !!str 3\nnull: \"true\"\nb: |\n  4\nc: &x\n  d: [1]\ne: *x\n'<<': 1\n"
    document = read(write(text, base=""))
    assert document.value == {
        "a": "1", "2": "3", "null": "true", "b": "4\n", "c": {"d": [1]}, "e": {"d": [1]}, "<<": 1,
    }  # fmt: skip
    assert document.line(("e", "d", 0)) == 7  # of the anchor


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_means_in_yaml_what_it_means_in_json(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    assert read(path).value == value


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "'a' is given twice, first on line 1; keep one"),
        ("a:\n\tb: 1\n", 2, "this line is indented with a tab, and YAML allows only spaces"),
        ("a: [1, 2\nb: 3\n", 2, "this is not valid YAML: "),
        ("a: b: c\n", 1, "this is not valid YAML: mapping values are not allowed"),
        ("(: [", 1, "this is not valid YAML: "),
        ("a: *x\n", 1, "this is not valid YAML: found undefined alias"),
        ("a: &x 1\nb: &x 2\n", 2, "this is not valid YAML: found duplicate anchor"),
        ("a: 1\n--- \nb: 2\n", 2, "this is not valid YAML: expected a single document in the stream, but "),
        ("a: 1\nb: !!python/object:os.system x\n", 2, "the tag tag:yaml.org,2002:python/object:os.system"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2\n", 3, "merge keys (`<<`) are not part of YAML 1.2; repeat "),
        ("{[1]: 2}\n", 1, "a key must be a plain word"),
        ("a: 1\nb: \x01\n", 2, "this line has a control character; is this a text file?"),
        ("a: &x [*x]\n", 1, "the aliases here expand to far more than a study can hold"),
        ("a:\n  b: " + "[" * 60_000, 2, "nested deeper than 32 levels"),
        ("a: 1\nb: " + "9" * 5000, 2, "this number has 5000 digits; at most 100 are accepted"),
        (BOMB, 1, "the aliases here expand to far more than a study can hold"),
    ],
)
def test_bad_yaml_is_one_problem_with_its_line(write: Write, text: str, line: int, what: str) -> None:
    path = write(base=text)
    (problem,) = problems_of(StudyError, read, path)
    assert problem.where == f"{path}:{line}"
    assert problem.what.startswith(what)


def test_files_that_cannot_be_read(tmp_path: Path, write: Write) -> None:
    near = write(base="a: 1")
    (tmp_path / "b.txt").write_bytes(b"\x89PNG\xff\xfe")
    for path, what in {
        tmp_path / "no.yaml": f"there is no such file. YAML files in that folder: {near}.",
        tmp_path: "cannot be read: Is a directory; name a YAML file",
        tmp_path / "b.txt": "byte 0 is not UTF-8 text; a study is a YAML text file",
        Path("a\0b"): "cannot be read: embedded null byte; name a YAML file",
    }.items():
        with pytest.raises(StudyError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {what}"
