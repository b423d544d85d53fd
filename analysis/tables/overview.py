"""What the numbers rest on: the cohorts, and how much of the plan is complete."""

from __future__ import annotations

import pandas as pd

from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ordered_pathologies
from xferlab.analysis.tables.model import Group, Row, Table
from xferlab.analysis.tables.notes import arm_names, data_notes


def cohorts_table(results: StudyResults) -> Table:
    """Returns images and patients of each data section, by pathology."""
    groups, rows = [], []
    for section, data in results.plan["data"].items():
        counts = {"all": data, **data.get("pathologies", {})}
        lines = []
        for pathology in ordered_pathologies(counts):
            images, patients = counts[pathology].get("cases"), counts[pathology].get("patients")
            rows.append(
                (
                    section,
                    data.get("source"),
                    data.get("simulate"),
                    data.get("hold_out"),
                    pathology,
                    images,
                    patients,
                )
            )
            lines.append(Row(pathology, (str(images), str(patients))))
        share = float(data.get("hold_out") or 0)
        groups.append(
            Group((section, str(data.get("source")), f"{share:.0%}".replace("%", " %")), tuple(lines))
        )
    columns = ["section", "source", "simulate", "hold_out", "pathology", "num_images", "num_patients"]
    return Table(
        name="cohorts",
        title="Cohorts",
        caption=(
            "Images and patients of each data section.",
            "Hold-out: share of its patients that no stage trains, stops or selects on.",
        ),
        notes=data_notes(results, results.plan["data"], results.cases),
        head=("Section", "Source", "Hold-out"),
        stub="Pathology",
        columns=("Images", "Patients"),
        groups=tuple(groups),
        data=pd.DataFrame(rows, columns=columns),
    )


def progress_table(results: StudyResults) -> Table:
    """Returns how many repetitions are complete of how many planned, by arm and stage."""
    counts, alike = results.counts(), dict[tuple[Row, ...], list[str]]()
    for arm in results.arms:
        own = counts[counts["arm"] == arm]
        lines = tuple(
            Row(str(row["stage"]), (str(row["num_done"]), str(row["num_planned"])))
            for row in own.to_dict("records")
        )
        alike.setdefault(lines or (Row("no trained stage", ("0", "0")),), []).append(arm)
    groups = [Group((arm_names(results, arms),), lines) for lines, arms in alike.items()]
    return Table(
        name="progress",
        title="Complete repetitions",
        caption=("A trial counts when its training and all its evaluations are stored and verify.",),
        notes=(),
        head=("Arms",),
        stub="Stage",
        columns=("Complete", "Planned"),
        groups=tuple(groups),
        data=results.trials,
    )
