"""An S3 server, as the tests of storages have it."""

from tests.records.conftest import s3_server, shaky  # noqa: F401
