"""`xferlab schema`: the JSON Schema of study files."""

from __future__ import annotations

import json

from xferlab.cli.options import SchemaOptions
from xferlab.study.load import json_schema


def run(options: SchemaOptions) -> int:
    """Prints the schema, with `--json` as without it."""
    print(json.dumps(json_schema(), indent=2))
    return 0
