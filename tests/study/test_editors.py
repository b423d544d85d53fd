from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from xferlab.study.editors import json_schema
from xferlab.study.yaml_lines import read

GOOD = """\
study: s
data: {mri: {source: phantom_mri, count: 400}, cxr: {source: manifest, root: "${X}/y", hold_out: 0.5}}
stages:
  donor: {weights: buda2019}
  general: {starts_from: donor, data: cxr, repetitions: 3, training: {lr: 0.1, rotation: {degrees: 5}}}
  last: {starts_from: general, data: cxr, task: segmentation, adapt: {freeze: {part: encoder}}, model: {}}
arms:
  a:
  b: {stages.general.starts_from: null, priority: 3, include: x.yaml#y}
  c: {include: ["#b", x.yaml#y], data.extra: {source: lgg, root: z}}
profiles:
  cpu: {repetitions: 3, model.image_size: 128}
  less: {arms.c: null, stages.last: null, data.cxr: null}
"""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def parsed(tmp_path: Path, text: str) -> Any:
    (tmp_path / "s.yaml").write_text(text)
    return read(tmp_path / "s.yaml").value


SECTION = "source: phantom_mri, count: 400"
LABELLED = "source: manifest, root: x, labels: {lung: %s}"


@pytest.mark.parametrize("labels", ["", "[65535], ignore: [127]", "{above: 127}"])
def test_it_accepts_a_good_study(validator: Draft202012Validator, tmp_path: Path, labels: str) -> None:
    validator.validate(parsed(tmp_path, GOOD.replace(SECTION, LABELLED % labels) if labels else GOOD))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("study: s", "studi: s"),
        ("study: s", "study: a b"),
        ("phantom_mri", "phantom"),
        ("count: 400", "count: 0"),
        ("count: 400", "root: x"),
        (SECTION, LABELLED % "{abov: 127}"),
        (SECTION, LABELLED % "255"),
        ("hold_out: 0.5", "hold_out: 2"),
        ("hold_out: 0.5", "gamma: 0"),
        ("model: {}", "model: {image_size: 8}"),
        ("model: {}", "label_fraction: 1.5"),
        ("model: {}", "label_fraction: {b: -1}"),
        ("lr: 0.1", "lrr: 0.1"),
        ("lr: 0.1", "lr: 0"),
        ("degrees: 5", "degree: 5"),
        ("part: encoder", "part: encodr"),
        ("task: seg", "task: zeg"),
        ("model: {}", "model: {size: 3}"),
        ("repetitions: 3, tr", "repetitions: 0, tr"),
        ("x.yaml#y}", "x.yaml}"),
        ("stages.general.starts_from: null", "seed: 3"),
        ("stages.general.starts_from: null", "split.train: 0.5"),
        ("stages.general.starts_from: null", "stagess.x: 3"),
        ("cpu: {repetitions", "cpu: {study"),
        ("cpu: {repetitions", "cpu: {arms"),
        ("  a:\n", "  a: 3\n"),
        ("  a:\n", "  a b:\n"),
        ("{mri:", "{m.ri:"),
    ],
)
def test_it_refuses_what_loading_refuses(
    validator: Draft202012Validator, tmp_path: Path, old: str, new: str
) -> None:
    assert old in GOOD
    assert not validator.is_valid(parsed(tmp_path, GOOD.replace(old, new, 1)))


@pytest.mark.parametrize("name", ["arms", "profiles"])
def test_it_accepts_an_empty_list_of_arms_or_profiles(
    validator: Draft202012Validator, tmp_path: Path, name: str
) -> None:
    validator.validate({**parsed(tmp_path, GOOD), name: None})


def test_every_bound_is_one_of_json_schema() -> None:
    numbers = re.findall(r'"(ge|gt|le|lt|multiple_of)": ', json.dumps(json_schema()))
    assert numbers == []


def properties(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, model in {"Study": schema, **schema["$defs"]}.items():
        for field, content in model.get("properties", {}).items():
            yield f"{name}.{field}", content


def test_every_field_has_a_description() -> None:
    fields = dict(properties(json_schema()))
    assert len(fields) > 60
    assert [name for name, content in fields.items() if not content.get("description")] == []
