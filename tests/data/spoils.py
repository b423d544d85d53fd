"""Ways to spoil a manifest folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

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
    return write("metadata.csv", content if isinstance(content, bytes) else content.encode())


def remove(name: str) -> Spoil:
    return lambda folder: (folder.root / name).unlink()


def write(name: str, content: bytes) -> Spoil:
    def spoil(folder: Any) -> None:
        (folder.root / name).write_bytes(content)

    return spoil


def pixels(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    """Alters the pixels of an image."""

    def spoil(folder: Any) -> None:
        with Image.open(folder.root / name) as file:
            before = np.asarray(file)
        Image.fromarray(change(before)).save(folder.root / name)

    return spoil


def resaved(name: str, target: str = "", *, orientation: int = 1, **options: Any) -> Spoil:
    """Saves an image again, maybe under another name, with an EXIF orientation or in other bytes."""

    def spoil(folder: Any) -> None:
        with Image.open(folder.root / name) as file:
            file.load()
        exif = file.getexif()
        exif[274] = orientation
        file.save(folder.root / (target or name), exif=exif, **options)

    return spoil


def several(*spoils: Spoil) -> Spoil:
    def spoil(folder: Any) -> None:
        for part in spoils:
            part(folder)

    return spoil


def no_file(name: str, make: Callable[[Path], object]) -> Spoil:
    """Puts something that is no regular file in the place of one."""
    return several(remove(name), lambda folder: make(folder.root / name) and None)


def renamed_table(name: str) -> Spoil:
    return lambda folder: (folder.root / "metadata.csv").rename(folder.root / name) and None


def link_out(folder: Any) -> None:
    (folder.root / "masks").rename(folder.root.parent / "elsewhere")
    (folder.root / "masks").symlink_to(folder.root.parent / "elsewhere")


def fields(**changes: Any) -> Spoil:
    return lambda folder: changes
