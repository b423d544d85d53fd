"""An S3 server and a stand-in for W&B, as the tests of their rooms have them."""

from tests.records.conftest import s3_server, shaky  # noqa: F401
from tests.tracking.conftest import server, short  # noqa: F401
