"""Completion in a real bash: verbs, options and files, without what takes long to import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASH = shutil.which("bash")
ASK = """
eval "$(register-python-argcomplete xferlab)"
_of() {
  COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9; COMP_KEY=9
  COMP_WORDS=($1); [[ "$1" == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
  $(complete -p xferlab | sed 's/.*-F \\([^ ]*\\).*/\\1/') xferlab "${COMP_WORDS[COMP_CWORD]}" xferlab
  printf '%s\\n' "${COMPREPLY[@]}"
}
_of "$LINE"
"""


@pytest.fixture
def bash(tmp_path: Path) -> dict[str, str]:
    """The environment of a bash whose `xferlab` runs this code and cannot import torch."""
    pytest.importorskip("argcomplete")
    program = tmp_path / "bin/xferlab"
    program.parent.mkdir()
    lines = (
        f"#!{sys.executable}",
        "import sys",
        "sys.modules.update(dict.fromkeys(('torch', 'ray', 'pandas', 'pyarrow', 'numpy')))",
        "from xferlab.cli import main",
        "sys.exit(main())",
    )
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    (tmp_path / "study.yaml").touch()
    path = os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PATH": path, "PYTHONPATH": root}


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("xferlab st", {"status"}),
        ("xferlab re", {"report"}),
        ("xferlab run study.yaml --ex", {"--executor"}),
        ("xferlab run study.yaml --executor ", {"ray", "in-process"}),
        ("xferlab watch st", {"study.yaml"}),
        ("xferlab logs --f", {"--follow"}),
    ],
)
def test_bash_completes_verbs_options_values_and_files(
    bash: dict[str, str], tmp_path: Path, line: str, words: set[str]
) -> None:
    done = subprocess.run(
        [str(BASH), "--norc", "-c", ASK], env={**bash, "LINE": line}, cwd=tmp_path,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert {word.strip() for word in done.stdout.splitlines()} == words, done.stderr
