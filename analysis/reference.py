"""Published values, shipped as package data: facts with their source, printed beside a study's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import pandas as pd

from xferlab.errors import UsageError, suggest

_CAPTIONS = {
    "3": "Mean and standard deviation of test results for the 25 repetitions of the inter-domain stage",
    "4": "Mean and standard deviation of test results for the 25 repetitions of the inter-device stage",
    "5": "Results of the model of the inter-domain stage on the CHUAC dataset, by pathology",
    "6": "Results of the model of the inter-device stage on the CHUAC dataset, by pathology",
}
_SD_OF = {
    "3": "SD (25 repetitions)",
    "4": "SD (25 repetitions)",
    "5": "SD (over what is not said)",
    "6": "SD (over what is not said)",
}
_NOTES = {
    "3": (
        "The paper's Table 3 prints DICE 0.9554 beside SENS 0.6703, which no single confusion matrix gives "
        "(Dice is at most 2 SENS / (1 + SENS) = 0.803); the values are repeated as printed."
    ),
}


@dataclass(frozen=True, eq=False)
class Reference:
    """The values of a publication.

    Attributes:
        name: Key that a study names under `compare_to`.
        citation: Where the values stand.
        values: Columns table, stage, section, part, pathology, metric, mean, sd.
        times: Columns place, stage, quantity, mean_ms, sd_ms.
        cohorts: Columns section, pathology, images.
    """

    name: str
    citation: str
    values: pd.DataFrame
    times: pd.DataFrame
    cohorts: pd.DataFrame

    def rows(self, *, stage: str, section: str, part: str) -> pd.DataFrame:
        """Returns the published rows of a stage on an evaluation set, by their names; or none."""
        v = self.values
        return v[(v["stage"] == stage) & (v["section"] == section) & (v["part"] == part)]

    def caption(self, table: str) -> str:
        """Returns what the publication says its table is."""
        return f"{self.name}, Table {table}: {_CAPTIONS[table]}."

    def sd_of(self, table: str) -> str:
        """Returns what the publication's deviations are over, as far as it says."""
        return _SD_OF[table]

    def notes(self, table: str) -> tuple[str, ...]:
        """Returns what a reader of a published table must know."""
        cohorts = self.cohorts.groupby("section", sort=False)["images"].sum()
        sizes = " and ".join(f"{count:,} {section}" for section, count in cohorts.items())
        differ = (
            f"The cohorts differ: the paper used {sizes} chest X-rays, its portable ones private; "
            "its values are context, not a target."
        )
        return (differ, _NOTES[table]) if table in _NOTES else (differ,)


@cache
def reference(name: str) -> Reference:
    """Returns the published values that a study compares itself to.

    Raises:
        UsageError: There are none of this name.
    """
    if name != "vidal2021":
        raise UsageError(
            f"compare_to {name!r} is no publication with stored values (accepted: vidal2021)."
            f"{suggest(name, ['vidal2021'])}"
        )
    citation = (
        "P.L. Vidal, J. de Moura, J. Novo, M. Ortega: Multi-stage transfer learning for lung segmentation "
        "using portable X-ray devices for patients with COVID-19. Expert Systems with Applications (2021), "
        "doi:10.1016/j.eswa.2021.114677"
    )
    return Reference(
        name, citation, _read(f"{name}_tables"), _read(f"{name}_times"), _read(f"{name}_cohorts")
    )


def _read(name: str) -> pd.DataFrame:
    with (
        resources.files("xferlab.analysis")
        .joinpath("published", f"{name}.csv")
        .open(encoding="utf-8") as stream
    ):
        return pd.read_csv(stream, dtype={"table": str})
