"""What is wrong or odd about a stage of classification, beyond single fields."""

from __future__ import annotations

from collections.abc import Iterator

from xferlab.tasks.classification.sections import SMALLEST_SIDE, Adapt
from xferlab.tasks.task import Finding, Path, StageView

_BATCH_NORM = ("resnet18", "efficientnet_lite0")
_OF_PARENT = ("name", "width", "head")
"""Fields of the network that a stage has in common with the one whose weights it takes over."""


def check(stage: StageView) -> Iterator[Finding]:
    """Yields what is wrong or odd about a stage's images, its classes, and the weights that it takes over."""
    yield from _channels(stage)
    yield from _scale(stage)
    yield from _outputs(stage)
    yield from _patches(stage)
    yield from _sampling(stage)
    if stage.training.batch_size == 1:
        path = stage.written("batch_size")
        yield from check_single(stage, path, "batch_size is 1", "set training.batch_size to 2 or more")
    if stage.parent is not None:
        yield from _adaptation(stage, stage.adapt or Adapt())


def check_single(stage: StageView, path: Path, why: str, remedy: str) -> Iterator[Finding]:
    """Yields a finding if batch norm would see one pixel of a single image.

    Args:
        stage: The stage.
        path: What makes the images single.
        why: How it does.
        remedy: What to do about it; a larger image is another way.
    """
    model = stage.model
    side, field = model.image_size, "image_size"
    if model.patches is not None:
        side, field = model.patches.size_px, "patches.size_px"
    if model.name in _BATCH_NORM and side == SMALLEST_SIDE:
        yield Finding(
            path,
            f"stage {stage.name!r} would train on a single image at a time ({why}), and the last features of "
            f"a {model.name} at {SMALLEST_SIDE} px are one pixel: batch norm needs two values of each "
            f"channel; {remedy}, or set model.{field} to {SMALLEST_SIDE + 1} or more",
            related=(("stages", stage.name, "model"),),
        )


def _channels(stage: StageView) -> Iterator[Finding]:
    expected, path = stage.model.in_channels, ("stages", stage.name, "model", "in_channels")
    for (section, where), channels in stage.channels.items():
        if channels not in (1, expected):
            yield Finding(
                where,
                f"the images of {section!r} have {channels} channels, and the network of stage "
                f"{stage.name!r} takes {expected}; set model.in_channels: {channels}",
                related=(path,),
            )
    if stage.model.standardise == "imagenet" and expected not in (1, 3):
        what = f"stage {stage.name!r} has {expected} channels; published weights expect 3 (or 1, folded)"
        yield Finding(path, what, related=(("stages", stage.name, "model", "standardise"),))


def _scale(stage: StageView) -> Iterator[Finding]:
    if stage.model.standardise == "imagenet" and stage.model.intensity == "raw":
        what = (
            f"stage {stage.name!r} leaves images at 0 to 255, and `standardise: imagenet` expects 0 to 1; "
            "set model.intensity: unit, or model.standardise: null"
        )
        path: Path = ("stages", stage.name, "model", "intensity")
        yield Finding(path, what, related=(("stages", stage.name, "model", "standardise"),))


def _outputs(stage: StageView) -> Iterator[Finding]:
    path: Path = ("stages", stage.name, "model", "outputs")
    related: tuple[Path, ...] = (("stages", stage.name, "classes"), ("stages", stage.name, "model"))
    if stage.has_several and stage.model.outputs == "exclusive":
        what = (
            f"images of stage {stage.name!r} may be of several classes (`separator`), and its outputs are "
            "exclusive; set model.outputs: independent"
        )
        yield Finding(path, what, related=related)
    elif not stage.has_several and stage.model.outputs == "independent":
        what = (
            f"outputs of stage {stage.name!r} are independent, and each of its images is of one class; leave "
            "model.outputs out, or say what stands between the classes of an image (classes.separator)"
        )
        yield Finding(path, what, related=related)


def _patches(stage: StageView) -> Iterator[Finding]:
    model, patches = stage.model, stage.model.patches
    if patches is None:
        return
    path: Path = ("stages", stage.name, "model", "patches")
    related: tuple[Path, ...] = (("stages", stage.name, "model"),)
    if patches.size_px > model.image_size:
        what = (
            f"patches of {patches.size_px} px are larger than the image with its {model.image_size} px; "
            f"set size_px to {model.image_size} at most, or leave patches out: images are then taken whole"
        )
        yield Finding((*path, "size_px"), what, related=related)
    if patches.validation > patches.number:
        what = (
            f"{patches.validation} patches of a validation image judge epochs, and they are the first of the "
            f"{patches.number} that vote; set validation to {patches.number} at most"
        )
        yield Finding((*path, "validation"), what, related=related)
    if model.intensity == "minmax":
        what = (
            f"intensity of stage {stage.name!r} is minmax, which stretches each patch by its own range: "
            "they no longer differ by how bright they are; set model.intensity: unit"
        )
        yield Finding(path, what, "warning", related=related)
    if model.outputs == "independent":
        what = (
            f"patches of stage {stage.name!r} vote for one class, and its outputs are independent; leave "
            "model.patches out, or learn classes that exclude each other"
        )
        yield Finding(path, what, related=related)


def _sampling(stage: StageView) -> Iterator[Finding]:
    training, related = stage.training, (("stages", stage.name, "model", "outputs"),)
    if training.sampling is None:
        return
    path = stage.written("sampling")
    if stage.model.outputs == "independent":
        what = f"images of stage {stage.name!r} may be of several classes, so none can be drawn by its class"
        yield Finding(path, f"{what}; leave sampling out", related=related)
    if training.class_weights is not None:
        what = (
            "rare classes count twice: they are drawn more often (sampling) and weigh more in the loss "
            "(class_weights, whose default is balanced); set class_weights: null"
        )
        yield Finding(path, what, "warning", related=(stage.written("class_weights"),))


def _adaptation(stage: StageView, adapt: Adapt) -> Iterator[Finding]:
    path: Path = ("stages", stage.name, "adapt")
    is_trained, before, now = bool(stage.parent_targets), stage.parent_network, stage.model
    if is_trained and before is not None:
        for field in _OF_PARENT:
            if getattr(before, field) != getattr(now, field):
                yield Finding(
                    ("stages", stage.name, "starts_from"),
                    f"stage {stage.name!r} has {field} {_shown(getattr(now, field))} in its model, and "
                    f"{stage.parent!r}, which it starts from, {_shown(getattr(before, field))}; its weights "
                    "fit the same network only",
                    related=(("stages", stage.name, "model"), ("stages", stage.parent or "", "model")),
                )
        folded = before.in_channels == 3 and now.in_channels == 1
        if before.in_channels != now.in_channels and not (folded and adapt.fold):
            remedy = "set adapt: {fold: luminance}" if folded else "give both the same number"
            yield Finding(
                ("stages", stage.name, "starts_from"),
                f"stage {stage.name!r} takes {now.in_channels} channels, and {stage.parent!r}, which it "
                f"starts from, {before.in_channels}; {remedy}",
                related=(("stages", stage.name, "model"), ("stages", stage.parent or "", "model"), path),
            )
    if adapt.fold is not None and now.in_channels != 1:
        what = f"fold makes one channel of three, and model.in_channels is {now.in_channels}; set it to 1"
        yield Finding((*path, "fold"), what, related=(("stages", stage.name, "model"),))
    thaws = adapt.freeze and adapt.freeze.unfreeze_after
    if thaws and (late := stage.training.late_thaw(thaws)):
        field, what = late
        related = (("stages", stage.name, "training", field), ("training", field))
        yield Finding((*path, "freeze", "unfreeze_after"), what, "warning", related=related)


def _shown(value: object) -> str:
    return str(value if isinstance(value, int | float | str) else dict(value))  # type: ignore[call-overload]
