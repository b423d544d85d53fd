"""The studies that the project ships, with all their profiles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from xferlab.study.load import LoadedStudy, load
from xferlab.study.space import load_space

ROOT = Path(__file__).parents[1]
JOBS = sorted((ROOT / "jobs").glob("*.yaml"))


def is_study(path: Path) -> bool:
    return bool(re.search(r"^study:", path.read_text(), re.MULTILINE))


def profiles(path: Path) -> list[str]:
    return list(yaml.safe_load(path.read_text()).get("profiles") or {})


STUDIES = [path for path in JOBS if is_study(path)]
PROFILES = [(path, profile) for path in STUDIES for profile in [None, *profiles(path)]]


def loaded(path: Path, profile: str | None = None) -> LoadedStudy:
    """A job in an environment in which every variable that it names is a folder."""
    variables = re.findall(r"\$\{(\w+)\}", path.read_text())
    return load(path, profile=profile, environ={name: f"/data/{name.lower()}" for name in variables})


@pytest.mark.parametrize(("path", "profile"), PROFILES, ids=lambda value: getattr(value, "stem", value))
def test_a_job_loads_without_a_warning(path: Path, profile: str | None) -> None:
    study = loaded(path, profile)
    assert study.warnings == ()
    assert study.base.study == path.stem
    assert "baseline" in study.arms


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_job_names_no_path_of_one_machine(path: Path) -> None:
    for section in loaded(path).base.data.values():
        assert section.source not in ("manifest", "lgg") or section.root.startswith("/data/")


def test_vidal2021_is_the_set_up_of_the_paper() -> None:
    study = loaded(ROOT / "jobs" / "vidal2021.yaml").base
    training, rotation = study.training, study.training.rotation
    assert rotation is not None
    assert (study.repetitions, training.patience, training.lr, training.smoothing) == (25, 20, 1e-3, 1.0)
    assert (study.split.train, study.split.validation, study.split.test) == (0.6, 0.2, 0.2)
    assert (rotation.degrees, rotation.probability) == (10, 0.75)
    assert (study.model.image_size, study.model.init_features, study.model.in_channels) == (256, 32, 3)
    assert study.data["portable"].hold_out == 0.5
    assert [stage.starts_from for stage in study.stages.values()] == [None, "donor", "general"]


def test_the_profile_images_splits_images() -> None:
    path = ROOT / "jobs" / "vidal2021.yaml"
    assert loaded(path).base.split.group_by == "patient_id"
    assert loaded(path, "images").base.split.group_by is None


@pytest.mark.parametrize("profile", [None, "cpu"])
@pytest.mark.parametrize("arm", ["baseline", "scratch", "labels_10"])
def test_two_jobs_train_the_same_networks(profile: str | None, arm: str) -> None:
    """As the ablations' head says: the study shares the trials of these arms with the other one."""
    one, other = (
        loaded(ROOT / "jobs" / f"{name}.yaml", profile).arms[arm]
        for name in ("covid_lung", "covid_ablations")
    )
    assert one.storage == other.storage
    assert (one.seed, one.split, one.repetitions) == (other.seed, other.split, other.repetitions)
    for name, stage in other.stages.items():
        assert stage.model_copy(update={"evaluate_on": one.stages[name].evaluate_on}) == one.stages[name]
        assert one.data[stage.data or ""] == other.data[stage.data or ""]
        assert one.training_of(name) == other.training_of(name)
        assert one.network_of(name) == other.network_of(name)


def test_the_steps_of_the_tuning_job_fit_it() -> None:
    """Its head names a space that loads for the stage, and arm `tuned` the file that a search writes."""
    path = ROOT / "jobs" / "tuning.yaml"
    text, study = path.read_text(), loaded(path)
    command = re.search(r"xferlab tune (\S+) --space (\S+) --samples (\d+) --stage (\w+)", text)
    assert command is not None
    job, space, samples, stage = command.groups()
    assert (ROOT / job, int(samples)) == (path, 20)
    assert load_space(ROOT / space, study.base, stage=stage).parameters
    written = f"../search_spaces/tuned/{study.base.study}-{stage}.yaml#tuned_{stage}"
    assert f"# tuned: {{include: {written}}}" in text
