"""`xferlab schema`: the JSON Schema of study files."""

from __future__ import annotations

import json

from xferlab.cli.options import SchemaOptions
from xferlab.cli.output import tell_alone
from xferlab.study.editors import json_schema


def run(options: SchemaOptions) -> int:
    """Prints the schema, with `--json` as without it."""
    schema = json_schema()
    if options.json:
        tell_alone(schema)
    else:
        print(json.dumps(schema, indent=2))
    return 0
