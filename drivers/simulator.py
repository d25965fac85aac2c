"""What the drivers of flight simulators share, without I/O: `Loading`."""

from __future__ import annotations

from collections.abc import Mapping

from fixgw.kit.update import FAIL, Update

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
        #: The keys that have had a value.
        self.known: set[str] = set()
        self._position: dict[str, float] = {}

    def judge(self, values: Mapping[str, float]) -> list[Update] | None:
        """Whether the `values` of a message may be used: None if so, otherwise the updates to write in their place.

        They are by key, and 0.0 stands for what the simulator has as 0. When it begins to load, all that it has said
        before, for instance of another flight, is no longer true.
        """
        self._position |= {key: values[key] for key in _POSITION if key in values}
        if len(self._position) < len(_POSITION):
            return [] if len(values) >= LEAST_ZEROS and not any(values.values()) else None
        before, self.loading = self.loading, not any(self._position.values())
        if not self.loading:
            return None
        return [] if before else [Update(key, None, FAIL, LOADING) for key in sorted(self.known)]
