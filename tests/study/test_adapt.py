"""What an ablation asks of a stage: mistakes are reported with their line and a remedy."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.study.conftest import Write, problems
from xferlab.cli.main import build_parser
from xferlab.study.load import load
from xferlab.tasks.segmentation import config

THIRD = "  third: {data: cxr, starts_from: general, adapt: {%s}}\n"
TRANSLATOR = "translator: {depth: 1}"

# (adapt of stage `general`, message on line 7)
ADAPTED = [
    ("fold: summ", "stages.general.adapt.fold is 'summ'; it must be one of sum, mean, luminance. Did you "),
    ("folds: sum", "unknown field 'folds' in stages.general.adapt. Did you mean 'fold'?"),
    ("control: random", "stages.general.adapt.control is 'random'; it must be matched."),
    (
        "translator: {kernel: 4}",
        "stages.general.adapt.translator.kernel: 4 is even; the nearest kernels are 3 and 5",
    ),
    ("translator: {depth: 0}", "stages.general.adapt.translator.depth is 0; it must be at least 1."),
    ("translator: {width: true}", "stages.general.adapt.translator.width: true is not a number"),
    (
        "freeze: {part: donor}",
        "the whole donor is frozen and no translator is added, so that nothing would train in the first "
        "epoch; add adapt.translator, freeze the encoder only, or let a level train from epoch 0",
    ),
    (
        "freeze: {part: donor, unfreeze_after: {head: 1}}",
        "the whole donor is frozen and no translator is added",
    ),
    (
        "freeze: {part: encodr}",
        "stages.general.adapt.freeze.part is 'encodr'; it must be one of donor, encoder. Did you mean 'encod",
    ),
    ("freeze: {unfreeze_after: 3}", "the field 'stages.general.adapt.freeze.part' is missing"),
    (
        "freeze: {part: donor, unfreeze_after: {botleneck: 2}}",
        "the name 'botleneck' in stages.general.adapt.freeze.unfreeze_after must be one of encoder1, "
        "encoder2, encoder3, encoder4, bottleneck, decoder4, decoder3, decoder2, decoder1, head. Did you",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: {decoder1: 2}}",
        "stages.general.adapt.freeze: 'decoder1' is no level of the encoder (encoder1, encoder2, "
        "encoder3, encoder4, bottleneck); name one of these, or freeze part: donor",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: 0}",
        "stages.general.adapt.freeze.unfreeze_after is 0; it must be at least 1",
    ),
    (
        "freeze: {part: encoder, unfreeze_after: {encoder1: -1}}",
        "stages.general.adapt.freeze.unfreeze_after.encoder1 is -1; it must be at least 0",
    ),
]

# (what to replace in the valid study, by what, line, message)
STAGES = [
    (
        "{data: mri}",
        "{data: mri, adapt: {fold: sum}}",
        6,
        "stages.donor: there is nothing to adapt in a stage that starts from random weights; give ",
    ),
    (
        "{data: mri}",
        "{weights: buda2019, adapt: {fold: sum}}",
        6,
        "stages.donor: a stage with given weights has no starts_from, evaluate_on, model, training, adapt ",
    ),
    (
        "{data: mri}",
        "{weights: buda2019, label_fraction: 0.5}",
        6,
        "stages.donor: a stage with given weights has no starts_from, evaluate_on, model, training, adapt ",
    ),
    (
        "{data: mri}",
        "{data: mri, label_fraction: 0}",
        6,
        "stages.donor.label_fraction is 0; it must be more than 0",
    ),
    (
        "{data: mri}",
        "{data: mri, label_fraction: 1.5}",
        6,
        "stages.donor.label_fraction is 1.5; it must be at most 1",
    ),
    (
        "lr: 1e-3",
        "augmentation: {gamma: [1.5, 0.7]}",
        8,
        "training.augmentation.gamma: 1.5 to 0.7 falls; give the lower number first",
    ),
    (
        "lr: 1e-3",
        "augmentation: {scale: [0, 1]}",
        8,
        "training.augmentation.scale[0] is 0; it must be at least 0.1",
    ),
    (
        "lr: 1e-3",
        "augmentation: {gama: [0.7, 1.5]}",
        8,
        "unknown field 'gama' in training.augmentation. Did ",
    ),
    ("lr: 1e-3", "augmentation: {flip: 2}", 8, "training.augmentation.flip is 2; it must be at most 1"),
    (
        "lr: 1e-3",
        "intensity: min_max",
        8,
        "training.intensity is 'min_max'; it must be one of zscore, unit, m",
    ),
    (
        "lr: 1e-3",
        "loss: focal",
        8,
        "training.loss is 'focal'; it must be one of dice, dice_as_printed, cross_",
    ),
]

# (overrides of an arm on line 10, message)
ARMS = [
    ("stages.general.adept: {fold: sum}", "unknown field 'adept' in stages.general. Did you mean 'adapt'?"),
    ("stages.general.adapt.fld: sum", "unknown field 'fld' in stages.general.adapt. Did you mean 'fold'?"),
    (
        "stages.general.adapt.freeze.prt: donor",
        "unknown field 'prt' in stages.general.adapt.freeze. Did you mean",
    ),
    (
        "stages.genral.label_fraction: 0.1",
        "there is no stage 'genral'; this study has donor, general. Did you mean",
    ),
    (
        "stages.general.label_fraction.x: 1",
        "stages.general.label_fraction is a mapping; it must be a number.",
    ),
    ("data.cxr.hold_out: 0.3", "an arm may not override 'data.cxr.hold_out': arms are compared"),
    (
        "stages.general: {data: cxr, adapt: {fold: sum}}",
        "stages.general: there is nothing to adapt in a stage that starts from random weights; give ",
    ),
    (
        "stages.general.starts_from: null, stages.general.adapt: {fold: sum}",
        "stages.general: there is nothing to adapt in a stage that starts from random weights",
    ),
    (
        "model.in_channels: 1",
        "the images of 'mri' have 3 channels, and the network of stage 'donor' takes 1; set model.in_",
    ),
]


def adapted(write: Write, options: str, more: str = "", *, third: str = "", **edits: str) -> Path:
    """The valid study, its stage `general` on line 7 adapted; a stage `third` on line 8, if it is given."""
    changes = {"from: donor,": f"from: donor, adapt: {{{options}}},"}
    if third:
        changes["training:"] = f"{THIRD % third}training:"
    return write(more, edits={**changes, **edits})


@pytest.mark.parametrize(("options", "what"), ADAPTED, ids=lambda value: value[:40])
def test_what_cannot_be_adapted_is_reported_once_with_its_line(write: Write, options: str, what: str) -> None:
    path = adapted(write, options)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:7: {what}")


@pytest.mark.parametrize(("old", "new", "line", "what"), STAGES, ids=lambda value: str(value)[:40])
def test_a_field_out_of_range_is_reported_once_with_its_line(
    write: Write, old: str, new: str, line: int, what: str
) -> None:
    path = write(edits={old: new})
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:{line}: {what}")


@pytest.mark.parametrize(("override", "what"), ARMS, ids=lambda value: value[:40])
def test_an_arm_that_cannot_be_is_reported_once_with_its_line(write: Write, override: str, what: str) -> None:
    path = write(f"arms:\n  b: {{{override}}}\n")
    (problem,) = problems(path)
    assert problem.removeprefix(f"{path}:10: ").removeprefix("arm 'b': ").startswith(what)


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
]


@pytest.mark.parametrize(("options", "third", "edits", "line", "what"), CHAINS)
def test_what_the_network_of_a_stage_cannot_take_is_reported(
    write: Write, options: str, third: str, edits: dict[str, str], line: int, what: str
) -> None:
    path = adapted(write, options, third=third, **edits)
    assert problems(path) == [f"{path}:{line}: {what}"]


def test_the_donor_may_rest_where_a_translator_is_new_or_handed_down(write: Write) -> None:
    frozen = "freeze: {part: donor}"
    study = load(adapted(write, f"{TRANSLATOR}, {frozen}", third=frozen)).base
    assert study.network_of("third").translator.model_dump() == {"depth": 1, "width": 32, "kernel": 3}


def test_the_donor_may_rest_if_a_level_trains_at_once(write: Write) -> None:
    path = adapted(write, "freeze: {part: donor, unfreeze_after: {head: 0, decoder1: 2}}")
    assert load(path).warnings == ()


@pytest.mark.parametrize("after", ["9", "{encoder1: 9}"])
def test_to_thaw_after_the_end_is_warned_of(write: Write, after: str) -> None:
    options = f"freeze: {{part: encoder, unfreeze_after: {after}}}"
    path = adapted(write, options, **{"lr: 1e-3": "max_epochs: 9, patience: 9"})
    warning = f"{path}:7: warning: it thaws after 9 epochs, and the stage trains for 9 at most"
    assert list(map(str, load(path).warnings)) == [warning]
    assert load(adapted(write, options, **{"lr: 1e-3": "max_epochs: 10, patience: 9"})).warnings == ()


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
def test_the_schema_names_what_there_is() -> None:
    """The study imports neither models nor training, so that reading one is quick."""
    from xferlab.networks.freezing import LEVELS, PARTS
    from xferlab.networks.inherit import FOLDS
    from xferlab.networks.translator import Translator
    from xferlab.tasks.segmentation.losses import LOSSES
    from xferlab.training.augment import Augmentation
    from xferlab.training.intensity import INTENSITIES

    assert get_args(config.Level) == tuple(LEVELS)
    assert PARTS["encoder"] == config.ENCODER
    assert literals(config.Freezing, "part") == tuple(PARTS)
    assert literals(config.Adapt, "fold") == tuple(FOLDS)
    assert set(literals(config.Training, "loss")) == set(LOSSES)
    assert set(literals(config.Training, "intensity")) == set(INTENSITIES)
    for intensity in INTENSITIES:
        words = ["predict", "w.safetensors", "image.png", "--out", "out", "--intensity", intensity]
        assert build_parser().parse_args(words).intensity == intensity
    for section, layers in ((config.TranslatorLayers, Translator), (config.Augmentations, Augmentation)):
        assert list(section.model_fields) == [field.name for field in fields(layers)]
