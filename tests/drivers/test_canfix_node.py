"""The gateway as a CAN-FIX node: its answers, its own messages, its saved state, its knowledge of other nodes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixgw.drivers.canfix import node as canfix_node
from fixgw.drivers.canfix import protocol as cf
from fixgw.drivers.canfix.node import Identity, Node, load_state, save_state
from fixgw.hw_sim.bench.clock import Clock

ME = 0xB6
IAS, BARO = 0x183, 0x190


@pytest.fixture
def make(clock: Clock) -> Callable[..., Node]:
    def make(**options: Any) -> Node:
        options.setdefault("produced", {IAS, BARO})
        identity = options.pop("identity", Identity(model=0x010203, firmware=7))
        return Node(options.pop("number", ME), identity, clock, **options)

    return make


CODEC = cf.Codec()


def ask(node: Node, data: bytes, source: int = 1) -> list[tuple[int, str]]:
    """The answers to a node-specific frame from `source`: (identifier, data)."""
    answers = node.receive(CODEC.decode(cf.NODE_SPECIFIC + source, data))
    return [(frame.arbitration_id, frame.data.hex()) for frame in answers]


def data_of(frames: Iterable[cf.Frame]) -> list[str]:
    return [frame.data.hex() for frame in frames]


FROM_ME = cf.NODE_SPECIFIC + ME


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", [0, ME])
def test_it_identifies_itself_when_asked_directly_or_by_broadcast(make: Callable[..., Node], destination: int) -> None:
    assert ask(make(), bytes((0, destination))) == [(FROM_ME, "000101b607030201")]


def test_it_adds_its_description_but_not_every_time(make: Callable[..., Node], clock: Clock) -> None:
    node = make(identity=Identity(description="Gateway"))
    identity, *packets = ask(node, bytes((0, ME)))
    assert [data for _, data in packets] == ["0b010000" + b"Gate".hex(), "0b010100" + b"way\0".hex()]
    assert ask(node, bytes((0, ME))) == [identity]
    clock.now += 2
    assert len(ask(node, bytes((0, ME)))) == 3


def test_it_ignores_requests_to_other_nodes(make: Callable[..., Node]) -> None:
    node = make(obey=["disable", "report", "node-id", "bit-rate", "configuration"], bitrate=250_000)
    for request in ("0005", "010503", "020550", "03058301", "04058301", "0505", "09050100e803", "0a050100"):
        assert ask(node, bytes.fromhex(request)) == []
    assert not node.report_due
    assert node.new_bitrate is None


@pytest.mark.parametrize("destination", [0, ME])
def test_a_parameter_can_be_disabled_and_enabled(make: Callable[..., Node], destination: int) -> None:
    node = make()
    assert ask(node, bytes((3, destination, 0x83, 0x01))) == [(FROM_ME, "030100")]
    assert not node.may_send(IAS)
    assert node.may_send(BARO)
    assert node.changed
    assert ask(node, bytes((4, ME, 0x83, 0x01))) == [(FROM_ME, "040100")]
    assert node.may_send(IAS)


def test_enabling_is_not_a_broadcast(make: Callable[..., Node]) -> None:
    node = make()
    ask(node, bytes((3, ME, 0x83, 0x01)))
    assert ask(node, bytes((4, 0, 0x83, 0x01))) == []
    assert not node.may_send(IAS)


def test_a_parameter_that_it_does_not_send_is_unknown(make: Callable[..., Node]) -> None:
    assert ask(make(), bytes((3, ME, 0x84, 0x01))) == [(FROM_ME, "030101")]
    assert ask(make(), bytes((4, ME, 0x84, 0x01))) == [(FROM_ME, "040101")]


def test_disabling_is_refused_unless_configured(make: Callable[..., Node]) -> None:
    node = make(obey=[])
    assert ask(node, bytes((3, ME, 0x83, 0x01))) == [(FROM_ME, "030101")]
    assert node.may_send(IAS)


def test_a_report_is_due_at_most_once_a_second(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    assert ask(node, bytes((5, 0))) == []
    assert node.report_due
    node.report_due = False
    ask(node, bytes((5, ME)))
    assert not node.report_due
    clock.now += 1
    ask(node, bytes((5, ME)))
    assert node.report_due


# -- node id -----------------------------------------------------------------------------------------------------------


def test_a_new_node_id_is_answered_from_the_new_id(make: Callable[..., Node]) -> None:
    node = make(obey=["node-id"])
    assert ask(node, bytes((2, ME, 0x50))) == [(cf.NODE_SPECIFIC + 0x50, "020100")]
    assert node.id == 0x50
    assert node.changed


def test_a_new_node_id_is_ignored_unless_allowed_addressed_and_free(make: Callable[..., Node], clock: Clock) -> None:
    assert ask(make(), bytes((2, ME, 0x50))) == []
    node = make(obey=["node-id"])
    assert ask(node, bytes((2, 0, 0x50))) == []
    ask(node, bytes((6, 0, 0, 0, 0)), source=0x50)
    assert ask(node, bytes((2, ME, 0x50))) == []
    assert node.id == ME
    clock.now += canfix_node.SILENT_S
    assert ask(node, bytes((2, ME, 0x50)))


def test_commands_that_reorganise_the_bus_are_refused_in_flight(make: Callable[..., Node]) -> None:
    node = make(obey=["node-id", "bit-rate"], bitrate=125_000, refuses=lambda command: "in flight")
    assert ask(node, bytes((2, ME, 0x50))) == []
    assert ask(node, bytes((1, ME, 2))) == [(FROM_ME, "0101ff")]
    assert node.counts["requests refused"] == 2


# -- bit rate ----------------------------------------------------------------------------------------------------------


def test_a_new_bit_rate_is_answered_after_the_change(make: Callable[..., Node]) -> None:
    node = make(obey=["bit-rate"], bitrate=125_000)
    assert ask(node, bytes((1, 0, 2))) == []
    assert node.new_bitrate == (1, 250_000)
    assert ask(node, bytes((1, ME, 3))) == [(FROM_ME, "0101ff")], "one change at a time"
    assert data_of(node.rate_changed(1, 250_000, error=False)) == ["0101"]
    assert node.bitrate == node.state.bitrate == 250_000
    assert node.new_bitrate is None
    assert node.changed


def test_a_failed_change_of_the_bit_rate_is_answered_with_an_error(make: Callable[..., Node]) -> None:
    node = make(obey=["bit-rate"], bitrate=125_000)
    ask(node, bytes((1, ME, 2)))
    assert data_of(node.rate_changed(1, 250_000, error=True)) == ["0101ff"]
    assert node.bitrate == 125_000
    assert not node.changed


def test_a_request_for_the_current_bit_rate_is_answered_at_once(make: Callable[..., Node]) -> None:
    node = make(obey=["bit-rate"], bitrate=250_000)
    assert ask(node, bytes((1, ME, 2))) == [(FROM_ME, "0101")]


@pytest.mark.parametrize(
    ("options", "code"),
    [({}, 2), ({"bitrate": 125_000}, 2), ({"obey": ["bit-rate"]}, 2), ({"obey": ["bit-rate"], "bitrate": 125_000}, 9)],
    ids=["not allowed", "not allowed, but possible", "not possible", "no such rate"],
)
def test_an_impossible_bit_rate_is_refused(make: Callable[..., Node], options: dict[str, Any], code: int) -> None:
    node = make(**options)
    assert ask(node, bytes((1, ME, code))) == [(FROM_ME, "0101ff")]
    assert node.new_bitrate is None


# -- configuration -----------------------------------------------------------------------------------------------------


def test_configuration_can_be_read(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    clock.now += 77
    ask(node, bytes((6, 0, 0, 0, 0)), source=5)
    answers = [ask(node, bytes((10, ME, key, 0)))[0][1] for key in range(6)]
    assert answers == [
        "0a0100" + (2024).to_bytes(2, "little").hex(),
        "0a0100" + (1000).to_bytes(2, "little").hex(),
        "0a010001",
        "0a0100" + (77).to_bytes(4, "little").hex(),
        "0a010002",
        "0a0101",
    ]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("0100f401", 0),  # 500 ms between status messages
        ("0200" + "00", 0),
        ("0200" + "00000000", 0),  # padded
        ("0900" + "00", 1),  # unknown key
        ("0300" + "00", 2),  # read-only
        ("0100" + "c800", 0),
        ("0100" + "c700", 3),  # out of range
        ("0200" + "02", 3),
        ("0100" + "01", 4),  # too short for its type
        ("0200" + "0001", 4),
    ],
)
def test_configuration_can_be_set_if_allowed(make: Callable[..., Node], data: str, error: int) -> None:
    node = make(obey=["configuration"])
    assert ask(node, bytes((9, ME)) + bytes.fromhex(data)) == [(FROM_ME, f"0901{error:02x}")]
    assert node.changed is (error == 0)


def test_configuration_is_read_only_unless_allowed(make: Callable[..., Node]) -> None:
    assert ask(make(), bytes((9, ME, 2, 0, 0))) == [(FROM_ME, "090102")]


def test_sending_can_be_switched_off(make: Callable[..., Node]) -> None:
    node = make(obey=["configuration"])
    ask(node, bytes((9, ME, 2, 0, 0)))
    assert not node.may_send(IAS)
    ask(node, bytes((9, ME, 2, 0, 1)))
    assert node.may_send(IAS)


def test_unsupported_requests_are_refused(make: Callable[..., Node]) -> None:
    node = make()
    assert ask(node, bytes((7, ME, 1, 0, 3))) == [(FROM_ME, "070101")]
    assert ask(node, bytes((8, ME, 3, 1, 0))) == [(FROM_ME, "080101")]


# -- heartbeat ---------------------------------------------------------------------------------------------------------


def test_it_sends_its_status_once_a_second(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    beats = []
    for _ in range(100):
        beats += [clock.now for data in data_of(node.tick()) if data == "0600000000"]
        clock.now += 0.1
    assert len(beats) == 10
    assert max(b - a for a, b in itertools.pairwise(beats)) < 1.2


def test_after_a_long_silence_it_sends_a_single_heartbeat(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    node.tick()
    clock.now += 100
    assert data_of(node.tick()).count("0600000000") == 1
    assert data_of(node.tick()) == []
    assert node.due > clock.now


# -- other nodes -------------------------------------------------------------------------------------------------------


def test_nodes_are_asked_to_identify_themselves_a_few_times_only(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    ask(node, bytes((6, 0, 0, 0, 0)), source=31)
    questions = []
    for _ in range(20):
        questions += [data for data in data_of(node.tick()) if data.startswith("00")]
        clock.now += 1
        ask(node, bytes((6, 0, 0, 0, 0)), source=31)
    assert questions == ["001f"] * canfix_node.MAX_QUESTIONS


def test_identity_description_and_status_of_nodes_are_kept(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    ask(node, bytes.fromhex("00b6013104") + (1234).to_bytes(3, "little"), source=31)
    for packet, text in enumerate((b"AHRS", b" 2\n\0")):
        ask(node, bytes((11, ME, packet, 0)) + text, source=31)
    ask(node, bytes.fromhex("060100") + (215).to_bytes(2, "little"), source=31)
    clock.now += 3
    assert node.status()["nodes"] == {
        "31": {
            "last seen": 3.0,
            "type": "0x31",
            "model": 1234,
            "firmware": 4,
            "description": "AHRS 2?",
            "Internal Temperature": 21.5,
            "rates": {},
        }
    }


def test_an_alarm_counts_as_trouble_for_a_while(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    node.receive(CODEC.decode(44, b"\x05\x00"))
    assert node.trouble() == "alarm from node 44: code 5"
    clock.now += canfix_node.SILENT_S
    ask(node, bytes((6, 0, 0, 0, 0)), source=44)
    assert node.trouble() == ""
    assert node.status()["nodes"]["44"]["alarms"] == 1


def test_a_second_node_with_our_id_is_reported_and_not_obeyed(make: Callable[..., Node]) -> None:
    node = make()
    assert ask(node, bytes((0, ME)), source=ME) == []
    assert node.trouble() == f"another node has our id, {ME}"
    assert node.counts["from our own id"] == 1


def survey(node: Node, clock: Clock, *senders: tuple[int, int, int]) -> None:
    """Two seconds in which nodes send: (identifier, node, number of frames)."""
    for identifier, sender, times in senders:
        for _ in range(times):
            node.count(identifier, sender)
    clock.now += canfix_node.SURVEY_S
    node.tick()


def test_rates_are_counted(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    survey(node, clock, (IAS, 37, 20), (BARO, 37, 2))
    assert node.status()["nodes"]["37"]["rates"] == {"0x183": 10.0, "0x190": 1.0}
    survey(node, clock)
    assert node.status()["nodes"]["37"]["rates"] == {}


def test_two_senders_of_one_parameter_are_a_conflict_but_a_successor_is_not(
    make: Callable[..., Node], clock: Clock
) -> None:
    node = make()
    survey(node, clock, (IAS, 37, 20), (IAS, 38, 1))
    survey(node, clock, (IAS, 38, 20))
    assert node.status()["conflicts"] == {}
    survey(node, clock, (IAS, 37, 20), (IAS, 38, 20))
    survey(node, clock, (IAS, 37, 20), (IAS, 38, 20))
    assert node.status()["conflicts"] == {"0x183": "nodes 37 and 38"}
    clock.now += canfix_node.SILENT_S
    survey(node, clock)
    assert node.conflicts == {}


def test_memory_of_other_nodes_is_bounded(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    for identifier in range(0x100, 0x600):
        for sender in range(1, 256, 10):
            node.count(identifier, sender)
    assert len(node.frames) == canfix_node.MAX_RATES
    for source in range(1, 256):
        for kind in range(256, 400):
            ask(node, bytes((6,)) + kind.to_bytes(2, "little"), source=source)
    assert len(node.nodes) == 254
    assert all(len(seen.status) <= canfix_node.MAX_STATUS_TYPES for seen in node.nodes.values())
    clock.now += canfix_node.SURVEY_S
    node.tick()
    assert node.frames == {}


def test_a_babbling_node_gets_few_answers(make: Callable[..., Node], clock: Clock) -> None:
    node = make(identity=Identity(description="x" * 60))
    answers = 0
    for _ in range(20_000):
        clock.now += 1 / 20_000
        answers += len(ask(node, bytes((0, 0))))
    assert answers <= 2 * canfix_node.MAX_ANSWERS_PER_S + 16
    assert node.counts["requests ignored"] > 19_000


# -- random frames -----------------------------------------------------------------------------------------------------

FRAMES = st.lists(st.tuples(st.integers(0, 0x7FF), st.binary(max_size=8), st.floats(0, 3)), max_size=60)


@pytest.mark.slow
@given(FRAMES)
@settings(max_examples=300)
def test_no_sequence_of_frames_raises_and_every_answer_can_be_sent(frames: list[tuple[int, bytes, float]]) -> None:
    clock = Clock()
    obey = ["disable", "report", "node-id", "bit-rate", "configuration"]
    node = Node(ME, Identity(description="me"), clock, None, obey, {IAS}, 125_000)
    for identifier, data, pause in frames:
        clock.now += pause
        outcome = CODEC.decode(identifier, data)
        answers = node.receive(outcome) + node.tick()
        if node.new_bitrate:
            answers += node.rate_changed(*node.new_bitrate, error=False)
        for answer in answers:
            assert FROM_ME - ME < answer.arbitration_id <= FROM_ME - ME + 255
            assert len(answer.data) <= 8
    node.status()
    node.trouble()


@given(st.lists(st.binary(min_size=1, max_size=8), max_size=60))
def test_no_request_raises(requests: list[bytes]) -> None:
    """Like the test above, but all frames are requests addressed to it."""
    node = Node(ME, Identity(), Clock(), None, ["disable", "node-id", "bit-rate", "configuration"], {IAS}, 125_000)
    for data in requests:
        request = bytes((data[0] % 12, node.id)) + data[2:]
        assert len(ask(node, request)) <= 1


def test_a_flood_of_random_frames_does_no_harm(make: Callable[..., Node], clock: Clock) -> None:
    node = make()
    noise = os.urandom(9 * 20_000)
    for at in range(0, len(noise), 9):
        clock.now += 0.0001
        identifier = cf.NODE_SPECIFIC + 1 + noise[at] % 255
        node.receive(CODEC.decode(identifier, noise[at + 1 : at + 2 + noise[at] % 8]))
        node.tick()
    assert node.id == ME
    assert len(node.nodes) <= 255


# -- saved state -------------------------------------------------------------------------------------------------------


def test_changes_made_over_the_bus_survive_a_restart(make: Callable[..., Node]) -> None:
    node = make(obey=["node-id", "disable", "bit-rate", "configuration"], bitrate=125_000)
    ask(node, bytes((2, ME, 0x50)))
    ask(node, bytes((3, 0x50, 0x83, 0x01)))
    ask(node, bytes((9, 0x50, 1, 0, 0xF4, 1)))
    node.rate_changed(1, 500_000, error=False)
    again = make(bitrate=125_000, state=load_state(save_state(node.state)))
    assert (again.id, again.bitrate, again.state.heartbeat) == (0x50, 500_000, 500)
    assert not again.may_send(IAS)


def test_a_changed_configuration_overrides_changes_made_over_the_bus(make: Callable[..., Node]) -> None:
    node = make(obey=["node-id"], bitrate=125_000)
    ask(node, bytes((2, ME, 0x50)))
    node.rate_changed(1, 500_000, error=False)
    again = make(number=0x91, bitrate=250_000, state=load_state(save_state(node.state)))
    assert (again.id, again.bitrate) == (0x91, 250_000)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"node": 300}', b'{"node": "x"}', b'{"bitrate": 5}', b'{"heartbeat": 1}', bytes(4)]
)
def test_an_invalid_state_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        load_state(data)
