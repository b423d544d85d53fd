"""`xferlab schema`: the JSON Schema of study files."""

from __future__ import annotations

import json

from xferlab.cli.options import Options
from xferlab.study.load import json_schema


def run(options: Options) -> int:
    """Prints the schema."""
    print(json.dumps(json_schema(), indent=2))
    return 0
