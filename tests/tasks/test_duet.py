"""A task of two networks, which start from two stages: in this process and on Ray, with damage and donors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import Command
from tests.studies import TINY, attempts, recorded, write_study
from tests.tasks.contract import LearnerContract, assert_ray_records_the_same, run
from tests.tracking.wandb_files import offline_runs
from tests.training.images import noisy, resized
from tests.trial.conftest import flip_bit
from xferlab.analysis import load_study
from xferlab.errors import DonorError
from xferlab.networks.donors import read_weights, save_weights
from xferlab.networks.unet import UNet
from xferlab.plan.identity import joint_digest
from xferlab.plan.spec import TrialSpec
from xferlab.records.store import Store
from xferlab.tasks import registry
from xferlab.tasks.config import TrialIdentity
from xferlab.tracking.rebuild import mirror_study
from xferlab.training.examples import ImageExamples
from xferlab.trial.examples import TrialContext
from xferlab.trial.origin import load_origins

pytestmark = pytest.mark.usefixtures("added_tasks")

FAST = {**TINY["training"], "max_epochs": 2, "patience": 2}
DUET = {"task": "duet", "data": "general", "training": {"batch_size": 4, "max_epochs": 2, "patience": 2}}
STAGES: dict[str, Any] = {
    "lungs": {"data": "general", "repetitions": 2},
    "first": {**DUET, "model": {"init_features": 2}},
    "both": {
        **DUET,
        "model": {"init_features": 2},
        "starts_from": {"segmenter": "lungs", "second": "first"},
        "evaluate_on": ["general.test", "portable.hold_out"],
    },
}


@pytest.fixture
def study(cache: Path, tmp_path: Path) -> Path:
    return write_study(tmp_path, stages=STAGES, training=FAST, arms={"baseline": {}})


def trials(storage: Path) -> dict[str, dict[str, Any]]:
    """The plan's entry of each trial, by the end of its name."""
    plan = json.loads((storage / "studies/tiny/plan.json").read_text())
    return {trial["names"][0].removeprefix("baseline/"): trial for trial in plan["trials"]}


def spec_of(storage: Path, name: str) -> TrialSpec:
    folder = storage / "trials" / trials(storage)[name]["trial_id"]
    return TrialSpec.from_json(json.loads((folder / "spec.json").read_text()))


def best(storage: Path, trial_id: str) -> Mapping[str, torch.Tensor]:
    path = storage / "trials" / trial_id / "checkpoint" / "best.safetensors"
    return read_weights(path, path.read_bytes(), origin=str(path))


class TestDuet(LearnerContract):
    @property
    def identity(self) -> TrialIdentity:
        return registry.identity_of(
            {
                "task": "duet", "version": 1, "selection": "", "seed": 1,
                "model": {"image_size": 16, "init_features": 2},
                "training": {"batch_size": 2, "max_epochs": 2, "patience": 9, "lr": 0.01},
                "execution": {"device": "cpu", "precision": "float32", "compile": False},
            }
        )  # fmt: skip

    def examples(self) -> ImageExamples:
        return resized(*noisy(5, 16))


def test_two_networks_start_from_two_stages(study: Path, command: Command) -> None:
    said = command("plan", study, code=0)
    assert "second: baseline/first/r01, segmenter: baseline/lungs/r02" in said.out
    run(command, study)
    storage = study.parent / "xferlab-results"
    named = {name: trial["trial_id"] for name, trial in trials(storage).items()}
    record = json.loads((storage / "trials" / named["both/r02"] / "record.json").read_text())
    parents = {"starts_from.segmenter": named["lungs/r02"], "starts_from.second": named["first/r01"]}
    assert record["started_from"] == parents
    spec = spec_of(storage, "both/r02")
    learner = registry.learner_of(spec.identity, torch.device("cpu"))
    store = Store.open(storage)
    load_origins(spec, learner, TrialContext(store, study.parent / "cache", torch.device("cpu")))
    expected = {
        **{f"segmenter.{key}": value for key, value in best(storage, named["lungs/r02"]).items()},
        **{k: v for k, v in best(storage, named["first/r01"]).items() if k.startswith("second.")},
    }
    loaded = {
        f"{name}.{key}": value
        for name, part in learner.networks.items()
        for key, value in part.state_dict().items()
    }
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    before = attempts(storage)
    run(command, study)
    assert before == attempts(storage)
    command("report", study, "--out", "report", code=0)
    assert {"DICE", "ERROR"} <= set(load_study(storage, "tiny").cases["metric"])


@pytest.mark.parametrize("damaged", ["lungs/r01", "first/r01"])
def test_a_damaged_parent_in_any_role_is_trained_again_first(
    study: Path, command: Command, damaged: str
) -> None:
    run(command, study)
    storage = study.parent / "xferlab-results"
    whole, entries = recorded(storage), trials(storage)
    ids = {name: entry["trial_id"] for name, entry in entries.items()}
    flip_bit(storage / "trials" / ids[damaged] / "checkpoint" / "best.safetensors")
    (storage / "trials" / ids["both/r01"] / "record.json").unlink()
    run(command, study)
    assert recorded(storage) == whole
    assert {name for name in ids if len(attempts(storage)[ids[name]]) > 1} >= {damaged, "both/r01"}


def test_a_failed_parent_in_any_role_blocks(study: Path, command: Command) -> None:
    text = yaml.safe_load(study.read_text())
    text["stages"]["first"]["training"]["lr"] = 1e30
    study.write_text(yaml.safe_dump(text, sort_keys=False))
    run(command, study, code=1)
    rows = json.loads(command("status", study, "--json", code=1).out)["trials"]
    states = {row["name"]: row["state"] for row in rows}
    assert states["baseline/first/r01"] == "failed"
    assert {states[f"baseline/both/r0{number}"] for number in (1, 2)} == {"blocked"}
    assert states["baseline/lungs/r01"] == "complete"


@pytest.mark.parametrize("width", [2, 4])
def test_given_weights_start_one_network(study: Path, width: int, command: Command) -> None:
    path = study.parent / "unet.safetensors"
    path.write_bytes(save_weights(UNet(init_features=width).state_dict()))
    text = yaml.safe_load(study.read_text())
    text["stages"] = {
        **text["stages"],
        "donor": {"weights": {"path": str(path)}},
        "both": {**text["stages"]["both"], "starts_from": {"segmenter": "donor", "second": "first"}},
    }
    study.write_text(yaml.safe_dump(text, sort_keys=False))
    if width == 4:
        assert f"donor {path}, network segmenter" in command("check", study, code=2).out
        return
    run(command, study)
    storage = study.parent / "xferlab-results"
    (_, given) = trials(storage)["both/r01"]["inputs"]
    folder = storage / "trials" / trials(storage)["both/r01"]["trial_id"]
    record = json.loads((folder / "record.json").read_text())
    assert record["started_from"]["starts_from.segmenter"] == given["donor"]["sha256"]
    command("prune", study, "--yes", code=0)
    assert list((storage / "donors").iterdir())


def test_what_starts_anew_follows_from_all_weights() -> None:
    others = [joint_digest({"a": "1", "b": "3"}), joint_digest({"a": "2", "b": "1"})]
    assert joint_digest({"a": "1", "b": "2"}) not in (None, "1", "2", *others)
    assert (joint_digest({"a": "1"}), joint_digest({})) == ("1", None)


def test_weights_of_another_shape_name_the_network() -> None:
    learner = registry.learner_of(TestDuet().identity, torch.device("cpu"))
    with pytest.raises(DonorError, match="somewhere, network segmenter"):
        learner.start_network_from("segmenter", UNet(init_features=4).state_dict(), origin="somewhere")


@pytest.mark.slow
def test_the_mirror_says_what_both_networks_start_from(study: Path, command: Command) -> None:
    changes = {"repetitions": 1, "tracking": {"wandb": {"mode": "offline", "images": 0}}}
    stages = {name: {**stage, "repetitions": 1} for name, stage in STAGES.items()}
    write_study(study.parent, stages=stages, training=FAST, arms={"baseline": {}}, **changes)
    run(command, study)
    storage, again = study.parent / "xferlab-results", study.parent / "again"
    entry = trials(storage)["both/r01"]
    digests = {
        given["role"]: json.loads((storage / "trials" / given["trials"][0] / "record.json").read_text())
        for given in entry["inputs"]
    }
    expected = joint_digest({role: record["weights_sha256"] for role, record in digests.items()})
    assert mirror_study(Store.open(storage), "tiny", directory=again).failed == {}
    for folder in (study.parent / "cache" / "wandb", again):
        runs = {run.run.run_id: run for run in offline_runs(folder)}
        config = runs[entry["trial_id"]].config
        assert config["parent_weights_sha256"] == expected
        assert config["parent_runs"] == [record["trial_id"] for record in digests.values()]


@pytest.mark.slow
def test_ray_records_the_same(study: Path, command: Command, tmp_path: Path) -> None:
    assert_ray_records_the_same(command, study, tmp_path)
