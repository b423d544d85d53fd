"""Valid files, altered; and the loop that feeds them to a reader, seeded and bounded."""

from __future__ import annotations

import resource
import struct
import sys
import time
import zlib
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

MOST_S, MOST_MIB = 20.0, 3000.0
"""Of processor time for one input; of growth for all, as the largest colour image that is accepted takes."""

_INTEGERS = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])


@st.composite
def mutated(draw: st.DrawFn, originals: Sequence[bytes], tokens: Sequence[bytes] = ()) -> bytes:
    """Draws one of the originals with one to six edits: bytes, bits, numbers, pieces moved, cut or put in."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3, 6]))):
        # Headers stand in front, and decide more than what follows.
        last = max(len(data) - 1, 0)
        place = draw(st.one_of(st.integers(0, min(last, 96)), st.integers(0, last)))
        size = draw(st.integers(1, 12))
        match draw(st.integers(0, 6 if tokens else 5)):
            case 0:
                data[place : place + size] = draw(st.binary(min_size=size, max_size=size))
            case 1 if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case 2:
                form = draw(st.sampled_from(["<H", ">H", "<I", ">I"]))
                number = draw(_INTEGERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
                data[place : place + struct.calcsize(form)] = struct.pack(form, number)
            case 3:
                del data[place : place + draw(st.one_of(st.just(size), st.integers(1, len(data) + 1)))]
            case 4:
                data[place:place] = data[place : place + 4 * size]
            case 5:
                other = draw(st.sampled_from(originals))
                data[place:] = other[place:]
            case 6:
                data[place:place] = draw(st.sampled_from(tokens))
    return bytes(data)


def mended(data: bytes) -> bytes:
    """Returns a PNG whose chunks have right checksums again, as far as they can be told apart."""
    parts, place = [data[:8]], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        body = data[place + 4 : place + 8 + length]
        parts.append(data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body)))
        place += 12 + length
    return b"".join(parts) + data[place:]


def feed(
    inputs: st.SearchStrategy[bytes],
    read: Callable[[bytes], bool],
    *,
    examples: int,
    accepts: bool = True,
) -> None:
    """Reads that many inputs, and raises what `read` raised for the smallest of them.

    Args:
        inputs: What to draw from.
        read: Returns whether it accepted the input; raises whatever must not happen.
        examples: How many inputs; the same ones each time.
        accepts: Whether some of many inputs must be accepted; some must be refused in any case.
    """
    outcomes: set[bool] = set()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @seed(0)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(inputs)
    def one(data: bytes) -> None:
        start_s = time.process_time()
        outcomes.add(read(data))
        took_s = time.process_time() - start_s
        assert took_s < MOST_S, f"{took_s:.1f} s for {len(data)} bytes"

    one()
    per_mib = 1 << 20 if sys.platform == "darwin" else 1 << 10
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / per_mib
    assert grown_mib < MOST_MIB
    assert False in outcomes
    assert True in outcomes or not accepts or examples < 1000
