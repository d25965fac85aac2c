"""Lines in a stream of bytes that may be cut anywhere."""

from __future__ import annotations

import pytest

from fixgw.kit.lines import Lines

STREAM = b"one\n\ntwo\r\nthree"


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_lines_are_found_wherever_the_stream_is_cut(cut: int) -> None:
    lines = Lines(5)
    assert lines.feed(STREAM[:cut]) + lines.feed(STREAM[cut:]) == [b"one", b"", b"two\r"]
    assert lines.feed(b"\n") == [b"three"]


def test_a_line_that_is_too_long_comes_at_once_and_the_rest_of_it_never() -> None:
    lines = Lines(5)
    assert lines.feed(b"12345") == []
    assert lines.feed(b"6") == [b"123456"]
    assert lines.feed(b"7\nnext\n") == [b"next"]


def test_a_line_of_which_bytes_were_lost_is_left_out_and_a_new_beginning_is_not() -> None:
    lines = Lines(5)
    lines.feed(b"ab")
    lines.skip()
    assert lines.feed(b"c") == []
    assert lines.feed(b"d\ne\n") == [b"e"]
    lines.feed(b"ab")
    lines.restart()
    assert lines.feed(b"c\n") == [b"c"]
    lines.skip()
    lines.restart()
    assert lines.feed(b"d\n") == [b"d"]
