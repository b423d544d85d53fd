"""The studies that the project ships, with all their profiles."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from xferlab.cli.main import main
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


ARIAS = ROOT / "jobs" / "arias_garzon2021.yaml"
ARMS = ["baseline", "whole", "outside"]
"""Parts (d), (c) and (e) of the paper."""


def test_the_u_nets_of_arias_garzon2021_are_arms_of_its_stage_lungs() -> None:
    study = loaded(ARIAS)
    unets = ("unet1", "unet2", "baseline")
    assert [study.arms[arm].network_of("lungs").init_features for arm in unets] == [16, 112, 64]
    # Dice alone drives a U-Net without batch normalisation into saturation at this rate.
    assert (study.base.training.loss, study.base.training.lr) == ("dice_cross_entropy", 1e-3)


@pytest.mark.parametrize("name", ["own_source", "pre_covid", "kermany"])
@pytest.mark.parametrize(
    ("arms", "keep"),
    [
        (("whole", "vgg16_whole"), "whole"),
        (("baseline", "vgg16"), "inside"),
        (("outside", "vgg16_outside"), "outside"),
    ],
)
def test_the_parts_of_arias_garzon2021_are_arms(name: str, arms: tuple[str, str], keep: str) -> None:
    for arm, network in zip(arms, ("vgg19", "vgg16"), strict=True):
        study = loaded(ARIAS).arms[arm]
        stage, masks, weights = study.stages[name], study.stages[name].masks, study.stages["imagenet"].weights
        assert masks is not None
        assert weights is not None
        assert stage.gate is not None
        assert (masks["keep"], masks["from"], masks.get("out_of_fold")) == (
            keep, "lungs", True if name == "pre_covid" else None,
        )  # fmt: skip
        assert (stage.gate.source, stage.gate.classes) == ("projection", ("frontal",))
        assert (stage.model["name"], weights.name) == (network, f"imagenet/{network}")
        training = study.training_of(name)
        assert (training.lr, training.batch_size, training.max_epochs) == (1e-4, 64, 30)


def test_profile_cpu_of_arias_garzon2021_is_small() -> None:
    study = loaded(ARIAS, "cpu").base
    assert list(loaded(ARIAS, "cpu").arms) == ARMS
    assert list(study.stages) == ["projection", "lungs", "pre_covid", "kermany"]
    assert (study.repetitions, study.network_of("lungs").init_features) == (5, 16)
    for name in ("projection", "pre_covid", "kermany"):
        model = study.model_of(name).model_dump()
        assert (model["width"], model["image_size"], study.stages[name].starts_from) == (0.25, 96, None)


@pytest.mark.slow
def test_arias_garzon2021_runs_on_phantoms_and_prints_the_papers_numbers_beside_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XFERLAB_DATA", raising=False)
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    options = [str(ARIAS), "--profile", "smoke", "--storage", str(tmp_path / "results")]
    assert main(["run", *options, "--executor", "in-process"]) == 0
    assert main(["report", *options, "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.md").read_text()
    for number in (1, 2, 10, 14, 15, 16):
        assert re.search(rf"^#+ Table {number}: stage \w+ on ", page, re.MULTILINE), number
    for number in ("3", "9", "10", "11-13", "14", "15", "16-18"):
        assert f"Figure {number}: " in page, number
    for number in range(1, 17):
        assert f"arias-garzon2021, Table {number}" in page, number
    lines = [line for line in page.splitlines() if "Table 10, baseline" in line]
    assert any("0.9510" in line and "0.9130" in line and "0.9640" in line for line in lines)
    assert "Not complete" not in page
    assert "Tables 8 and 9 are printed identical" in page
    assert "These numbers say nothing about patients" in page


OH = ROOT / "jobs" / "oh2020.yaml"


def test_oh2020_is_the_set_up_of_the_paper() -> None:
    study = loaded(OH).base
    segment, triage = study.training_of("segment"), study.training_of("triage")
    assert (study.split.train, study.split.validation, study.split.test) == (0.64, 0.16, 0.2)
    assert (segment.lr, segment.batch_size, segment.loss) == (1e-4, 2, "cross_entropy")
    assert (segment.class_weights, segment.plateau.of, segment.rotation) == (
        (0.5, 1, 1, 1), "training_loss", None,
    )  # fmt: skip
    assert (triage.lr, triage.batch_size, triage.max_epochs, triage.score) == (1e-5, 16, 100, "mean_f1")
    assert (triage.l1, triage.weight_decay, triage.sampling) == (1e-5, 0.1, "balanced")
    model = study.model_of("triage")
    assert (model.image_size, model.patches.size_px, model.patches.number) == (1024, 224, 100)
    for name in ("jsrt", "montgomery", "triage"):
        assert (study.data[name].equalise, study.data[name].gamma) == (True, 0.5)


def test_the_tables_of_oh2020_are_arms() -> None:
    arms = loaded(OH).arms
    assert [arms[arm].model_of("triage").patches for arm in ("global", "global_half")] == [None, None]
    assert arms["global"].model_of("triage").image_size == 224
    sizes = [arms[f"patch_{size}"].model_of("triage").patches.size_px for size in (112, 448)]
    assert sizes == [112, 448]
    networks = [arms[arm].network_of("segment").name for arm in ("baseline", "unet", "fc_densenet67")]
    assert networks == ["fc_densenet103", "unet", "fc_densenet67"]
    masks = arms["without_mask"].stages["triage"].masks
    assert masks is not None
    assert (masks["keep"], masks["region"]) == ("whole", ["left_lung", "right_lung"])


def test_as_published_oh2020_divides_images_and_draws_rows_and_columns_apart() -> None:
    study = loaded(OH, "as_published").base
    assert (study.split.train, study.split.test, study.split.group_by) == (0.7, 0.2, None)
    assert study.model_of("triage").patches.centre == "row_and_column"
    assert study.training_of("segment").milestones.epochs == (70, 80, 90)
    assert (study.training_of("segment").intensity, study.model_of("triage").intensity) == ("raw", "raw")


OLIVEIRA = ROOT / "jobs" / "oliveira2018.yaml"


def test_oliveira2018_is_the_set_up_of_the_paper() -> None:
    study = loaded(OLIVEIRA).base
    assert (study.split.folds, study.split.repeats) == (5, 1)
    for name in ("segment_a", "segment_other", "fine_tune", "scratch"):
        training, model = study.training_of(name), study.network_of(name)
        assert (training.lr, training.weight_decay, training.batch_size) == (1e-4, 5e-4, 4)
        assert (training.max_epochs, training.patience, training.rotation) == (150, 150, None)
        assert (model.init_features, model.in_channels, model.image_size) == (64, 1, 256)
    assert [study.training_of(name).max_epochs for name in ("translate", "transfer")] == [20, 80]
    assert study.stages["transfer"].origins == {"segmenter": "segment_a", "translation": "translate"}


def test_arms_of_oliveira2018_give_all_methods_the_same_share_of_labels() -> None:
    arms = loaded(OLIVEIRA).arms
    methods = ("transfer", "fine_tune", "scratch")
    shares = [[arms[arm].stages[name].share for name in methods] for arm in arms if arm[:6] == "labels"]
    assert shares == [[share] * 3 for share in (0.0125, 0.025, 0.05, 0.1, 0.2, 0.5, 1)]
    for arm in ("baseline", "heart", "clavicles"):
        assert arms[arm].stages["transfer"].share == 0
    for study in arms.values():
        drawn = {
            (study.stages[name].stratified, study.stages[name].fraction_of_validation) for name in methods
        }
        assert drawn == {(False, True)}
    read = [arms[arm].stages["segment_other"].structures for arm in ("heart", "clavicles")]
    assert read == [["heart"], ["clavicles"]]


PAPERS = ("vidal2021", "arias_garzon2021", "oh2020", "oliveira2018")


@pytest.mark.parametrize(
    ("path", "profile"),
    [(path, profile) for path, profile in PROFILES if path.stem in PAPERS],
    ids=lambda value: getattr(value, "stem", value),
)
def test_no_paper_segments_by_the_schedule_or_the_augmentation_of_another(
    path: Path, profile: str | None
) -> None:
    """Defaults of a segmentation are those of vidal2021; all other tasks reduce no rate and turn nothing."""
    for study in loaded(path, profile).arms.values():
        for name, stage in study.stages.items():
            if stage.data is not None and stage.task == "segmentation":
                said = study.training.model_fields_set | stage.training.keys()
                assert {"plateau", "rotation"} <= said, name


def test_segmentations_of_oliveira2018_have_one_learning_rate_as_its_transfer_has() -> None:
    for profile in (None, *profiles(OLIVEIRA)):
        for study in loaded(OLIVEIRA, profile).arms.values():
            for name in ("segment_a", "segment_other", "fine_tune", "scratch"):
                assert study.training_of(name).plateau is None


@pytest.mark.component
@pytest.mark.parametrize(
    ("job", "profile", "trials"),
    [
        # Of a repetition: views and lungs, one of each network; the folds; a trial of each arm of the others.
        (ARIAS, None, 10 * (5 + 5 + 18)),
        (ARIAS, "cpu", 5 * (2 + 3 + 6)),
        (ARIAS, "smoke", 2 * (2 + 2 + 9)),
        # Networks that segment, three of them with fewer labels; a classification of each arm.
        (OH, None, 10 * (6 + 14)),
        (OH, "cpu", 5 * (1 + 3)),
        (OH, "smoke", 2 * 5),
        # A segmentation, and another of each arm that has one; a translation; transfer, rivals by
        # share of labels, transfer of heart and clavicles. What arms have in common is trained once.
        (OLIVEIRA, None, 5 * (1 + 13 + 1 + 10 + 7 + 7)),
        (OLIVEIRA, "cpu", 5 * (1 + 5 + 1 + 2 + 1 + 1)),
        (OLIVEIRA, "smoke", 3 * (1 + 2 + 1 + 3 + 2 + 2)),
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_the_job_of_a_paper_plans(
    job: Path,
    profile: str | None,
    trials: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if profile != "smoke":
        request.getfixturevalue("real_data")
    words = ["--profile", profile] if profile else []
    assert main(["plan", str(job), *words, "--storage", str(tmp_path), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["trials"]) == trials


@pytest.mark.slow
def test_oh2020_runs_on_phantoms_and_prints_the_papers_numbers_beside_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XFERLAB_DATA", raising=False)
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    options = [str(OH), "--profile", "smoke", "--storage", str(tmp_path / "results")]
    assert main(["run", *options, "--executor", "in-process"]) == 0
    assert main(["report", *options, "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.md").read_text()
    for number in ("V", "VI", "X", "XI", "XIII"):
        assert re.search(rf"^#+ Table {number}: ", page, re.MULTILINE), number
    for number in ("3", "4", "5", "6", "7", "8", "10", "11", "12"):
        assert f"Figure {number}: " in page, number
    for number in ("V", "VI", "VII", "VIII", "IX", "X", "XI", "XIII", "XIV", "XV", "XVI", "XVII"):
        assert re.search(rf"oh2020, Tables? [XVI, ]*\b{number}\b", page), number
    assert "Table XII and Table IV compare with COVID-Net" in page
    assert "These numbers say nothing about patients" in page


@pytest.mark.slow
def test_oliveira2018_runs_on_phantoms_and_prints_the_papers_numbers_beside_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XFERLAB_DATA", raising=False)
    monkeypatch.setenv("XFERLAB_CACHE", str(tmp_path / "cache"))
    options = [str(OLIVEIRA), "--profile", "smoke", "--storage", str(tmp_path / "results")]
    assert main(["run", *options, "--executor", "in-process"]) == 0
    assert main(["report", *options, "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.md").read_text()
    for stage in ("segment_a", "segment_other"):
        assert f"### Table I: stage {stage} on jsrt.test" in page
    assert len(re.findall("^### Table I: ", page, re.MULTILINE)) == 2
    for stage in ("transfer", "fine_tune", "scratch"):
        assert f"### Table II: stage {stage} on montgomery.test by the share of its labels" in page
        assert f"### Figure 8: Jaccard by the share of the labels, stage {stage} on montgomery.test" in page
    assert "### Figure 7: Jaccard of each arm on jsrt.test" in page
    line = next(line for line in page.splitlines() if "Table II, labels_100 (± SD over images)" in line)
    assert "0.9318 (± 0.0547)" in line
    assert "SD over folds" in page
    assert "Repetitions are the folds of a cross-validation" in page
    assert "Not complete" not in page
    assert "These numbers say nothing about patients" in page


def test_the_ablations_run_every_arm_but_the_one_that_needs_a_column() -> None:
    arms = yaml.safe_load((ROOT / "search_spaces" / "ablations.yaml").read_text())
    study = loaded(ROOT / "jobs" / "ablations.yaml")
    assert set(arms) - set(study.arms) == {"kermany_only"}


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
