"""What all drivers write: the bits of the flags, updates, words for yes and no, and counters."""

from __future__ import annotations

from fixgw.kit import update
from fixgw.kit.update import FALSE_WORDS, FLAG_NAMES, TRUE_WORDS, Update, begin_counting


def test_flags_are_bits_of_their_own() -> None:
    flags = (update.ANNUNCIATE, update.OLD, update.BAD, update.FAIL, update.SECFAIL)
    assert flags == (16, 8, 4, 2, 1)
    assert dict(zip("aobfs", flags, strict=True)) == update.FLAG_LETTERS
    assert sum(flags) - update.OLD == update.WRITABLE
    assert dict(zip(flags, ("annunciate", "old", "bad", "fail", "secfail"), strict=True)) == FLAG_NAMES


def test_an_update_is_good_unless_it_says_otherwise() -> None:
    assert Update("IAS", 100.0) == ("IAS", 100.0, 0, "")


def test_words_mean_yes_or_no() -> None:
    assert {"true", "t", "yes", "y", "on", "1"} == TRUE_WORDS
    assert {"false", "f", "no", "n", "off", "0"} == FALSE_WORDS


def test_counters_begin_at_nothing_and_go_on_where_they_were() -> None:
    assert begin_counting(None, "received", "used") == {"received": 0, "used": 0}
    before = {"used": 3, "other": 1}
    assert begin_counting(before, "received", "used") is before
    assert before == {"received": 0, "used": 3, "other": 1}
