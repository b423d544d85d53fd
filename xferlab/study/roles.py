"""What stages take from each other: weights to start from, masks, gates; what cannot be, and circles."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeVar

from pydantic import ValidationError

from xferlab.errors import suggest
from xferlab.study.schema import Study
from xferlab.study.sections import choices
from xferlab.study.stage import MASKS, Producer, Stage
from xferlab.study.yaml_lines import KeyPath
from xferlab.tasks.task import Finding

STARTS_FROM = "starts_from"
_KINDS = {"structures": "masks", "classes": "probabilities of classes"}
N = TypeVar("N", bound=Hashable)


def origins(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields what is wrong with the names of stages and networks that a stage starts from."""
    path: KeyPath = ("stages", name, STARTS_FROM)
    for parent in dict.fromkeys(stage.origins.values()):
        if parent not in study.stages:
            others = [other for other in study.stages if other != name]
            yield Finding(
                path,
                f"stage {name!r} starts from {parent!r}, which is no stage of this study"
                f"{choices(parent, others)}",
                related=(("stages", parent),),
            )


def origins_task(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields the networks that the stage's task does not have, and parents whose task does not give them."""
    path: KeyPath = ("stages", name, STARTS_FROM)
    networks = study.task_of(name).networks
    for network, parent in stage.origins.items():
        if network and network not in networks:
            what = (
                f"stage {name!r} starts its network {network!r} from {parent!r}; task {stage.task!r} has no "
                f"network of this name that can start from a stage{choices(network, networks)}"
                if networks
                else f"stages of task {stage.task!r} start from one stage; write `starts_from: {parent}`"
            )
            yield Finding((*path, network), what)
        elif parent in study.stages:
            yield from _task_of_origin(study, name, network, parent)


def _task_of_origin(study: Study, name: str, network: str, parent: str) -> Iterator[Finding]:
    task, given = study.task_of(name), study.task_of(parent)
    related: tuple[KeyPath, ...] = (("stages", parent, "task"),)
    kind = task.networks[network] if network else ""
    if kind and (given.targets != kind or not study.learns_targets(parent)):
        what = (
            f"stage {name!r} starts its network {network!r} from {parent!r}, whose task {given.name!r} gives "
            f"no {_KINDS[kind]}; name a stage that does"
        )
        yield Finding(("stages", name, STARTS_FROM, network), what, related=related)
    elif not kind and given.name != task.name:
        yield Finding(
            ("stages", name, STARTS_FROM),
            f"stage {name!r} has task {task.name!r} and starts from {parent!r}, which has task "
            f"{given.name!r}; weights carry over between stages of one task only",
            related=related,
        )


def unpaired(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields what is wrong with the repetitions of a stage and of those that it starts from."""
    parents = map(study.stages.get, stage.origins.values())
    if stage.chaining == "best" and all(parent is not None and parent.weights for parent in parents):
        yield Finding(
            ("stages", name, "chaining"),
            f"stage {name!r} has `chaining: best` and starts from no trained stage, so there is no best one; "
            "give `starts_from` a stage that is trained, or say `chaining: paired`",
            severity="warning",
            related=(("stages", name, STARTS_FROM),),
        )
    for parent in dict.fromkeys(stage.origins.values()):
        given = study.stages.get(parent)
        if given is None or given.weights is not None or stage.chaining == "best":
            continue
        if study.split.is_open and None in (given.repetitions, stage.repetitions):
            continue  # checked when the data tell the number
        if given.repetitions not in (1, stage.repetitions):
            yield Finding(
                ("stages", name, "repetitions"),
                f"stage {name!r} has {stage.repetitions} repetitions and starts from {parent!r}, "
                f"which has {given.repetitions}; give both "
                "the same number, the parent 1, or this stage `chaining: best`",
                related=(
                    ("stages", parent, "repetitions"),
                    ("stages", name, "chaining"),
                    ("stages", name, STARTS_FROM),
                    ("repetitions",),
                ),
            )


def producers(study: Study, name: str, stage: Stage) -> Iterator[Finding]:
    """Yields what is wrong with the stages of the same arm whose predictions a stage takes."""
    for producer in stage.producers:
        if not producer.arm and (producer.role != MASKS or study.task_of(name).masks):
            yield from _taken(study, name, producer, study)


def of_other_arms(arms: Mapping[str, Study], arm: str) -> Iterator[Finding]:
    """Yields what is wrong with the predictions that the stages of an arm take by the name of an arm.

    Args:
        arms: All arms that are valid by themselves.
        arm: One of them.
    """
    for name, stage in arms[arm].stages.items():
        for producer in stage.producers:
            if producer.arm in arms:
                yield from _taken(arms[arm], name, producer, arms[producer.arm])
            elif producer.arm:
                what = f"stage {name!r} takes predictions of arm {producer.arm!r}, which is no arm"
                yield Finding(
                    ("stages", name, producer.role, "from"), what + choices(producer.arm, list(arms))
                )

    yield from needed_in_circles(arms, arm)


def _taken(study: Study, name: str, producer: Producer, giving: Study) -> Iterator[Finding]:
    """What is wrong with one stage whose predictions another one takes."""
    source = ".".join(filter(None, (producer.arm, producer.stage)))
    path: KeyPath = ("stages", name, producer.role, "from")
    related: tuple[KeyPath, ...] = (("stages", producer.stage),)
    what = f"stage {name!r} takes its {producer.role} from {source!r}, "
    kind = "structures" if producer.role == MASKS else "classes"
    able = [other for other in giving.stages if _gives(giving, other, kind) and other != name]
    given = giving.stages.get(producer.stage)
    if given is None:
        what += f"which is no stage of {'that arm' if producer.arm else 'this study'}"
        what += choices(producer.stage, able)
    elif given.weights is not None:
        what += (
            "whose weights are given: without a trial, it predicts nothing. Add a stage that starts from it "
            "and is trained, and name that one"
        )
    elif not _gives(giving, producer.stage, kind):
        what += f"whose task {given.task!r} gives no {_KINDS[kind]}; name a stage that does"
        what += f" ({', '.join(able)})" if able else ""
    elif kind == "classes" and (classes := giving.classes_of(producer.stage)) and classes.separator:
        what += (
            "whose images may be of several classes (`separator`); a gate asks for the one that each is of"
        )
    elif given.masks is not None and giving.task_of(producer.stage).masks:
        what += "which itself needs masks of another stage to predict; take them from a stage that needs none"
    else:
        yield from _untold(study, name, producer, giving)
        yield from _other_number(study, name, producer, given)
        return
    yield Finding(path, what, related=related)


def _gives(study: Study, stage: str, kind: str) -> bool:
    is_trained = study.stages[stage].weights is None
    return is_trained and study.task_of(stage).targets == kind and study.learns_targets(stage)


def _untold(study: Study, name: str, producer: Producer, giving: Study) -> Iterator[Finding]:
    """What a stage takes that the other one does not give; masks of several sets cannot be out of fold."""
    try:
        masks, gate = study.masks_of(name), study.stages[name].gate
    except ValidationError:
        return  # another check says what is wrong
    is_mask = producer.role == MASKS
    if is_mask and masks and masks.num_folds and giving.task_of(producer.stage).sets:
        what = (
            f"stage {name!r} asks for masks of {producer.stage!r} out of fold, whose task "
            f"{giving.stages[producer.stage].task!r} learns from several sets; leave out_of_fold out, or "
            "take the masks of a stage that learns from one"
        )
        yield Finding(("stages", name, MASKS, "out_of_fold"), what, related=(("stages", producer.stage),))
    wanted = ((masks and masks.structures) or ()) if is_mask else (gate.classes if gate else ())
    yield from untold(name, producer, wanted, giving.targets_of(producer.stage))


def untold(
    name: str, producer: Producer, wanted: Iterable[str], targets: tuple[str, ...]
) -> Iterator[Finding]:
    """Yields what a stage takes of another one that this one does not learn to tell.

    Args:
        name: The stage that takes it.
        producer: The other one.
        wanted: Structures or classes by name.
        targets: What the other one learns; empty where only the data tell it.
    """
    field = "structures" if producer.role == MASKS else "keep"
    for target in wanted:
        if targets and target not in targets:
            what = (
                f"stage {name!r} takes {target!r} of the {producer.role} from {producer.stage!r}, which "
                f"learns {', '.join(targets)}.{suggest(target, targets)}"
            )
            yield Finding(("stages", name, producer.role, field), what, related=(("stages", producer.stage),))


def _other_number(study: Study, name: str, producer: Producer, given: Stage) -> Iterator[Finding]:
    stage = study.stages[name]
    if study.split.is_open and None in (given.repetitions, stage.repetitions):
        return  # checked when the data tell the number
    if given.repetitions != stage.repetitions:
        yield Finding(
            ("stages", name, "repetitions"),
            f"stage {name!r} has {stage.repetitions} repetitions and takes its {producer.role} from "
            f"{producer.stage!r}, which has {given.repetitions}. Each takes them from the repetition of its "
            "number, which did not train on the patients that it tests on; give both the same number",
            related=(
                ("stages", producer.stage, "repetitions"),
                ("stages", name, producer.role),
                ("repetitions",),
            ),
        )


def needed_in_circles(arms: Mapping[str, Study], arm: str = "") -> Iterator[Finding]:
    """Yields the circles in which stages need each other, in any role.

    Args:
        arms: All arms; for the circles within a study alone, this one without a name.
        arm: One of them.
    """
    for circle in circles([(arm, name) for name in arms[arm].stages], partial(_needs, arms)):
        pairs = list(zip(circle, [*circle[1:], circle[0]], strict=True))
        roles = [_needs(arms, node)[needed] for node, needed in pairs]
        shown = " -> ".join(".".join(filter(None, node)) for node in (*circle, circle[0]))
        if set(roles) != {STARTS_FROM}:
            what = f"stages need each other in a circle ({', '.join(dict.fromkeys(roles))}): {shown}"
        elif len(circle) == 1:
            what = f"stage {circle[0][1]!r} starts from itself; null starts from random weights"
        else:
            what = f"stages start from each other in a circle: {shown}"
        paths = tuple(("stages", name, role) for (_, name), role in zip(circle, roles, strict=True))
        yield Finding(paths[0], what, related=paths)


def _needs(arms: Mapping[str, Study], node: tuple[str, str]) -> dict[tuple[str, str], str]:
    """The arms and stages that a stage of an arm takes anything from, and in which role."""
    arm, name = node
    stage = arms[arm].stages.get(name) if arm in arms else None
    needs = {(arm, parent): STARTS_FROM for parent in stage.origins.values()} if stage else {}
    for producer in stage.producers if stage else ():
        needs.setdefault((producer.arm or arm, producer.stage), producer.role)
    return needs


def circles(nodes: Iterable[N], needs: Callable[[N], Iterable[N]]) -> Iterator[list[N]]:
    """Yields circles in a graph, none of which shares a node with another, each with its first node first."""
    reported: set[N] = set()
    for start in nodes:
        circle = _way_back(start, needs)
        if circle and reported.isdisjoint(circle):
            reported.update(circle)
            yield circle


def _way_back(start: N, needs: Callable[[N], Iterable[N]]) -> list[N]:
    """The nodes on a shortest way from a node to itself; empty where there is none."""
    ways, met = deque([[start]]), set[N]()
    while ways:
        way = ways.popleft()
        for node in needs(way[-1]):
            if node == start:
                return way
            if node not in met:
                met.add(node)
                ways.append([*way, node])
    return []


def walk(study: Study, name: str) -> tuple[list[str], str | None]:
    """Returns the stages whose weights a stage takes over, itself first, and where the walk ends.

    It ends with None behind a stage that starts from random weights, with a stage that does not exist, or
    with one that it met before.
    """
    names: list[str] = []
    parent: str | None = name
    while parent in study.stages and parent not in names:
        names.append(parent)
        parent = study.stages[parent].origins.get("")
    return names, parent
