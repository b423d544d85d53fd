"""What no trial could do is refused with its line, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.study.conftest import BASE, Write, problems
from xferlab.study.load import load


@pytest.mark.parametrize(
    "model",
    ["image_size: 16", "image_size: native, tiles: {size: 16}"],
)
def test_a_batch_of_one_at_a_bottleneck_of_one_pixel_is_refused(write: Write, model: str) -> None:
    path = write(f"model: {{{model}}}\n", base=BASE.replace("lr: 1e-3", "batch_size: 1"))
    side = "model.tiles.size" if "tiles" in model else "model.image_size"
    assert problems(path) == [
        f"{path}:8: stage {stage!r} would train on a single image at a time (batch_size is 1), and at 16 px "
        "its bottleneck is one pixel: batch norm needs two values of each channel; set training.batch_size "
        f"to 2 or more, or set {side} to 32 or more"
        for stage in ("donor", "general")
    ]


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("{model.image_size: 16}", 9),
        ("{stages.general.training: {batch_size: 1}, model.image_size: 16}", 9),
    ],
)
def test_an_arm_that_makes_a_batch_of_one_is_refused_at_its_line(
    write: Write, override: str, line: int
) -> None:
    training = "lr: 1e-3" if "batch_size" in override else "batch_size: 1"
    path = write(f"arms: {{a: {override}}}\n", base=BASE.replace("lr: 1e-3", training))
    assert all(
        problem.startswith(f"{path}:{line}: arm 'a': stage ") and "batch norm" in problem
        for problem in problems(path)
    )


@pytest.mark.parametrize(
    "more",
    [
        "model: {image_size: 32}\ntraining: {batch_size: 1}\n",
        "model: {image_size: 16}\ntraining: {batch_size: 2}\n",
        "model: {image_size: native, tiles: {size: 32}}\ntraining: {batch_size: 1}\n",
        *(f"resources: {{{resource}}}\n" for resource in ("cpu: 1.5", "gpu: 0.3333", "gpu: 2", "gpu: 1")),
    ],
)
def test_what_trains_and_what_ray_can_reserve_is_accepted(write: Write, more: str) -> None:
    load(write(more, edits={"training: {lr: 1e-3}\n": ""}))


@pytest.mark.parametrize("setting", ["compile: true", "intensity: matched"])
def test_what_needs_images_of_one_size_is_refused_where_they_have_many(write: Write, setting: str) -> None:
    def study(model: str) -> Path:
        return write(f"training: {{{setting}}}\nmodel: {model}\n", edits={"training: {lr: 1e-3}\n": ""})

    load(study("{image_size: 64}"))
    told = problems(study("{image_size: native}"))
    needs = f"has {setting}, which needs images of one size, and its model.image_size is native; set"
    assert [needs in problem for problem in told] == [True, True]


@pytest.mark.parametrize(
    ("thaws", "refused"),
    [("", False), (", unfreeze_after: 3", True), (", unfreeze_after: {encoder1: 0}", False)],
)
def test_a_frozen_bottleneck_takes_single_images(write: Write, thaws: str, *, refused: bool) -> None:
    frozen = (
        "  frozen: {data: cxr, starts_from: general, training: {batch_size: 1}, "
        f"adapt: {{freeze: {{part: encoder{thaws}}}}}}}\n"
    )
    path = write(base=BASE.replace("training:", frozen + "model: {image_size: 16}\ntraining:"))
    if refused:
        assert "stage 'frozen' would train on a single image" in problems(path)[0]
    else:
        load(path)


@pytest.mark.parametrize(
    ("structures", "flip", "warned"),
    [
        ("[left_lung, right_lung, heart]", "flip: 0.5", True),
        ("[left_lung, right_lung]", "blur: 1.0", False),
        ("[left_lung, heart]", "flip: 0.5", False),
        ("[lung]", "flip: 0.5", False),
    ],
)
def test_mirroring_sides_that_have_names_is_a_warning(
    write: Write, structures: str, flip: str, *, warned: bool
) -> None:
    sided = BASE.replace(
        "general: {data: cxr, starts_from: donor,", f"general: {{data: cxr, structures: {structures},"
    )
    path = write(base=sided.replace("lr: 1e-3", f"augmentation: {{{flip}}}"))
    said = (
        f"{path}:8: warning: stage 'general' tells left_lung from right_lung, and augmentation.flip mirrors "
        "images: a mirrored left_lung lies where the right_lung is, and keeps its name; leave flip out, or "
        "learn both as one structure"
    )
    assert [str(warning) for warning in load(path).warnings] == [said] * warned


WANDB = "tracking:\n  wandb:\n    "


@pytest.mark.parametrize(
    ("more", "line", "text"),
    [
        (
            f"{WANDB}project: my team/lungs",
            11,
            "tracking.wandb.project: 'my team/lungs' has '/', and W&B refuses / \\ # ? % : in names; give "
            "the team as",
        ),
        (f"{WANDB}project: 'a#b?c#'", 11, "tracking.wandb.project: 'a#b?c#' has '#?', and W&B refuses"),
        (
            f"{WANDB}project: {'x' * 129}",
            11,
            "tracking.wandb.project: the name has 129 characters; W&B takes at most 128",
        ),
        (f"{WANDB}project: ''", 11, "tracking.wandb.project: the name is empty"),
        (
            f"{WANDB}entity: my team",
            11,
            "tracking.wandb.entity: 'my team' has a blank; the name of a W&B team or user has none",
        ),
        (f"{WANDB}entity: team/lungs", 11, "tracking.wandb.entity: 'team/lungs' has '/', and W&B refuses"),
        *(
            (
                f"tracking:\n  notify: {{webhook: '{value}'}}",
                10,
                "tracking.notify.webhook: it must be the name of an environment variable that holds the addr",
            )
            for value in ("https://hooks.slack.com/services/T/B/x", "a b", "")
        ),
        (
            "tracking: {notify: {wandb_alert: true}, wandb: {mode: offline}}",
            9,
            "tracking: `notify.wandb_alert` needs `wandb` with `mode: online`: from a run that is offline, ",
        ),
        ("tracking: {notify: {on: [ends]}}", 9, "tracking.notify.on[0] is 'ends'; it must be one of end, "),
        ("tracking: {notify: {stall_after_min: 0}}", 9, "tracking.notify.stall_after_min is 0; it must be "),
        ("training: {smoothing: 1.0e+39}", 8, "training.smoothing is 1e+39; it must be at most 1e+30."),
        (
            "training: {augmentation: {scale: [0.001, 1]}}",
            8,
            "training.augmentation.scale[0] is 0.001; it must be at least 0.1.",
        ),
        *(
            (
                f"resources: {{{name}: {value}}}",
                9,
                f"resources.{name}: {float(value)} is finer than Ray divides a resource; give a multiple of ",
            )
            for name, value in (("cpu", "0.00001"), ("gpu", "0.33333"))
        ),
        (
            "resources: {gpu: 1.5}",
            9,
            "resources.gpu: 1.5 is neither a share of one GPU nor a whole number of them",
        ),
    ],
)
def test_what_a_library_or_a_training_refuses_is_refused_with_its_line(
    write: Write, more: str, line: int, text: str
) -> None:
    base = BASE.replace("training: {lr: 1e-3}\n", "") if more.startswith("training") else BASE
    path = write(f"{more}\n", base=base)
    (problem,) = problems(path)
    assert problem.startswith(f"{path}:{line}: {text}")


PARTS = "  parts: {data: cxr, structures: [left_lung, heart], model: {outputs: %s}, training: {%s}}\n"


@pytest.mark.parametrize(
    ("outputs", "training", "what"),
    [
        ("exclusive", "class_weights: [0.5, 1, 1], loss: cross_entropy", ""),
        (
            "overlapping",
            "class_weights: [0.5, 1, 1], loss: cross_entropy",
            "stage 'parts' has class_weights, which are for exclusive structures; set model.outputs: ",
        ),
        (
            "exclusive",
            "class_weights: [0.5, 1, 1], loss: dice",
            "stage 'parts' has class_weights, which are for cross entropy, and its loss is dice; set ",
        ),
        (
            "exclusive",
            "class_weights: [0.5, 1], loss: dice_cross_entropy",
            "stage 'parts' has 2 class_weights, and needs 3: of the background and left_lung, heart, in this",
        ),
    ],
)
def test_class_weights_are_those_of_a_cross_entropy_of_exclusive_structures(
    write: Write, outputs: str, training: str, what: str
) -> None:
    path = write(base=BASE.replace("training:", PARTS % (outputs, training) + "training:"))
    if what:
        (problem,) = problems(path)
        assert problem.startswith(f"{path}:8: {what}")
    else:
        assert load(path).base.training_of("parts").class_weights == (0.5, 1, 1)


KINDS = """
  kinds:
    task: classification
    data: cxr
    classes: {column: pathology}
    model: {%s}
    training: {%s}
    masks: {from: parts, structures: [left_lung, heart], %s}
"""


@pytest.mark.parametrize(
    ("model", "training", "masks", "what"),
    [
        ("patches: {}, intensity: unit", "sampling: balanced, class_weights: null", "region: [heart]", ""),
        (
            "image_size: 96, intensity: unit, patches: {size_px: 128}", "", "keep: inside",
            "13: patches of 128 px are larger than the image with its 96 px; set size_px to 96 at most, or ",
        ),
        (
            "patches: {number: 3}, intensity: unit", "", "keep: inside",
            "13: 4 patches of a validation image judge epochs, and they are the first of the 3 that vote; ",
        ),
        ("patches: {}", "", "keep: inside", "13: warning: intensity of stage 'kinds' is minmax, which "),
        ("", "sampling: balanced", "keep: inside", "14: warning: rare classes count twice"),
        (
            "", "", "region: [hart]",
            "15: stages.kinds.masks: region names 'hart', which is none of the structures (left_lung, ",
        ),
    ],
)  # fmt: skip
def test_what_patches_sampling_and_regions_cannot_be(
    write: Write, model: str, training: str, masks: str, what: str
) -> None:
    kinds = KINDS % (model, training, masks)
    base = BASE.replace("training:", PARTS.rstrip() % ("overlapping", "") + kinds + "training:")
    path = write(base=base)
    if not what:
        assert load(path).warnings == ()
        return
    if "warning" in what:
        (problem,) = [str(warning) for warning in load(path).warnings]
    else:
        (problem,) = problems(path)
    assert problem.startswith(f"{path}:{what}"), problem
