"""The fixtures of data sets."""

from tests.data.conftest import decoded, remembering

__all__ = ["decoded", "remembering"]
