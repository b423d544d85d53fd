"""What pages show of real runs: the report of a tutorial, and what the cells of the notebook return.

`docs/sample.py FOLDER` builds both below a folder, from images that xferlab draws; `make docs` calls it.
"""

from __future__ import annotations

import ast
import json
import os
import pprint
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pandas import DataFrame
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tutorials" / "results.ipynb"
_SMOKE = "xferlab run jobs/smoke.yaml --storage xferlab-results --executor in-process"


def build(folder: Path) -> None:
    """Writes `report`, that of the tutorial about ablations, and `cells` below a folder; replaces both.

    Raises:
        AssertionError: A command of the tutorial fails or prints something else than the page quotes.
    """
    sys.path.insert(0, str(ROOT))
    from tests.test_tutorials import follow, run

    work = folder.resolve() / "work"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("jobs", "search_spaces"):
        shutil.copytree(ROOT / name, work / name)
    follow("ablation", work)
    run(_SMOKE, work)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        (sys.executable, ROOT / "docs" / "sample.py", "--cells", "cells"),
        cwd=work,
        env=environment,
        check=True,
    )
    (work / "reports" / "ablation").rename(folder / "report")
    (work / "cells").rename(folder / "cells")  # last: it exists only where everything does


def run_cells(folder: Path) -> None:
    """Runs the cells in the working directory, and writes what the last line of each one returns.

    A figure or picture becomes NUMBER.png, a table NUMBER.html, and anything else NUMBER.txt, below a folder.
    """
    folder.mkdir()
    names: dict[str, Any] = {}
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    for number, text in enumerate(code):
        *first, last = ast.parse(text.removeprefix("%matplotlib inline")).body
        assert isinstance(last, ast.Expr), text
        exec(compile(ast.Module(first, []), "cell", "exec"), names)
        _write(eval(compile(ast.Expression(last.value), "cell", "eval"), names), folder / str(number))


def _write(value: Any, path: Path) -> None:
    """Writes a value beside a path, as a notebook shows it."""
    if isinstance(value, Figure):
        value.savefig(path.with_suffix(".png"), dpi=120)
    elif isinstance(value, Image.Image):
        value.save(path.with_suffix(".png"))
    elif isinstance(value, DataFrame):
        path.with_suffix(".html").write_text(value.to_html(border=0), "utf-8")
    else:
        text = pprint.pformat(value, width=100).replace(f"{Path.cwd()}/", "")
        path.with_suffix(".txt").write_text(text, "utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--cells":
        run_cells(Path(sys.argv[2]))
    else:
        build(Path(sys.argv[1]))
