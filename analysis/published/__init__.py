"""Published values as data, a folder for each paper; this module loads nothing but the standard library."""

from pathlib import Path

FOLDER = Path(__file__).parent


def papers() -> tuple[str, ...]:
    """Returns the papers that a study may compare itself to, by name: the folders beside this file."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/layout.yaml")))
