"""The command line in this process, as the tests of its room have it."""

from tests.cli.conftest import command  # noqa: F401
