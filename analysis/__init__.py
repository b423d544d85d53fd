"""From stored records to tables, figures and a report: load, select, aggregate, compare, present.

Notebooks start here:

    >>> import analysis
    >>> cases = analysis.load("./xferlab-results", "covid_lung")   # doctest: +SKIP
    >>> analysis.aggregate(cases)                                  # doctest: +SKIP
"""

from analysis.aggregation import aggregate
from analysis.loading import load, load_study
from analysis.reporting import report
from analysis.results import StudyResults

__all__ = ["StudyResults", "aggregate", "load", "load_study", "report"]
