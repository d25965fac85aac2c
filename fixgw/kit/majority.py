"""Whether a stream is the one that it is taken for: `Majority`."""

from __future__ import annotations

#: Frames of the past that count; before that they fade.
MEMORY = 20
FOREIGN = "most of what comes is not from this instrument"


class Majority:
    """Counts what makes sense and what does not, and says whether most of it does.

    A checksum of one byte lets one line in 256 of another device pass, and a line without a checksum passes more often.
    A stream is taken for the instrument's own once half of it has been (the first line may have been cut), and no
    longer when less than a third is.
    """

    def __init__(self) -> None:
        self.trusted = False
        self._good = self._bad = 0.0

    def count(self, good: int, bad: int) -> bool:
        """So many more frames made sense, and so many did not; whether the stream is the instrument's."""
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
        """Whether enough has come to say that it is another's."""
        return not self.trusted and self._good + self._bad >= 3.0
