"""The sentences that stand under tables and figures: what a reader must know of the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import EvaluationSet

_NAMED = 4


def data_notes(results: StudyResults, sections: Iterable[str], cases: pd.DataFrame) -> tuple[str, ...]:
    """Returns the notes of the sections and of the study, and how much of the data is simulated."""
    found = []
    for section in dict.fromkeys(sections):
        data = results.plan["data"].get(section, {})
        if data.get("note"):
            found.append(_sentence(f"{section}: {data['note']}"))
        own = cases[cases["section"] == section][["case", "simulated"]].drop_duplicates()
        simulated = own[own["simulated"].astype(str) != ""]
        if len(simulated):
            kinds = ", ".join(sorted(simulated["simulated"].astype(str).unique()))
            found.append(
                f"{section}: {len(simulated)} of {len(own)} evaluated images are simulated ({kinds})."
            )
        source = str(data.get("source") or "")
        if source.startswith("phantom"):
            found.append(f"{section}: all images are computer-made phantoms.")
    if results.plan.get("note"):
        found.append(_sentence(str(results.plan["note"])))
    return tuple(found)


def incomplete_note(results: StudyResults, stages: Iterable[str]) -> tuple[str, ...]:
    """Returns a sentence that names the repetitions that are missing in some stages."""
    stages = set(stages)
    absent = results.trials[(results.trials["state"] != "complete") & results.trials["stage"].isin(stages)]
    if not len(absent):
        return ()
    names = [trial_name(dict(row)) for row in absent.to_dict("records")]
    listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    return (f"Not complete and in no number: {listed}.",)


def arm_names(results: StudyResults, arms: Sequence[str]) -> str:
    """Returns names of arms; of most of many, the ones that are not among them."""
    others = [arm for arm in results.arms if arm not in arms]
    if len(arms) <= _NAMED or len(others) > _NAMED:
        return ", ".join(arms)
    return f"all {len(arms)} arms" + (f" but {', '.join(others)}" if others else "")


def size_note(results: StudyResults, arms: Iterable[str], evaluated: EvaluationSet) -> tuple[str, ...]:
    """Returns a warning where some arms are measured at sizes of their own."""
    told = results.plan["arms"]
    named = [arm for arm in arms if told.get(arm, {}).get("image_size")]
    if not named or evaluated.part.endswith("@original"):
        return ()
    return (
        f"Images have another size in {', '.join(named)}: distances in px at different sizes do not "
        f"compare; {evaluated.plain.name}@original measures all at the original size.",
    )


def trial_name(row: Mapping[Any, Any]) -> str:
    """Returns `arm/stage/rNN`."""
    return f"{row['arm']}/{row['stage']}/r{row['repetition']:02d}"


def _sentence(text: str) -> str:
    flat = " ".join(text.split())
    return flat if flat.endswith((".", "!", "?")) else f"{flat}."
