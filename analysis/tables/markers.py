"""Markers of images by class, and the tests between classes: on images, as papers do, and on patients."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.markers import Marked
from xferlab.analysis.published.paper import marks_of, named_tables
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import of_metrics
from xferlab.analysis.tables.masks import known_by_class
from xferlab.analysis.tables.model import (
    ABSENT,
    STARS,
    Column,
    Layout,
    Record,
    Table,
    file_name,
    number,
    p_value,
    starred,
)
from xferlab.analysis.tables.notes import data_notes, published_cell
from xferlab.metrics.metric import Metric

_FEW = f"n < {MIN_PATIENTS} patients"
_NOTHING = pd.DataFrame(columns=["table", "pathology", "first", "second", "ambiguous"])


def markers_tables(contents: Contents) -> Iterator[Table]:
    """Yields what each marker is by class, and the classes compared, for each stage and section with any."""
    for marked in contents.marked:
        yield _described(contents, marked)
        if len(marked.compared):
            yield _compared(contents, marked)


def _described(contents: Contents, marked: Marked) -> Table:
    head = (("Class", "of"), ("Images", "images"), ("Patients", "patients"))
    layout = Layout(head, ("Statistic", "statistic"), [(contents.heading(m), m.name) for m in marked.metrics])
    published = _published(contents, marked)
    return layout.fill(
        Table(
            name=f"markers_{marked.stage}_on_{file_name(marked.section)}",
            title=f"markers by class, stage {marked.stage} on {marked.section}",
            caption=(
                *markers_caption(marked),
                "Over images: mean ± sample SD. Over patients: the same of one value a patient, the mean "
                "of the patient's images of the class.",
                "Normal: p of the Kolmogorov-Smirnov test of the images against a normal distribution with "
                "their own mean and SD. It is lenient: since these are estimated, it rejects too seldom.",
                f"{_FEW}: neither SD nor p. n: images with a value, where some have none.",
                *_caption_of_paper(contents, published),
            ),
            notes=(*markers_notes(contents, marked), *contents.paper_words(published)),
            data=marked.described,
            subject={"kind": "markers", **marked.subject},
        ),
        _records(contents, marked, published),
    )


def markers_caption(*sides: Marked) -> tuple[str, ...]:
    """Returns what a value of an image is, for tables and figures, of sections of one arm."""
    named = {f"{side.section}: " if len(sides) > 1 else "": ", ".join(side.parts) for side in sides}
    parts = "; ".join(f"{name}{each}" for name, each in named.items())
    return (
        f"The value of an image is its mean over the repetitions of arm {sides[0].arm} that measured it. "
        f"Each image counts once, whichever part it is in ({parts}).",
    )


def markers_notes(contents: Contents, marked: Marked) -> tuple[str, ...]:
    """Returns what a reader of markers must know of the images."""
    images, patients = marked.repeated
    several = (
        f"{images} of {len(marked.cases)} images are of {patients} patients with several images: these are "
        "not independent."
    )
    return (
        *([several] if images else []),
        "Exploratory. Classes may come from different hospitals, devices and years: what differs between "
        "them may be these.",
        *_masks_notes(contents.results, marked),
        *data_notes(contents.results, [marked.stage], [marked.section], of_metrics=False),
    )


def _masks_notes(results: StudyResults, marked: Marked) -> Iterator[str]:
    """Says where classes differ in the share of images whose masks are of networks that knew the patients."""
    places = {(trial["stage"], trial["data"]) for trial in results.plan["trials"]}
    if (marked.stage, marked.section) in places:
        shares = known_by_class(results, stage=marked.stage, arm=marked.arm, parts=marked.parts)
        texts = {name: f"{100 * share:.0f} %" for name, share in shares.items()}
        if len(set(texts.values())) > 1:
            yield (
                "Masks are better on images of patients on whom the network that predicted them was trained "
                "or selected; these are, of the images that the stage trains on or selects on: "
                f"{', '.join(f'{name} {text}' for name, text in texts.items())}."
            )


def _records(contents: Contents, marked: Marked, published: pd.DataFrame) -> Iterator[Record]:
    for name in marked.classes:
        images = marked.of_class(name)
        labels = {"of": name, "images": len(images), "patients": images["patient"].nunique()}
        rows = marked.described[marked.described["of"] == name].set_index("metric").to_dict("index")
        for statistic in ("over images", "over patients", "normal (p)"):
            texts = {m.name: _text(rows[m.name], m, statistic, len(images)) for m in marked.metrics}
            yield {**labels, "statistic": statistic, **texts}
        yield from _published_lines(contents, marked, labels, published[published["pathology"] == name])
    others = published[~published["pathology"].isin(marked.classes)]
    for name in others["pathology"].unique():
        labels = {"of": name, "images": ABSENT, "patients": ABSENT}
        yield from _published_lines(contents, marked, labels, others[others["pathology"] == name])


def _text(row: Record, metric: Metric, statistic: str, num_images: int) -> str:
    if statistic == "normal (p)":
        return p_value(row["normal_p"])
    if statistic == "over patients":
        return _mean_and_sd(row, metric, "patients_")
    some = f" (n = {row['num_images']})" if 0 < row["num_images"] < num_images else ""
    return f"{_mean_and_sd(row, metric)}{some}"


def _mean_and_sd(row: Record, metric: Metric, prefix: str = "") -> str:
    mean = number(row[f"{prefix}mean"], metric.unit)
    if mean == ABSENT or row["num_patients"] < MIN_PATIENTS:
        return mean if mean == ABSENT else f"{mean} ({_FEW})"
    return f"{mean} ± {number(row[f'{prefix}sd'], metric.unit)}"


def _caption_of_paper(contents: Contents, published: pd.DataFrame) -> Iterator[str]:
    """Says which tables of the paper are here, as this one has the number of the first alone."""
    numbers = list(published["table"].unique())
    if contents.paper and len(numbers) > 1:
        yield f"The markers of {contents.paper.name}, {named_tables(numbers)}, are all in this table."


def _published(contents: Contents, marked: Marked) -> pd.DataFrame:
    """What a paper says of markers, of images of any part, and of pathologies that are no class here, too."""
    return _of_markers(contents.paper.values, marked) if contents.paper else _NOTHING


def _of_markers(rows: pd.DataFrame, marked: Marked) -> pd.DataFrame:
    """Returns a paper's rows of the markers of a section."""
    is_of = (rows["stage"] == marked.stage) & (rows["section"] == marked.section)
    return of_metrics(rows[is_of], marked.metrics)


def _published_lines(
    contents: Contents, marked: Marked, labels: Record, published: pd.DataFrame
) -> Iterator[Record]:
    """Yields what a paper says of a class."""
    for line in contents.published_lines(published):
        texts = {metric.name: published_cell(line, metric) for metric in marked.metrics}
        yield {**labels, "statistic": line.label_of_cells, **texts}


def _compared(contents: Contents, marked: Marked) -> Table:
    given = _marks(contents, marked)
    of_paper = [f"{contents.paper.name} (images)"] if contents.paper and len(given) else []
    rows = _with_marks(marked.compared, given) if of_paper else marked.compared
    columns: tuple[Column, ...] = (
        ("Difference of means", "difference"),
        ("Images", "images"),
        ("p, images", "p"),
        ("p, images (Holm)", "p_holm"),
        *((heading, "published") for heading in of_paper),
        ("Patients", "patients"),
        ("p, patients", "patients_p"),
        ("p, patients (Holm)", "patients_p_holm"),
    )
    return Layout((("Marker", "marker"),), ("Classes", "classes"), columns).fill(
        Table(
            name=f"marker_tests_{marked.stage}_on_{file_name(marked.section)}",
            title=f"classes compared by markers, stage {marked.stage} on {marked.section}",
            caption=(
                *markers_caption(marked),
                "Difference: of the means over images. p, images: Wilcoxon's rank-sum test on images, as "
                "papers do it, although images of one patient are not independent. It is exact where one of "
                "the classes has at most 8 values and none are equal, else by the normal approximation with "
                "continuity correction.",
                "p, patients: the same test on one value a patient, the mean of the patient's images.",
                f"{STARS}. Holm: adjusted over all lines of the table; the other p are not adjusted.",
                f"{_FEW}: a class has too few for a test.",
                *(f"{heading}: its marks of this test, each with its table." for heading in of_paper),
            ),
            notes=(*_both(marked), *markers_notes(contents, marked), *contents.paper_words(given)),
            data=rows,
            subject={"kind": "marker_tests", **marked.subject},
        ),
        (_pair(contents, marked, row) for row in rows.to_dict("records")),
    )


def _marks(contents: Contents, marked: Marked) -> pd.DataFrame:
    """How a paper marks the comparison of two of the classes."""
    rows = _of_markers(contents.paper.significance, marked) if contents.paper else _NOTHING
    return rows[rows["first"].isin(marked.classes) & rows["second"].isin(marked.classes)]


def _with_marks(rows: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame:
    sides = zip(rows["metric"], rows["first"], rows["second"], strict=True)
    return rows.assign(
        published=[marks_of(given, metric, first, [second]) for metric, first, second in sides]
    )


def _both(marked: Marked) -> Iterator[str]:
    num = int(marked.compared["num_in_both"].max())
    if num:
        yield (
            f"Patients with images of both classes (up to {num}) are left out of the test on patients; the "
            "CSV counts them."
        )


def _pair(contents: Contents, marked: Marked, row: Record) -> Record:
    metric = next(metric for metric in marked.metrics if metric.name == row["metric"])
    counts = {kind: f"{row[f'second_{kind}']} − {row[f'first_{kind}']}" for kind in ("images", "patients")}
    return {
        "marker": contents.heading(metric),
        "classes": f"{row['second']} − {row['first']}",
        "difference": number(row["difference"], metric.unit, signed=True),
        **counts,
        "published": row.get("published") or ABSENT,
        **{name: starred(row[name]) for name in ("p", "p_holm", "patients_p", "patients_p_holm")},
    }
