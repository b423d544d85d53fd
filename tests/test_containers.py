"""The recipes for containers: linted, equal in their steps, with files that exist and packages that resolve.

No image is built here, since that takes a builder with access to base images.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE, IGNORED, APPTAINER = ROOT / "Dockerfile", ROOT / ".dockerignore", ROOT / "jobs" / "xferlab.def"


def joined(text: str) -> str:
    """A text whose continued lines are one line each."""
    return re.sub(r"\s*\\\n\s*", " ", text)


def instructions(name: str) -> list[str]:
    """What stands behind an instruction of the Dockerfile, each time."""
    return re.findall(rf"^{name} (.*)$", joined(DOCKERFILE.read_text()), re.MULTILINE)


def part(name: str) -> str:
    """A section of the recipe for Apptainer."""
    _, _, rest = APPTAINER.read_text().partition(f"\n%{name}\n")
    return joined(rest.partition("\n%")[0])


def copied() -> list[str]:
    return [source for words in instructions("COPY") for source in words.split()[:-1]]


def installs(text: str) -> list[str]:
    """The calls of pip in a shell script, from `pip` to the end of the command."""
    return re.findall(r"\bpip install [^&\n]*[^&\s]", joined(text))


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_what_is_copied_exists_and_nothing_else_is_sent_to_the_builder() -> None:
    lines = [line for line in IGNORED.read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(copied())
    assert [name for name in copied() if not (ROOT / name).exists()] == []


def test_both_recipes_have_the_same_files_and_packages() -> None:
    assert sorted(line.split()[0] for line in part("files").splitlines() if line.strip()) == sorted(copied())
    first, second = installs("\n".join(instructions("RUN")))
    assert installs(part("post")) == [first]
    assert "--no-deps" in second
    assert ("ARG BASE=python:3.12-slim" in DOCKERFILE.read_text()) == (
        "BASE=python:3.12-slim" in part("arguments")
    )
    wanted = re.findall(r"\[([\w,]+)\]", first)[0].split(",")
    assert set(wanted) <= set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )


def test_both_recipes_have_a_compiler() -> None:
    """Of which the option `training.compile` makes use."""
    for shell in ("\n".join(instructions("RUN")), part("post")):
        packages = " ".join(re.findall(r"apt-get install ([^&]*)", shell)).split()
        assert "g++" in packages


def test_every_argument_of_the_recipe_has_a_value() -> None:
    """Apptainer ignores an argument without one, and then the recipe cannot be read."""
    given = dict(line.strip().split("=", 1) for line in part("arguments").splitlines() if line.strip())
    assert all(given.values())
    assert set(given) == set(re.findall(r"{{ (\w+) }}", APPTAINER.read_text()))


def test_no_user_is_root_and_no_registry_is_named() -> None:
    assert instructions("USER") == ["1000:1000"]
    assert instructions("ENTRYPOINT") == ['["xferlab"]']
    for path in (DOCKERFILE, APPTAINER):
        code = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
        assert not re.findall(r"https?:|\b[\w-]+\.(?:io|com|org|ai)\b", code)


@pytest.mark.slow
def test_the_steps_of_pip_resolve_and_install_xferlab(tmp_path: Path) -> None:
    """In the order of the Dockerfile, the first without installing: that takes some GB."""
    first, second = installs("\n".join(instructions("RUN")))
    bare, context = tmp_path / "bare", tmp_path / "context"
    venv.create(bare, with_pip=True)
    context.mkdir()
    path = f"{bare / 'bin'}:/usr/bin:/bin"

    def step(command: str, *names: str) -> str:
        for name in names:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, context / name, **({"symlinks": True} if source.is_dir() else {}))
        done = subprocess.run(
            ["sh", "-c", command], cwd=context, env={"PATH": path, "HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    before, after = copied()[:4], copied()[4:]
    assert "Would install" in step(f"PIP_EXTRA_INDEX_URL='' {first} --dry-run", *before)
    step(second, *after)
    assert "xferlab" in step(
        "python -c 'import importlib.util as u; print(u.find_spec(\"xferlab.analysis\").origin)'"
    )
    assert (bare / "bin" / "xferlab").exists()
