"""The sentences under tables and figures: what a reader must know of the data, intervals and p-values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.comparison import NO_CLAIM, NO_P, Contrast
from xferlab.analysis.division import division_note
from xferlab.analysis.estimates import CONFIDENCE, FEW_TRAINING_PATIENTS
from xferlab.analysis.published.paper import PublishedLine
from xferlab.analysis.results import EvaluationSet, StudyResults, is_drawn
from xferlab.analysis.tables.model import ABSENT, Record, interval, number, p_value
from xferlab.cohort import single_sections
from xferlab.errors import listed
from xferlab.metrics.metric import Metric
from xferlab.plan.sharing import may_leave, sections_of

INTERVAL = f"{100 * CONFIDENCE:g} % CI"
_NAMED = 4
_FEW = (
    f"Fewer than {FEW_TRAINING_PATIENTS} patients train in a repetition of a stage: its training samples are "
    "taken to overlap as much as without any noise of seeds."
)
_EXPLORATORY = (
    "Exploratory: where nothing differs, up to one p in 20 is below 0.05; an interval that holds 0 does not "
    "show equality."
)


def data_notes(
    results: StudyResults, stages: Iterable[str], sections: Iterable[str], *, of_metrics: bool = True
) -> tuple[str, ...]:
    """Returns what every table and figure says of its data.

    These are: what a repetition is, what values of metrics are means over, the repetitions of its stages that
    are missing, how many trainings of its stages were cut off, which of them diverged, the notes of its
    sections and of the study, and how much of the data is simulated.
    """
    sections = tuple(sections)
    named = dict.fromkeys(name for section in sections for name in (section, *single_sections(section)))
    notes = [note for section in named for note in _section_notes(results, section)]
    study, stages = results.plan.get("note"), set(stages)
    return (
        *(division_note(results.plan) if stages else ()),
        *(_means(results, stages, sections) if of_metrics else ()),
        *(marks_notes(results, stages, sections) if of_metrics else ()),
        *_incomplete(results, stages),
        *cut_off(results, stages),
        *diverged(results, stages),
        *notes,
        *([_sentence(str(study))] if study else []),
    )


def licence_note(results: StudyResults, section: str, arms: Iterable[str]) -> tuple[str, ...]:
    """Returns what figures with pixels of a section or set say, unless all arms may pass on all of it."""
    private = [arm for arm in arms if not may_leave(results.plan, section, [arm])]
    if not private:
        return ()
    of_study = sections_of(results.plan)
    is_of_arms = all(of_study.get(name) for name in single_sections(section))
    whose = f" (arm {arm_names(results, private)})" if is_of_arms else ""
    return (
        f"{section}{whose} is not declared shareable: check the licences of its images before you pass this "
        "on.",
    )


def _means(results: StudyResults, stages: Iterable[str], sections: Sequence[str]) -> Iterator[str]:
    """Yields what the metrics of stages that learn several structures are means over.

    Stages are left out of which all sections mark less, since `marks_notes` says it of these.
    """
    apart = {metric.of for metric in results.metrics.apart if not metric.computed_by}
    for stage in sorted(stages):
        if sections and all(results.marks(stage, section) for section in sections):
            continue
        learnt = {arm: results.several(arm, stage) for arm in results.arms}
        learnt = {arm: targets for arm, targets in learnt.items() if targets and apart.issuperset(targets)}
        for targets in dict.fromkeys(learnt.values()):
            arms = [arm for arm, others in learnt.items() if others == targets]
            where = "" if len(set(learnt.values())) == 1 else f", arm {arm_names(results, arms)}"
            yield f"Stage {stage}{where}: values are means over those defined of {', '.join(targets)}."


def marks_notes(results: StudyResults, stages: Iterable[str], sections: Iterable[str]) -> tuple[str, ...]:
    """Returns a sentence for each section or set that marks less than a stage learns."""
    notes = []
    for stage, section in product(sorted(stages), sections):
        if names := [results.metrics.label_of(name) for name in results.marks(stage, section)]:
            what = "values are means over those defined of these" if len(names) > 1 else "values are of this"
            notes.append(f"{section} marks {', '.join(names)} alone: there, {what}.")
    return tuple(dict.fromkeys(notes))


def _section_notes(results: StudyResults, section: str) -> Iterator[str]:
    data, kinds = results.plan["data"].get(section, {}), results.simulated.get(section, ())
    if data.get("note"):
        yield _sentence(f"{section}: {data['note']}")
    yield from _step_notes(results, section)
    simulated = [kind for kind in kinds if kind]
    if simulated:
        names = ", ".join(sorted(set(simulated)))
        yield f"{section}: {len(simulated)} of {len(kinds)} evaluated images are simulated ({names})."
    if is_drawn(data):
        yield f"{section}: all images are computer-made phantoms."


def _step_notes(results: StudyResults, section: str) -> Iterator[str]:
    """Yields what is done to the images of a section, and what arms do otherwise."""
    of_study = _steps(results.plan["data"].get(section, {}))
    arms = {arm: entry.get("steps", {}) for arm, entry in results.plan["arms"].items()}
    of_arms = {arm: _steps(steps[section]) for arm, steps in arms.items() if section in steps}
    for step in of_study:
        apart = [arm for arm, others in of_arms.items() if step not in others]
        yield f"{section}: {step}{f' (arm {arm_names(results, apart)}: not so)' if apart else ''}."
    for step in dict.fromkeys(step for others in of_arms.values() for step in others):
        if step not in of_study:
            own = [arm for arm, others in of_arms.items() if step in others]
            yield f"{section}, arm {arm_names(results, own)}: {step}."


def _steps(data: Mapping[str, Any]) -> tuple[str, ...]:
    cut = "black bands at the borders of images are cut off" if data.get("crop_black_band") else ""
    size = data.get("degrade_to")
    reduced = f"images are reduced to {size} px where they are larger, as a control" if size else ""
    return tuple(filter(None, (cut, reduced, grey_levels(data))))


def grey_levels(data: Mapping[str, Any]) -> str:
    """Returns what a section does to the grey levels of its images; empty for nothing."""
    gamma = f"gamma {data['gamma']:g}" if data.get("gamma") else ""
    equalised = "the histogram of each image is equalised" if data.get("equalise") else ""
    return ", then ".join(filter(None, (equalised, gamma)))


def _incomplete(results: StudyResults, stages: set[str]) -> tuple[str, ...]:
    names = [trial_name(row) for row in results.absent if row["stage"] in stages]
    return (f"Not complete and in no number: {listed(names, 6)}.",) if names else ()


def cut_off(results: StudyResults, stages: Iterable[str]) -> tuple[str, ...]:
    """Returns a sentence for each of these stages of which a training ended by `max_epochs`.

    The stages whose networks they start from, or whose predictions they read, are among them.
    """
    notes, wanted = list[str](), _with_ancestors(results, stages)
    for stage in filter(wanted.intersection(results.ended).__contains__, results.stages):
        ended = results.ended[stage]
        cut = ended[ended["stopped_by"] == "max_epochs"]["num_epochs"].astype(int)
        if len(cut):
            epochs = " to ".join(map(str, sorted({cut.min(), cut.max()})))
            notes.append(
                f"Stage {stage}: {len(cut)} of {len(ended)} trainings ended by max_epochs ({epochs} epochs) "
                "and not by patience; longer trainings may give other numbers."
            )
    return tuple(notes)


def diverged(results: StudyResults, stages: Iterable[str]) -> tuple[str, ...]:
    """Returns a sentence that names the trainings of these stages that diverged; as of `cut_off`."""
    wanted = _with_ancestors(results, stages)
    names = [trial_name(row) for row in results.diverged if row["stage"] in wanted]
    if not names:
        return ()
    return (f"Diverged in the epoch whose weights are kept, and in all numbers: {', '.join(names)}.",)


def _with_ancestors(results: StudyResults, stages: Iterable[str]) -> set[str]:
    wanted = set(stages)
    for trial in reversed(results.plan["trials"]):  # which lists parents before children
        if trial["stage"] in wanted:
            parents = (parent for given in trial["inputs"] for parent in given["trials"])
            wanted |= {results.trials_by_id[parent]["stage"] for parent in parents}
    return wanted


def arm_names(results: StudyResults, arms: Sequence[str]) -> str:
    """Returns names of arms; of most of many, the ones that are not among them."""
    others = [arm for arm in results.arms if arm not in arms]
    if len(arms) <= _NAMED or len(others) > _NAMED:
        return ", ".join(arms)
    return f"all {len(arms)} arms" + (f" but {', '.join(others)}" if others else "")


def mean_and_deviation(row: pd.Series, unit: str, deviation: str) -> str:
    """Returns `mean ± deviation` of an aggregated row; the mean alone where it has none.

    Args:
        row: Of what `aggregate` returns.
        unit: Of the metric.
        deviation: Name of the column of the deviation.
    """
    mean = number(row["mean"], unit)
    if row["num_patients"] < MIN_PATIENTS:
        return f"{mean} (n < {MIN_PATIENTS} patients)"
    return mean if pd.isna(row[deviation]) else f"{mean} ± {number(row[deviation], unit)}"


def mean_and_deviations(row: Record, unit: str) -> str:
    """Returns `mean ± SD over repetitions (± SD over images)` of an aggregated row."""
    mean, over_repetitions, over_images = (
        number(row[name], unit) for name in ("mean", "sd_repetitions", "sd_images")
    )
    if mean == ABSENT:
        return mean
    if row["num_patients"] < MIN_PATIENTS:
        return f"{mean} (n < {MIN_PATIENTS} patients)"
    # A metric of sets of images has none.
    shown = "" if over_images == ABSENT else f" (± {over_images})"
    return f"{mean} ± {over_repetitions}{shown}"


def published_cell(line: PublishedLine, metric: Metric) -> str:
    """Returns a paper's value with its deviation, `0.9550 (± 0.0150)`, as text; a dash where it has none."""
    deviation = line.values["sd"].get(metric.name) if line.deviation else None
    shown = "" if deviation is None or pd.isna(deviation) else f" (± {number(deviation, metric.unit)})"
    value = number(line.values["mean"].get(metric.name), metric.unit)
    return line.marked(metric.name, f"{value}{shown}")


def undefined(row: pd.Series, metric: Metric) -> str:
    """Returns ` (17 % undefined)` of an aggregated row, where some values of a metric of sets are."""
    share = row["num_undefined"] / row["num_values"]
    if not metric.computed_by or share == 0 or pd.isna(row["mean"]):
        return ""
    return f" ({100 * share:.2g} % undefined)"


def size_note(results: StudyResults, arms: Iterable[str], evaluated: EvaluationSet) -> tuple[str, ...]:
    """Returns a warning where some arms are measured at another size than the first that has the stage."""
    sizes = results.image_sizes(evaluated.stage)
    usual = next((sizes[arm] for arm in results.arms if arm in sizes), None)
    named = [arm for arm in arms if sizes.get(arm, usual) != usual]
    if not named or evaluated.part.endswith("@original"):
        return ()
    return (
        f"Images have another size in {', '.join(named)}: distances in px at different sizes do not "
        f"compare; {evaluated.plain.name}@original measures all at the original size.",
    )


def trial_name(row: Record) -> str:
    """Returns `arm/stage/rNN`, with what the repetition is where it is more than one."""
    name = f"{row['arm']}/{row['stage']}/r{row['repetition']:02d}"
    return f"{name} ({row['coordinates']})" if row.get("coordinates") else name


def _sentence(text: str) -> str:
    flat = " ".join(text.split())
    return flat if flat.endswith((".", "!", "?")) else f"{flat}."


def difference_cells(record: Record, unit: str = "", *, p: str = "p") -> Record:
    """Returns `difference`, `interval` and `p` of a row as text; the reason where there is no p."""
    return {
        "difference": number(record["difference"], unit, signed=True),
        "interval": interval(record["low"], record["high"], unit),
        "p": record["no_p"] or p_value(float(record[p])),
    }


def inference_caption(contrasts: Sequence[Contrast], *, declared: bool = False) -> tuple[str, ...]:
    """Returns what the intervals and p-values of comparisons on one evaluation set mean."""
    comparisons = [contrast.comparison for contrast in contrasts]
    if comparisons[0].design.by_site:
        return ("Differences describe these sites; the unit is the site, and there is no interval and no p.",)
    pools = _ranges((stage, pool) for comparison in comparisons for stage, pool in comparison.design.pools)
    ratio = _ranges(("test/train", value) for _, rows in contrasts for value in rows["overlap"].unique())
    method, others = (
        ("two-way t over repetitions and patients", "other patients like these")
        if _fixed_images(contrasts[0])
        else (
            f"t over repetitions, corrected for overlapping training sets (Nadeau and Bengio 2003, {ratio})",
            "another test part",
        )
    )
    donors = dict.fromkeys(comparison.design.donor for comparison in comparisons)
    return (
        f"{'Intervals' if declared else INTERVAL} and p: {method}. They cover {others}, another sample of "
        "training patients from the same pool, and other seeds.",
        *([f"Patients in the pool: {pools}; nothing is said of other pools."] if pools else []),
        *([_FEW] if any(map(_overlaps_as_few, contrasts)) else []),
        *(
            f"Where both sides start from one donor for all repetitions (stage {donor}), another donor may "
            "change the difference."
            for donor in donors
            if donor
        ),
        *([] if declared else [_EXPLORATORY]),
    )


def _fixed_images(contrast: Contrast) -> bool:
    return contrast.comparison.evaluated.is_hold_out or bool(contrast.rows["fixed_images"].any())


def _overlaps_as_few(contrast: Contrast) -> bool:
    design = contrast.comparison.design
    return _fixed_images(contrast) and bool(design.share_of_few) and not design.strict


def inference_notes(rows: pd.DataFrame) -> tuple[str, ...]:
    """Returns why some rows of comparisons have no p, and what is left out of them."""
    reasons = set(rows["no_p"])
    unpaired, lost = int(rows["num_unpaired"].max()), int(rows["num_lost"].max())
    refused = int(rows["num_refused"].max()) if "num_refused" in rows else 0
    lost_note = "An image with an undefined value in any repetition is left out; the CSV counts them."
    return (
        *(f"{reason}: no p, since {why}." for reason, why in (NO_CLAIM | NO_P).items() if reason in reasons),
        *(
            [f"{unpaired} values, of all metrics together, exist on one side only and are left out."]
            if unpaired
            else []
        ),
        *([lost_note] if lost else []),
        *(
            [f"Left out: {refused} images that a gate does not let pass in all repetitions."]
            if refused
            else []
        ),
    )


def _ranges(pairs: Iterable[tuple[str, float]]) -> str:
    """Returns `name value` or `name lowest to highest`, joined by commas."""
    values: dict[str, set[str]] = {}
    for name, value in pairs:
        values.setdefault(name, set()).add(f"{value:d}" if isinstance(value, int) else f"{value:.2f}")
    texts = {name: sorted(texts, key=float) for name, texts in values.items()}
    return ", ".join(
        f"{name} {t[0]}" if len(t) == 1 else f"{name} {t[0]} to {t[-1]}" for name, t in texts.items()
    )
