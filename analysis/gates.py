"""Cases that a stage is measured on although its gate did not let them pass: they are in no difference."""

from __future__ import annotations

import pandas as pd

from xferlab.analysis.comparison import images_of, same_images
from xferlab.analysis.design import Side
from xferlab.metrics.metric import PASSED

_CASE = ["arm", "stage", "section", "part", "repetition", "case"]


def divided(cases: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the rows of cases that passed (all of them where there is no gate), and those of all others.

    A case may pass in one repetition and not in another.
    """
    flags = cases[cases["metric"] == PASSED.name]
    if flags.empty:
        return cases, flags
    values = cases[cases["metric"] != PASSED.name]
    refused = pd.MultiIndex.from_frame(flags.loc[flags["value"] == 0, _CASE])
    is_refused = pd.MultiIndex.from_frame(values[_CASE]).isin(refused)
    return values[~is_refused], values[is_refused]


def refused_by_either(cases: pd.DataFrame, first: Side, second: Side) -> frozenset[tuple[str, str]]:
    """Returns the images that a gate of one side did not let pass in some repetition that both sides have.

    Each is its case on the first and on the second side, which differ where these read it otherwise.
    """
    rows = [side.evaluated.rows(cases[cases["arm"] == side.arm]) for side in (first, second)]
    paired = set(rows[0]["repetition"]) & set(rows[1]["repetition"])
    flags = pd.concat([frame[frame["metric"] == PASSED.name] for frame in rows])
    refused = set(flags.loc[(flags["value"] == 0) & flags["repetition"].isin(paired), "case"])
    if not refused:
        return frozenset()
    both = same_images(*map(images_of, rows))
    known = set(zip(both["value_first"], both["value_second"], strict=True))
    known |= {(case, case) for case in refused.difference(*known)}
    return frozenset(image for image in known if refused & set(image))
