"""Ways to spoil a manifest folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

Spoil = Callable[[Any], dict[str, Any] | None]


def drop_column(name: str, *, rename: str | None = None) -> Spoil:
    def spoil(folder: Any) -> None:
        header, *rest = (folder.root / "metadata.csv").read_text().splitlines()
        columns = header.split(",")
        columns[columns.index(name)] = rename or "other"
        (folder.root / "metadata.csv").write_text("\n".join([",".join(columns), *rest]))

    return spoil


def cell(row: int, **values: str) -> Spoil:
    def spoil(folder: Any) -> None:
        folder.rows[row] |= values
        folder.write()

    return spoil


def text(content: str | bytes) -> Spoil:
    def spoil(folder: Any) -> None:
        data = content if isinstance(content, bytes) else content.encode()
        (folder.root / "metadata.csv").write_bytes(data)

    return spoil


def remove(name: str) -> Spoil:
    def spoil(folder: Any) -> None:
        (folder.root / name).unlink()

    return spoil


def rename_table(folder: Any) -> None:
    (folder.root / "metadata.csv").rename(folder.root / "metadta.csv")


def no_table(folder: Any) -> None:
    (folder.root / "metadata.csv").rename(folder.root / "metadata.XLSX")


def pipe(folder: Any) -> None:
    remove("images/4.png")(folder)
    os.mkfifo(folder.root / "images/4.png")


def loop(folder: Any) -> None:
    remove("images/4.png")(folder)
    (folder.root / "images/4.png").symlink_to("4.png")


def link_out(folder: Any) -> None:
    (folder.root / "masks").rename(folder.root.parent / "elsewhere")
    (folder.root / "masks").symlink_to(folder.root.parent / "elsewhere")


def fields(**changes: Any) -> Spoil:
    return lambda folder: changes
