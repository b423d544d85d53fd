"""Generators that are context managers let exceptions through.

From Python 3.12 on, one that ends an exception leaves a circle of references to the frames below it. In these
are the networks of a trial, whose memory would then be free only when garbage is collected.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("xferlab", "analysis") for path in (ROOT / package).rglob("*.py"))


def ending(source: str) -> list[str]:
    """Returns line and name of every such generator that may end an exception."""
    return [
        f"{line}: {node.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        and any("contextmanager" in ast.unparse(decorator) for decorator in node.decorator_list)
        for line in _ends(node)
    ]


def _ends(generator: ast.FunctionDef) -> Iterator[int]:
    for node in ast.walk(generator):
        if isinstance(node, ast.Try) and _yields(node):
            yield from (
                handler.lineno for handler in node.handlers if not isinstance(handler.body[-1], ast.Raise)
            )
        if isinstance(node, ast.With) and _yields(node):
            yield from (node.lineno for item in node.items if "suppress" in ast.unparse(item))


def _yields(block: ast.Try | ast.With) -> bool:
    return any(isinstance(node, ast.Yield) for statement in block.body for node in ast.walk(statement))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_generators_end_no_exception(path: Path) -> None:
    assert ending(path.read_text()) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("try:\n        yield\n    except OSError:\n        raise ValueError from None", []),
        ("try:\n        yield\n    finally:\n        pass", []),
        ("try:\n        yield\n    except OSError:\n        pass", ["5: made"]),
        (
            "try:\n        yield\n    except OSError as e:\n        if e.errno:\n            raise",
            ["5: made"],
        ),
        ("with suppress(OSError):\n        yield", ["3: made"]),
    ],
)
def test_what_it_finds(body: str, expected: list[str]) -> None:
    assert ending(f"@contextmanager\ndef made():\n    {body}\n") == expected
