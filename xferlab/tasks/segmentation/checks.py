"""What is wrong or odd about a stage of segmentation, beyond single fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from xferlab.metrics.pairs import unions_of
from xferlab.tasks.segmentation.sections import (
    FCN,
    GROWTH,
    NETWORKS,
    ON_VGG16,
    REFERENCED,
    Adapt,
    Freezing,
    Network,
)
from xferlab.tasks.task import Finding, Path, StageView


def check(stage: StageView) -> Iterator[Finding]:
    """Yields what is wrong or odd about a stage's images and the weights that it takes over."""
    yield from _channels(stage)
    yield from _structures(stage)
    yield from _class_weights(stage)
    yield from _one_size(stage)
    yield from _sides(stage)
    if stage.training.batch_size == 1:
        path = stage.written("batch_size")
        yield from check_single(stage, path, "batch_size is 1", "set training.batch_size to 2 or more")
    if stage.parent_network is not None:
        yield from _same_network(stage, stage.parent_network)
        yield from _head(stage, stage.adapt or Adapt(), stage.parent_network)
        yield from _adaptation(stage, stage.adapt or Adapt(), stage.parent_network)


def check_single(stage: StageView, path: Path, why: str, remedy: str) -> Iterator[Finding]:
    """Yields a finding if a stage would train a bottleneck of one pixel on single images.

    Args:
        stage: The stage.
        path: What makes the images single.
        why: How it does.
        remedy: What to do about it; a larger image is another way.
    """
    tiled = stage.model.tiles is not None
    smallest = stage.model.size_multiple
    size = stage.model.tiles.size if tiled else stage.model.image_size
    if not stage.model.normalises_bottleneck or size != smallest:
        return
    if stage.adapt is not None and stage.adapt.freeze is not None:
        epoch = stage.adapt.freeze.thaws_after("bottleneck")
        if epoch is None or epoch >= stage.training.max_epochs:
            return
    side: Path = ("model", "tiles", "size") if tiled else ("model", "image_size")
    yield Finding(
        path,
        f"stage {stage.name!r} would train on a single image at a time ({why}), and at {smallest} px "
        f"its bottleneck is one pixel: batch norm needs two values of each channel; {remedy}, or set "
        f"{'.'.join(map(str, side))} to {2 * smallest} or more",
        related=(side,),
    )


def _structures(stage: StageView) -> Iterator[Finding]:
    if stage.structures == ():
        yield Finding(
            ("stages", stage.name, "structures"),
            f"stage {stage.name!r} reads no structure, and segmentation learns one or several; name them in "
            "`structures`",
            related=(("stages", stage.name, "data"),),
        )


def _class_weights(stage: StageView) -> Iterator[Finding]:
    """Weights of classes that are not those of the stage's cross entropy."""
    weights, loss, network = stage.training.class_weights, stage.training.loss, stage.network
    if weights is None or stage.structures is None:
        return
    what = f"stage {stage.name!r} has class_weights, which are "
    if not network.is_exclusive:
        what += "for exclusive structures; set model.outputs: exclusive, or leave class_weights out"
    elif "cross_entropy" not in loss:
        what += f"for cross entropy, and its loss is {loss}; set training.loss: cross_entropy, or leave "
        what += "class_weights out"
    elif len(weights) != network.out_channels:
        what = f"stage {stage.name!r} has {len(weights)} class_weights, and needs {network.out_channels}: of "
        what += f"the background and {', '.join(stage.structures)}, in this order"
    else:
        return
    fields = (("model", "outputs"), ("training", "loss"), ("structures",))
    related = (("stages", stage.name, *field) for field in fields)
    yield Finding(stage.written("class_weights"), what, related=(*related, *fields[:2]))


def _one_size(stage: StageView) -> Iterator[Finding]:
    """What needs images of one size, where they have many: intensities with a reference, and kernels."""
    training, model = stage.training, stage.model
    if model.image_size != "native":
        return
    fields = {"intensity": training.intensity} if training.intensity in REFERENCED else {}
    if training.compile and model.tiles is None:
        fields["compile"] = "true"
    for field, value in fields.items():
        yield Finding(
            stage.written(field),
            f"stage {stage.name!r} has {field}: {value}, which needs images of one size, and its "
            f"model.image_size is native; set model.image_size to a number, or change training.{field}",
            related=(("stages", stage.name, "model", "image_size"), ("model", "image_size")),
        )


def _sides(stage: StageView) -> Iterator[Finding]:
    """Mirrored images where left and right have names, which masks keep on the other side."""
    augmentation, pairs = stage.training.augmentation, unions_of(stage.structures or ())
    if augmentation is None or augmentation.flip is None or not pairs:
        return
    left, right = next(iter(pairs.values()))
    yield Finding(
        stage.written("augmentation"),
        f"stage {stage.name!r} tells {left} from {right}, and augmentation.flip mirrors images: a mirrored "
        f"{left} lies where the {right} is, and keeps its name; leave flip out, or learn both as one "
        "structure",
        "warning",
        related=(("stages", stage.name, "structures"),),
    )


def _channels(stage: StageView) -> Iterator[Finding]:
    """Colour images for a network of other channels: only grey images fit any."""
    expected = stage.network.in_channels
    for (section, path), channels in stage.channels.items():
        if channels not in (1, expected):
            yield Finding(
                path,
                f"the images of {section!r} have {channels} channels, and the network of stage "
                f"{stage.name!r} takes {expected}; set model.in_channels: {channels}, and fold the channels "
                "(adapt: {fold: sum}) in a later stage, whose images are grey",
                related=(("model", "in_channels"), *_adapting(stage.lineage, "fold")),
            )


def _same_network(stage: StageView, before: Network) -> Iterator[Finding]:
    """Yields why a parent's weights do not fit; what given weights are of is seen when they are loaded."""
    shapes = _shape(stage.network), _shape(before)
    differing = (field for field in shapes[0] if shapes[0][field] != shapes[1][field])
    if stage.parent_targets and (field := next(differing, None)):
        paths: list[Path] = [("stages", name, "model", field) for name in (stage.name, stage.parent or "")]
        now, parents = (shape[field] for shape in shapes)
        yield Finding(
            ("stages", stage.name, "starts_from"),
            f"model.{field} of stage {stage.name!r} is {now}, and {parents} in {stage.parent!r}, from "
            f"which it starts: weights of one do not fit the other; set the same {field} in both, or "
            "start from another stage",
            related=(*paths, ("model", field)),
        )


def _shape(network: Network) -> dict[str, str | float | None]:
    """What weights must have in common; the first that differs says what they are of."""
    growth = network.growth or GROWTH.get(network.name)
    width = network.width or (1 if network.name in ON_VGG16 else None)
    return {"name": network.name, "init_features": network.init_features, "growth": growth, "width": width}


def _head(stage: StageView, adapt: Adapt, before: Network) -> Iterator[Finding]:
    """Outputs that the parent's are not; what given weights have is seen when they are loaded."""
    now = stage.network
    if adapt.head is None and stage.parent_targets and _outputs(now) != _outputs(before):
        yield Finding(
            ("stages", stage.name, "starts_from"),
            f"stage {stage.name!r} learns {_outputs(now)}, and {stage.parent!r}, which it starts from, "
            f"{_outputs(before)}: its last layer does not fit; set adapt: {{head: new}}, which starts that "
            "layer from random weights and takes over all others",
            related=(("stages", stage.name, "structures"), ("stages", stage.parent or "", "structures")),
        )
    freeze = adapt.freeze
    if adapt.head == "new" and freeze and freeze.part == "donor" and now.translator is None:
        epoch = freeze.thaws_after("head")
        if epoch is None or epoch >= stage.training.max_epochs:
            yield Finding(
                ("stages", stage.name, "adapt", "freeze"),
                "the new head is frozen for good, with the random weights that it starts from; let it train "
                "(unfreeze_after: {head: 0}), or freeze the encoder only",
            )


def _outputs(network: Network) -> str:
    if network.structures:
        return f"{network.structures} {network.outputs} structures"
    return "one exclusive structure" if network.is_exclusive else "one structure"


def _adaptation(stage: StageView, adapt: Adapt, before: Network) -> Iterator[Finding]:
    path: Path = ("stages", stage.name, "adapt")
    ancestors = stage.lineage[:-1]
    if stage.network.name not in NETWORKS:
        yield from _unknown_levels(stage, adapt)
        return
    if adapt.fold is not None and before.in_channels != 3:
        changed = before.in_channels != stage.model.in_channels
        remedy = "leave fold out" if changed else "leave fold out, or set model.in_channels: 3"
        yield Finding(
            (*path, "fold"),
            f"the network of stage {stage.parent!r} has {before.in_channels} input channels, and only three "
            f"can be folded into one; {remedy}",
            related=(("model", "in_channels"), *_adapting(ancestors, "fold")),
        )
    if adapt.translator is not None and stage.network.name in FCN:
        yield Finding(
            (*path, "translator"),
            f"a translator reads the features of a decoder, and {stage.network.name} has none; leave it out "
            "or set adapt: {head: new}, which starts the head from random weights",
            related=(("model", "name"), ("stages", stage.name, "model", "name")),
        )
    if adapt.translator is not None and before.translator is not None:
        yield Finding(
            (*path, "translator"),
            f"stage {stage.parent!r} hands down a translator already; leave it out",
            related=tuple(_adapting(ancestors, "translator")),
        )
    if adapt.freeze is not None:
        yield from _freezing(stage, adapt.freeze)


def _unknown_levels(stage: StageView, adapt: Adapt) -> Iterator[Finding]:
    """What asks for the levels of a network, which those of packages do not tell."""
    for field in ("fold", "translator", "freeze"):
        if getattr(adapt, field) is not None:
            yield Finding(
                ("stages", stage.name, "adapt", field),
                f"{field} needs to know the layers of the network, and {stage.network.name} comes from a "
                f"package ({stage.network.package}); leave it out, or take one of {', '.join(NETWORKS)}",
                related=(("model", "name"), ("stages", stage.name, "model", "name")),
            )


def _freezing(stage: StageView, freeze: Freezing) -> Iterator[Finding]:
    path: Path = ("stages", stage.name, "adapt", "freeze")
    thaws = freeze.unfreeze_after
    levels = (*stage.network.layers, "head")
    for level in thaws if isinstance(thaws, Mapping) else ():
        if level not in levels:
            yield Finding(
                (*path, "unfreeze_after", level),
                f"{level!r} is no level of a {stage.network.name} ({', '.join(levels)}); name one of these",
                related=(("model", "name"), ("stages", stage.name, "model", "name")),
            )
    trains_at_once = isinstance(thaws, Mapping) and 0 in thaws.values()
    if freeze.part == "donor" and stage.network.translator is None and not trains_at_once:
        yield Finding(
            path,
            "the whole donor is frozen and no translator is added, so that nothing would train in the first "
            "epoch; add adapt.translator, freeze the encoder only, or let a level train from epoch 0",
        )
    if freeze.last_thaw and (late := stage.training.late_thaw(freeze.last_thaw)):
        field, what = late
        related = (("stages", stage.name, "training", field), ("training", field))
        yield Finding((*path, "unfreeze_after"), what, "warning", related=related)


def _adapting(stages: Sequence[str], field: str) -> Iterator[Path]:
    yield from (("stages", name, "adapt", field) for name in stages)
