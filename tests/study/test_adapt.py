"""What an ablation asks of a stage: mistakes are reported with their line and a remedy."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.study.conftest import BASE, Write, problems
from xferlab.cli.main import build_parser
from xferlab.study.load import load
from xferlab.tasks.segmentation import sections
from xferlab.tasks.supervised import Augmentations

THIRD = "  third: {data: cxr, starts_from: general, adapt: {%s}}\n"
ON = ", evaluate_on: [cxr.test, cxr.hold_out]"
TRANSLATOR = "translator: {depth: 1}"


def adapted(write: Write, options: str, more: str = "", *, third: str = "", **edits: str) -> Path:
    """The valid study, its stage `general` on line 7 adapted; a stage `third` on line 8, if it is given."""
    changes = {"from: donor,": f"from: donor, adapt: {{{options}}},"}
    if third:
        changes["training:"] = f"{THIRD % third}training:"
    return write(more, edits={**changes, **edits})


# (adapt of `general`, of a stage that starts from it, other edits, line, message)
CHAINS = [
    (
        "fold: sum",
        "fold: mean",
        {},
        8,
        "the network of stage 'general' has 1 input channels, and only three can be folded into one; leave "
        "fold out",
    ),
    (
        "fold: sum",
        "",
        {"{lr: 1e-3}": "{}\nmodel: {in_channels: 1}", "phantom_mri": "phantom_cxr"},
        7,
        "the network of stage 'donor' has 1 input channels, and only three can be folded into one; leave "
        "fold out, or set model.in_channels: 3",
    ),
    (TRANSLATOR, TRANSLATOR, {}, 8, "stage 'general' hands down a translator already; leave it out"),
    (
        "fold: sum",
        "",
        {"[cxr.test,": "[mri.test,"},
        7,
        "the images of 'mri' have 3 channels, and the network of stage 'general' takes 1; set model.in_channe"
        "ls: 3, and fold the channels (adapt: {fold: sum}) in a later stage, whose images are grey",
    ),
    (
        "freeze: {part: encoder}",
        "head: new}, model: {name: unet_dropout",
        {},
        8,
        "model.name of stage 'third' is unet_dropout, and unet in 'general', from which it starts: weights "
        "of one do not fit the other; set the same name in both, or start from another stage",
    ),
    (
        "head: new}, model: {name: fc_densenet56, growth: 6",
        "head: new}, model: {name: fc_densenet56",
        {"{data: mri}": "{data: mri, model: {name: fc_densenet56, growth: 6}}"},
        8,
        "model.growth of stage 'third' is 12, and 6 in 'general', from which it starts: weights of one do "
        "not fit the other; set the same growth in both, or start from another stage",
    ),
    (
        "freeze: {part: encoder}",
        "head: new}, model: {width: 0.5",
        {"{lr: 1e-3}": "{}\nmodel: {name: fcn8s}"},
        8,
        "model.width of stage 'third' is 0.5, and 1 in 'general', from which it starts: weights of one do "
        "not fit the other; set the same width in both, or start from another stage",
    ),
    (
        TRANSLATOR,
        "",
        {"{lr: 1e-3}": "{}\nmodel: {name: fcn32s}"},
        7,
        "a translator reads the features of a decoder, and fcn32s has none; leave it out or set adapt: "
        "{head: new}, which starts the head from random weights",
    ),
    (
        "freeze: {part: donor, unfreeze_after: {head: 0, decoder3: 2}}",
        "",
        {"{lr: 1e-3}": "{}\nmodel: {name: fcn8s}"},
        7,
        "'decoder3' is no level of a fcn8s (encoder1, encoder2, encoder3, encoder4, encoder5, bottleneck, "
        "head); name one of these",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: {bottleneck: 2}}",
        "",
        {"{lr: 1e-3}": "{}\nmodel: {name: segnet}"},
        7,
        "'bottleneck' is no level of a segnet (encoder1, encoder2, encoder3, encoder4, encoder5, decoder5, "
        "decoder4, decoder3, decoder2, decoder1, head); name one of these",
    ),
    (
        "freeze: {part: encoder}}, model: {outputs: exclusive",
        "",
        {},
        7,
        "stage 'general' learns one exclusive structure, and 'donor', which it starts from, one structure: "
        "its last layer does not fit; set adapt: {head: new}, which starts that layer from random weights "
        "and takes over all others",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: {encoder5: 2}}",
        "",
        {},
        7,
        "'encoder5' is no level of a unet (encoder1, encoder2, encoder3, encoder4, bottleneck, decoder4, "
        "decoder3, decoder2, decoder1, head); name one of these",
    ),
    (
        "freeze: {part: encoder}}, model: {init_features: 16",
        "",
        {},
        7,
        "model.init_features of stage 'general' is 16, and 32 in 'donor', from which it starts: weights of "
        "one do not fit the other; set the same init_features in both, or start from another stage",
    ),
]


@pytest.mark.parametrize(("options", "third", "edits", "line", "what"), CHAINS)
def test_what_the_network_of_a_stage_cannot_take_is_reported(
    write: Write, options: str, third: str, edits: dict[str, str], line: int, what: str
) -> None:
    path = adapted(write, options, third=third, **edits)
    assert problems(path) == [f"{path}:{line}: {what}"]


def test_the_donor_may_be_frozen_where_a_translator_is_new_or_handed_down(write: Write) -> None:
    frozen = "freeze: {part: donor}"
    study = load(adapted(write, f"{TRANSLATOR}, {frozen}", third=frozen)).base
    assert study.network_of("third").translator.model_dump() == {"depth": 1, "width": 32, "kernel": 3}


def test_the_donor_may_be_frozen_if_a_level_trains_at_once(write: Write) -> None:
    path = adapted(write, "freeze: {part: donor, unfreeze_after: {head: 0, decoder1: 2}}")
    assert load(path).warnings == ()


@pytest.mark.parametrize("after", ["9", "{encoder1: 9}"])
def test_thawing_after_the_end_is_a_warning(write: Write, after: str) -> None:
    options = f"freeze: {{part: encoder, unfreeze_after: {after}}}"
    path = adapted(write, options, **{"lr: 1e-3": "max_epochs: 9, patience: 9"})
    warning = f"{path}:7: warning: it thaws after 9 epochs, and the stage trains for 9 at most"
    assert list(map(str, load(path).warnings)) == [warning]
    assert load(adapted(write, options, **{"lr: 1e-3": "max_epochs: 11, patience: 10"})).warnings == ()


@pytest.mark.parametrize(
    ("task", "freeze"),
    [("", "part: encoder, "), ("task: classification, classes: {column: pathology}, ", "")],
)
def test_a_thaw_that_a_stalled_training_may_not_reach_is_a_warning(
    write: Write, task: str, freeze: str
) -> None:
    base = BASE.replace("{data: mri}", f"{{{task}data: mri}}").replace("phantom_mri", "phantom_cxr")
    base = base.replace("lr: 1e-3", "device: cpu")
    for patience, warned in ((9, True), (10, False)):
        adapting = f"adapt: {{freeze: {{{freeze}unfreeze_after: 9}}}}, training: {{patience: {patience}}}, "
        path = write(base=base.replace("{data: cxr, ", f"{{{task}data: cxr, {adapting}").replace(ON, ""))
        told = [warning.what for warning in load(path).warnings]
        assert [
            "training stops after 9 without improvement (patience): where frozen epochs stall" in each
            for each in told
        ] == [True] * warned


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("starts_from: general", "starts_from: genral", 8),
        ("starts_from: donor", "starts_from: doner", 7),
        ("{data: mri}", "{data: mri, starts_from: third}", 6),
        ("{data: mri}", "{data: mri, training: {lrr: 1}}", 6),
        ("{data: cxr, starts_from: general,", "{data: cxr, starts_from: general, training: {lrr: 1},", 8),
    ],
)
def test_other_mistakes_of_an_adapted_study_are_reported_alone(
    write: Write, old: str, new: str, line: int
) -> None:
    """Adaptations are checked along the chain of stages, which may be broken itself."""
    frozen = "freeze: {part: encoder, unfreeze_after: 2}"
    path = adapted(write, frozen, third=frozen, **{old: new})
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:{line}: ")


def test_an_arm_may_take_an_adaptation_back(write: Write) -> None:
    path = adapted(write, "fold: sum", "arms:\n  back: {stages.general.adapt: null}\n  baseline: {}\n")
    arms = load(path).arms
    assert arms["back"].network_of("general").in_channels == 3
    assert arms["baseline"].network_of("general").in_channels == 1


def literals(model: Any, field: str) -> tuple[str, ...]:
    """The names that a field accepts, whether or not it may be null."""
    annotation = model.model_fields[field].annotation
    nested = [get_args(option) for option in get_args(annotation)]
    return next((names for names in nested if names), get_args(annotation))


@pytest.mark.component
def test_the_schema_names_all_that_networks_and_training_have() -> None:
    """The study imports neither models nor training, so that reading one is quick."""
    from xferlab.networks.freezing import LEVELS, PARTS
    from xferlab.networks.inherit import FOLDS
    from xferlab.networks.translator import Translator
    from xferlab.training.augment import Augmentation
    from xferlab.training.intensity import INTENSITIES
    from xferlab.training.pixel_losses import LOSSES
    from xferlab.training.reference import REFERENCES

    assert get_args(sections.Level) == tuple(LEVELS)
    assert PARTS["encoder"] == sections.ENCODER
    assert literals(sections.Freezing, "part") == tuple(PARTS)
    assert literals(sections.Adapt, "fold") == tuple(FOLDS)
    assert set(literals(sections.Training, "loss")) == set(LOSSES)
    assert set(literals(sections.Training, "intensity")) == {*INTENSITIES, *REFERENCES}
    assert set(sections.REFERENCED) == set(REFERENCES)
    for intensity in (*INTENSITIES, *REFERENCES):
        words = ["predict", "w.safetensors", "image.png", "--out", "out", "--intensity", intensity]
        assert build_parser().parse_args(words).intensity == intensity
    for section, layers in ((sections.TranslatorLayers, Translator), (Augmentations, Augmentation)):
        assert list(section.model_fields) == [field.name for field in fields(layers)]
