"""What the drivers of flight simulators share, without I/O: `Loading`."""

from __future__ import annotations

from collections.abc import Mapping

LOADING = "the simulator is loading: it sends zeros"

#: Fewer zeros than this may be true, as on the ground.
LEAST_ZEROS = 3
_POSITION = ("LAT", "LONG")


class Loading:
    """Notices the zeros that a simulator sends while it loads: they are no values.

    A position of exactly 0, 0 means that it is loading, until it has another one. Without a position, a message of
    nothing but zeros says nothing.
    """

    def __init__(self) -> None:
        #: Whether the last position was 0, 0.
        self.loading = False
        self._position: dict[str, float] = {}

    def judge(self, values: Mapping[str, float]) -> bool:
        """Whether the `values` of a message, by key, must not be used: 0.0 stands for what the simulator has as 0."""
        self._position |= {key: values[key] for key in _POSITION if key in values}
        if len(self._position) == len(_POSITION):
            self.loading = not any(self._position.values())
            return self.loading
        return len(values) >= LEAST_ZEROS and not any(values.values())
