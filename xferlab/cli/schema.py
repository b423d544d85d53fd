"""`xferlab schema`: the JSON Schema of study files."""

from __future__ import annotations

import json
from argparse import Namespace

from xferlab.study.load import json_schema


def run(options: Namespace) -> int:
    """Prints the schema."""
    print(json.dumps(json_schema(), indent=2))
    return 0
