"""What each kind of foreign object costs: the same images with it and without, by stage and arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from xferlab.analysis.comparison import Comparison
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import EvaluationSet
from xferlab.analysis.tables.differences import DIFFERENCE, PAIRED, difference_cells, difference_data
from xferlab.analysis.tables.inference import Found, inference_caption, inference_notes
from xferlab.analysis.tables.model import Group, Row, Table, file_name
from xferlab.analysis.tables.notes import arm_names, data_notes, incomplete_note
from xferlab.analysis.tuning import tuned_notes

SHOWN = "DICE"
_HEAD = ("Stage", "Arm", "Pathology", "Paired repetitions", "Images", "Patients")
_COLUMNS = ("without", "with the object", *DIFFERENCE)


@dataclass(frozen=True, eq=False)
class ObjectCosts:
    """Every object, stage and arm on one set of cases.

    Attributes:
        results: The study.
        section: Data section of the cases.
        part: Their part.
        found: With an object against without, compared.
        arms: The arms that share the results of each comparison.
    """

    results: StudyResults
    section: str
    part: str
    found: Sequence[Found]
    arms: Sequence[tuple[str, ...]]


def object_costs_table(costs: ObjectCosts, shown: Sequence[str], *, label: str) -> Table | None:
    """Returns the differences in Dice; None without pairs.

    Args:
        costs: What is known.
        shown: Arms to print; the CSV has every arm, and every metric.
        label: Number, such as `S3`.
    """
    kept: list[pd.DataFrame] = []
    rows: dict[tuple[str, ...], list[Row]] = {}
    for (comparison, frame), arms in zip(costs.found, costs.arms, strict=True):
        own = frame[frame["difference"].notna()]
        kept += [difference_data(comparison, own)] if len(own) else []
        printed = own[own["metric"] == SHOWN] if set(arms) & set(shown) else own.head(0)
        for record in printed.to_dict("records"):
            counts = (str(int(record[name])) for name in ("num_repetitions", "num_images", "num_patients"))
            named = arm_names(costs.results, arms)
            head = (comparison.second.stage, named, str(record["pathology"]), *counts)
            row = Row(object_of(comparison), difference_cells(record))
            rows.setdefault(head, []).append(row)
    if not rows:
        return None
    where, data = f"{costs.section}.{costs.part}", pd.concat(kept, ignore_index=True)
    stages = {comparison.second.stage for comparison, _ in costs.found}
    tuned = {stage: [arm for arms in costs.arms for arm in arms] for stage in sorted(stages)}
    return Table(
        name=f"table{label}_objects_{file_name(f'{costs.section}_{costs.part}')}",
        title=f"Table {label}: what each foreign object costs in Dice on {where}",
        caption=(
            "Difference: with one object of a kind on every image minus without, the same images and masks.",
            PAIRED,
            *inference_caption(costs.found),
            f"Arms shown: {', '.join(shown)}. The CSV has every arm and metric.",
        ),
        notes=(
            *inference_notes(data[data["metric"] == SHOWN]),
            *dict.fromkeys(
                note
                for stage, arms in tuned.items()
                for note in tuned_notes(costs.results, stage, list(dict.fromkeys(arms)))
            ),
            *incomplete_note(costs.results, stages),
            *data_notes(costs.results, [costs.section], costs.results.cases),
        ),
        head=_HEAD,
        stub="Object",
        columns=_COLUMNS,
        groups=tuple(Group(head, tuple(lines)) for head, lines in rows.items()),
        data=data,
    )


def object_of(comparison: Comparison) -> str:
    """Returns the kind of object that a comparison is about."""
    return EvaluationSet(comparison.second.stage, comparison.section, comparison.part).object
