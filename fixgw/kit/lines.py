"""`Lines` finds the lines in a stream of bytes."""

from __future__ import annotations


class Lines:
    """Finds the lines in a stream that may be cut anywhere. Holds at most one unfinished line, of `limit` bytes.

    A longer one comes as soon as more than `limit` bytes of it are there, and may be cut: whoever takes it refuses it.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._skipping = False  # the rest of a line

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, in order, without line feeds."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = self._rest + lines[0]
            lines, self._rest, self._skipping = lines[self._skipping :], b"", False
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > self._limit:
                lines.append(self._rest)
                self.skip()
        return lines

    def skip(self) -> None:
        """Bytes have been lost: leave out what comes before the next line feed."""
        self._rest, self._skipping = b"", True

    def restart(self) -> None:
        """A line begins now: forget an unfinished one."""
        self._rest, self._skipping = b"", False
