from __future__ import annotations

import gc
import json
import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, SECFAIL, Database, Definition
from fixgw.errors import DeviceError
from fixgw.hw_sim.bench.clock import Clock
from fixgw.plugins.netfix import Plugin, commands, server

pytestmark = pytest.mark.slow

Gateway = Any  # Gateway of conftest.py
Wait = Callable[[Callable[[], object]], None]
CLIENT = {"type": "client", "outputs": [{"host": "x", "send": ["IAS"]}]}


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("@l", "@l9;0;IAS,ALT,FREE,COUNT,BTN1,ACID,BARO,MARK,ZZLOADER"),
        ("@lrubbish", "@l9;0;IAS,ALT,FREE,COUNT,BTN1,ACID,BARO,MARK,ZZLOADER"),
        ("@l\0\x80", "@l9;0;IAS,ALT,FREE,COUNT,BTN1,ACID,BARO,MARK,ZZLOADER"),
        ("@l\r", "@l9;0;IAS,ALT,FREE,COUNT,BTN1,ACID,BARO,MARK,ZZLOADER"),
        ("@rIAS", "@rIAS;0.0;01000"), ("@rBTN1", "@rBTN1;False;01000"), ("@rACID", "@rACID;;01000"),
        ("@rIAS\r", "@rIAS;0.0;01000"),
        ("@rIAS.Vne", "@rIAS.Vne;None"), ("@rNO", "@rNO!001"), ("@rIAS.No", "@rIAS.No!001"), ("@r", "@r!001"),
        ("@rIAS.", "@rIAS.!001"), ("@r.Vne", "@r.Vne!001"), ("@rias", "@rias!001"), ("@rIAS;1", "@rIAS;1!001"),
        ("@wIAS;22.5", "@wIAS;22.5;00000"), ("@wIAS;7", "@wIAS;7.0;00000"), ("@wIAS;1e2", "@wIAS;100.0;00000"),
        ("@wIAS;5000", "@wIAS;1000.0;00100"), ("@wBARO;50", "@wBARO;35.0;00000"), ("@wCOUNT;-5", "@wCOUNT;0;00100"),
        ("@wIAS", "@wIAS!003"), ("@wIAS;", "@wIAS!003"), ("@wIAS;fast", "@wIAS!003"), ("@wIAS;1;2", "@wIAS!003"),
        ("@wIAS;nan", "@wIAS!003"), ("@wIAS;inf", "@wIAS!003"), ("@wIAS;-inf", "@wIAS!003"),
        ("@wIAS;1e400", "@wIAS!003"), ("@wCOUNT;nan", "@wCOUNT!003"), ("@wIAS;1_0", "@wIAS!003"),
        ("@wCOUNT;42", "@wCOUNT;42;00000"), ("@wCOUNT;42.0", "@wCOUNT!003"), ("@wCOUNT;42.5", "@wCOUNT!003"),
        ("@wCOUNT;" + "9" * 3000, "@wCOUNT;100;00100"),
        ("@wBTN1;True", "@wBTN1;True;00000"), ("@wBTN1;true", "@wBTN1;True;00000"), ("@wBTN1;T", "@wBTN1;True;00000"),
        ("@wBTN1;yes", "@wBTN1;True;00000"), ("@wBTN1;1", "@wBTN1;True;00000"), ("@wBTN1;F", "@wBTN1;False;00000"),
        ("@wBTN1;YES", "@wBTN1;True;00000"), ("@wBTN1;tRuE", "@wBTN1;True;00000"), ("@wBTN1;on", "@wBTN1;True;00000"),
        ("@wBTN1;OFF", "@wBTN1;False;00000"), ("@wBTN1;No", "@wBTN1;False;00000"), ("@wBTN1;", "@wBTN1!003"),
        ("@wBTN1;maybe", "@wBTN1!003"), ("@wBTN1; yes", "@wBTN1!003"), ("@wBTN1;None", "@wBTN1!003"),
        ("@wBTN1;2", "@wBTN1!003"),
        ("@wACID;N1", "@wACID;N1;00000"), ("@wACID;Größe", "@wACID;Größe;00000"), ("@wACID;", "@wACID;;00000"),
        ("@wACID;a;b", "@wACID!003"), ("@wACID;a\rb", "@wACID!003"), ("@wACID;a\tb", "@wACID!003"),
        ("@wIAS.Vne;140", "@wIAS.Vne;140.0"), ("@wIAS.Vne;None", "@wIAS.Vne;None"), ("@wIAS.Vne;x", "@wIAS.Vne!003"),
        ("@wIAS.Vne", "@wIAS.Vne!003"), ("@wIAS.Vne;nan", "@wIAS.Vne!003"), ("@wIAS.Vne;5000", "@wIAS.Vne;1000.0"),
        ("@wIAS.No;1", "@wIAS.No!001"), ("@wNO;1", "@wNO!001"), ("@wNO", "@wNO!001"),
        ("@w", "@w!001"), ("@w;", "@w!001"),
        ("@sIAS", "@sIAS"), ("@sNO", "@sNO!001"), ("@s", "@s!001"), ("@sIAS.Vne", "@sIAS.Vne!001"),
        ("@uIAS", "@uIAS!002"), ("@uNO", "@uNO!001"), ("@u", "@u!001"),
        ("@qIAS", "@qIAS;Airspeed;float;0.0;1000.0;knots;2000;Vs,Vne"),
        ("@qBTN1", "@qBTN1;A button;bool;False;False;;0;"),
        ("@qACID", "@qACID;Call, sign of the aircraft;str;None;None;;0;"), ("@qNO", "@qNO!001"), ("@q", "@q!001"),
        ("@fIAS;b;1", "@fIAS;b;1"), ("@fIAS;o;0", "@fIAS;o;0"), ("@fIAS;s;1", "@fIAS;s;1"),
        ("@fNO;b;1", "@fNO!001"), ("@fIAS;z;1", "@fIAS!002"), ("@fIAS;;1", "@fIAS!002"), ("@fIAS;b;2", "@fIAS!003"),
        ("@fIAS;b;", "@fIAS!003"), ("@fIAS;b", "@fIAS!003"), ("@fIAS", "@fIAS!003"), ("@fIAS;b;1;1", "@fIAS!003"),
        ("@f", "@f!001"), ("@f;", "@f!001"), ("@fIAS.Vne;b;1", "@fIAS.Vne!001"),
        ("@sIAS ", "@sIAS "), ("@sNO ", "@sNO !001"), ("@uIAS  ", "@uIAS  !002"), ("@rIAS ", "@rIAS;0.0;01000"),
        ("@rIAS.Vne ", "@rIAS.Vne;None"), ("@qBTN1 ", "@qBTN1;A button;bool;False;False;;0;"), ("@s IAS", "@s IAS!001"),
        ("@x", "@x!004"), ("@xfoo", "@xfoo!004"), ("@xstatus now", "@xstatus now!004"),
        ("@xexplain NO", "@xexplain NO!001"),
        ("@", "@!004"), ("@@", "@@!004"), ("@z", "@z!004"), ("@L", "@L!004"), ("hello", "hello!004"), (" ", " !004"),
        ("@\0", "@\ufffd!004"), ("\0", "\ufffd!004"),
    ],
)  # fmt: skip
def test_every_command_has_its_answer(gateway: Gateway, command: str, answer: str) -> None:
    client = gateway.connect()
    assert client.ask(command) == answer
    assert client.ask("@rMARK") == "@rMARK;0;01000", "and exactly one line"


def test_empty_lines_are_ignored(gateway: Gateway) -> None:
    client = gateway.connect()
    client.send("\n\r\n\n")
    assert client.ask("@rMARK") == "@rMARK;0;01000"


def test_answers_come_in_the_order_of_the_requests(gateway: Gateway) -> None:
    client = gateway.connect()
    client.send("@l\n@rIAS\n@qALT\n@xstatus\n@wIAS;5\n@zz\n@rIAS\n")
    assert [line[:5] for line in client.lines(7)] == ["@l9;0", "@rIAS", "@qALT", "@xsta", "@wIAS", "@zz!0", "@rIAS"]


def test_commands_can_be_cut_anywhere(gateway: Gateway) -> None:
    client = gateway.connect()
    for byte in "@rIAS\n@wACID;Größe\r\n".encode():
        client.send(bytes([byte]))
    assert client.lines(2) == ["@rIAS;0.0;01000", "@wACID;Größe;00000"]


def test_a_write_leaves_the_flags_alone(gateway: Gateway) -> None:
    gateway.db.write("IAS", 5.0, "test", BAD | SECFAIL)
    assert gateway.connect().ask("@wIAS;6") == "@wIAS;6.0;00101"


def test_explain_says_where_a_value_comes_from(gateway: Gateway) -> None:
    gateway.db.write("IAS", 5.0, "canfix/12")
    head, _, tree = gateway.connect().ask("@xexplain IAS").partition(";")
    assert head == "@xexplain IAS"
    assert json.loads(tree)["source"] == "canfix/12"


def test_text_of_a_driver_never_breaks_a_sentence(gateway: Gateway) -> None:
    gateway.db.write("ACID", "a;b", "test")
    assert gateway.connect().ask("@rACID") == "@rACID;a,b;00000"


def test_kill_stops_the_gateway(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    gateway = serve(admin=["127.0.0.1"])
    asked: list[str] = []
    gateway.world.quit = asked.append
    assert gateway.connect().ask("@xkill") == "@xkill"
    wait_for(lambda: asked == ["netfix"])


# -- updates -----------------------------------------------------------------------------------------------------------


def test_every_write_is_pushed_in_order(gateway: Gateway) -> None:
    client = gateway.connect()
    client.send("@sIAS\n@sBTN1\n")
    client.lines(2)
    for n in range(200):
        gateway.db.write("IAS", n, "test")
        gateway.db.write("BTN1", n % 2 == 0, "test")
    assert client.lines(400) == [
        line for n in range(200) for line in (f"IAS;{float(n)};00000", f"BTN1;{n % 2 == 0};00000")
    ]


def test_nothing_is_pushed_on_subscribing_not_even_what_was_written_just_before(gateway: Gateway) -> None:
    other, client = gateway.connect(), gateway.connect()
    other.ask("@sIAS")
    client.ask("@sMARK")
    for n in range(50):
        gateway.db.write("IAS", n, "test")
        assert client.ask("@sIAS") == "@sIAS"
        assert gateway.heard(client) == []
        assert client.ask("@uIAS") == "@uIAS"


def test_no_updates_arrive_after_unsubscribing(gateway: Gateway) -> None:
    client = gateway.connect()
    client.send("@sIAS\n@sMARK\n@uIAS\n")
    assert client.lines(3) == ["@sIAS", "@sMARK", "@uIAS"]
    gateway.db.write("IAS", 5.0, "test")
    assert gateway.heard(client) == []
    assert client.ask("@sIAS") == "@sIAS"
    assert client.ask("@sIAS") == "@sIAS!002"


def test_flag_changes_and_ageing_are_pushed(serve: Callable[..., Gateway]) -> None:
    gateway = serve([Definition(key="IAS", tolerance=50), Definition(key="MARK", type="int")])
    gateway.db.start()
    client = gateway.connect()
    client.ask("@sIAS")
    gateway.db.write("IAS", 5.0, "test")
    assert client.lines(2) == ["IAS;5.0;00000", "IAS;5.0;01000"]
    gateway.db.item("IAS").fail("no sensor", "test")
    assert client.line() == "IAS;5.0;01010"


def test_aux_values_are_pushed_with_the_item(gateway: Gateway) -> None:
    client = gateway.connect()
    client.ask("@sIAS")
    gateway.db.write("IAS.Vne", 140)
    assert client.line() == "IAS.Vne;140.0"


def test_an_item_defined_later_is_served(gateway: Gateway) -> None:
    client = gateway.connect()
    assert client.ask("@rNEW") == "@rNEW!001"
    gateway.db.define(Definition(key="NEW", type="int"))
    assert client.ask("@sNEW") == "@sNEW"
    gateway.db.write("NEW", 5)
    assert client.line() == "NEW;5;00000"
    assert client.ask("@l").startswith("@l10;0;")


# -- a client's own writes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answers", "update"),
    [
        ("IAS;5;000\n", 0, "IAS;5.0;00000"),
        ("IAS;5\n", 0, "IAS;5.0;00000"),
        ("@wIAS;5\n", 1, "IAS;5.0;00000"),
        ("IAS.Vne;140\n", 0, "IAS.Vne;140.0"),
        ("@wIAS.Vne;140\n", 1, "IAS.Vne;140.0"),
    ],
)
def test_a_client_does_not_receive_its_own_writes_but_others_on_its_host_do(
    gateway: Gateway, text: str, answers: int, update: str
) -> None:
    writer, other = gateway.connect(), gateway.connect()
    for client in (writer, other):
        client.send("@sIAS\n@sMARK\n")
        client.lines(2)
    writer.send(text)
    assert other.line() == update
    assert [line[:2] for line in gateway.heard(writer)] == ["@w"] * answers


def test_a_client_receives_the_effect_of_its_own_flag_command(gateway: Gateway) -> None:
    client = gateway.connect()
    client.ask("@sIAS")
    client.send("@fIAS;b;1\n")
    assert client.lines(2) == ["@fIAS;b;1", "IAS;0.0;01100"]


def test_suppressing_its_own_writes_loses_nothing_else(gateway: Gateway) -> None:
    client, other = gateway.connect(), gateway.connect()
    client.send("@sIAS\n@sMARK\n")
    client.lines(2)
    client.ask("@wALT;5")  # a key it has not subscribed to
    for n in range(1, 20):
        gateway.db.write("IAS", n, "test")
        client.send(f"IAS;{n + 100};000\n@wIAS.Vne;{n}\n")
        assert client.lines(2) == [f"IAS;{float(n)};00000", f"@wIAS.Vne;{float(n)}"]
        other.ask(f"@wIAS;{n + 200}")
        other.ask(f"@wIAS.Vne;{n}")
        assert client.lines(2) == [f"IAS;{n + 200.0};00000", f"IAS.Vne;{float(n)}"]
    gateway.db.item("IAS").fail("no sensor", "test")
    assert gateway.heard(client) == ["IAS;219.0;00010"]


def test_the_last_update_sent_matches_the_database(gateway: Gateway) -> None:
    """A client and a driver compete for an item: the last value sent to the client, even as an answer, is current."""
    client = gateway.connect()
    client.send("@sFREE\n@sMARK\n")
    client.lines(2)
    for _ in range(10):
        stop = threading.Event()

        def drive(stop: threading.Event = stop) -> None:
            n = 0
            while not stop.is_set():
                n += 1
                gateway.db.write("FREE", n, "driver")
                time.sleep(0.0001)

        driver = threading.Thread(target=drive)
        driver.start()
        heard = []
        for n in range(30):
            client.send(f"@wFREE;{-n - 1}\n@wFREE;{-n - 1.5}\n@rMARK\n")
            while not (line := client.line()).startswith("@rMARK"):
                heard.append(line)
        stop.set()
        driver.join()
        heard += gateway.heard(client)
        assert heard[-1].removeprefix("@w") == f"FREE;{gateway.db.read('FREE').value};00000"


def test_value_and_flags_of_a_sentence_are_one_update(gateway: Gateway) -> None:
    writer, other = gateway.connect(), gateway.connect()
    other.ask("@sIAS")
    writer.send("IAS;5;1111\nIAS;6;000\nIAS;7;11010\nIAS;8;0100\nIAS;9\n")
    assert other.lines(5) == ["IAS;5.0;10111", "IAS;6.0;00001", "IAS;7.0;10010", "IAS;8.0;00100", "IAS;9.0;00100"]


@pytest.mark.parametrize(
    "sentence",
    [
        "IAS;fast;111", "IAS;nan;111", "IAS;inf;111", "IAS;1e400;111", "IAS;;111", "IAS;5;11", "IAS;5;abc", "IAS;5;",
        "IAS;5;000;1", "NO;5;000", "IAS.No;5", "IAS.Vne;5;000", "COUNT;4.5;111", "ACID;a;b;c", ";;", ";", "IAS.Vne;x",
    ],
)  # fmt: skip
def test_an_unusable_sentence_changes_nothing_and_is_counted(gateway: Gateway, sentence: str) -> None:
    before = [(i.reading, dict(i.aux)) for i in gateway.db.items()]
    client = gateway.connect()
    client.send(sentence + "\n")
    assert client.ask("@rMARK") == "@rMARK;0;01000"
    assert [(i.reading, dict(i.aux)) for i in gateway.db.items()] == before
    assert gateway.plugin.get_status()["ignored sentences"] == 1


def test_client_writes_carry_their_address_as_source(gateway: Gateway) -> None:
    gateway.connect("127.0.0.3").ask("@wIAS;5")
    assert gateway.db.read("IAS").source == "netfix/127.0.0.3"


# -- values written back -----------------------------------------------------------------------------------------------


def test_writing_back_a_value_just_read_is_not_fresh_data(gateway: Gateway) -> None:
    before = gateway.db.write("IAS", 5.0, "driver")
    client = gateway.connect()
    client.ask("@rIAS")
    assert client.ask("@wIAS;5.0") == "@wIAS;5.0;00000"
    assert gateway.db.read("IAS") is before
    client.send("IAS;5.0;000\n")
    client.ask("@rMARK")
    assert gateway.db.read("IAS") is before
    assert client.ask("@wIAS;6.0") == "@wIAS;6.0;00000"
    assert gateway.db.read("IAS").source == "netfix/127.0.0.1"


def test_writing_back_a_value_just_received_is_not_fresh_data_but_flags_count(gateway: Gateway) -> None:
    client, other = gateway.connect(), gateway.connect()
    for each in (client, other):
        each.send("@sIAS\n@sMARK\n")
        each.lines(2)
    before = gateway.db.write("IAS", 5.0, "driver")
    assert client.line() == "IAS;5.0;00000"
    client.send("IAS;5.0;010\n")
    assert other.lines(2) == ["IAS;5.0;00000", "IAS;5.0;00100"]
    after = gateway.db.read("IAS")
    assert (after.stamp, after.source, after.flags) == (before.stamp, "driver", BAD)
    assert gateway.heard(client) == []


def test_a_never_written_item_stays_old_when_a_client_writes_its_value_back(gateway: Gateway) -> None:
    client = gateway.connect()
    client.ask("@rIAS")
    assert client.ask("@wIAS;0.0") == "@wIAS;0.0;01000"


def test_a_client_that_has_not_read_the_value_is_an_ordinary_source(gateway: Gateway) -> None:
    gateway.db.write("IAS", 5.0, "driver")
    gateway.connect().ask("@wIAS;5.0")
    assert gateway.db.read("IAS").source == "netfix/127.0.0.1"


def test_a_setting_is_written_even_if_unchanged(gateway: Gateway) -> None:
    client = gateway.connect()
    client.ask("@rBARO")
    assert client.ask("@wBARO;29.92") == "@wBARO;29.92;00000"


def test_with_the_refresh_option_a_value_written_back_counts(serve: Callable[..., Gateway]) -> None:
    gateway = serve(refresh=True)
    before = gateway.db.write("IAS", 5.0, "driver")
    client = gateway.connect()
    client.ask("@rIAS")
    client.ask("@wIAS;5.0")
    assert gateway.db.read("IAS").stamp > before.stamp


# -- permission --------------------------------------------------------------------------------------------------------


def test_permissions_depend_on_the_network(serve: Callable[..., Gateway]) -> None:
    gateway = serve(allow=["127.0.0.0/30"], write=["127.0.0.1", "127.0.0.2"], admin=["127.0.0.1"])
    assert gateway.connect("127.0.0.9").closed()
    reader = gateway.connect("127.0.0.3")
    assert reader.ask("@wIAS;5") == "@wIAS!005"
    assert reader.ask("@fIAS;b;1") == "@fIAS!005"
    reader.send("IAS;5;000\n")
    assert reader.ask("@rIAS") == "@rIAS;0.0;01000"
    assert reader.ask("@sIAS") == "@sIAS"
    writer = gateway.connect("127.0.0.2")
    assert writer.ask("@wIAS;5") == "@wIAS;5.0;00000"
    assert writer.ask("@xkill") == "@xkill!005"
    assert gateway.plugin.get_status()["ignored sentences"] == 1


def test_by_default_only_loopback_has_access_and_no_client_stops_the_gateway() -> None:
    options = Plugin("netfix", {}).options
    assert options.host == "127.0.0.1"
    assert options.allow == options.write == ("127.0.0.0/8", "::1")
    assert options.admin == ()


# -- hostile and broken clients ----------------------------------------------------------------------------------------


@pytest.fixture
def witness(gateway: Gateway) -> Callable[[], None]:
    """Another client; calling it checks that it is served at once and completely."""
    client = gateway.connect()
    client.ask("@sIAS")
    count = 0

    def check() -> None:
        nonlocal count
        count += 1
        gateway.db.write("IAS", count, "witness")
        assert client.line() == f"IAS;{float(count)};00000"
        assert client.ask("@rACID") == "@rACID;;01000"

    return check


def test_invalid_utf8_is_answered_without_affecting_others(gateway: Gateway, witness: Callable[[], None]) -> None:
    client = gateway.connect()
    client.send(b"@rIAS\n\xff\xfe\x80\nIAS;\xff;000\n@rMARK\n")
    assert client.lines(4) == ["@rIAS;0.0;01000", "���!004", "IAS;�;000!004", "@rMARK;0;01000"]
    witness()


def test_an_overlong_line_gets_one_error_and_the_connection_stays(gateway: Gateway) -> None:
    client = gateway.connect()
    client.send(b"@r" + b"x" * 100_000 + b"\n@rMARK\n")
    assert client.lines(2) == ["@r" + "x" * 38 + "!004", "@rMARK;0;01000"]


def test_an_endless_line_ends_the_connection(gateway: Gateway, witness: Callable[[], None]) -> None:
    client = gateway.connect()
    with pytest.raises(OSError):  # noqa: PT012
        for _ in range(200):
            client.send(b"x" * 100_000)
            witness()
    assert gateway.plugin.get_status()["dropped"] == 1


def test_a_client_that_resets_in_mid_sentence_is_forgotten(
    gateway: Gateway, witness: Callable[[], None], wait_for: Wait
) -> None:
    for text in (b"@rIA", b"@sIAS\nIAS;5", b""):
        client = gateway.connect()
        client.send(text)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        witness()
    wait_for(lambda: gateway.plugin.get_status()["clients"] == 1)
    assert gateway.db.read("IAS").source == "witness"


def test_a_client_that_closes_its_half_still_gets_its_answers(gateway: Gateway) -> None:
    client = gateway.connect()
    client.send("@rMARK\n@xstatus\n@rIAS\nIAS;5;0")
    client.sock.shutdown(socket.SHUT_WR)
    assert [line[:5] for line in client.lines(3)] == ["@rMAR", "@xsta", "@rIAS"]
    assert client.closed()
    assert gateway.db.read("IAS").old


def test_the_system_will_notice_a_vanished_peer(gateway: Gateway) -> None:
    gateway.connect().ask("@rIAS")
    (peer,) = gateway.plugin.server._peers.values()
    assert peer.sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle, interval, probes = (
        peer.sock.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle + interval * probes < 15
    # The system would drop a client that is alive but slow: `stall_timeout` is for those.
    assert peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
    assert peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_client_that_does_not_read_takes_bounded_memory_and_finally_gets_the_newest(
    serve: Callable[..., Gateway], wait_for: Wait
) -> None:
    keys = [f"KEY{n}" for n in range(100)]
    gateway = serve([Definition(key=key) for key in keys], send_buffer=4096)
    stalled, other = gateway.connect(buffer=4096), gateway.connect()
    for client in (stalled, other):
        client.send("".join(f"@s{key}\n" for key in keys))
        client.lines(100)
    heard = threading.Event()

    def listen() -> None:
        other.until("KEY99;1999.0;00000")
        heard.set()

    threading.Thread(target=listen, daemon=True).start()
    for n in range(2000):
        for key in keys:
            gateway.db.write(key, n, "test")
        if n % 100 == 0:
            assert all(len(p.out) < 300_000 for p in gateway.plugin.server._peers.values())
    assert heard.wait(10.0), "the other client gets everything"
    (behind,) = (p for p in gateway.plugin.server._peers.values() if p.behind)
    assert len(behind.behind) == 100
    newest: dict[str, str] = {}
    while newest != dict.fromkeys(keys, "1999.0"):
        key, value, _ = stalled.line().split(";")
        newest[key] = value
    wait_for(lambda: not behind.behind and not behind.out)


def test_a_client_that_asks_without_reading_is_throttled_and_finally_dropped(
    serve: Callable[..., Gateway], wait_for: Wait
) -> None:
    gateway = serve(send_buffer=4096, reply_buffer=8192, stall_timeout=1.0)
    client, other = gateway.connect(buffer=4096), gateway.connect()
    client.sock.setblocking(False)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        try:
            client.send("@l\n" * 1000)
        except BlockingIOError:
            time.sleep(0.01)
    assert all(len(p.out) < 20_000 for p in gateway.plugin.server._peers.values())
    assert other.ask("@rIAS") == "@rIAS;0.0;01000"
    wait_for(lambda: gateway.plugin.get_status()["clients"] == 1)
    assert other.ask("@rIAS") == "@rIAS;0.0;01000"


def test_a_client_that_pauses_reading_gets_every_answer(serve: Callable[..., Gateway]) -> None:
    gateway = serve(send_buffer=4096, reply_buffer=4096)
    client = gateway.connect(buffer=4096)
    sender = threading.Thread(target=client.send, args=("@l\n@rIAS\n" * 5000,))
    sender.start()
    time.sleep(0.1)
    lines = client.lines(10_000)
    sender.join()
    assert lines == [lines[0], "@rIAS;0.0;01000"] * 5000


def test_garbage_of_all_kinds_does_not_harm_others(gateway: Gateway, witness: Callable[[], None]) -> None:
    import random

    random.seed(1)
    alphabet = b"@lrwsuqfx;;;;\n\n\r\0\xff IASBTN1.Vne0123456789-+eE.TFnaninf"
    for _ in range(20):
        client = gateway.connect()
        client.send(bytes(random.choice(alphabet) for _ in range(3000)) + b"\n")
        client.send(random.randbytes(3000))
        witness_client = threading.Thread(target=client.closed, daemon=True)
        witness_client.start()
        client.sock.shutdown(socket.SHUT_WR)
        witness_client.join(5.0)
        assert not witness_client.is_alive()
    assert gateway.plugin.running
    assert gateway.plugin.server._complain.due("defect")  # no defect has been logged
    client = gateway.connect()
    assert client.ask("@l").startswith("@l9;")


def test_a_defect_affects_only_one_client(
    gateway: Gateway, witness: Callable[[], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setitem(commands._HANDLERS, "q", broken)
    client = gateway.connect()
    client.send("@qIAS\n")
    assert client.closed()
    witness()
    assert "out of order" in caplog.text


def test_unknown_keys_are_refused_quickly(serve: Callable[..., Gateway]) -> None:
    gateway = serve([Definition(key=f"KEY{n}") for n in range(450)])
    client = gateway.connect()
    started = time.monotonic()
    client.send("".join(f"@rKEX{n}\n" for n in range(2000)))
    client.lines(2000)
    assert time.monotonic() - started < 2.0  # a search for the nearest names would take more than 10 s


def test_ten_simultaneous_clients_are_all_served(gateway: Gateway) -> None:
    barrier = threading.Barrier(10)
    answers: list[str] = []

    def visit() -> None:
        barrier.wait()
        client = gateway.connect()
        answers.append(client.ask("@rIAS"))

    threads = [threading.Thread(target=visit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert answers == ["@rIAS;0.0;01000"] * 10


def test_one_host_leaves_room_for_others(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    gateway = serve(clients=3, clients_per_host=2)
    greedy = [gateway.connect("127.0.0.2") for _ in range(4)]
    wait_for(lambda: gateway.plugin.get_status()["turned away"] == 2)
    assert gateway.connect("127.0.0.3").ask("@rIAS") == "@rIAS;0.0;01000"
    greedy[0].close()
    wait_for(lambda: gateway.plugin.get_status()["clients"] == 2)
    assert gateway.connect("127.0.0.2").ask("@rIAS") == "@rIAS;0.0;01000"


def test_a_client_that_has_vanished_is_dropped(
    gateway: Gateway, witness: Callable[[], None], wait_for: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulate the system's error for a peer that acknowledges nothing; `tests/net` cuts a real cable."""
    client = gateway.connect("127.0.0.2")
    assert client.ask("@sIAS") == "@sIAS"
    monkeypatch.setattr(server, "vanished", lambda sock: sock.getpeername()[0] == "127.0.0.2")
    assert client.closed()
    wait_for(lambda: gateway.plugin.get_status()["dropped"] == 1)
    witness()


def test_two_servers_on_one_port_are_found() -> None:
    claims = [list(Plugin.claims(Plugin("netfix", options).options)) for options in ({}, {"port": 0}, CLIENT)]
    assert claims == [[("TCP port 3490 of 127.0.0.1", "port")], [], []]


def test_a_flood_of_connections_does_no_harm(serve: Callable[..., Gateway], wait_for: Wait) -> None:
    gateway = serve(clients=20)
    first = gateway.connect()
    assert first.ask("@rIAS") == "@rIAS;0.0;01000"
    flood = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(300)]
    assert first.ask("@rIAS") == "@rIAS;0.0;01000"
    wait_for(lambda: gateway.plugin.get_status()["turned away"] == 281)
    assert gateway.plugin.get_status()["clients"] == 20
    for sock in flood:
        sock.close()
    wait_for(lambda: gateway.plugin.get_status()["clients"] == 1)
    assert gateway.connect().ask("@rIAS") == "@rIAS;0.0;01000"


def test_a_silent_connection_makes_room_for_a_new_one(
    serve: Callable[..., Gateway], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SILENT_S", 0.0)
    gateway = serve(clients=2)
    talker = gateway.connect()
    talker.ask("@rIAS")
    silent = gateway.connect()
    assert gateway.connect().ask("@rIAS") == "@rIAS;0.0;01000"
    assert silent.closed()
    assert talker.ask("@rIAS") == "@rIAS;0.0;01000"


# -- status ------------------------------------------------------------------------------------------------------------


def test_a_slow_status_delays_no_one_and_is_answered_in_order(gateway: Gateway, witness: Callable[[], None]) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def collect() -> dict[str, Any]:
        asked.set()
        assert go_on.wait(5.0)
        return {"health": "ok", "text": "two\nlines; über"}

    gateway.world.status = collect
    try:
        client = gateway.connect()
        client.send("@rIAS\n@xstatus\n@rMARK\n")
        assert client.line() == "@rIAS;0.0;01000"
        assert asked.wait(5.0)
        witness()
        go_on.set()
        head, _, tree = client.line().partition(";")
        assert head == "@xstatus"
        assert json.loads(tree) == {"health": "ok", "text": "two\nlines; über"}
        assert client.line() == "@rMARK;0;01000"
    finally:
        go_on.set()


def test_a_status_that_never_arrives_is_still_answered(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "STATUS_TIMEOUT_S", 0.05)
    go_on = threading.Event()
    gateway.world.status = lambda: {"late": go_on.wait(5.0)}
    try:
        answer = gateway.connect().ask("@xstatus")
        assert json.loads(answer.partition(";")[2])["health"] == "failed"
    finally:
        go_on.set()


def test_the_status_lists_the_clients(gateway: Gateway) -> None:
    client = gateway.connect("127.0.0.2")
    client.send("@sIAS\n@zz\n")
    client.lines(2)
    tree = gateway.plugin.get_status()
    ((name, line),) = tree["connections"].items()
    assert name == f"127.0.0.2 port {client.sock.getsockname()[1]}"
    assert (line["received"], line["sent"], line["errors"], line["subscriptions"]) == (2, 2, 1, 1)
    assert (tree["received"], tree["sent"], tree["clients"], tree["accepted"]) == (2, 2, 1, 1)
    client.close()


# -- options -----------------------------------------------------------------------------------------------------------


def test_a_rate_limit_keeps_the_newest_value_and_passes_flags(serve: Callable[..., Gateway]) -> None:
    gateway = serve(rate_limit={"IA*": 5.0})
    client = gateway.connect()
    client.send("@sIAS\n@sALT\n")
    client.lines(2)
    for n in range(1, 11):
        gateway.db.write("IAS", n, "test")
    gateway.db.write("ALT", 1, "test")
    started = time.monotonic()
    assert client.lines(2) == ["IAS;1.0;00000", "ALT;1.0;00000"]
    assert client.line() == "IAS;10.0;00000"
    assert time.monotonic() - started > 0.1
    gateway.db.write("IAS", 11, "test")
    gateway.db.write("IAS", 12, "test", FAIL)
    assert client.line() == "IAS;12.0;00010"


def problems(**options: Any) -> list[str]:
    db = Database([Definition(key="IAS"), Definition(key="ALT")])
    return [str(option) for option, _ in Plugin.check(Plugin("netfix", options).options, db)]  # type: ignore[misc]


def test_check_finds_options_that_cannot_work() -> None:
    assert problems() == []
    assert problems(allow=["127.0.0.0/8", "everybody"], admin=["1.2.3.4/99"]) == ["allow.1", "admin.0"]
    assert problems(rate_limit={"I*": 4.0, "EGT*": 4.0}) == ["rate_limit.EGT*"]
    assert problems(type="client") == ["type"]
    assert problems(outputs=[{"host": "other", "send": ["IAS"]}]) == ["outputs"]
    assert problems(type="both", outputs=[{"host": "other", "send": ["IAX"], "receive": ["A*"]}, {"host": "x"}]) == [
        "outputs.0.send.0", "outputs.1",
    ]  # fmt: skip


def test_unlisted_options_are_refused() -> None:
    with pytest.raises(ValueError, match="prot"):
        Plugin("netfix", {"prot": 3490})


# -- starting and stopping ---------------------------------------------------------------------------------------------


def test_run_reports_a_port_in_use(gateway: Gateway) -> None:
    second = Plugin("second", {"port": gateway.port})
    with pytest.raises(DeviceError, match=f"127.0.0.1 port {gateway.port}.*in use"):
        second.start()
    assert not second.running
    second.shutdown()


def test_failed_attempts_to_start_leave_no_descriptors_behind(gateway: Gateway) -> None:
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(DeviceError):
            Plugin("second", {"port": gateway.port}).start()
    assert len(os.listdir("/proc/self/fd")) == before


def test_it_stops_within_a_second_and_frees_the_port(serve: Callable[..., Gateway]) -> None:
    port = 0
    for _ in range(3):
        gateway = serve(port=port)
        port = gateway.port
        clients = [gateway.connect() for _ in range(5)]
        clients[0].send("@sIAS\n@l\n" * 100)
        started = time.monotonic()
        gateway.plugin.shutdown()
        assert time.monotonic() - started < 1.0
        assert all(client.closed() for client in clients)
        assert not gateway.db.item("IAS")._subscriptions
        assert not any(thread.name == "netfix" for thread in threading.enumerate())


def test_a_server_whose_thread_dies_is_not_running(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wait_for: Wait
) -> None:
    def broken(now: float) -> None:
        raise RuntimeError("out of order")

    caplog.set_level(logging.CRITICAL)
    client = gateway.connect()
    monkeypatch.setattr(gateway.plugin.server, "_do_housekeeping", broken)
    wait_for(lambda: not gateway.plugin.running)
    assert client.closed()
    assert gateway.plugin.health() == "the server's thread died: RuntimeError('out of order')"


def test_a_working_server_gives_signs_of_life(gateway: Gateway, wait_for: Wait) -> None:
    wait_for(lambda: gateway.plugin.alive is not None)


def test_a_write_without_subscribers_does_not_involve_the_server(gateway: Gateway) -> None:
    client = gateway.connect()
    client.ask("@sIAS")
    assert gateway.db.item("ALT")._subscriptions == ()
    client.ask("@uIAS")
    assert gateway.db.item("IAS")._subscriptions == ()


# -- the main display --------------------------------------------------------------------------------------------------


def test_the_main_display_can_connect(serve: Callable[..., Gateway]) -> None:
    gateway = serve(
        [
            *(Definition(key=f"KEY{n}", aux=("Min", "Max") if n < 110 else (), tolerance=2000) for n in range(449)),
            Definition(key="ZZLOADER", type="str"),
        ]
    )
    for n in range(449):
        gateway.db.write(f"KEY{n}", n, "test")
    client = gateway.connect()
    started = time.monotonic()
    keys = client.ask("@l").split(";")[2].split(",")
    client.send("".join(f"@q{key}\n" for key in keys))
    reads = 0
    for key in keys:
        fields = client.line().split(";")
        assert fields[0] == f"@q{key}"
        assert len(fields) == 8
        aux = [name for name in fields[7].split(",") if name]
        client.send(f"@s{key}\n@r{key}\n" + "".join(f"@r{key}.{name}\n" for name in aux))
        reads += 1 + len(aux)
    answers = client.lines(len(keys) + reads)
    elapsed = time.monotonic() - started
    assert reads == 670
    assert sum(line.startswith("@s") for line in answers) == 450
    assert not any("!" in line for line in answers)
    print(f"connected in {elapsed * 1000:.0f} ms")  # noqa: T201
    assert elapsed < 1.5


def test_a_new_client_sees_the_old_and_fail_flags(serve: Callable[..., Gateway]) -> None:
    gateway = serve()
    gateway.db.write("IAS", 5.0, "test", FAIL)
    gateway.db.item("IAS").flag(OLD, OLD, "test")
    assert gateway.connect().ask("@rIAS") == "@rIAS;5.0;01010"


# -- hold-ups, and flags with owners -----------------------------------------------------------------------------------


def test_updates_that_waited_during_a_hold_up_are_sent_as_old(serve: Callable[..., Gateway]) -> None:
    clock = Clock()
    gateway = serve(clock=clock)
    client = gateway.connect()
    for key in ("IAS", "FREE"):
        assert client.ask(f"@s{key}") == f"@s{key}"
    with gateway.plugin.server._fanout.working:  # the server cannot run, as if the process were stopped
        gateway.db.write("IAS", 100.0, "pitot", 0)
        gateway.db.write("FREE", 1.0, "test", 0)
        clock.now += 3.0
    assert client.lines(2) == ["IAS;100.0;01000", "FREE;1.0;00000"]
    assert client.ask("@rIAS") == "@rIAS;100.0;01000"
    gateway.db.write("IAS", 101.0, "pitot", 0)
    assert client.line() == "IAS;101.0;00000"


def test_clients_share_the_annunciate_flag_that_they_set(gateway: Gateway) -> None:
    ias = gateway.db.item("IAS")
    ias.write(100.0, "pitot", 0)
    first, second = gateway.connect(), gateway.connect()
    assert first.ask("@fIAS;a;1") == "@fIAS;a;1"
    assert ias.annunciators == {"netfix": "set by a client"}
    ias.write(101.0, "pitot", 0)
    assert first.ask("@rIAS") == "@rIAS;101.0;10000"
    first.close()
    assert second.ask("@fIAS;a;0") == "@fIAS;a;0"
    assert second.ask("@rIAS") == "@rIAS;101.0;00000"
    ias.write(101.0, "pitot", ANNUNCIATE)
    second.ask("@fIAS;a;0")
    assert ias.reading.annunciate, "its source has set it"


def test_a_client_can_flag_the_value_that_it_wrote(gateway: Gateway) -> None:
    client = gateway.connect()
    client.send("IAS;100.0;0000\n@fIAS;a;1\n")
    assert client.line() == "@fIAS;a;1"
    ias = gateway.db.item("IAS")
    assert (ias.said.annunciate, ias.annunciators) == (True, {})
    client.ask("@fIAS;a;0")
    assert not ias.reading.annunciate


def test_a_client_does_not_receive_its_own_writes_while_they_are_annunciated(gateway: Gateway) -> None:
    client, other = gateway.connect(), gateway.connect()
    for c in (client, other):
        c.send("@sIAS\n@sMARK\n")
        assert c.lines(2) == ["@sIAS", "@sMARK"]
    gateway.db.item("IAS").annunciate(True, "too fast", "alerts")
    assert gateway.heard(client) == ["IAS;0.0;11000"]
    client.send("IAS;100.0;0000\n")
    assert client.ask("@rIAS") == "@rIAS;100.0;10000"
    assert gateway.heard(client) == []
    assert other.lines(2)[1] == "MARK;1;00000"
    assert other.line() == "IAS;100.0;10000"


# -- overrides ---------------------------------------------------------------------------------------------------------


def test_an_override_needs_the_permission_to_administer(gateway: Gateway) -> None:
    raw = gateway.connect()
    assert raw.ask("@xhold 30 IAS;100;00000") == "@xhold 30 IAS!005"
    assert raw.ask("@xrelease IAS") == "@xrelease IAS!005"
    assert gateway.db.overridden() == {}


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("@xhold 30 NOPE;1;00000", "@xhold 30 NOPE!001"),
        ("@xhold 30 IAS;1", "@xhold 30 IAS!003"),
        ("@xhold 30 IAS;1;0000", "@xhold 30 IAS!003"),
        ("@xhold 30 IAS;1;00002", "@xhold 30 IAS!003"),
        ("@xhold 30 IAS;1;00000;", "@xhold 30 IAS!003"),
        ("@xhold x IAS;1;00000", "@xhold x IAS!003"),
        ("@xhold 30 IAS;nan;00000", "@xhold 30 IAS;IAS: the value written was 'nan'"),
        ("@xhold 3601 IAS;1;00000", "@xhold 3601 IAS;3601 s: an override lasts at most 60 min"),
        ("@xhold 0 IAS;1;00000", "@xhold 0 IAS;0 s: an override lasts at most 60 min"),
        ("@xrelease NOPE", "@xrelease NOPE!001"),
        ("@xrelease IAS;1", "@xrelease IAS!003"),
        ("@xrelease IAS", "@xrelease IAS;"),
    ],
)
def test_an_override_that_cannot_be(serve: Callable[..., Gateway], line: str, answer: str) -> None:
    gateway = serve(admin=["127.0.0.1"])
    assert gateway.connect().ask(line) == answer
    assert gateway.db.overridden() == {}


def test_everybody_sees_an_override_and_then_the_source_again(serve: Callable[..., Gateway]) -> None:
    gateway = serve(admin=["127.0.0.1"])
    gateway.db.write("IAS", 80.0, "eis")
    admin, display = gateway.connect(), gateway.connect()
    assert display.ask("@sIAS") == "@sIAS"
    assert admin.ask("@xhold 30 IAS;100;00010") == "@xhold 30 IAS;"
    assert display.line() == "IAS;100.0;00010"
    assert gateway.db.read("IAS").source == "override/netfix/127.0.0.1"
    assert admin.ask("@wIAS;90") == "@wIAS;100.0;00010"  # it is stored, but not shown
    assert admin.ask("@xrelease IAS") == "@xrelease IAS;"
    assert display.line() == "IAS;90.0;00000"
