"""How many repetitions stages have, and what must fit: a split's number, folds, and the stages before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xferlab.study.schema import Study
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.task import Finding


def with_repetitions(study: Study, known: Mapping[str, int | None]) -> Study:
    """Returns the study with `repetitions` set for every stage that is trained.

    Where only the data tell the number (`split.is_open`), stages that have the study's number keep None; see
    `with_number`.

    Args:
        study: A validated study.
        known: Repetitions of the stages that the base trains, which an arm keeps. A stage that is not among
            them has 1 if nothing precedes it and another stage starts from it, else the study's number.
    """
    if study.split.num_repetitions and "repetitions" not in study.model_fields_set:
        study = study.model_copy(update={"repetitions": study.split.num_repetitions})
    of_study = None if study.split.is_open else study.repetitions
    stages_of_study = study.stages.values()
    parents = {parent for stage in stages_of_study for parent in stage.origins.values()}
    # A stage whose predictions others take has a trial for each of their repetitions.
    parents -= {producer.stage for stage in stages_of_study for producer in stage.producers}
    stages = dict(study.stages)
    for name, stage in study.stages.items():
        if stage.weights is None and stage.repetitions is None:
            is_shared_root = not study.needs(name) and name in parents
            number = known.get(name, 1 if is_shared_root else of_study)
            stages[name] = stage.model_copy(update={"repetitions": number})
    return study.model_copy(update={"stages": stages})


def with_number(study: Study, number: int) -> Study:
    """Returns the study with this number of repetitions, which stages without one of their own get, too."""
    stages = {
        name: stage
        if stage.weights or stage.repetitions
        else stage.model_copy(update={"repetitions": number})
        for name, stage in study.stages.items()
    }
    return study.model_copy(update={"repetitions": number, "stages": stages})


def numbers(study: Study, number: int | None, what: str) -> Iterator[Finding]:
    """Yields what is wrong with the numbers of repetitions where a split decides them.

    Args:
        study: Its repetitions are set as far as they are known.
        number: How many the split has; None where it has any number.
        what: Words for what the split has, such as `5 folds x 2 repeats`.
    """
    if number is None:
        return
    related: tuple[KeyPath, ...] = (("split",),)
    if "repetitions" in study.model_fields_set and study.repetitions != number:
        yield Finding(
            ("repetitions",),
            f"repetitions is {study.repetitions}, and the split has {number} ({what}); leave repetitions out",
            related=related,
        )
        return  # stages without a number of their own have the wrong one
    for name, stage in study.stages.items():
        if stage.repetitions and stage.repetitions > number:
            yield Finding(
                ("stages", name, "repetitions"),
                f"stage {name!r} has {stage.repetitions} repetitions, and the split has {number} ({what}); "
                "give at most so many",
                related=related,
            )


def folds(study: Study) -> Iterator[Finding]:
    """Numbers of repetitions that a cross-validation does not have."""
    folds, repeats = study.split.folds, study.split.repeats
    yield from numbers(study, study.split.num_repetitions, f"{folds} folds x {repeats} repeats")


def unfinished_repeats(study: Study) -> Iterator[Finding]:
    """Yields the stages that have some folds of a repeat, or seeds of a split, and not all.

    Only a search may train such.
    """
    folds, seeds = study.split.folds, study.split.seeds_per_split
    for name, stage in study.stages.items():
        number = stage.repetitions or 1
        if number > 1 and number % seeds:
            yield Finding(
                ("stages", name, "repetitions"),
                f"stage {name!r} has {number} repetitions, and each split has {seeds} seeds; give a multiple "
                f"of {seeds}, or 1",
                related=(("repetitions",), ("split",)),
            )
        if folds and number > 1 and number % folds and number <= folds * study.split.repeats:
            yield Finding(
                ("stages", name, "repetitions"),
                f"stage {name!r} has {number} repetitions, and every {folds} folds of the split test each "
                f"patient once; give {folds}, a multiple of it, or 1",
                related=(("split",),),
            )
