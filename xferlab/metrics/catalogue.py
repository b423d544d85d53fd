"""The list of metrics: what each is called, what it means, where it comes from and what 0/0 gives.

Only the standard library is imported here, so that tables and reports can describe metrics without computing
any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

METRICS_VERSION = 1
"""Raised whenever a value may change; part of the identity of an evaluation."""

_VIDAL = "vidal2021"
_CLASS_0_0 = "1 if the class is absent from both masks, 0 if it is absent from one"


@dataclass(frozen=True)
class Metric:
    """One metric of one image.

    Attributes:
        name: Key in records and tables.
        label: Heading in tables and axes of figures.
        unit: `px`, `mm`, `count`, or empty for a dimensionless value.
        better: Whether `higher` or `lower` is better; None if neither.
        source: Paper and equation.
        prominence: `main` metrics also stand in tables of many arms, the first of them in figures of many
            arms; `headline` ones in the first table of a stage; `further` ones in a second table. A paper
            that a study compares itself to may name other headline metrics.
        definition: One sentence. Masks hold counted pixels only; predicted means probability > threshold.
        undefined: What 0/0 gives, and when the value is NaN. All are NaN where every pixel is ignored.
        function: `module.function` within this package, a function of a `ScoredImage` that returns a float.
    """

    name: str
    label: str
    unit: str
    better: Literal["higher", "lower"] | None
    source: str
    prominence: Literal["main", "headline", "further"]
    definition: str
    undefined: str
    function: str = ""


CATALOGUE: tuple[Metric, ...] = (
    Metric(
        name="ACC",
        label="Accuracy",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 2",
        prominence="further",
        definition="Fraction of pixels whose predicted class is the target's.",
        undefined="Always defined.",
        function="overlap.accuracy",
    ),
    Metric(
        name="AUC",
        label="AUC",
        unit="",
        better="higher",
        source=f"{_VIDAL}, section 3.3, after Bradley 1997",
        prominence="further",
        definition="Probability that a target pixel's output exceeds a background pixel's; ties count half.",
        undefined="NaN if the target holds a single class.",
        function="ranking.auc",
    ),
    Metric(
        name="DICE",
        label="Dice",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 3, on the thresholded output",
        prominence="main",
        definition="2 TP / (2 TP + FP + FN).",
        undefined="1 if both masks are empty, 0 if one is.",
        function="overlap.dice",
    ),
    Metric(
        name="JACC",
        label="Jaccard",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 4, on the thresholded output",
        prominence="headline",
        definition="TP / (TP + FP + FN).",
        undefined="1 if both masks are empty, 0 if one is.",
        function="overlap.jaccard",
    ),
    Metric(
        name="PREC",
        label="Precision (macro)",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 5 and footnote 5",
        prominence="further",
        definition="Mean of the target's and the background's TP / (TP + FP).",
        undefined=f"Per class: {_CLASS_0_0}.",
        function="overlap.macro_precision",
    ),
    Metric(
        name="RECA",
        label="Recall (macro)",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 6 and footnote 5",
        prominence="further",
        definition="Mean of the target's and the background's TP / (TP + FN): of SENS and SPEC.",
        undefined=f"Per class: {_CLASS_0_0}.",
        function="overlap.macro_recall",
    ),
    Metric(
        name="F1",
        label="F1 score (macro)",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 7 and footnote 5",
        prominence="further",
        definition="Mean of the target's and the background's 2 TP / (2 TP + FP + FN).",
        undefined=f"Per class: {_CLASS_0_0}.",
        function="overlap.macro_f1",
    ),
    Metric(
        name="SENS",
        label="Sensitivity",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 8",
        prominence="headline",
        definition="TP / (TP + FN): fraction of the target that is predicted.",
        undefined="1 if both masks are empty, 0 if only the target is.",
        function="overlap.sensitivity",
    ),
    Metric(
        name="SPEC",
        label="Specificity",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 9",
        prominence="headline",
        definition="TN / (TN + FP): fraction of the background that is predicted as background.",
        undefined="1 if neither mask has background, 0 if only the target has none.",
        function="overlap.specificity",
    ),
    Metric(
        name="SOFT_DICE",
        label="Soft Dice",
        unit="",
        better="higher",
        source=f"{_VIDAL}, eq. 3, on the continuous output",
        prominence="further",
        definition="2 sum(p t) / (sum p + sum t), p the output and t the target, without threshold.",
        undefined="1 if output and target are 0 everywhere.",
        function="overlap.soft_dice",
    ),
    Metric(
        name="HD95_px",
        label="HD95",
        unit="px",
        better="lower",
        source="Huttenlocher et al. 1993, with the 95th percentile for the maximum",
        prominence="main",
        definition="Larger of the two directed 95th percentiles of the distance between boundary pixels.",
        undefined="0 if both masks are empty, the image diagonal if one is.",
        function="boundary.hd95_px",
    ),
    Metric(
        name="HD95_mm",
        label="HD95",
        unit="mm",
        better="lower",
        source="as HD95_px",
        prominence="headline",
        definition="HD95_px with distances in millimetres, by the spacing of rows and of columns.",
        undefined="0 if both masks are empty, the image diagonal if one is; NaN if the spacing is unknown.",
        function="boundary.hd95_mm",
    ),
    Metric(
        name="NSD_2px",
        label="NSD at 2 px",
        unit="",
        better="higher",
        source="Nikolov et al. 2018 (surface Dice), on pixels",
        prominence="headline",
        definition="Fraction of both masks' boundary pixels within 2 px of the other's boundary.",
        undefined="1 if both masks are empty, 0 if one is.",
        function="boundary.nsd_2px",
    ),
    Metric(
        name="COMPONENTS",
        label="Components",
        unit="count",
        better=None,
        source="artefacts of vidal2021, fig. 13",
        prominence="further",
        definition="Connected components (8-connectivity) of the prediction; two lungs make two.",
        undefined="Always defined; 0 for an empty prediction.",
        function="topology.components",
    ),
    Metric(
        name="BRIDGES",
        label="Bridges",
        unit="count",
        better="lower",
        source="artefacts of vidal2021, fig. 13",
        prominence="further",
        definition="Predicted components that cover at least 10 % of each of two or more target components.",
        undefined="NaN if the target has fewer than two components.",
        function="topology.bridges",
    ),
    Metric(
        name="ISLANDS",
        label="Islands",
        unit="count",
        better="lower",
        source="artefacts of vidal2021, fig. 13",
        prominence="further",
        definition="Predicted components that share no pixel with the target.",
        undefined="Always defined; every predicted component is one if the target is empty.",
        function="topology.islands",
    ),
    Metric(
        name="BRIER",
        label="Brier score",
        unit="",
        better="lower",
        source="Brier 1950, in the form for one binary event",
        prominence="further",
        definition="Mean squared difference of output and target.",
        undefined="Always defined.",
        function="calibration.brier",
    ),
    Metric(
        name="ECE",
        label="Calibration error",
        unit="",
        better="lower",
        source="Guo et al. 2017, eq. 3, on the target class' probability",
        prominence="further",
        definition="Mean over pixels of |mean output - target frequency| of their bin, one of 15 equal ones.",
        undefined="Always defined.",
        function="calibration.expected_calibration_error",
    ),
)
