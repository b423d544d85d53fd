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
    "Predictor": "trial.predictor",
    "StudyResults": "analysis.results",
    "aggregate": "analysis.aggregation",
    "load": "analysis.loading",
    "load_study": "analysis.loading",
    "plots": "analysis.plots",
    "predictor": "trial.predictor",
    "tables": "analysis.report",
    "write_report": "analysis.report",
}
"""Where each public name is; it is imported on first use."""

__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name, module)  # `plots` is a module itself


def __dir__() -> list[str]:
    return sorted(__all__)
