"""From stored records to tables, figures and a report: load, select, aggregate, compare, present.

Notebooks start here:

    >>> from xferlab import analysis
    >>> cases = analysis.load("./xferlab-results", "my_study")   # doctest: +SKIP
    >>> analysis.aggregate(cases)                                # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xferlab.analysis.aggregation import aggregate
    from xferlab.analysis.loading import load, load_study
    from xferlab.analysis.report import write_report
    from xferlab.analysis.results import StudyResults

__all__ = ["StudyResults", "aggregate", "load", "load_study", "write_report"]

_MODULES = {
    "StudyResults": "results",
    "aggregate": "aggregation",
    "load": "loading",
    "load_study": "loading",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: the names of published papers are asked for where pandas would be too slow.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
