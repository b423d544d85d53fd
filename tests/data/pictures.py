"""Image files written by hand: what no library would write."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    """Returns one chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, bits: int = 8, colour: int = 0, packed: bytes = b"") -> bytes:
    """Returns a PNG of any header; `packed` is its compressed rows, each after a filter byte."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def rows(count: int, row: bytes) -> bytes:
    """Returns `count` equal rows of a PNG, compressed, without having them in memory."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(b"\0" + row) for _ in range(count)) + packer.flush()


def tiff(width: int, height: int, pixels: bytes, **tags: int) -> bytes:
    """Returns an uncompressed TIFF of one strip.

    Args:
        width: Of the header, px.
        height: Of the header, px.
        pixels: The strip.
        **tags: `bits` and `channels` (1 each by default 8 and 1), `sample_format` (1 unsigned, 2 signed).
    """
    bits, channels = tags.get("bits", 8), tags.get("channels", 1)
    fields = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: 2 if channels > 1 else 1,
        273: 0,
        277: channels,
    }
    fields |= {278: height, 279: len(pixels), 339: tags.get("sample_format", 1)}
    head = 8 + 2 + 12 * len(fields) + 4
    wide = struct.pack(f"<{channels}H", *[bits] * channels)
    formats = struct.pack(f"<{channels}H", *[fields[339]] * channels)
    fields[273] = head + len(wide) + len(formats)
    if channels > 1:
        fields[258], fields[339] = head, head + len(wide)
    entries = b"".join(
        struct.pack(
            "<HHII",
            tag,
            4 if tag in (256, 257, 273, 278, 279) else 3,
            channels if tag in (258, 339) else 1,
            value,
        )
        for tag, value in sorted(fields.items())
    )
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + wide + formats + pixels
