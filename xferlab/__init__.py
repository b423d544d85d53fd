"""xferlab: staged transfer-learning studies on a cluster, with statistics that hold.

`dir(xferlab)` lists what is public:

    >>> import xferlab
    >>> results = xferlab.load_study("./xferlab-results", "my_study")   # doctest: +SKIP
    >>> xferlab.aggregate(results.cases)                                # doctest: +SKIP
"""

TYPE_CHECKING = False  # known to type checkers; `typing` itself takes a while to import
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "Predictor": "trial.predictor:Predictor",
    "StudyResults": "analysis.results:StudyResults",
    "aggregate": "analysis.aggregation:aggregate",
    "load": "analysis.loading:load",
    "load_study": "analysis.loading:load_study",
    "plots": "analysis.plots:",
    "predictor": "trial.predictor:predictor",
    "tables": "analysis.sections:tables",
    "write_report": "analysis.report:write_report",
}
"""Where each public name is, as `module:name`, or `module:` for a module; it is imported on first use."""

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> "Any":
    from pkgutil import resolve_name

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve_name(f"{__name__}.{_MODULES[name]}")


def __dir__() -> list[str]:
    return sorted(__all__)
