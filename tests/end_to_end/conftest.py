"""The command line in this process and an S3 server, as the tests of their rooms have them."""

from tests.cli.conftest import command  # noqa: F401
from tests.records.conftest import s3_server, shaky  # noqa: F401
