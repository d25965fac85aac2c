"""The choice of a leader among gateways: `Election`. No I/O, no clock, no thread.

Every node votes for itself, several times a second; the highest number that is heard leads. Nothing but these votes
crosses the wire, so safety comes from time: a leader steps down at once when it can no longer know that it leads, and
the next one waits until the former has had to. Facts about the incumbent's rules, which this is compatible with:
`docs/plugins/quorum.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["HOLD_S", "LEASE_S", "LIVE_S", "VOTE_INTERVAL_S", "Election"]

VOTE_INTERVAL_S = 0.3
LIVE_S = 1.0  # a vote counts for this long
LEASE_S = 0.9  # a vote that went out entitles to lead for this long; less than `LIVE_S`
LATE_S = 0.6  # a node that has not decided for longer was held up, and starts afresh
HOLD_S = 1.3  # to lead, a node must have been the candidate for this long; more than any lease still running
EPSILON_S = 1e-6


class Election:
    """One node's view. `leads` is the decision of the last `update`, and `reason` says why, in words."""

    def __init__(self, nodeid: int, total_nodes: int, witness: bool = False) -> None:
        self.nodeid = nodeid
        self.total_nodes = total_nodes
        #: Whether a lone node of two needs a witness.
        self.witness = witness and total_nodes == 2
        self.leads = False
        self.reason = "starting"
        #: Why this node could not lead even with the highest number; empty if it could.
        self.obstacle = ""
        #: How often this node has become the leader.
        self.term = 0
        self._live: dict[int, float] = {}
        self._updated: float | None = None
        self._blocked_at = float("-inf")  # when this node was last not the candidate

    def update(
        self,
        now: float,
        live: Mapping[int, float],
        can_send: bool = True,
        witness: bool = False,
        duplicate: str = "",
    ) -> bool:
        """Decide. Call this several times a second.

        `live` has the number of each other node whose vote counts, and when that came. `can_send`: this node's own vote
        went out within `LEASE_S`. `witness`: something else on the medium of the votes is heard. `duplicate` names a
        place from where another node votes with this node's number.
        """
        late = self._updated is None or now - self._updated > LATE_S
        self._note_losses(now, live, late)
        self._live, self._updated = dict(live), now
        self.obstacle = obstacle = self._find_obstacle(live, can_send, witness, duplicate)
        above = max(live, default=0)
        if obstacle or (late and self.total_nodes > 1):
            self._blocked_at = now
        left = self._blocked_at + HOLD_S - now if self.total_nodes > 1 else 0.0
        leads = not obstacle and above < self.nodeid and left <= EPSILON_S
        if obstacle:
            self.reason = obstacle
        elif above > self.nodeid:
            self.reason = f"node {above} has a higher number"
        elif not leads:
            self.reason = "waiting until no other node can lead"
        else:
            self.reason = "the highest number that is heard" if live else "alone"
        self.term += leads and not self.leads
        self.leads = leads
        return leads

    def _note_losses(self, now: float, live: Mapping[int, float], late: bool) -> None:
        """A node with a higher number is no longer heard: it may lead as long as its last vote entitles it to.

        If its vote has become too old, that counts from when it came. If anything else has ended it, it is not known
        since when that holds, so it counts from now.
        """
        for number, heard in self._live.items():
            if number > self.nodeid and number not in live:
                aged = now - heard >= LIVE_S - EPSILON_S and not late
                self._blocked_at = max(self._blocked_at, heard if aged else now)

    def _find_obstacle(self, live: Mapping[int, float], can_send: bool, witness: bool, duplicate: str) -> str:
        """Why this node cannot lead, whichever numbers are heard; empty if it can."""
        voters = len(live) + 1
        if duplicate:
            return f"node {self.nodeid} is also at {duplicate}"
        if self.total_nodes > 1 and not can_send:
            return "its own vote cannot be sent"
        if self.total_nodes > 2 and 2 * voters <= self.total_nodes:
            return f"only {voters} of {self.total_nodes} nodes are there: no majority"
        if self.witness and not live and not witness:
            return "neither the other node nor a witness is heard"
        return ""
