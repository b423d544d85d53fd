"""What tables and figures say of intervals and p-values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from xferlab.analysis.comparison import CONFIDENCE, NO_CLAIM, NO_P, Comparison
from xferlab.analysis.results import is_hold_out
from xferlab.analysis.tables.model import interval, p_value

INTERVAL = f"{100 * CONFIDENCE:g} % CI"
Found = tuple[Comparison, pd.DataFrame]
"""A comparison with what `compare` returned for it."""


def interval_cells(record: Mapping[Any, Any], unit: str = "", *, p: str = "p") -> tuple[str, str]:
    """Returns the interval and the p of a row as text; the reason where there is no p."""
    return interval(record["low"], record["high"], unit), record["no_p"] or p_value(float(record[p]))


def inference_caption(found: Sequence[Found]) -> tuple[str, ...]:
    """Returns what the intervals and p-values of comparisons on one evaluation set mean."""
    comparisons = [comparison for comparison, _ in found]
    pools = _ranges((stage, pool) for one in comparisons for stage, pool in one.design.pools)
    ratio = _ranges(("test/train", overlap) for _, frame in found for overlap in frame["overlap"].unique())
    method, others = (
        ("two-way t over repetitions and patients", "other patients like these")
        if is_hold_out(comparisons[0].part)
        else (
            f"t over repetitions, corrected for overlapping training sets (Nadeau and Bengio 2003, {ratio})",
            "another test part",
        )
    )
    donors = dict.fromkeys(one.design.donor for one in comparisons if one.design.donor)
    return (
        f"{INTERVAL} and p: {method}. They cover {others}, another sample of training patients from the same "
        "pool, and other seeds.",
        *([f"Patients in the pool: {pools}; nothing is said of other pools."] if pools else []),
        *(
            f"Where both sides start from one donor for all repetitions (stage {donor}), another donor may "
            "change the difference."
            for donor in donors
        ),
        "Exploratory: where nothing differs, up to one p in 20 is below 0.05; an interval that holds 0 does "
        "not show equality.",
    )


def inference_notes(frame: pd.DataFrame) -> tuple[str, ...]:
    """Returns why some rows of comparisons have no p, and what is left out of them."""
    reasons, known = set(frame["no_p"]), {**NO_CLAIM, **NO_P}
    unpaired, lost = int(frame["num_unpaired"].max()), int(frame["num_lost"].max())
    return (
        *(f"{reason}: no p, since {why}." for reason, why in known.items() if reason in reasons),
        *([f"{unpaired} values exist on one side only and are left out."] if unpaired else []),
        *(
            ["An image with an undefined value in any repetition is left out; the CSV counts them."]
            if lost
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
