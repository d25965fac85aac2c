"""The order in which clients are served: `Turns`.

A client with few requests is served at once. One that has used more than `ALLOWANCE_S` of the server's time is greedy,
and waits for its turn: greedy clients are served in short slices, one host after the other. A single one gets at most
half of the time, and several together get less, which leaves the processor to updates, to other clients and to the
gateway's other threads. No client is dropped or refused: the server does not read from a client that has to wait.
"""

from __future__ import annotations

from fixgw.clock import now as clock_now
from fixgw.net.access import Address
from fixgw.plugins.netfix.peer import Peer

SLICE_S = 0.0002  # the time for one client before it is the turn of the next
ALLOWANCE_S = 0.02  # a client that owes more of the server's time than this is greedy
PAYBACK = 0.05  # the share of the time that a client pays back: one that uses less is never greedy
BUSY_S = 0.001  # after this much time for greedy clients there is a break, as long again for each waiting client,
MOST_BREAKS = 5  # but for at most this many: together, greedy clients get at least a sixth of the time


class Turns:
    """The clients that wait for their turn. Only the server's thread may use it.

    It measures real time, in seconds, whatever the server's clock: it shares out processor time.
    """

    def __init__(self) -> None:
        self._modest: dict[Peer, None] = {}
        self._greedy: dict[Address, dict[Peer, None]] = {}
        self._busy = 0.0  # the time for greedy clients since the last break
        self._break_until = 0.0

    def is_modest(self, peer: Peer) -> bool:
        """Whether the client may be served at once. Updates its debt."""
        now = clock_now()
        peer.debt = max(0.0, peer.debt - (now - peer.debt_at) * PAYBACK)
        peer.debt_at = now
        return peer.debt < ALLOWANCE_S

    def queue(self, peer: Peer) -> None:
        """Let the client wait for its turn, unless it already does."""
        if peer.queued:
            return
        peer.queued = True
        if self.is_modest(peer):
            self._modest[peer] = None
        else:
            self._greedy.setdefault(peer.address, {})[peer] = None

    def leave(self, peer: Peer) -> None:
        """Take the client out of the queue, if it is queued."""
        if not peer.queued:
            return
        peer.queued = False
        if self._modest.pop(peer, self) is self:
            peers = self._greedy[peer.address]
            del peers[peer]
            if not peers:
                del self._greedy[peer.address]

    def next(self) -> Peer | None:
        """Take the client whose turn it is out of the queue; None if it is no client's turn now."""
        if self._modest:
            peer = next(iter(self._modest))
        elif self._greedy and clock_now() >= self._break_until:
            address = next(iter(self._greedy))
            peer = next(iter(self._greedy[address]))
            self._greedy[address] = self._greedy.pop(address)  # to the end: it is the next host's turn
        else:
            return None
        self.leave(peer)
        return peer

    def spent(self, peer: Peer, seconds: float) -> None:
        """Charge the client for the time that serving it took."""
        if not self.is_modest(peer):
            self._busy += seconds
            if self._busy >= BUSY_S:
                breaks = min(sum(map(len, self._greedy.values())) + 1, MOST_BREAKS)
                self._break_until = clock_now() + breaks * min(self._busy, 10 * BUSY_S)
                self._busy = 0.0
        peer.debt += seconds

    def rest(self) -> float:
        """Seconds until it is a client's turn; infinite if none waits."""
        if self._modest:
            return 0.0
        return max(0.0, self._break_until - clock_now()) if self._greedy else float("inf")
