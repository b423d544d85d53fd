"""The source of drawn stripes."""

import numpy as np

from added_parts.section import StripesData
from xferlab.cohort import Case
from xferlab.data.sources.source import Decoded, Source, Survey, digest_of

SIDE = 32


class StripesSource(Source):
    """Draws a stripe at the row that is the number of the case."""

    config: StripesData

    def look(self) -> Survey:
        """Returns the cases; a digest is of all that pixels depend on."""
        for number in range(self.config.count):
            self._entries[digest_of({"source": "stripes", "version": 1, "number": number})] = number
        return Survey(
            tuple(
                Case(digest, f"stripe{number}", f"p{number}", "normal")
                for digest, number in self._entries.items()
            )
        )

    def read(self, entry: int) -> Decoded:
        """Returns the image and the stripe."""
        target = np.zeros((1, SIDE, SIDE), np.uint8)
        target[0, entry % (SIDE - 6) : entry % (SIDE - 6) + 6] = 255
        return Decoded(np.where(target[0] == 255, 200, 60).astype(np.uint8), target)
