"""What no single field can tell: references, hold-outs, repetitions and the trainings of stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from pydantic import ValidationError

from xferlab.errors import suggest
from xferlab.study.adapt import SMALLEST_SIDE, Freezing
from xferlab.study.compose import PAIRING_FIELDS
from xferlab.study.evaluated import Evaluated
from xferlab.study.findings import Finding, dotted, of_validation
from xferlab.study.schema import Stage, Study
from xferlab.study.yaml_lines import KeyPath


def with_repetitions(study: Study, known: Mapping[str, int | None]) -> Study:
    """Returns the study with `repetitions` set for every stage that is trained.

    Args:
        study: A validated study.
        known: Repetitions of the base's stages, which an arm keeps. A stage that is not among them has 1 if
            nothing precedes it and another stage starts from it, else the study's number.
    """
    parents = {stage.starts_from for stage in study.stages.values()}
    stages = {}
    for name, stage in study.stages.items():
        number = stage.repetitions or known.get(name)
        if number is None:
            number = 1 if stage.starts_from is None and name in parents else study.repetitions
        is_set = stage.weights is not None or stage.repetitions is not None
        stages[name] = stage if is_set else stage.model_copy(update={"repetitions": number})
    return study.model_copy(update={"stages": stages})


def check(study: Study) -> list[Finding]:
    """Returns what is wrong with a validated study whose repetitions are set."""
    checks = (_references, _evaluations, _training, _repetitions, _channels, _adaptation)
    found = [
        finding
        for name, stage in study.stages.items()
        for one in checks
        for finding in one(study, name, stage)
    ]
    return found + list(_features(study)) + list(_cycles(study))


def pairing(base: Study, arm: Study) -> Iterator[Finding]:
    """Yields what an arm changes about hold-outs and same patients by giving a section as a whole."""
    for name, section in arm.data.items():
        for field in PAIRING_FIELDS:
            mine = getattr(section, field)
            if name not in base.data and mine:
                what = (
                    f"a section that only an arm has may not set {field}: "
                    "arms are compared on the same patients; declare the section in the study's own data"
                )
                yield Finding(("data", name, field), what)
            elif name in base.data and mine != (theirs := getattr(base.data[name], field)):
                what = (
                    f"this section has {field} {theirs} in the study and {mine} in the arm; "
                    "arms are compared on the same patients, so give it as in the study"
                )
                yield Finding(("data", name, field), what, related=(("data", name),))


def unused(base: Study, arms: Iterable[Study]) -> Iterator[Finding]:
    """Yields a warning for each data section, and each donor of given weights, that no arm makes use of."""
    stages = [stage for study in (base, *arms) for stage in study.stages.values()]
    evaluated = {item.partition(".")[0] for stage in stages for item in stage.evaluate_on or ()}
    evaluated |= {base.features.on.partition(".")[0]} if base.features else set()
    sections = evaluated | {stage.data for stage in stages}
    parents = {stage.starts_from for stage in stages}
    for name in base.data:
        if name not in sections:
            yield Finding(("data", name), f"no stage trains or evaluates on data section {name!r}", "warning")
    for name, stage in base.stages.items():
        if stage.weights is not None and name not in parents:
            yield Finding(("stages", name), f"no stage starts from the weights of {name!r}", "warning")


def _references(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.data is not None and stage.data not in study.data:
        choices = _choices(stage.data, study.data)
        what = f"stage {name!r} trains on {stage.data!r}, which is no data section{choices}"
        yield Finding(("stages", name, "data"), what, related=(("data", stage.data),))
    parent = stage.starts_from
    if parent is not None and parent not in study.stages:
        choices = _choices(parent, (other for other in study.stages if other != name))
        what = f"stage {name!r} starts from {parent!r}, which is no stage of this study{choices}"
        yield Finding(("stages", name, "starts_from"), what, related=(("stages", parent),))


def _choices(name: str, accepted: Iterable[str]) -> str:
    accepted = list(accepted)
    return f" (there is {', '.join(accepted) or 'no other'}).{suggest(name, accepted)}"


def _evaluations(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    if stage.evaluate_on is None and stage.data is not None and study.split.test == 0:
        what = f"split.test is 0, so stage {name!r} has no test part; set its evaluate_on"
        yield Finding(("stages", name), what, related=(("split",),))
    for index, item in enumerate(stage.evaluate_on or ()):
        path: KeyPath = ("stages", name, "evaluate_on", index)
        section, part, _ = Evaluated.of(item)
        related: tuple[KeyPath, ...] = (("data", section, "hold_out"), ("data", section))
        if section not in study.data:
            what = f"{item!r} names no data section of this study{_choices(section, study.data)}"
            yield Finding(path, what, related=related)
        elif part == "hold_out" and study.data[section].hold_out == 0:
            what = f"{item!r} is empty: set data.{section}.hold_out to the share of patients to hold out"
            yield Finding(path, what, related=related)
        elif part == "test" and study.split.test == 0:
            yield Finding(path, f"{item!r} is empty: split.test is 0", related=(("split",),))


def _features(study: Study) -> Iterator[Finding]:
    if study.features is None:
        return
    path: KeyPath = ("features", "on")
    section = study.features.on.partition(".")[0]
    if section not in study.data:
        what = f"{study.features.on!r} names no data section of this study{_choices(section, study.data)}"
        yield Finding(path, what, related=(("data", section),))
    elif study.data[section].hold_out == 0:
        what = f"{study.features.on!r} is empty: set data.{section}.hold_out to the share to hold out"
        yield Finding(path, what, related=(("data", section, "hold_out"), ("data", section)))


def _training(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    under = ("stages", name, "training")
    try:
        training = study.training_of(name)
    except ValidationError as error:
        yield from of_validation(error, stage.training, under=under)
        return
    if stage.weights is None and training.batch_size == 1 and is_one_pixel_deep(study, name):
        why, remedy = "batch_size is 1", "set training.batch_size to 2 or more"
        yield batch_of_one(study, name, training_path(study, name, "batch_size"), why=why, remedy=remedy)
    if stage.weights is None and training.patience > training.max_epochs:
        own = {"patience", "max_epochs"} & set(stage.training)
        path: KeyPath = (
            (*under, min(own, key=list(stage.training).index)) if own else ("training", "patience")
        )
        what = f"patience {training.patience} never stops a training of at most {training.max_epochs} epochs"
        related: tuple[KeyPath, ...] = (("training", "patience"), ("training", "max_epochs"))
        yield Finding(path, what, "warning", related)


def training_path(study: Study, stage: str, field: str) -> KeyPath:
    """Returns where a training field of a stage is written: in the stage, or for all stages."""
    return (
        ("stages", stage, "training", field) if field in study.stages[stage].training else ("training", field)
    )


def is_one_pixel_deep(study: Study, stage: str) -> bool:
    """Returns whether a stage trains a bottleneck of one pixel: batch norm cannot take one image then."""
    model, adapt = study.model, study.stages[stage].adapt
    side = model.tiles.size if model.tiles is not None else model.image_size
    if side != SMALLEST_SIDE:
        return False
    if adapt is None or adapt.freeze is None:
        return True
    thaws = adapt.freeze.unfreeze_after
    epoch = thaws.get("bottleneck") if isinstance(thaws, dict) else thaws
    return epoch is not None and epoch < study.training_of(stage).max_epochs


def batch_of_one(study: Study, stage: str, path: KeyPath, *, why: str, remedy: str) -> Finding:
    """Returns what is wrong with a stage that trains a bottleneck of one pixel on single images.

    Args:
        study: The study.
        stage: The stage, with `is_one_pixel_deep`.
        path: What makes the images single.
        why: How it does.
        remedy: What to do about it; a larger image is another way.
    """
    side = ("model", "tiles", "size") if study.model.tiles is not None else ("model", "image_size")
    what = (
        f"stage {stage!r} would train on a single image at a time ({why}), and at {SMALLEST_SIDE} px its "
        f"bottleneck is one pixel: batch norm needs two values of each channel; {remedy}, or set "
        f"{dotted(side)} to {2 * SMALLEST_SIDE} or more"
    )
    return Finding(path, what, related=(side,))


def _repetitions(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    parent = study.stages.get(stage.starts_from or "")
    if parent is None or parent.weights is not None or stage.chaining == "best":
        return
    if parent.repetitions not in (1, stage.repetitions):
        what = (
            f"stage {name!r} has {stage.repetitions} repetitions and starts from {stage.starts_from!r}, "
            f"which has {parent.repetitions}; give both "
            "the same number, the parent 1, or this stage `chaining: best`"
        )
        chain_ = (("stages", name, "chaining"), ("stages", name, "starts_from"), ("repetitions",))
        theirs = ("stages", stage.starts_from or "", "repetitions")
        yield Finding(("stages", name, "repetitions"), what, related=(theirs, *chain_))


def _cycles(study: Study) -> Iterator[Finding]:
    done: set[str] = set()
    for start in study.stages:
        walk: list[str] = []
        name: str | None = start
        while name in study.stages and name not in done and name not in walk:
            walk.append(name)
            name = study.stages[name].starts_from
        if name in walk:
            circle = walk[walk.index(name) :]
            shown = " -> ".join(chain(circle, circle[:1]))
            what = f"stages start from each other in a circle: {shown}"
            paths = tuple(("stages", stage, "starts_from") for stage in circle)
            yield Finding(
                paths[0],
                what
                if len(circle) > 1
                else f"stage {name!r} starts from itself; null starts from random weights",
                related=paths,
            )
        done.update(walk)


def _is_rooted(study: Study, name: str) -> bool:
    """Whether all that precedes a stage is there; what is not is told elsewhere."""
    walk: list[str] = []
    while name in study.stages and name not in walk:
        walk.append(name)
        parent = study.stages[name].starts_from
        if parent is None:
            return True
        name = parent
    return False


def _channels(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Colour images for a network of other channels: only grey images fit any."""
    if stage.data is None or not _is_rooted(study, name):
        return
    channels = study.network_of(name)["in_channels"]
    places: dict[str, KeyPath] = {stage.data: ("stages", name, "data")}
    for index, item in enumerate(stage.evaluate_on or ()):
        places.setdefault(item.partition(".")[0], ("stages", name, "evaluate_on", index))
    for section, place in places.items():
        if section in study.data and study.data[section].channels == 3 != channels:
            what = (
                f"the images of {section!r} have 3 channels, and the network of stage {name!r} takes "
                f"{channels}; set model.in_channels: 3, and fold the channels (adapt: {{fold: sum}}) in a "
                "later stage, whose images are grey"
            )
            folds = (("stages", one, "adapt", "fold") for one in study.lineage(name))
            yield Finding(place, what, related=(("model", "in_channels"), *folds))


def _adaptation(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """What a stage cannot do to the weights it starts from."""
    adapt, parent = stage.adapt, stage.starts_from
    if adapt is None or parent is None or not _is_rooted(study, name):
        return
    place: KeyPath = ("stages", name, "adapt")
    before, after = study.network_of(parent), study.network_of(name)
    if adapt.fold is not None and before["in_channels"] != 3:
        remedy = (
            "leave fold out"
            if before["in_channels"] != study.model.in_channels
            else "leave fold out, or set model.in_channels: 3"
        )
        what = (
            f"the network of stage {parent!r} has {before['in_channels']} input channels, and only three can "
            f"be folded into one; {remedy}"
        )
        folds = (("stages", one, "adapt", "fold") for one in study.lineage(parent))
        yield Finding((*place, "fold"), what, related=(("model", "in_channels"), *folds))
    if adapt.translator is not None and "translator" in before:
        what = f"stage {parent!r} hands down a translator already; leave it out"
        others = (("stages", one, "adapt", "translator") for one in study.lineage(parent))
        yield Finding((*place, "translator"), what, related=tuple(others))
    if adapt.freeze is not None:
        yield from _freezing(study, name, adapt.freeze, has_translator="translator" in after)


def _freezing(study: Study, name: str, freeze: Freezing, *, has_translator: bool) -> Iterator[Finding]:
    thaws = freeze.unfreeze_after
    trains_at_once = isinstance(thaws, dict) and 0 in thaws.values()
    place: KeyPath = ("stages", name, "adapt", "freeze")
    if freeze.part == "donor" and not has_translator and not trains_at_once:
        what = (
            "the whole donor is frozen and no translator is added, so that nothing would train in the first "
            "epoch; add adapt.translator, freeze the encoder only, or let a level train from epoch 0"
        )
        yield Finding(place, what)
    try:
        longest = study.training_of(name).max_epochs
    except ValidationError:
        return  # told with the training
    last = max(thaws.values(), default=0) if isinstance(thaws, dict) else thaws or 0
    if last >= longest:
        what = f"it thaws after {last} epochs, and the stage trains for {longest} at most"
        lengths = (("stages", name, "training", "max_epochs"), ("training", "max_epochs"))
        yield Finding((*place, "unfreeze_after"), what, "warning", lengths)
