"""Completion in a real bash and a real zsh: verbs, options and files, without what takes long to import."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

BASH, ZSH = shutil.which("bash"), shutil.which("zsh")
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


PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


@pytest.fixture
def bash(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell whose `xferlab` runs this code and cannot import torch."""
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


def typed(terminal: int, text: str, until: str, *, within_s: float = 20.0) -> str:
    """Types into a terminal; returns what it shows, once that has some text."""
    os.write(terminal, text.encode())
    shown, deadline = "", time.monotonic() + within_s
    while until not in shown:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, shown
        shown += os.read(terminal, 1 << 16).decode(errors="replace")
    return shown


@pytest.mark.skipif(ZSH is None, reason="there is no zsh")
def test_zsh_completes_after_the_lines_of_the_page(bash: dict[str, str], tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8").partition("### Completion in the shell")[2]
    first = re.findall(r"In `~/.zshrc`, call `(.*)` before it", text)
    (second,) = re.findall(r"^eval .*\)\"", text, re.MULTILINE)
    (tmp_path / ".zshrc").write_text("\n".join((*first, second, "PS1='ready> '", "unsetopt beep", "")))
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(str(ZSH), ["zsh", "-i"], {**bash, "ZDOTDIR": str(tmp_path), "TERM": "dumb"})
    try:
        assert "not found" not in typed(terminal, "", "ready> ")
        typed(terminal, "xferlab sta\t", "status ")
        typed(terminal, "\x15xferlab run study.yaml --exe\t", "--executor ")
        typed(terminal, "\x15xferlab run study.yaml --executor in\t", "in-process ")
    finally:
        os.write(terminal, b"\x15exit\n")
        os.waitpid(pid, 0)
        os.close(terminal)
