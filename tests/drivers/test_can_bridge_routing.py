"""Routing between CAN buses: identifiers, filters, rates, order, loop prevention. No bus, no clock."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import count, pairwise, permutations
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fixgw.drivers.can_bridge import routing
from fixgw.drivers.can_bridge.routing import Ids, Route, Router, Shift, format_id, parse_ids, parse_shift
from fixgw.drivers.links.can.frame import ERROR, EXTENDED, FD, REMOTE, Frame

WINDOW = 0.5

identifiers = st.one_of(st.integers(0, 0x7FF), st.integers(0, 0x1FFFFFFF).map(lambda i: i | EXTENDED))
frames = st.builds(
    lambda identifier, data, flags: Frame(identifier & 0x1FFFFFFF, data, identifier & EXTENDED | flags, 1.0),
    identifiers,
    st.binary(max_size=8),
    st.sampled_from([0, REMOTE, FD]),
)


def route(source: str = "a", target: str = "b", ids: Sequence[int | str] = (), **more: Any) -> Route:
    more["exclude"] = tuple(map(parse_ids, more.get("exclude", ())))
    more["shifts"] = tuple(parse_shift(*pair) for pair in more.pop("remap", {}).items())
    return Route(source=source, target=target, ids=tuple(map(parse_ids, ids)), **more)


def both(*routes: Route) -> list[Route]:
    return [r for one in routes for r in (one, one.reversed())]


def sent(router: Router, bus: str, frame: Frame, now: float = 0.0) -> list[tuple[str, Frame]]:
    return [(direction.target, out) for direction, out in router.route(bus, frame, now)]


# -- identifiers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (0x183, Ids(0x183, 0x183)),
        ("0x183", Ids(0x183, 0x183)),
        ("387", Ids(0x183, 0x183)),
        (0x7FF, Ids(0x7FF, 0x7FF)),
        (0x800, Ids(0x800 | EXTENDED, 0x800 | EXTENDED)),
        ("ext 0x183", Ids(0x183 | EXTENDED, 0x183 | EXTENDED)),
        ("0x200-0x27F", Ids(0x200, 0x27F)),
        (" 512 - 0x27f ", Ids(0x200, 0x27F)),
        ("ext 0-0x1FFFFFFF", Ids(EXTENDED, 0x1FFFFFFF | EXTENDED)),
        ("0x18FEF100-0x18FEF1FF", Ids(0x18FEF100 | EXTENDED, 0x18FEF1FF | EXTENDED)),
        ("0x50A/0x7F0", Ids(0x500, 0x500, 0x7F0 | EXTENDED)),
        ("ext 0x12/0x1F", Ids(0x12 | EXTENDED, 0x12 | EXTENDED, 0x1F | EXTENDED)),
        ("base", Ids(0, 0x7FF)),
        ("extended", Ids(EXTENDED, 0x1FFFFFFF | EXTENDED)),
    ],
)
def test_identifiers_are_parsed(text: int | str, expected: Ids) -> None:
    assert parse_ids(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (-1, "not an identifier"),
        (0x20000000, "not an identifier"),
        ("0x20000000", "not an identifier"),
        ("", "is not an identifier"),
        ("18FEF100", "is not an identifier"),
        ("0x1-0x2-0x3", "is not an identifier"),
        ("0x700-0x900", "11 bits and ends with one of 29"),
        ("0x20-0x10", "ends before it begins"),
        ("0x100/0xFFF", "mask has more bits"),
    ],
)
def test_invalid_identifiers_are_refused(text: int | str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_ids(text)


@given(identifiers)
def test_a_formatted_identifier_parses_to_itself(identifier: int) -> None:
    assert parse_ids(format_id(identifier)) == Ids(identifier, identifier)


@given(identifiers, st.integers(0, 0x7FF), st.integers(0, 0x7FF))
def test_a_mask_selects_the_bits_that_matter(identifier: int, wanted: int, mask: int) -> None:
    contained = parse_ids(f"{wanted:#x}/{mask:#x}").contains(identifier)
    assert contained == (not identifier & EXTENDED and identifier & mask == wanted & mask)


@pytest.mark.parametrize(
    ("which", "to", "expected"),
    [
        (0x200, 0x300, Shift(0x200, 0x200, 0x100)),
        ("0x500-0x50F", "0x7F0", Shift(0x500, 0x50F, 0x2F0)),
        (0x200, "ext 0x200", Shift(0x200, 0x200, EXTENDED)),
    ],
)
def test_new_identifiers_are_parsed(which: int | str, to: int | str, expected: Shift) -> None:
    assert parse_shift(which, to) == expected


@pytest.mark.parametrize(
    ("which", "to", "complaint"),
    [
        ("0x500/0x7F0", 0x100, "a mask cannot"),
        (0x500, "0x100-0x10F", "a single identifier"),
        (0x500, "base", "a single identifier"),
        ("0x500-0x50F", 0x7F8, "does not fit"),
        ("extended", "ext 1", "does not fit"),
    ],
)
def test_impossible_new_identifiers_are_refused(which: int | str, to: int | str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_shift(which, to)


# -- routes ------------------------------------------------------------------------------------------------------------


@given(frames)
def test_a_plain_route_forwards_any_frame_unchanged(frame: Frame) -> None:
    router = Router([route()])
    assert sent(router, "a", frame) == [("b", frame)]
    assert sent(router, "b", frame, now=9.0) == []


def test_filters_select_the_frames_that_pass() -> None:
    router = Router([route(ids=[0x100, "0x200-0x20F", "0x300/0x7F0"], exclude=[0x208])])
    passing = [i for i in range(0x800) if sent(router, "a", Frame(i))]
    assert passing == [0x100, *range(0x200, 0x208), *range(0x209, 0x210), *range(0x300, 0x310)]
    assert not sent(router, "a", Frame(0x100, b"", EXTENDED))


def test_error_frames_and_unknown_buses_are_ignored() -> None:
    router = Router([route()])
    assert sent(router, "a", Frame(4, bytes(8), ERROR)) == []
    assert sent(router, "c", Frame(4)) == []


def test_a_route_from_a_bus_to_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="to itself"):
        Router([route("a", "a")])


def test_for_each_target_the_first_route_that_accepts_a_frame_decides() -> None:
    router = Router([route(ids=[0x100], remap={0x100: 0x101}), route("a", "c"), route()])
    assert sent(router, "a", Frame(0x100)) == [("b", Frame(0x101)), ("c", Frame(0x100))]
    assert sent(router, "a", Frame(0x200)) == [("c", Frame(0x200)), ("b", Frame(0x200))]


def test_new_identifiers_are_assigned_and_undone_on_the_way_back() -> None:
    router = Router(both(route(remap={"0x500-0x50F": 0x600, 0x100: "ext 0x123"})))
    assert sent(router, "a", Frame(0x50A, b"1", 0, 7.0)) == [("b", Frame(0x60A, b"1", 0, 7.0))]
    assert sent(router, "b", Frame(0x60B, b"2")) == [("a", Frame(0x50B, b"2"))]
    assert sent(router, "a", Frame(0x100, b"3", REMOTE)) == [("b", Frame(0x123, b"3", REMOTE | EXTENDED))]
    assert sent(router, "b", Frame(0x123, b"4", EXTENDED)) == [("a", Frame(0x100, b"4"))]


def test_an_identifier_with_another_meaning_on_the_other_bus_does_not_pass_back() -> None:
    router = Router(both(route(remap={0x500: 0x600})))
    assert sent(router, "b", Frame(0x500)) == []


base_ids = st.one_of(
    st.integers(0, 0x7FF),
    st.tuples(st.integers(0, 0x7FF), st.integers(0, 0x7FF)).map(lambda p: f"{min(p):#x}-{max(p):#x}"),
    st.tuples(st.integers(0, 0x7FF), st.integers(0, 0x7FF)).map(lambda p: f"{p[0]:#x}/{p[1]:#x}"),
)
some_routes = st.builds(
    lambda ids, exclude, shifts, backward: Route(
        source="a",
        target="b",
        ids=tuple(map(parse_ids, ids)),
        exclude=tuple(map(parse_ids, exclude)),
        shifts=tuple(Shift(min(p), max(p), o) for *p, o in shifts if min(p) + o >= 0 and max(p) + o <= 0x7FF),
        backward=backward,
    ),
    st.lists(base_ids, max_size=3),
    st.lists(base_ids, max_size=2),
    st.lists(st.tuples(st.integers(0, 0x7FF), st.integers(0, 0x7FF), st.integers(-0x7FF, 0x7FF)), max_size=2),
    st.booleans(),
)


@pytest.mark.slow
@given(some_routes)
def test_every_identifier_that_can_pass_is_wanted(some: Route) -> None:
    router = Router([some])
    here, there = router.wanted("a"), router.wanted("b")
    if not some.ids:
        assert (here, there) == (None, None)
        return
    assert here is not None
    assert there is not None
    for identifier in range(0x800):
        if (new := some.translate(identifier)) is not None:
            assert identifier in here
            assert new in there


@pytest.mark.slow
@given(some_routes.filter(lambda r: not r.backward), st.integers(0, 0x7FF))
def test_the_reverse_route_undoes_the_forward_route(some: Route, identifier: int) -> None:
    new = some.translate(identifier)
    assume(new is not None)
    assert new is not None
    back = some.reversed().translate(new)
    assert back == identifier or (back is not None and some.translate(back) == new)  # two may become one


def test_single_29_bit_identifiers_are_wanted_one_by_one_but_large_ranges_as_a_whole() -> None:
    assert Router([route(ids=["0x18FEF100-0x18FEF103", 0x12])]).wanted("a") == {
        0x12,
        *((0x18FEF100 + n) | EXTENDED for n in range(4)),
    }
    assert Router([route(ids=["ext 0x100/0x100", 0x12])]).wanted("a") is None
    assert Router([route(ids=["extended"])]).wanted("a") is None


def test_without_a_window_nothing_is_wanted_from_a_bus_that_is_only_a_target() -> None:
    assert Router([route(ids=[0x12])], window=0.0).wanted("b") == set()


@pytest.mark.slow
def test_memory_is_bounded_for_any_number_of_identifiers() -> None:
    router = Router([route()])
    for n in range(3 * routing.MAX_PLANS):
        assert sent(router, "a", Frame(n, b"", EXTENDED), now=n * 1e-4)
    assert len(router._plans["a"]) <= routing.MAX_PLANS
    for memory in router._memory.values():
        assert len(memory._new) <= routing.MAX_REMEMBERED
        assert len(memory._old) <= routing.MAX_REMEMBERED


# -- rates -------------------------------------------------------------------------------------------------------------


def test_a_rate_limit_sends_the_first_frame_and_then_the_newest() -> None:
    router = Router([route(rate=10.0)])
    assert sent(router, "a", Frame(0x100, b"1"), now=0.0) == [("b", Frame(0x100, b"1"))]
    assert router.next_due() == float("inf")
    assert sent(router, "a", Frame(0x100, b"2"), now=0.03) == []
    assert sent(router, "a", Frame(0x100, b"3"), now=0.06) == []
    assert router.next_due() == pytest.approx(0.1)
    assert router.due(0.09) == []
    assert [out for _, out in router.due(0.11)] == [Frame(0x100, b"3", 0, 0.11)]
    assert router.due(0.5) == []
    assert sent(router, "a", Frame(0x100, b"4", 0, 0.6), now=0.6) == [("b", Frame(0x100, b"4", 0, 0.6))]
    assert (router.directions["a", "b"].forwarded, router.directions["a", "b"].thinned) == (3, 1)


def test_an_immediate_repetition_of_the_sent_frame_replaces_the_waiting_one_but_does_not_wait() -> None:
    router = Router([route(rate=1.0)])
    values = [(0.0, b"1"), (0.1, b"1"), (0.2, b"2"), (0.3, b"1")]
    assert [bool(sent(router, "a", Frame(0x100, value), now)) for now, value in values] == [True, False, False, False]
    assert router.next_due() == float("inf")
    assert router.directions["a", "b"].thinned == 3
    assert not sent(router, "a", Frame(0x100, b"1"), now=0.6)  # later than a frame takes to come round
    assert [out.data for _, out in router.due(1.0)] == [b"1"]


@given(st.sampled_from([0.4, 1.0, 2.0, 3.0, 20.0]), st.floats(0.02, 2.0))
def test_an_unchanging_value_is_kept_fresh(rate: float, period: float) -> None:
    router, now, sendings = Router([route(rate=rate)]), 0.0, list[float]()
    while now < 20.0:
        due = router.next_due()
        now_or_due = min(due, now)
        outs = router.due(now_or_due) if due <= now else router.route("a", Frame(0x100), now)
        sendings += [now_or_due for _ in outs]
        if due > now:
            now += period
    longest = max(later - earlier for earlier, later in pairwise(sendings))
    assert longest <= 1.0 / rate + period + 1e-9


def test_leading_data_bytes_distinguish_streams_with_one_identifier() -> None:
    router = Router([route(rate=1.0, rate_bytes=2)])
    for cylinder in range(4):
        assert sent(router, "a", Frame(0x500, bytes([12, cylinder, 0, 99])))
        assert not sent(router, "a", Frame(0x500, bytes([12, cylinder, 0, 98])))


def test_memory_is_bounded_and_the_rate_kept_for_any_number_of_streams() -> None:
    router = Router([route(rate=1.0, rate_bytes=8)])
    forwarded = sum(len(sent(router, "a", Frame(1, n.to_bytes(4, "big")))) for n in range(2 * routing.MAX_STREAMS))
    assert forwarded == routing.MAX_STREAMS
    assert router.directions["a", "b"].thinned == routing.MAX_STREAMS
    assert len(router.route("a", Frame(1, b"later"), 1.5)) == 1


@given(st.sampled_from([1.0, 3.0, 50.0]), st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 0.7)), max_size=60))
def test_an_identifier_keeps_to_its_rate_and_its_last_frame_is_always_sent(
    rate: float, arrivals: list[tuple[int, float]]
) -> None:
    router = Router([route(rate=rate)])
    now, newest = 0.0, {}
    outs: dict[int, list[tuple[float, int]]] = defaultdict(list)

    def note(found: list[routing.Out]) -> None:
        for _, out in found:
            outs[out.arbitration_id].append((now, int.from_bytes(out.data, "big")))

    for serial, (identifier, pause) in enumerate(arrivals):
        end = now + pause
        while (due := router.next_due()) <= end:
            now = max(now, due)
            note(router.due(now))
        now = end
        newest[identifier] = serial
        note(router.route("a", Frame(identifier, serial.to_bytes(2, "big")), now))
    while (due := router.next_due()) < float("inf"):
        now = due
        note(router.due(now))
    for identifier, sendings in outs.items():
        assert sendings[-1][1] == newest[identifier]
        for (before, older), (after, newer) in pairwise(sendings):
            assert after - before >= 1.0 / rate - 1e-9
            assert newer > older
    direction = router.directions["a", "b"]
    assert direction.forwarded + direction.thinned == len(arrivals)


@given(st.sampled_from([0.5, 1.0, 10.0]), st.lists(st.tuples(st.sampled_from([b"x", b"y"]), st.floats(0.0, 1.2))))
def test_the_last_frame_forwarded_is_the_last_one_received(rate: float, arrivals: list[tuple[bytes, float]]) -> None:
    router, now, last, heard = Router([route(rate=rate)]), 0.0, b"", b""
    for data, pause in [*arrivals, (b"", 5.0)]:
        while (due := router.next_due()) <= now + pause:
            heard = router.due(due)[-1][1].data
        now, last = now + pause, data or last
        if data:
            heard = ([heard] + [out.data for _, out in router.route("a", Frame(0x100, data), now)])[-1]
    assert heard == last


# -- loops -------------------------------------------------------------------------------------------------------------


def test_a_frame_that_we_sent_to_a_bus_is_not_forwarded_back() -> None:
    router = Router(both(route()))
    assert sent(router, "a", Frame(0x100, b"1"), now=0.0)
    assert sent(router, "b", Frame(0x100, b"1"), now=0.1) == []
    assert router.directions["a", "b"].returned == 1
    assert sent(router, "b", Frame(0x100, b"2"), now=0.1)
    assert sent(router, "b", Frame(0x100, b"1"), now=0.1 + WINDOW)


def test_a_frame_that_was_already_on_a_bus_is_not_sent_there() -> None:
    router = Router([route("b", "a")])
    assert sent(router, "a", Frame(0x100, b"1"), now=0.0) == []
    assert sent(router, "b", Frame(0x100, b"1"), now=0.1) == []
    assert router.directions["b", "a"].returned == 1


def test_frames_of_different_kinds_differ() -> None:
    router = Router(both(route()))
    assert sent(router, "a", Frame(0x100))
    assert sent(router, "b", Frame(0x100, b"", REMOTE))
    assert sent(router, "b", Frame(0x100, b"", EXTENDED))
    assert sent(router, "b", Frame(0x100, b"", FD))
    assert sent(router, "b", Frame(0x100)) == []


def test_a_frame_that_comes_back_under_its_new_identifier_is_recognised() -> None:
    router = Router(both(route(remap={0x100: 0x200})))
    assert sent(router, "a", Frame(0x100, b"1"))
    assert sent(router, "b", Frame(0x200, b"1")) == []
    assert sent(router, "b", Frame(0x200, b"2"))
    assert sent(router, "a", Frame(0x100, b"2")) == []


def test_an_unchanging_value_passes_every_time() -> None:
    router = Router(both(route()))
    assert all(sent(router, "a", Frame(0x100), now=n * 0.01) for n in range(200))
    assert router.returned == 0


def test_a_ring_is_reported_while_frames_keep_coming_back() -> None:
    router = Router(both(route()))
    for n in range(routing.RING_RETURNS):
        assert router.trouble(float(n)) == ""
        sent(router, "a", Frame(0x100 + n), now=float(n))
        sent(router, "b", Frame(0x100 + n), now=float(n))
    assert router.trouble(2.0).startswith("a ring: frames from a to b come back, most recently 0x102 (")
    assert router.trouble(routing.HOLD_S) != ""
    assert router.trouble(routing.HOLD_S + 0.1) == ""


def test_repetitions_of_an_identifier_that_came_back_are_dropped_but_changes_pass() -> None:
    router = Router(both(route()))
    sent(router, "a", Frame(0x100, b"1"), now=0.0)
    sent(router, "b", Frame(0x100, b"1"), now=0.0)
    forwarded = [n for n in range(100) if sent(router, "a", Frame(0x100, b"1"), now=n * 0.05)]
    assert forwarded == list(range(10, 100, 10))  # once in each window
    assert sent(router, "a", Frame(0x100, b"2"), now=5.0)
    assert sent(router, "a", Frame(0x101, b"1"), now=5.0)
    assert sent(router, "a", Frame(0x101, b"1"), now=5.0)
    assert router.directions["a", "b"].repeated == 91
    assert sent(router, "a", Frame(0x100, b"3"), now=10.1)
    assert sent(router, "a", Frame(0x100, b"3"), now=10.1)


def test_without_a_window_everything_passes() -> None:
    router = Router(both(route()), window=0.0)
    for _ in range(5):
        assert sent(router, "a", Frame(0x100))
        assert sent(router, "b", Frame(0x100))
    assert router.trouble(0.0) == ""


class Repeater:
    """A bridge without loop prevention."""

    def __init__(self, *ways: tuple[str, str]) -> None:
        self.ways = ways

    def route(self, bus: str, frame: Frame, now: float) -> list[tuple[str, Frame]]:
        return [(target, frame) for source, target in self.ways if source == bus]


class Net:
    """Buses and the bridges between them. Receptions take `delays`, in turn. The run ends after `horizon` frames."""

    def __init__(self, bridges: Sequence[Router | Repeater], delays: list[float], horizon: int = 3000) -> None:
        self.bridges = bridges
        self.delays = delays
        self.horizon = horizon
        self.log: list[tuple[float, str, Frame]] = []
        self._serial = count()
        self._events: list[tuple[float, int, int, str, Frame]] = []
        self._heard: dict[tuple[int, str], float] = {}

    def put(self, bus: str, frame: Frame, now: float, sender: int | None = None) -> None:
        """Put a frame on a bus. All bridges but its sender receive it, each bus's frames in order."""
        self.log.append((now, bus, frame))
        for number in range(len(self.bridges)):
            if number != sender:
                serial = next(self._serial)
                link = number, bus
                self._heard[link] = when = max(now + self.delays[serial % len(self.delays)], self._heard.get(link, 0.0))
                heapq.heappush(self._events, (when, serial, number, bus, frame))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until and len(self.log) < self.horizon:
            now, _, number, bus, frame = heapq.heappop(self._events)
            bridge = self.bridges[number]
            outs = bridge.route(bus, frame, now) if isinstance(bridge, Repeater) else sent(bridge, bus, frame, now)
            for target, out in outs:
                self.put(target, out, now, number)

    def on(self, bus: str, since: float = 0.0) -> Counter[tuple[int, bytes]]:
        return Counter((f.arbitration_id, f.data) for when, name, f in self.log if name == bus and when >= since)


def bridge(*buses: str) -> Router:
    """A bridge that forwards everything between all these buses."""
    return Router([route(a, b) for a, b in permutations(buses, 2)])


RINGS = {
    "two in parallel": (("a", "b"), ("a", "b")),
    "three in parallel": (("a", "b"), ("a", "b"), ("a", "b")),
    "a triangle": (("a", "b"), ("b", "c"), ("c", "a")),
    "a square": (("a", "b"), ("b", "c"), ("c", "d"), ("d", "a")),
    "a star and a shortcut": (("a", "b", "c"), ("b", "c")),
}
delays = st.lists(st.floats(0.001, 0.02), min_size=1, max_size=40)


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS.keys())
@given(delays=delays)
def test_in_a_ring_every_frame_arrives_everywhere_and_none_circulates(
    ring: tuple[tuple[str, ...], ...], delays: list[float]
) -> None:
    net = Net([bridge(*buses) for buses in ring], delays)
    buses = sorted(set().union(*ring))
    for n in range(12):
        net.put(buses[n % len(buses)], Frame(0x100 + n), n * 0.3)
        net.run(n * 0.3 + 0.3)
    assert len(net.log) < net.horizon
    for bus in buses:
        assert set(net.on(bus)) == {(0x100 + n, b"") for n in range(12)}
    quiet = [when for when, _, frame in net.log if frame.arbitration_id < 0x10A]
    assert max(quiet) < 9 * 0.3 + 0.3  # each frame stopped before the next but one
    assert any(isinstance(b, Router) and b.trouble(3.5) for b in net.bridges)


@given(delays=delays)
def test_a_ring_of_two_one_way_bridges_is_broken_by_the_one_that_closes_it(delays: list[float]) -> None:
    there, back = Router([route("a", "b")]), Router([route("b", "a")])
    net = Net([there, back], delays)
    for n in range(routing.RING_RETURNS):
        net.put("a", Frame(0x100, bytes([n])), n * 1.0)
        net.run(n + 1.0)
    assert net.on("b").keys() == net.on("a").keys()
    assert len(net.log) < 200
    assert back.trouble(3.0)


@given(delays=delays)
def test_a_bridge_without_loop_prevention_cannot_keep_frames_circulating_through_us(delays: list[float]) -> None:
    ours = bridge("a", "b")
    net = Net([ours, Repeater(("a", "b"), ("b", "a"))], delays)
    for n in range(10):
        net.put("ab"[n % 2], Frame(0x100 + n), n * 0.3)
        net.run(n * 0.3 + 0.3)
    net.run(10.0)
    assert len(net.log) < net.horizon
    assert ours.trouble(3.0)
    for n in range(10):  # from then on, at most once in each window
        late = [when for when, bus, f in net.log if bus == "a" and f.arbitration_id == 0x100 + n and when > 4.0]
        assert len(late) <= (10.0 - 4.0) / WINDOW * 2


@pytest.mark.slow
@given(frames=st.integers(1, 4), delays=delays)
def test_a_rate_limit_does_not_delay_a_frame_beyond_loop_prevention(frames: int, delays: list[float]) -> None:
    slow = Router(both(route(rate=1.0)))
    net = Net([slow, bridge("a", "b")], delays)
    for n in range(frames):
        net.put("a", Frame(0x100, bytes([n])), n * 0.1)
        net.run(n * 0.1 + 0.1)
    for tenth in range(4, 60):
        now = tenth * 0.1
        for direction, out in slow.due(now):
            net.put(direction.target, out, now, 0)
        net.run(now)
    assert net.on("b").keys() == {(0x100, bytes([n])) for n in range(frames)}
    assert not net.on("a", since=0.8)
    assert not net.on("b", since=0.8)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("abc"), frames, st.floats(0.0, 0.3)), max_size=60))
def test_no_frame_is_sent_back_to_its_source(heard: list[tuple[str, Frame, float]]) -> None:
    router, now = bridge("a", "b", "c"), 0.0
    for bus, frame, pause in heard:
        now += pause
        targets = [target for target, _ in sent(router, bus, frame, now)]
        assert bus not in targets
        assert len(targets) == len(set(targets))
