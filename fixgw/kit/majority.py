"""Decides whether a stream comes from the expected instrument: `Majority`."""

from __future__ import annotations

#: Number of recent frames that count; older ones fade.
MEMORY = 20
FOREIGN = "most of the data is not from this instrument"


class Majority:
    """Counts good and bad frames, and trusts the stream while most of them are good.

    A one-byte checksum passes one line in 256 from another device; without a checksum more lines pass. The stream is
    trusted once half of its frames are good (the first line may be cut short), until fewer than a third are.
    """

    def __init__(self) -> None:
        self.trusted = False
        self._good = self._bad = 0.0

    def count(self, good: int, bad: int) -> bool:
        """Add this many good and bad frames. Return whether the stream is trusted."""
        self._good += good
        self._bad += bad
        if (total := self._good + self._bad) > MEMORY:
            self._good, self._bad = self._good * MEMORY / total, self._bad * MEMORY / total
        if self.trusted:
            self.trusted = self._bad <= 2.0 * self._good
        else:
            self.trusted = self._good >= max(self._bad, 0.5)
        return self.trusted

    @property
    def foreign(self) -> bool:
        """Whether enough bad frames have come to say that this is another device."""
        return not self.trusted and self._good + self._bad >= 3.0
