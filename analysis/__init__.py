"""From stored records to tables, figures and a report: load, select, aggregate, compare, present.

Notebooks start here:

    >>> from xferlab import analysis
    >>> cases = analysis.load("./xferlab-results", "covid_lung")   # doctest: +SKIP
    >>> analysis.aggregate(cases)                                  # doctest: +SKIP
"""

from xferlab.analysis.aggregation import aggregate
from xferlab.analysis.loading import load, load_study
from xferlab.analysis.reporting import report
from xferlab.analysis.results import StudyResults

__all__ = ["StudyResults", "aggregate", "load", "load_study", "report"]
