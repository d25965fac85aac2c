"""Chooses the gateway that leads when several serve one aircraft, so that only one of them commands.

    connections:
      quorum: {module: fixgw.plugins.quorum, nodeid: 2, total_nodes: 3}

The votes are keys, `QVOTE1` and so on. CAN-FIX connections send and receive them as status reports, NetFIX
connections as the keys that `outputs` lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from fixgw import plugin
from fixgw.database import Database, Item, Reading
from fixgw.errors import UnknownKey
from fixgw.kit.sources import START
from fixgw.plugin import Finding, Worker
from fixgw.plugins.quorum.election import LEASE_S, LIVE_S, VOTE_INTERVAL_S, Election
from fixgw.world import Way

TICK_S = 0.1
WITNESS_S = 1.0  # a witness on the bus counts for this long
CAN = "can"  # the witness: any other node on the bus of the votes
NO_WITNESS = "two nodes without a witness: both lead when the link is cut"


class Options(plugin.Options, frozen=True):
    """Options of the `quorum` plugin."""

    nodeid: Annotated[
        int, Meta(ge=1, le=99, description="This gateway's number; each has its own, and the highest leads.")
    ]
    total_nodes: Annotated[
        int, Meta(ge=1, le=99, description="How many gateways vote; with more than two, a majority must be there.")
    ]
    ways: Annotated[
        tuple[str, ...], Meta(description="Connections on which the vote must be sent; empty: all that can.")
    ] = ()
    witness: Annotated[
        str,
        Meta(
            description="Of two gateways, a lone one leads only while this is heard: `can` is any other node on the "
            "bus of the votes; anything else is a key that must be True."
        ),
    ] = ""


class Plugin(Worker[Options]):
    """One gateway's part in the election. Decides ten times a second."""

    elects: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clock = self.db.clock
        o = self.options
        self.election = Election(o.nodeid, o.total_nodes, bool(o.witness))
        self.key = f"QVOTE{o.nodeid}"
        quorum = self.quorum
        quorum.leader = False
        quorum.enabled, quorum.nodeid, quorum.total_nodes, quorum.vote_key = True, o.nodeid, o.total_nodes, self.key
        self._others: dict[int, Item] = {}
        self._vote_at = float("-inf")
        self._shown: bool | None = None  # the last written to LEADER
        self._since = self.clock()
        #: Node -> the sources of its votes, and since when it is heard without a break.
        self._seen: dict[int, tuple[tuple[str, ...], float]] = {}

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        key = f"QVOTE{options.nodeid}"
        if key not in db:
            yield "nodeid", f"{UnknownKey(key, db)}: set `variables: {{n: {options.nodeid}}}` for the database"
        if options.witness not in ("", CAN):
            if options.witness not in db:
                yield "witness", f"expected `can` or a key: {UnknownKey(options.witness, [*db, CAN])}"
            elif db.item(options.witness).type != "bool":
                yield "witness", f"{options.witness} is not True or False"

    @classmethod
    def advise(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        if options.total_nodes == 2 and not options.witness:
            yield "total_nodes", f"{NO_WITNESS}; set `witness`"
        if options.witness and options.total_nodes != 2:
            yield "witness", f"has no effect with total_nodes: {options.total_nodes}; it is for two nodes"
        if options.nodeid > options.total_nodes > 1:
            yield "total_nodes", f"{options.total_nodes} is less than this gateway's number, {options.nodeid}"

    @classmethod
    def references(cls, options: Options) -> Iterable[tuple[str, str]]:
        return [(name, f"ways.{number}") for number, name in enumerate(options.ways)]

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Finding]:
        for _, text in cls.advise(options, Database()):
            yield Finding("warning", text)

    def run(self) -> None:
        if self.key not in self.db:
            raise UnknownKey(self.key, self.db)
        numbers = {int(m[1]): m[0] for key in self.db if (m := re.fullmatch(r"QVOTE([1-9]\d?)", key))}
        self._others = {n: self.db.item(key) for n, key in sorted(numbers.items()) if n != self.options.nodeid}
        super().run()

    def work(self) -> None:
        self.step()
        while not self.stopping.wait(TICK_S):
            self.step()
            self.show_life()

    def finish(self) -> None:
        """The last thing that happens, whatever has ended the thread: this gateway does not lead."""
        self._show(False, self.clock(), "the election has stopped")

    def health(self) -> str:
        if self._trouble:
            return self._trouble
        election = self.election
        troubles = [f"{name} carries no votes" for name in self.options.ways if name not in self.quorum.ways]
        if election.total_nodes > 1 and not self._ways() and not troubles:
            troubles.append("no connection carries the votes")
        if election.obstacle:
            troubles.append(election.obstacle)
        if election.total_nodes == 2 and not election.witness:
            troubles.append(NO_WITNESS)
        return "; ".join(troubles)

    def get_status(self) -> Mapping[str, Any]:
        now, election = self.clock(), self.election
        seen = {f"node {n}": f"{', '.join(by)}, for {now - since:.0f} s" for n, (by, since) in self._seen.items()}
        return {
            "leader": self.quorum.leader,
            "reason": election.reason,
            "since": f"{now - self._since:.0f} s",
            "term": election.term,
            "seen": seen or "no other node",
            "sent by": ", ".join(n for n, way in self._ways().items() if self._sends(way, now)) or "nothing",
            **self.counts,
        }

    # -- on the plugin's thread ----------------------------------------------------------------------------------------

    def step(self) -> None:
        """Vote if it is time, and decide."""
        now = self.clock()
        ways = self._ways()
        for way in ways.values():
            way.listens = way.listens or self.options.witness == CAN
        if now >= self._vote_at:
            self._vote_at = now + VOTE_INTERVAL_S
            self._vote(ways)
        live = self._find_live(now)
        # If there is no way, something that we do not know may carry the vote.
        sent = [way.sent_at for way in ways.values() if self._sends(way, now)]
        can_send = bool(sent) or not ways
        leads = self.election.update(now, live, can_send, self._hears_witness(ways, now), self._find_duplicate(now))
        if leads:
            self.quorum.lead((max(sent, default=now) if self.options.total_nodes > 1 else now) + LEASE_S)
        self._show(leads, now, self.election.reason)

    def _vote(self, ways: Mapping[str, Way]) -> None:
        self.db.write(self.key, self.options.nodeid, self.source, flags=0)
        for name, way in ways.items():
            if way.send is not None:
                began = self.clock()  # if this process is held up after the vote went out, that counts
                if way.send(self.options.nodeid):
                    way.sent_at = began
                else:
                    self.count(f"not sent by {name}")
        self.count("votes")

    def _ways(self) -> dict[str, Way]:
        chosen = self.options.ways
        return {name: way for name, way in self.quorum.ways.items() if not chosen or name in chosen}

    def _sends(self, way: Way, now: float) -> bool:
        return now - way.sent_at < LEASE_S and way.works()

    def _find_live(self, now: float) -> dict[int, float]:
        """The other nodes whose vote counts, and when that came."""
        live, seen = {}, {}
        for number, item in self._others.items():
            votes = [r for r in item.readings() if self._counts(r, now) and r.value == number]
            if votes:
                live[number] = max(vote.stamp for vote in votes)
                since = self._seen.get(number, ((), now))[1]
                seen[number] = tuple(sorted(_place(vote.source) for vote in votes)), since
        self._seen = seen
        return live

    def _counts(self, vote: Reading, now: float) -> bool:
        fresh = now - vote.stamp < LIVE_S and vote.source not in START
        return fresh and vote.good and not vote.annunciate

    def _find_duplicate(self, now: float) -> str:
        """From where another gateway votes with our number; empty if none does."""
        others = [r for r in self.db.item(self.key).readings() if r.source != self.source and self._counts(r, now)]
        return ", ".join(sorted(_place(r.source) for r in others))

    def _hears_witness(self, ways: Mapping[str, Way], now: float) -> bool:
        witness = self.options.witness
        if witness == CAN:
            return any(now - way.heard_at < WITNESS_S for way in ways.values())
        reading = self.db.read(witness) if witness else None
        return reading is not None and reading.good and bool(reading.value)

    def _show(self, leads: bool, now: float, reason: str) -> None:
        """Let everybody know whether this gateway leads, and log each change with the reason."""
        if not leads:
            self.quorum.leader = False
        if leads is self._shown:
            return
        if leads:
            self.log.info("node %d leads: %s", self.options.nodeid, reason)
        elif self._shown is not None:
            self.log.warning("node %d no longer leads: %s", self.options.nodeid, reason)
        self._shown, self._since = leads, now
        if "LEADER" in self.db:
            self.db.write("LEADER", leads, self.source, flags=0)


def _place(source: str) -> str:
    """The source of a vote for people: a node on a CAN bus in hexadecimal, ``can0/0x91``."""
    connection, _, node = source.rpartition("/")
    return f"{connection}/0x{int(node):02X}" if connection and node.isdecimal() else source
