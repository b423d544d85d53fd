"""What the run of a study in Weights & Biases holds, as plain values: the mirror knows no analysis."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from xferlab.cli.session import Session
from xferlab.tracking.study_run import StudyContent
from xferlab.trial.headline import headline_of

if TYPE_CHECKING:  # matplotlib and pandas take a second to import
    import pandas as pd

    from xferlab.analysis.claims import Verdicts
    from xferlab.analysis.contents import Contents
    from xferlab.analysis.results import StudyResults


def contents_of(session: Session) -> Contents:
    """Returns what is stored of a study, ready for tables and figures.

    Raises:
        StorageError: The storage cannot be read.
    """
    from xferlab.analysis.contents import Contents
    from xferlab.analysis.loading import load_study

    return Contents(load_study(session.store, session.study))


def study_results(
    contents: Contents, alert: tuple[str, str] | None = None, *, pixels: bool = True
) -> StudyContent:
    """Returns the results of a study: the numbers, the verdicts and the figures of its report.

    Args:
        contents: The study.
        alert: Title and text of a message that W&B sends.
        pixels: False leaves figures without content, where only their names are asked for.
    """
    from xferlab.analysis.aggregation import deviations_withheld
    from xferlab.analysis.claims import verdicts_of

    results, found = contents.results, verdicts_of(contents)
    frames = map(deviations_withheld, (contents.aggregated, contents.of_targets))
    tables = {"aggregate": [row for frame in frames for row in _rows(frame)]}
    return StudyContent(
        headline=headline_of,
        summary={**_counts(results), **(_claimed(contents, found) if found else {})},
        tables=tables | ({"contrasts": _contrasts(contents, found)} if found else {}),
        epochs=tuple(_curves(results)),
        figures=dict(_figures(contents, pixels=pixels)),
        alert=alert,
    )


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _counts(results: StudyResults) -> dict[str, int]:
    trials = results.trials.drop_duplicates("trial_id")
    return {"trials_planned": len(trials), "trials_complete": int((trials["state"] == "complete").sum())}


def _contrasts(contents: Contents, found: Verdicts) -> list[dict[str, Any]]:
    """Returns a line for each contrast, with its verdict in words."""
    from xferlab.analysis.tables.claims import claims_table

    measured = {"metric": found.metric.name, "unit": found.metric.unit, "on": found.claims.on}
    lines = _rows(claims_table(contents, found).data)
    return [
        {**measured, **line, "words": verdict.words}
        for line, verdict in zip(lines, found.verdicts, strict=True)
    ]


def _claimed(contents: Contents, found: Verdicts) -> dict[str, Any]:
    """Returns what each arm reaches in what the study claims, and each contrast in a sentence."""
    from xferlab.analysis.aggregation import deviations_withheld
    from xferlab.analysis.selection import ALL

    claims, frame = found.claims, deviations_withheld(contents.aggregated)
    on = found.verdicts[0].contrast.comparison.evaluated
    measured = (frame["section"] == on.section) & (frame["part"] == on.part)
    measured &= frame["metric"] == claims.metric
    values: dict[str, Any] = {}
    for row in _rows(frame[measured & (frame["pathology"] == ALL)]):
        place = f"{claims.metric}/{row['arm']}/{row['stage']}"
        for name in ("mean", "sd_repetitions", "sd_images", "num_repetitions"):
            values[f"{place}/{name}"] = row[name]
    sentences = {f"verdict/{verdict.title}": found.sentence(verdict) for verdict in found.verdicts}
    return values | sentences


def _curves(results: StudyResults) -> Iterator[dict[str, Any]]:
    """Yields for each epoch the mean and SD of each arm over the repetitions that still train, and how many.

    Arms that share all trials of a stage come once, under the first one's name.
    """
    from xferlab.analysis.figures.losses import drawn_columns

    epochs: dict[int, dict[str, Any]] = {}
    for stage in results.stages:
        for arms in results.arms_by_trials(stage):
            known = (results.histories["stage"] == stage) & (results.histories["arm"] == arms[0])
            history = results.histories[known]
            for column in (name for names in drawn_columns(history).values() for name in names):
                for epoch, mean, sd, num in _band(history, column):
                    values = {"mean": mean, "sd": sd, "num_repetitions": num}
                    row = epochs.setdefault(epoch, {"epoch": epoch})
                    row |= {f"{stage}/{column}/{arms[0]}/{name}": value for name, value in values.items()}
    for number in sorted(epochs):
        # One repetition has no deviation.
        yield {name: value for name, value in epochs[number].items() if value == value}


def _band(history: pd.DataFrame, column: str) -> Iterator[tuple[int, float, float, int]]:
    grouped = history.dropna(subset=[column]).groupby("epoch")[column].agg(["mean", "std", "count"])
    for epoch, mean, sd, num in grouped.itertuples(name=None):
        yield int(epoch), float(mean), float(sd), int(num)


def _figures(contents: Contents, *, pixels: bool) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """Yields the report's figures of results, which show no patient: arms, before and after, classes."""
    from xferlab.analysis.figures.before_after import before_after_pictures
    from xferlab.analysis.figures.classes import class_pictures
    from xferlab.analysis.figures.comparisons import arms_pictures
    from xferlab.analysis.figures.files import png_of

    for picture in chain(arms_pictures(contents), before_after_pictures(contents), class_pictures(contents)):
        yield picture.name, (picture.title, png_of(picture) if pixels else b"")
