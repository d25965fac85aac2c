"""A node on a CAN-FIX bus repeats a setting while people set it at gateways that mirror it over NetFIX links.

One clock, wound by the test: a bus, links that take their time, and a node that needs some to take what it is told.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from fixgw.database import INITIAL, KEPT
from fixgw.database.item import HEARSAY_S
from fixgw.drivers.canfix import protocol as cf
from fixgw.netfix.sentence import NO_VERSION, Version, split_version
from fixgw.plugins.netfix.versions import MARGIN, Versions

from .test_canfix_settings import Bare

STEP_S = 0.05
SEEDS = 3  # it has been tried with 25
LISTENER = "inputs: [{canid: 0x190, fixid: BARO}]\n"
LEADER = LISTENER + "outputs: [{canid: 0x190, fixid: BARO, on_change: yes, require_leader: yes}]\n"
ELSEWHERE = "inputs: []\n"  # a gateway that is not on the bus
ALTIMETER = 40


class Gateway(Bare):
    def __init__(self, number: int, text: str) -> None:
        super().__init__(10 + number, text)
        self.number = number
        self.on_bus = text != ELSEWHERE
        self.name = f"gateway-00000{number}"
        self.item = self.db.item("BARO")
        self.versions = Versions(self.name)
        self.links: list[Link] = []
        self.db.subscribe("BARO", lambda key, reading: self.tell())
        self.versions.listeners.add(lambda key, name: self.tell())

    def tell(self) -> None:
        for link in self.links:
            link.put()

    def set(self, value: float) -> None:
        self.db.write("BARO", value, "netfix/display")

    @property
    def good(self) -> bool:
        return bool(self.db.read("BARO").good)


class Link:
    """What one gateway sends to another: as `fixgw.plugins.netfix.mirror.Link` does, without a socket."""

    def __init__(self, bench: Bench, near: Gateway, far: Gateway) -> None:
        self.bench, self.near, self.far = bench, near, far
        self.back: Link
        self.known: Version = NO_VERSION
        self.up = self.pending = False
        self.free_at = 0.0

    def connect(self) -> None:
        self.up, self.known = True, NO_VERSION
        self.put()

    def put(self) -> None:
        if self.up and not self.pending:
            self.pending = True
            self.bench.at(self.bench.now + self.bench.dice.random() * 0.005, self.send)

    def send(self) -> None:
        self.pending = False
        version, line = split_version(self.near.versions.line(self.near.item))
        if not self.up or version is None or version == self.known:
            return
        self.known = version
        self.free_at = max(self.free_at + 1e-5, self.bench.now + self.bench.dice.random() * self.bench.delay)
        value, flags = line.split(";")[1:]
        self.bench.at(self.free_at, lambda: self.arrive(value, int(flags[3]), version))

    def arrive(self, value: str, failed: int, version: Version) -> None:
        if self.up:
            self.back.known = version
            if self.far.versions.take(self.far.item, "", value, failed, f"link/{self.near.name}", version):
                self.back.known = NO_VERSION
                self.back.put()


class Bench:
    """Gateways by their maps, the first on the bus leads, and the links between them.

    The altimeter repeats its setting every `period` seconds. It takes one that it is told within `needs` seconds, and
    confirms it at once if it `answers`.
    """

    def __init__(
        self,
        seed: int,
        maps: list[str],
        links: list[tuple[int, int]],
        settable: bool = True,
        repeats: bool = True,
        answers: bool = True,
    ) -> None:
        self.dice = random.Random(seed)
        self.delay = self.dice.choice((0.0, 0.01, 0.1))
        self.period = self.dice.choice((0.05, 0.1, 1.0))
        self.needs = self.dice.choice((0.0, 0.05, 0.2))
        self.now = 100.0
        self.order = itertools.count()
        self.coming: list[tuple[float, int, Callable[[], object]]] = []
        self.settable, self.repeats, self.answers = settable, repeats, answers
        self.setting = 29.92
        self.taken_at = 0.0  # when it takes the last that it was told
        self.told = self.misses = 0  # messages to it, and how many of the next it misses
        self.gateways: list[Gateway] = []
        self.links: dict[tuple[int, int], Link] = {}
        self.between = links
        for text in maps:
            self.join(text)
        for near, far in links:
            self.connect(near, far)
        self.at(self.now + self.dice.random() * self.period, self.repeat)

    def join(self, text: str, place: int | None = None) -> Gateway:
        """A gateway that starts, or starts again in the `place` of one that has died."""
        number = len(self.gateways) if place is None else place
        gateway = Gateway(number, text)
        gateway.now = self.now
        gateway.db.write("BARO", 29.92, INITIAL)
        gateway.inputs.doubt_start_values()
        gateway.outputs.send = lambda frame: self.carry(gateway, frame)
        if number and gateway.on_bus:
            gateway.outputs.quorum.leader = False
        if place is None:
            self.gateways.append(gateway)
        else:
            gateway.versions._count = MARGIN  # as after `restore`
            self.gateways[place] = gateway
        return gateway

    def connect(self, near: int, far: int) -> None:
        there, back = (Link(self, self.gateways[a], self.gateways[b]) for a, b in ((near, far), (far, near)))
        there.back, back.back = back, there
        for link in (there, back):
            self.links[link.near.number, link.far.number] = link
            link.near.links.append(link)
            link.connect()

    def cut(self, near: int, far: int) -> None:
        for link in (self.links[near, far], self.links[far, near]):
            link.up = False
            link.near.links.remove(link)

    def at(self, when: float, event: Callable[[], object]) -> None:
        heapq.heappush(self.coming, (when, next(self.order), event))

    # -- the altimeter -------------------------------------------------------------------------------------------------

    def carry(self, sender: Gateway, frame: cf.Frame) -> bool:
        message = sender.codec.decode(*frame)
        if not isinstance(message, cf.ParameterSet):
            return True
        self.told += 1
        if self.misses:
            self.misses -= 1
        elif self.settable:
            value = float(message.value)  # type: ignore[arg-type]
            self.taken_at = max(self.taken_at, self.now + 0.001 + self.dice.random() * self.needs)
            self.at(self.taken_at, lambda: self.take(value))
        return True

    def take(self, value: float) -> None:
        self.setting = value
        if self.answers:
            self.say()

    def turn(self, value: float) -> None:
        self.setting = value
        self.say()

    def repeat(self) -> None:
        if self.repeats:
            self.say()
        self.at(self.now + self.period, self.repeat)

    def say(self) -> None:
        value = self.setting
        for gateway in self.gateways:
            if gateway.on_bus:
                self.at(self.now + 0.001, lambda gateway=gateway: gateway.receive(ALTIMETER, value))  # type: ignore[misc]

    # -- time ----------------------------------------------------------------------------------------------------------

    def wind(self, now: float) -> None:
        self.now = now
        for gateway in self.gateways:
            gateway.now = now

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            step = min(self.now + STEP_S, end)
            while self.coming and self.coming[0][0] <= step:
                when, _, event = heapq.heappop(self.coming)
                self.wind(max(when, self.now))
                event()
            self.wind(step)
            for gateway in self.gateways:
                gateway.outputs.tick()
                gateway.db.age()

    @property
    def values(self) -> list[float]:
        return [gateway.baro for gateway in self.gateways]

    def agrees(self, value: float) -> bool:
        return [*self.values, self.setting] == pytest.approx([value] * (len(self.gateways) + 1), abs=1e-6)


#: The leader and another gateway on the bus, and a display's gateway with links to both: as in examples/two-gateways.
TWO = ([LEADER, LEADER, ELSEWHERE], [(2, 0), (2, 1)])
PAIR = ([LEADER, ELSEWHERE], [(0, 1)])
LISTENERS = ([LEADER, LISTENER, ELSEWHERE], [(2, 0), (2, 1)])
RING = ([LEADER, LEADER, ELSEWHERE], [(0, 1), (1, 2), (2, 0)])
ALL = pytest.mark.parametrize(("maps", "links"), [TWO, PAIR, LISTENERS, RING], ids=["two", "pair", "listeners", "ring"])


@ALL
def test_what_a_person_set_last_wins_wherever_it_was_set(maps: list[str], links: list[tuple[int, int]]) -> None:
    for seed in range(SEEDS):
        bench = Bench(seed, maps, links)
        bench.run(1.5)
        for n in range(4):
            value = 29.0 + n / 100 + bench.dice.randint(0, 50) / 1000
            where = bench.dice.randint(-1, len(maps) - 1)
            if where < 0:
                bench.turn(value)  # the knob of the altimeter
            else:
                bench.gateways[where].set(value)
            bench.run(bench.dice.choice((0.6, 1.0, HEARSAY_S + 1)))
            assert bench.agrees(value), f"seed {seed}, {n} at {where}: {value}, {bench.values} {bench.setting}"
        bench.run(HEARSAY_S + 1)
        assert bench.agrees(value), f"seed {seed}, later: {value}, {bench.values} {bench.setting}"


@ALL
def test_a_knob_that_is_turned_quickly_never_jumps_back(maps: list[str], links: list[tuple[int, int]]) -> None:
    for seed in range(SEEDS):
        bench = Bench(seed, maps, links)
        bench.run(1.5)
        display = bench.gateways[-1]
        seen: list[Any] = []
        display.db.subscribe("BARO", lambda key, reading: seen.append(reading.value))  # noqa: B023
        for n in range(12):
            display.set(29.0 + n / 100)
            bench.run(bench.dice.random() * 0.3)
        bench.run(2 * HEARSAY_S)
        assert bench.agrees(29.11), f"seed {seed}: {bench.values} {bench.setting}"
        assert seen == sorted(seen), f"seed {seed}"


@ALL
@pytest.mark.parametrize("repeats", [True, False])
def test_the_knob_of_the_node_wins_over_what_was_set_just_before(
    repeats: bool, maps: list[str], links: list[tuple[int, int]]
) -> None:
    for seed in range(SEEDS):
        bench = Bench(seed, maps, links, repeats=repeats)
        bench.run(1.5)
        bench.gateways[-1].set(30.10)
        bench.run(0.7)
        bench.turn(29.50)
        bench.run(0.7)
        assert bench.agrees(29.50), f"seed {seed}: {bench.values} {bench.setting}"
        bench.gateways[-1].set(30.10)
        bench.run(2 * HEARSAY_S)
        assert bench.agrees(30.10), f"seed {seed}: {bench.values} {bench.setting}"


@ALL
def test_a_knob_that_is_turned_before_the_node_has_confirmed_is_not_turned_back(
    maps: list[str], links: list[tuple[int, int]]
) -> None:
    for seed in range(SEEDS):
        bench = Bench(seed, maps, links, answers=False)
        bench.run(1.5)
        bench.gateways[-1].set(30.10)
        while bench.setting != 30.10:
            bench.run(0.01)
        bench.turn(29.50)
        bench.run(HEARSAY_S + 1.0)
        assert bench.agrees(29.50), f"seed {seed}: {bench.values} {bench.setting}"


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("after", [0.0, 0.002, 0.01, 0.03])
def test_a_knob_that_is_turned_just_after_the_node_took_a_setting_is_not_turned_back(
    after: float, answers: bool
) -> None:
    """The node has repeated its old value meanwhile, so that the gateway may send again what the node has taken."""
    for seed in range(6):
        for period, needs in itertools.product((0.05, 0.1), (0.05, 0.2)):
            bench = Bench(seed, *PAIR, answers=answers)
            bench.period, bench.needs = period, needs
            bench.run(1.5)
            bench.gateways[-1].set(30.10)
            while bench.setting != 30.10:
                bench.run(0.001)
            bench.run(after)
            bench.turn(29.50)
            bench.run(HEARSAY_S + 1.0)
            assert bench.agrees(29.50), f"seed {seed}, {period}, {needs}: {bench.values} {bench.setting}"


@pytest.mark.parametrize("repeats", [True, False])
def test_a_node_that_missed_a_setting_is_told_once_more(repeats: bool) -> None:
    """As soon as it says something else, but not before it could have taken the first message."""
    for seed in range(SEEDS):
        bench = Bench(seed, *PAIR, repeats=repeats)
        bench.run(1.5)
        bench.misses, told = 1, bench.told
        bench.gateways[0].set(30.10)
        bench.say()
        bench.run(0.2)
        assert (bench.setting, bench.told - told) == (29.92, 1), f"seed {seed}"
        bench.run(0.3)
        assert bench.agrees(30.10), f"seed {seed}: {bench.values} {bench.setting}"
        bench.run(HEARSAY_S)
        assert bench.told - told == 2, f"seed {seed}"


def test_a_node_that_missed_the_last_of_two_quick_settings_is_told_once_more() -> None:
    """That it says the first of them is no turn of its knob."""
    for seed in range(6):
        bench = Bench(seed, *PAIR)
        bench.run(1.5)
        bench.gateways[0].set(30.10)
        bench.run(0.06)
        bench.misses, told = 1, bench.told
        bench.gateways[0].set(30.20)
        bench.run(bench.period + 0.5)
        assert bench.agrees(30.20), f"seed {seed}: {bench.values} {bench.setting}"
        bench.run(HEARSAY_S)
        assert bench.told - told == 2, f"seed {seed}"


@ALL
def test_a_node_that_cannot_be_set_is_believed_in_the_end(maps: list[str], links: list[tuple[int, int]]) -> None:
    """The altitude that it sends is based on its own setting: another one beside it would be a lie."""
    for seed in range(SEEDS):
        bench = Bench(seed, maps, links, settable=False)
        bench.run(1.5)
        bench.gateways[-1].set(30.10)
        bench.run(2 * HEARSAY_S + 0.5)
        assert bench.agrees(29.92), f"seed {seed}: {bench.values} {bench.setting}"
        bench.turn(29.50)
        bench.run(0.5)
        assert bench.agrees(29.50), f"seed {seed}: {bench.values} {bench.setting}"


@ALL
def test_gateways_that_set_at_the_same_instant_agree_with_the_node(
    maps: list[str], links: list[tuple[int, int]]
) -> None:
    for seed in range(SEEDS):
        bench = Bench(seed, maps, links)
        bench.run(1.5)
        for n, gateway in enumerate(bench.gateways):
            gateway.set(29.0 + n / 100)
            bench.run(bench.dice.choice((0.0, 0.001, 0.02)))
        bench.run(2 * HEARSAY_S)
        assert bench.agrees(bench.setting), f"seed {seed}: {bench.values} {bench.setting}"
        assert bench.setting < 29.1, f"seed {seed}: it is none of those"


@ALL
def test_a_setting_made_while_the_links_were_down_wins_over_repetitions(
    maps: list[str], links: list[tuple[int, int]]
) -> None:
    for seed in range(SEEDS):
        bench = Bench(seed, maps, links)
        bench.run(1.5)
        last = len(maps) - 1
        cut = [pair for pair in links if last in pair]
        for pair in cut:
            bench.cut(*pair)
        bench.run(1.0)
        bench.gateways[last].set(30.10)
        bench.run(2 * HEARSAY_S)
        for pair in cut:
            bench.connect(*pair)
        bench.run(HEARSAY_S)
        assert bench.agrees(30.10), f"seed {seed}: {bench.values} {bench.setting}"


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("turned", [True, False])
def test_what_a_node_says_to_a_gateway_that_starts_is_no_news_unless_its_knob_was_turned(
    turned: bool, kept: bool
) -> None:
    for seed in range(SEEDS):
        bench = Bench(seed, *PAIR)
        bench.run(1.5)
        bench.turn(29.50)
        bench.run(1.0)
        assert bench.agrees(29.50)
        bench.cut(0, 1)
        if turned:
            bench.setting = 29.40
        else:
            bench.gateways[1].set(30.10)
        again = bench.join(LEADER, 0)
        if kept:
            again.db.write("BARO", 29.50, KEPT)
        bench.run(1.5 if turned else bench.dice.choice((0.0, 1.5)))
        bench.connect(0, 1)
        bench.run(2 * HEARSAY_S)
        if turned and not kept:  # nobody can know that it was turned
            assert bench.agrees(29.50), f"seed {seed}: {bench.values} {bench.setting}"
        else:
            assert bench.agrees(29.40 if turned else 30.10), f"seed {seed}: {bench.values} {bench.setting}"


def test_repetitions_cross_no_link() -> None:
    bench = Bench(2, *RING)
    bench.run(1.5)
    bench.gateways[2].set(30.10)
    bench.run(2 * HEARSAY_S)
    versions = [gateway.versions.of(gateway.item) for gateway in bench.gateways]
    bench.run(20.0)
    assert [gateway.versions.of(gateway.item) for gateway in bench.gateways] == versions
