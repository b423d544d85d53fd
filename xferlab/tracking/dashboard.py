"""What the pages of a study in W&B show: panels of what its runs hold, as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from xferlab.tracking.content import SUPERSEDED, use_tag
from xferlab.tracking.recorded import RecordedRun
from xferlab.tracking.study_run import OVERLAYS

HOURS = "training_hours"


@dataclass(frozen=True)
class Panel:
    """A panel of a page.

    Attributes:
        kind: `bands` are curves by epoch of the runs of each group, with their SD; `curves` are series of
            one run; `bars` are final values of each group, their mean and SD; `sums` are their sums;
            `table` is a table and `pictures` are figures of the run of a study.
        title: What stands above it.
        keys: The names under which runs hold what it shows.
    """

    kind: Literal["bands", "curves", "bars", "sums", "table", "pictures"]
    title: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        text: What a reader should know, a paragraph each.
        panels: Its panels.
        runs: In a report, whether it shows the run of the study, or those of its trials.
        stage: Of which stage these are; empty for all.
    """

    title: str
    text: tuple[str, ...] = ()
    panels: tuple[Panel, ...] = ()
    runs: Literal["study", "trials"] = "trials"
    stage: str = ""


@dataclass(frozen=True)
class Dashboard:
    """The pages of a study.

    Attributes:
        title: Their title.
        tags: Tags that a run has to have to be shown.
        without: Tags that it may not have: that of runs that were sent again.
        sections: What the report shows, in order.
        workspace: What the workspace shows, in order.
    """

    title: str
    tags: tuple[str, ...]
    without: tuple[str, ...]
    sections: tuple[Section, ...]
    workspace: tuple[Section, ...]


def dashboard_of(
    plan: Mapping[str, Any], study: RecordedRun, trials: Sequence[RecordedRun], *, title: str
) -> Dashboard:
    """Returns the pages of a study; a panel of what no run holds is left out.

    Args:
        plan: Its plan document.
        study: The run of the study.
        trials: The run of a trial of each stage of each arm.
        title: Their title.
    """
    result, cases = _result(study, trials), _cases(study)
    shared = [*_metrics(trials), _transfer(trials), _hours(trials), cases]
    losses = {stage: _losses(stage, study, trials) for stage in plan["stages"]}
    by_stage = [
        Section(f"Loss by arm, stage {stage}", (), panels, stage=stage) for stage, panels in losses.items()
    ]
    bands = dict.fromkeys(panel for panels in losses.values() for panel in panels)
    means = [panel for stage, panels in losses.items() for panel in _means(stage, study, panels)]
    return Dashboard(
        title=title,
        tags=(use_tag(plan["study"], plan["profile"]),),
        without=(SUPERSEDED,),
        sections=_filled([result, *by_stage, *shared, _LINEAGE]),
        workspace=_filled([result, Section("Loss by arm", (), (*bands, *means)), *shared]),
    )


_LINEAGE = Section(
    "Lineage",
    (
        "Under Artifacts, open any of the type model and choose Lineage: W&B draws which trial made the "
        "weights, and which trials started from them or took their predictions.",
    ),
)


def _filled(sections: Iterable[Section]) -> tuple[Section, ...]:
    return tuple(section for section in sections if section.panels or section.text)


def _result(study: RecordedRun, trials: Iterable[RecordedRun]) -> Section:
    """Returns the verdicts in words, the report's figures, and the tables of contrasts and means."""
    sentences = [str(value) for key, value in study.summary.items() if key.startswith("verdict/")]
    done, planned = (study.summary.get(f"trials_{what}") for what in ("complete", "planned"))
    names, sent = study.content.figures, study.content.tables
    figures = Panel("pictures", "Figures of the report", tuple(f"figures/{name}" for name in names))
    tables = [Panel("table", name, (name,)) for name in reversed(list(sent)) if sent[name]]
    shared = {run.order.group: run.order.config["arms"][1:] for run in trials}
    also = [f"{group} stands for {', '.join(arms)}, too." for group, arms in shared.items() if arms]
    text = [*sentences, f"{done} of {planned} trials are complete.", *also, study.order.notes]
    return Section("Result", tuple(filter(None, text)), (*([figures] if names else []), *tables), "study")


def _losses(stage: str, study: RecordedRun, trials: Sequence[RecordedRun]) -> tuple[Panel, ...]:
    """Returns the curves of a stage's runs with a band for each arm: of what the study's run draws, too."""
    of_stage = [run for run in trials if run.order.job_type == stage]
    logged = dict.fromkeys(name for run in of_stage for row in run.order.epochs for name in row)
    drawn = {key.split("/")[1] for row in study.order.epochs for key in row if key.startswith(f"{stage}/")}
    return tuple(Panel("bands", f"{name}, mean and SD", (name,)) for name in logged if name in drawn)


def _means(stage: str, study: RecordedRun, losses: Iterable[Panel]) -> Iterator[Panel]:
    """Yields the means of the arms that the study's run holds of the losses of a stage."""
    logged = dict.fromkeys(key for row in study.order.epochs for key in row)
    for name in (panel.keys[0] for panel in losses):
        keys = [key for key in logged if key.startswith(f"{stage}/{name}/") and key.endswith("/mean")]
        yield Panel("curves", f"{name} of stage {stage}, mean by arm", tuple(keys))


class _Measured(NamedTuple):
    """A metric on a set, in words, and the keys of each stage that was measured so."""

    name: str
    what: str
    stages: dict[str, list[str]]


def _metrics(trials: Sequence[RecordedRun]) -> Iterator[Section]:
    """Yields the main metrics of each set after its last stage, overall and by pathology."""
    panels: dict[tuple[str, str], list[Panel]] = {}
    for measured in _measured(trials):
        stage, keys = list(measured.stages.items())[-1]
        ordered = sorted(keys, key=lambda key: (key.count("/"), key))
        panels.setdefault((measured.name, stage), []).append(Panel("bars", measured.what, tuple(ordered)))
    for (name, stage), shown in panels.items():
        yield Section(f"{name} by arm and pathology, after stage {stage}", (), tuple(shown), stage=stage)


def _transfer(trials: Sequence[RecordedRun]) -> Section:
    """Returns the main metrics of each set before and after, of those that several stages have."""
    text = "The bars of an arm are its stages: the same cases before and after transfer."
    panels = []
    for _, what, stages in _measured(trials):
        overall = min(next(iter(stages.values())), key=len)
        if len(stages) > 1:
            panels.append(Panel("bars", f"{what}: {', then '.join(stages)}", (overall,)))
    return Section("Before and after transfer", (text,) if panels else (), tuple(panels))


def _measured(trials: Sequence[RecordedRun]) -> Iterable[_Measured]:
    """Returns the main metrics of each set, apart for a simulated device, where they are defined."""
    found: dict[tuple[str, str], _Measured] = {}
    for run in trials:
        for key, value in run.summary.items():
            name = next((name for name in run.order.config["evaluated_on"] if key.startswith(f"{name}/")), "")
            parts = key.removeprefix(f"{name}/").split("/")
            metric = next((part for part in parts[:2] if part in run.main), "")
            if name and metric and value == value:
                what = f"{metric} on {', '.join([name, *parts[: parts.index(metric)]])}"
                measured = found.setdefault((name, what), _Measured(name, what, {}))
                keys = measured.stages.setdefault(run.order.job_type, [])
                keys += [] if key in keys else [key]
    return found.values()


def _hours(trials: Sequence[RecordedRun]) -> Section:
    has = any(HOURS in run.summary for run in trials)
    kinds: tuple[tuple[Literal["sums", "bars"], str], ...] = (("sums", "all trials"), ("bars", "a trial"))
    panels = [Panel(kind, f"Hours of training, {what}", (HOURS,)) for kind, what in kinds]
    return Section("Hours", (), tuple(panels) if has else ())


def _cases(study: RecordedRun) -> Section:
    panel = Panel("table", "Cases of shareable sections", (OVERLAYS,))
    return Section("Cases", (), (panel,) if study.content.overlays else (), "study")
