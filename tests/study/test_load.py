from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.study.conftest import Write, problems
from xferlab.data.sources.lgg.config import LggData
from xferlab.data.sources.manifest.config import ManifestData
from xferlab.errors import StudyError
from xferlab.study.load import load
from xferlab.study.schema import Study

EXAMPLE = """\
study: covid_lung
seed: 2021
repetitions: 25
storage: ./xferlab-results
data:
  mri:      {source: phantom_mri, count: 400}
  general:  {source: manifest, root: "${DATA}/covid-lung-512", where: {device: fixed}}
  portable: {source: manifest, root: "${DATA}/covid-lung-512", where: {device: portable}, hold_out: 0.5}
model: {name: unet, init_features: 32, in_channels: 3, image_size: 256}
stages:
  donor:    {data: mri}
  general:  {starts_from: donor, data: general, evaluate_on: [general.test, portable.hold_out]}
  portable: {starts_from: general, data: portable, evaluate_on: [portable.test, portable.hold_out]}
training: {loss: dice, optimizer: adam, lr: 1.0e-3, batch_size: 16, max_epochs: 200, patience: 20}
arms:
  baseline: {}
  scratch: {stages.general.starts_from: null}
  plain: {include: ../search_spaces/ablations.yaml#no_augmentation}
  shared: {include: ../search_spaces/ablations.yaml#scratch}
profiles:
  cpu: {repetitions: 3, model.image_size: 128, training.max_epochs: 25, training.patience: 8}
resources: {cpu: 2, gpu: 0.25}
tracking: {wandb: {project: xferlab, mode: offline}}
"""


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (tmp_path / "search_spaces").symlink_to(Path(__file__).parents[2] / "search_spaces")
    path = tmp_path / "jobs/covid_lung.yaml"
    path.parent.mkdir()
    path.write_text(EXAMPLE)
    return path


def repetitions(study: Study) -> dict[str, int | None]:
    return {name: stage.repetitions for name, stage in study.stages.items()}


def test_the_example_of_the_architecture(example: Path, tmp_path: Path) -> None:
    loaded = load(example, environ={"DATA": str(tmp_path / "data")})
    base, arms = loaded.base, loaded.arms
    assert list(arms) == ["baseline", "scratch", "plain", "shared"]
    assert (arms["baseline"], loaded.warnings) == (base, ())
    assert repetitions(base) == {"donor": 1, "general": 25, "portable": 25}
    general = base.data["general"]
    assert isinstance(general, ManifestData)
    assert general.root == str(tmp_path / "data/covid-lung-512")
    assert arms["scratch"].stages["general"].starts_from is None
    assert repetitions(arms["scratch"]) == repetitions(base)
    assert arms["shared"] == arms["scratch"]
    assert (arms["plain"].training.rotation, arms["plain"].stages) == (None, base.stages)


def test_the_overrides_of_arms_are_as_written_with_what_they_include(example: Path) -> None:
    both = "{include: ../search_spaces/ablations.yaml#scratch, training.lr: 1e-4, model.init_features: 8}"
    example.write_text(EXAMPLE.replace("arms:\n", f"arms:\n  both: {both}\n"))
    scratch = {"stages.general.starts_from": None}
    assert load(example, profile="cpu", environ={"DATA": "/d"}).overrides == {
        "both": {**scratch, "training.lr": 1e-4, "model.init_features": 8},
        "baseline": {},
        "scratch": scratch,
        "plain": {"training.rotation": None},
        "shared": scratch,
    }


def test_a_profile_changes_the_base_and_all_arms(example: Path) -> None:
    loaded = load(example, profile="cpu", environ={"DATA": "/d"})
    for study in (loaded.base, *loaded.arms.values()):
        assert (study.model.image_size, study.model.in_channels, study.training.patience) == (128, 3, 8)
    assert loaded.profile == "cpu"
    assert repetitions(loaded.base) == {"donor": 1, "general": 3, "portable": 3}


def test_loading_is_a_function_of_its_arguments_and_studies_survive_json(
    example: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(example, environ={"DATA": "/d"})
    monkeypatch.setenv("DATA", "/d")
    assert load(example) == load(str(example)) == loaded
    for study in (loaded.base, *loaded.arms.values()):
        assert Study.model_validate_json(study.model_dump_json()) == study
        assert Study.model_validate(study.model_dump(mode="json")) == study


@pytest.mark.parametrize("more", ["", "arms: {}\n", "arms:\n"])
def test_without_arms_there_is_a_baseline(write: Write, more: str) -> None:
    loaded = load(write(more))
    assert loaded.arms == {"baseline": loaded.base}


def test_roots_start_at_the_study_file_and_leave_no_variable(write: Write, tmp_path: Path) -> None:
    path = write(
        base="""\
study: s
data:
  a: {source: lgg, root: ../x}
  b: {source: lgg, root: "${HERE}/${THERE}"}
  c: {source: lgg, root: ~/x}
stages:
  a: {weights: {path: w/unet.pt}}
  b: {weights: buda2019}
  c: {data: a, starts_from: a}
""",
        name="jobs/s.yaml",
    )
    study = load(path, environ={"HERE": "/h", "THERE": "t"}).base
    roots = {name: section.root for name, section in study.data.items() if isinstance(section, LggData)}
    assert roots == {"a": str(tmp_path / "x"), "b": "/h/t", "c": os.path.expanduser("~/x")}
    weights = [study.stages[name].weights for name in ("a", "b")]
    assert [(w.name, w.path) for w in weights if w] == [
        (None, str(tmp_path / "jobs/w/unet.pt")),
        ("buda2019", None),
    ]
    assert repetitions(study) == {"a": None, "b": None, "c": 25}


@pytest.mark.parametrize(
    ("donor", "general", "fine"),
    [
        ("repetitions: 1", "repetitions: 5", True),
        ("repetitions: 5", "repetitions: 5", True),
        ("repetitions: 5", "repetitions: 3", False),
        ("repetitions: 3", "repetitions: 5", False),
        ("repetitions: 5", "repetitions: 1", False),
        ("repetitions: 5", "repetitions: 3, chaining: best", True),
    ],
)
def test_parents_and_children_pair_unless_all_start_from_one(
    write: Write, donor: str, general: str, fine: bool
) -> None:
    stages = "{data: cxr, starts_from: donor, " + general + "}"
    arm = f"arms:\n  a: {{stages.donor: {{data: mri, {donor}}}, stages.general: {stages}}}\n"
    if fine:
        load(write(arm))
    else:
        what = "give both the same number, the parent 1, or this stage `chaining: best`"
        assert what in problems(write(arm))[0]


@pytest.mark.parametrize("starts_from", ["null", "donor"])
def test_the_best_of_nothing_is_told(write: Write, starts_from: str) -> None:
    arm = f"  a: {{stages.general: {{data: cxr, chaining: best, starts_from: {starts_from}}}}}\n"
    told = [warning.what for warning in load(write(f"arms:\n{arm}")).warnings]
    expected = (
        "stage 'general' has `chaining: best` and starts from no trained stage, so there is no best one"
    )
    assert any(expected in each for each in told) is (starts_from == "null")


def test_stages_merge_their_training_field_by_field(write: Write) -> None:
    path = write(
        """\
        arms:
          a: {stages.general.training.rotation.degrees: 5, training.rotation.probability: 0.5}
          b: {training.rotation: null, stages.general.training: {rotation: {degrees: 5}, lr: 0.1}}
          c: {training.plateau: null, stages.general.resources.gpu: 1}
        """
    )
    arms = load(path).arms
    rotations = [arms[name].training_of("general").rotation for name in "ab"]
    assert [(r.degrees, r.probability) for r in rotations if r] == [(5, 0.5), (5, 0.75)]
    assert arms["b"].training_of("donor").rotation is None
    assert arms["b"].training_of("general").lr == 0.1
    assert arms["c"].training_of("donor") == arms["c"].training
    assert arms["c"].resources_of("general").gpu == 1
    assert arms["c"].resources_of("donor") == arms["c"].resources


def test_unused_parts_and_a_patience_that_never_stops_are_warnings(write: Write) -> None:
    arms = "{a: {stages.general.starts_from: null, training.max_epochs: 5}, b: {training.patience: 300}}"
    path = write(f"arms: {arms}\n", edits={"{data: mri}": "{weights: buda2019}", "starts_from: donor, ": ""})
    assert [str(warning) for warning in load(path).warnings] == [
        f"{path}:3: warning: no stage trains or evaluates on data section 'mri'",
        f"{path}:6: warning: no stage starts from the weights of 'donor'",
        f"{path}:9: warning: arm 'a': patience 20 never stops a training of at most 5 epochs",
        f"{path}:9: warning: arm 'b': patience 300 never stops a training of at most 200 epochs",
    ]


def test_what_one_arm_uses_is_not_unused(write: Write) -> None:
    arms = "arms: {a: {stages.donor: {data: mri}}, b: {stages.general.starts_from: null}}\n"
    assert load(write(arms, edits={"{data: mri}": "{weights: buda2019}"})).warnings == ()


@pytest.mark.parametrize(
    ("split", "train"),
    [
        ("{validation: '0.1'}", 0.7),
        ("{validation: 0.1}", 0.7), ("{test: 0.0, validation: 0.3}", 0.7), ("{}", 0.6),
        ("{train: 0.5, validation: 0.3}", 0.5), ("{by: site, validation: 0.1}", 0.7),
    ],
)  # fmt: skip
def test_what_other_shares_leave_trains(write: Write, split: str, train: float) -> None:
    stages = {"cxr.test, ": "", "{data: mri}": "{data: mri, evaluate_on: []}"}
    study = load(write(f"split: {split}", edits=stages), environ={}).base
    assert study.split.train == train


def test_without_a_test_part_stages_say_what_to_evaluate_on(write: Write) -> None:
    path = write("split: {train: 0.8, validation: 0.2, test: 0}\n")
    assert problems(path) == [
        f"{path}:6: split.test is 0, so stage 'donor' has no test part; set its evaluate_on",
        f"{path}:7: 'cxr.test' is empty: split.test is 0",
    ]


WORDS = st.sampled_from(
    """study data stages arms profiles training split a b mri source count phantom_mri weights where include
    starts_from stages.a.data training.lr s.yaml#a '#a' null true 1 0.5 -3 1e999 .nan ${X} ~x""".split()  # noqa: SIM905
)
VALUES = st.recursive(
    WORDS | st.none() | st.booleans() | st.integers(-2, 40) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*Study.model_fields, "arms", "profiles", "x"]), VALUES, max_size=6))
def test_any_values_in_a_good_study_give_a_study_or_plain_problems(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    section, stage = {"source": "phantom_mri", "count": 3}, {"data": "a"}
    path = tmp_path_factory.getbasetemp() / "values.yaml"
    path.write_text(yaml.safe_dump({"study": "s", "data": {"a": section}, "stages": {"a": stage}, **values}))
    message = ""
    try:
        load(path, environ={}, profile="a" if "profiles" in values else None)
    except StudyError as error:
        message = str(error)
    assert "Input should" not in message


@pytest.mark.parametrize(
    ("storage", "location"),
    [
        ("${LAB}/results", "{folder}/here/results"),
        ("../results", "{parent}/results"),
        ("/${LAB}/results", "/here/results"),
        ("s3://${LAB}/results", "s3://here/results"),
        (None, "{folder}/xferlab-results"),
    ],
)
def test_a_storage_starts_at_the_study_file_and_may_name_variables(
    example: Path, monkeypatch: pytest.MonkeyPatch, storage: str | None, location: str
) -> None:
    example.write_text(re.sub(r"(?m)^storage: .*$", f"storage: '{storage}'" if storage else "", EXAMPLE))
    monkeypatch.chdir("/")
    expected = location.format(folder=example.parent, parent=example.parent.parent)
    assert load(example, environ={"LAB": "here", "DATA": "/d"}).base.storage == expected
