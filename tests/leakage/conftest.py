"""The fixtures of data sets, and the alterations of the benchmark."""

import tests.benchmarks.conftest  # noqa: F401  (it makes the benchmarks' modules known)
from tests.data.conftest import decoded, remembering

__all__ = ["decoded", "remembering"]
