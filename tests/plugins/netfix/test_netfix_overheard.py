"""What a third party makes of a NetFIX connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixgw.netfix.overheard import (
    LATENCIES,
    MAX_KEYS,
    MAX_WAITING,
    Answered,
    Conversation,
    Event,
    Told,
    Unanswered,
    Unclear,
    Wrote,
    plain,
)


@pytest.fixture
def talk() -> Conversation:
    return Conversation(1, 100.0)


def says(talk: Conversation, at: float, text: str) -> list[Event]:
    return talk.hear(at, "client", f"{text}\n".encode())


def told(talk: Conversation, at: float, text: str) -> list[Event]:
    return talk.hear(at, "server", f"{text}\n".encode())


def test_an_answer_belongs_to_its_command_whatever_comes_between(talk: Conversation) -> None:
    says(talk, 100.0, "@rIAS\n@rIAS.Vne\n@sALT\n@rIA")
    assert told(talk, 100.5, "IAS;99.0;00000")[0] == Told(
        at=100.5, client=1, key="IAS", value=99.0, flags="00000", before=None
    )
    answers = told(talk, 101.0, "@rIAS;100.0;00000\n@rIAS.Vne;150.0\n@sALT\n@rIA!001")
    assert [(a.command, a.seconds, a.error) for a in answers if isinstance(a, Answered)] == [
        ("@rIAS", 1.0, ""),
        ("@rIAS.Vne", 1.0, ""),
        ("@sALT", 1.0, ""),
        ("@rIA", 1.0, "001"),
    ]
    summary = talk.summary(110.0)
    assert summary.commands == {"read": 3, "subscribe": 1}
    assert summary.refused == {"@rIA: unknown key": 1}
    assert summary.unanswered == summary.unclear == 0
    assert (summary.first_answer, summary.last_subscription, summary.first_told) == (1.0, 1.0, 0.5)


def test_answers_that_overtake_each_other_keep_their_latency(talk: Conversation) -> None:
    says(talk, 100.0, "@xstatus")
    says(talk, 101.0, "@rIAS")
    (first,) = told(talk, 101.5, "@rIAS;1.0;00000")
    (second,) = told(talk, 103.0, '@xstatus;{"a": 1}')
    assert isinstance(first, Answered)
    assert isinstance(second, Answered)
    assert (first.seconds, second.seconds) == (0.5, 3.0)
    assert second.command == "@xstatus"


def test_the_gap_of_a_key_lasts_from_the_subscription_to_the_end(talk: Conversation) -> None:
    says(talk, 100.0, "@sIAS\n@sALT")
    told(talk, 100.0, "@sIAS\n@sALT")
    for at in (101.0, 101.5, 106.0):
        told(talk, at, "IAS;1.0;00000")
    keys = talk.summary(110.0).keys
    assert (keys["IAS"].told, keys["IAS"].longest_gap, keys["IAS"].per_second) == (3, 4.5, 0.3)
    assert (keys["ALT"].told, keys["ALT"].longest_gap) == (0, 10.0)
    says(talk, 111.0, "@uIAS")
    told(talk, 111.0, "@uIAS")
    assert talk.summary(200.0).keys["IAS"].longest_gap == 5.0


def test_a_key_that_is_subscribed_again_has_not_come_more_often(talk: Conversation) -> None:
    for at in (100.0, 109.0):
        says(talk, at, "@sIAS")
        told(talk, at, "@sIAS")
        told(talk, at, "IAS;1.0;00000\n" * 5)
        says(talk, at, "@uIAS")
        told(talk, at, "@uIAS")
    assert talk.summary(110.0).keys["IAS"].per_second == 1.0


def test_changes_of_flags_are_counted_from_the_first_reading(talk: Conversation) -> None:
    says(talk, 100.0, "@rIAS")
    told(talk, 100.0, "@rIAS;1.0;00000")
    events = told(talk, 101.0, "IAS;1.0;01000\nIAS;2.0;00000\nIAS;3.0;00000\nIAS.Vne;150.0")
    assert [(e.before, e.flags) for e in events if isinstance(e, Told)] == [
        ("00000", "01000"),
        ("01000", "00000"),
        ("00000", "00000"),
        (None, ""),
    ]
    use = talk.summary(102.0).keys["IAS"]
    assert (use.value, use.flags, use.flag_changes, use.reads, use.told) == (3.0, "00000", 2, 1, 3)


@pytest.mark.parametrize(
    ("line", "key", "value", "flags"),
    [
        ("BARO;29.92;000", "BARO", 29.92, "000"),
        ("BARO;29.92", "BARO", 29.92, ""),
        ("@xsim IAS;100.0;00000", "IAS", 100.0, "00000"),
        ("@xset 7 panel-1a2b3c BARO;29.92;00000", "BARO", 29.92, "00000"),
        ("@xvia 4d5e6f OILT1;90.0;00000", "OILT1", 90.0, "00000"),
    ],
)
def test_value_sentences_have_no_answer(talk: Conversation, line: str, key: str, value: float, flags: str) -> None:
    assert says(talk, 100.0, line) == [Wrote(at=100.0, client=1, key=key, value=value, flags=flags)]
    assert talk.end(200.0) == []


def test_what_has_no_answer_is_told_at_the_end(talk: Conversation) -> None:
    says(talk, 100.0, "@rIAS\n@rALT")
    told(talk, 100.1, "@rALT;1.0;00000")
    assert talk.end(105.0) == [Unanswered(at=105.0, client=1, command="@rIAS")]
    assert talk.summary(105.0).unanswered == 1


def test_a_list_may_come_in_several_lines(talk: Conversation) -> None:
    says(talk, 100.0, "@l some rubbish")
    (answer,) = told(talk, 100.5, "@l4;0;IAS,ALT\n@l4;2;VS,HEAD")
    assert isinstance(answer, Answered)
    assert answer.answer == "@l4;0;IAS,ALT"
    assert talk.summary(101.0).unclear == 0


def test_lines_that_are_no_sentences_are_named(talk: Conversation) -> None:
    assert talk.hear(100.0, "client", b"\xff\xfe\n") == [
        Unclear(at=100.0, client=1, side="client", line="\ufffd\ufffd")
    ]
    assert told(talk, 101.0, "hello") == [Unclear(at=101.0, client=1, side="server", line="hello")]
    says(talk, 102.0, "hello")
    (refused,) = told(talk, 102.5, "hello!004")
    assert isinstance(refused, Answered)
    assert refused.error == "004"


def test_after_something_was_missed_the_cut_line_is_left_out(talk: Conversation) -> None:
    talk.hear(100.0, "server", b"IAS;100")
    talk.miss()
    assert talk.hear(101.0, "server", b"LT;5") == []
    (event,) = talk.hear(101.0, "server", b"000.0;00000\nVS;1.0;00000\n")
    assert isinstance(event, Told)
    assert event.key == "VS"


def test_percentiles_are_those_of_the_latest_answers(talk: Conversation) -> None:
    for n in range(LATENCIES + 100):
        says(talk, 200.0 + n, "@rIAS")
        told(talk, 200.0 + n + (5.0 if n < 100 else 0.25), "@rIAS;1.0;00000")
    latencies = talk.summary(1e6).latencies
    assert latencies is not None
    assert latencies.p50 == pytest.approx(0.25)
    assert latencies.p99 == pytest.approx(0.25)
    assert latencies.longest == pytest.approx(5.0)


def test_memory_is_bounded_whatever_comes(talk: Conversation) -> None:
    for n in range(3 * MAX_KEYS):
        told(talk, 101.0, f"K{n}{'x' * 1000};1.0;00000")
        says(talk, 101.0, f"@rK{n}")
    assert len(talk.keys) == MAX_KEYS
    assert max(map(len, talk.keys)) <= 64
    summary = talk.summary(102.0)
    assert summary.keys_left_out == 2 * MAX_KEYS
    assert summary.unanswered == 3 * MAX_KEYS
    assert len(talk.end(103.0)) == MAX_WAITING


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=30))
def test_nothing_that_either_side_sends_raises(pieces: list[tuple[bool, bytes]]) -> None:
    talk = Conversation(1, 0.0)
    for n, (client, data) in enumerate(pieces):
        for event in talk.hear(float(n), "client" if client else "server", data.replace(b"x", b"\n")):
            plain(event)
    talk.end(100.0)
    plain(talk.summary(100.0))
