"""A study with a tiny trial of each network that a study can name, trained for one epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.studies import write_study
from xferlab.cli.main import main
from xferlab.records import reader
from xferlab.records.store import Store

LUNGS = ["left_lung", "right_lung", "heart"]
SEGMENTING: dict[str, dict[str, Any]] = {
    "unet": {"model": {"name": "unet"}, "structures": LUNGS},
    "unet_dropout": {"model": {"name": "unet_dropout"}, "training": {"intensity": "unit"}},
    "unet_instance": {
        "model": {"name": "unet_instance", "outputs": "exclusive", "in_channels": 1},
        "structures": LUNGS[:2], "training": {"intensity": "minmax"},
    },
    "fc_densenet56": {"model": {"name": "fc_densenet56", "growth": 1}},
    "fcn8s": {"model": {"name": "fcn8s", "width": 0.05}, "training": {"intensity": "raw"}},
    "fcn32s": {"model": {"name": "fcn32s", "width": 0.05}},
    "segnet": {"model": {"name": "segnet", "width": 0.05}, "training": {"intensity": "equalise"}},
    "native": {"model": {"image_size": "native"}},
    "tiles": {"model": {"image_size": "native", "tiles": {"size": 16}}},
    "matched": {"training": {"intensity": "matched"}},
}  # fmt: skip
CLASSIFYING: dict[str, dict[str, Any]] = {
    "vgg16": {"name": "vgg16", "width": 0.05, "head": {"widths": [8], "dropout": [0.2]}},
    "resnet18": {"name": "resnet18", "width": 0.05, "standardise": "imagenet", "in_channels": 3},
    "efficientnet_lite0": {"name": "efficientnet_lite0", "width": 0.05, "standardise": None},
    "patches": {"name": "resnet18", "width": 0.05, "patches": {"size_px": 32, "number": 3, "validation": 2}},
}
NARROW = {"width": 2, "blocks": 1, "discriminator_width": 2, "image_size": 32}
TRANSLATING: dict[str, dict[str, Any]] = {
    "cyclegan": {"starts_from": {"segmenter": "base"}, "model": {"name": "cyclegan", **NARROW}},
    "munit": {"model": {"name": "munit_small", **NARROW}},
}
NAMES = (*SEGMENTING, *CLASSIFYING, *TRANSLATING)


def trained(folder: Path) -> tuple[Store, dict[str, str]]:
    """Trains all; returns the storage and the ids of the trials by the names of their stages."""
    phantoms = {"source": "phantom_cxr", "count": {"normal": 10, "covid19": 10}, "size_px": 32}
    brief = {"max_epochs": 1, "patience": 1, "batch_size": 8}
    classifying = {"task": "classification", "data": "a", "evaluate_on": ["a.test"]}
    translating = {"task": "translation", "data": {"a": "a", "b": "b"}}
    path = write_study(
        folder,
        repetitions=1,
        data={name: {**phantoms, "seed": seed} for seed, name in enumerate("ab")},
        stages={
            "base": {"data": "a"},
            **{name: {"data": "a", **options} for name, options in SEGMENTING.items()},
            **{
                name: {**classifying, "model": {"image_size": 48, **model}, "training": brief}
                for name, model in CLASSIFYING.items()
            },
            **{
                name: {**translating, "training": {**brief, "pool": 2}, **options}
                for name, options in TRANSLATING.items()
            },
        },
        training={**brief, "device": "cpu", "precision": "float32"},
        arms={"a": {}},
        overlay_cases=0,
    )
    location = str(folder / "storage")
    assert main(["run", str(path), "--executor", "in-process", "--storage", location]) == 0
    store = Store.open(location)
    return store, {trial["stage"]: trial["trial_id"] for trial in reader.read_plan(store, "tiny")["trials"]}
