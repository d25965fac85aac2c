"""Expectations: what is so at one moment, when it has to be so, and the words."""

from __future__ import annotations

import pytest

from fixgw.database import ANNUNCIATE, BAD, FAIL, OLD, Definition
from fixgw.hw_sim.bench.expect import (
    AlertIs,
    Claim,
    Each,
    Expectation,
    HasFlags,
    Holds,
    Is,
    SourceIs,
    Unchanged,
    Watch,
    facts_of,
)
from fixgw.kit.expression import BadExpression

FACTS = facts_of(
    [
        Definition(key="ALT", units="ft", decimals=0),
        Definition(key="OILP1", units="psi"),
        Definition(key="HEAD", units="deg", wrap=360.0),
        Definition(key="BTN1", type="bool"),
        Definition(key="WPNAME", type="str"),
        Definition(key="EGT11", units="degC"),
        Definition(key="EGT12", units="degC"),
        Definition(key="IAS", units="knots", aux=("Vne",)),
    ]
)


@pytest.fixture
def watch() -> Watch:
    return Watch(FACTS, zero=1000.0)


def judged(watch: Watch, claim: Claim, at: float = 1012.5) -> Expectation:
    """An expectation that is judged at once."""
    expected = watch.expect(claim)
    watch.pass_to(at)
    return expected


# -- what is so --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "shown", "outcome", "words"),
    [
        (Is("ALT", 5000, 100), 4870.0, "failed", "ALT was 4,870 ft, 30 ft too low at 12.5 s"),
        (Is("ALT", 5000, 100), 5100.4, "failed", "ALT was 5,100 ft, 0.4 ft too high at 12.5 s"),
        (Is("ALT", 5000, 100), 4900.0, "met", "ALT was 4,900 ft at 12.5 s"),
        (Is("OILP1", 12.0), 12.000000001, "met", "OILP1 was 12 psi at 12.5 s"),
        (Is("OILP1", min=10, max=20), 9.25, "failed", "OILP1 was 9.25 psi, 0.75 psi too low at 12.5 s"),
        (Is("OILP1", min=10, max=20), 20, "met", "OILP1 was 20 psi at 12.5 s"),
        (Is("HEAD", 358.0, 5.0), 2.0, "met", "HEAD was 2 deg at 12.5 s"),
        (Is("HEAD", 358.0, 5.0), 10.0, "failed", "HEAD was 10 deg, 7 deg too high at 12.5 s"),
        (Is("BTN1", True), False, "failed", "BTN1 was no, not yes at 12.5 s"),
        (Is("BTN1", True), True, "met", "BTN1 was yes at 12.5 s"),
        (Is("BTN1", 1), True, "failed", "BTN1 was yes, not 1 at 12.5 s"),
        (Is("WPNAME", "ALFA"), "BRAVO", "failed", "WPNAME was 'BRAVO', not 'ALFA' at 12.5 s"),
        (Is("WPNAME", min=1), "BRAVO", "failed", "WPNAME was 'BRAVO', which is not a number at 12.5 s"),
        (Is("ALT"), float("nan"), "failed", "ALT was nan ft, which is not a number at 12.5 s"),
        (
            Holds("ALT > 3000 and not ALT.old"),
            4000.0,
            "met",
            "ALT > 3000 and not ALT.old was true: ALT was 4,000 ft at 12.5 s",
        ),
        (Holds("ALT > 3000"), 2870.0, "failed", "ALT > 3000 was false: ALT was 2,870 ft at 12.5 s"),
        (Holds("OILP1 > 3"), None, "failed", "OILP1 > 3 was not known: OILP1 had no value at 12.5 s"),
        (HasFlags("ALT"), 1.0, "met", "ALT was good at 12.5 s"),
        (HasFlags("ALT", ("not old", "not bad")), 1.0, "met", "ALT was good at 12.5 s"),
        (HasFlags("ALT", ("old",)), 1.0, "failed", "ALT was good at 12.5 s"),
        (SourceIs("ALT", "sim/*"), 1.0, "met", "ALT came from sim/eis at 12.5 s"),
        (SourceIs("ALT", "gps"), 1.0, "failed", "ALT came from sim/eis at 12.5 s"),
    ],
    ids=str,
)
def test_a_good_value_is_judged_in_words(watch: Watch, claim: Claim, shown: float, outcome: str, words: str) -> None:
    if shown is not None:
        for key in claim.keys or ("ALT",):
            watch.show(1000.0, key, shown, 0, "sim/eis")
    expected = judged(watch, claim)
    assert (expected.outcome, expected.words) == (outcome, words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [(OLD, "ALT was old (5,000 ft)"), (BAD | FAIL, "ALT was bad and failed (5,000 ft)"), (ANNUNCIATE, "")],
)
def test_a_value_that_displays_do_not_show_is_not_the_value(watch: Watch, flags: int, words: str) -> None:
    watch.show(1000.0, "ALT", 5000.0, flags)
    expected = judged(watch, Is("ALT", 5000))
    assert expected.words == f"{words or 'ALT was 5,000 ft'} at 12.5 s"
    assert expected.outcome == ("failed" if words else "met")


def test_aux_values_have_the_units_of_their_key(watch: Watch) -> None:
    watch.show_aux(1000.0, "IAS.Vne", 150.0)
    assert judged(watch, Is("IAS.Vne", 160)).words == "IAS.Vne was 150 knots, 10 knots too low at 12.5 s"
    assert judged(watch, Holds("IAS.Vne < 160")).outcome == "met"
    assert judged(watch, Is("IAS.Vs", 40)).words == "IAS.Vs had no value at 12.5 s"


@pytest.mark.parametrize(
    ("state", "wanted", "outcome", "words"),
    [
        ("active", "raised", "met", "alert oil was raised at 12.5 s"),
        ("acknowledged", "raised", "failed", "alert oil was acknowledged at 12.5 s"),
        ("acknowledged", "acknowledged", "met", "alert oil was acknowledged at 12.5 s"),
        ("normal", "cleared", "met", "alert oil was cleared at 12.5 s"),
        ("latched", "cleared", "failed", "alert oil was latched at 12.5 s"),
    ],
)
def test_alerts_are_raised_acknowledged_and_cleared(
    watch: Watch, state: str, wanted: str, outcome: str, words: str
) -> None:
    watch.show_alert(1000.0, "oil", state, "warning")
    expected = judged(watch, AlertIs("oil", wanted))
    assert (expected.outcome, expected.words) == (outcome, words)


def test_an_alert_has_a_level_and_may_be_misspelt(watch: Watch) -> None:
    watch.show_alert(1000.0, "oil-pressure", "active", "caution")
    assert judged(watch, AlertIs("oil-pressure", "raised", "caution")).outcome == "met"
    assert judged(watch, AlertIs("oil-pressure", "raised", "warning")).words == (
        "alert oil-pressure was raised as caution at 12.5 s"
    )
    assert judged(watch, AlertIs("oil-presure")).words == (
        "there was no alert oil-presure (did you mean 'oil-pressure'?) at 12.5 s"
    )


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (Is("ALTT", 1), "the gateway has no key ALTT (did you mean 'ALT'?)"),
        (Holds("ALT > 1 and OILP2 > 3"), "the gateway has no key OILP2 (did you mean 'OILP1'?)"),
        (Each(("ALT", "CHT*"), lambda key: [HasFlags(key)]), "the gateway has no key that matches CHT*"),
        (Unchanged(("X",)), "the gateway has no key X"),
    ],
    ids=str,
)
def test_a_key_that_the_gateway_does_not_have_fails_at_once(watch: Watch, claim: Claim, words: str) -> None:
    expected = watch.expect(claim, within=10.0)
    watch.pass_to(1001.0)
    assert (expected.outcome, expected.words) == ("failed", words)


def test_words_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'olf' is not a flag \(did you mean 'old'\?\)"):
        HasFlags("ALT", ("olf",))
    with pytest.raises(ValueError, match=r"'rised' is nothing that an alert can be \(did you mean 'raised'\?\)"):
        AlertIs("oil", "rised")
    with pytest.raises(ValueError, match=r"'warnig' is not a level \(did you mean 'warning'\?\)"):
        AlertIs("oil", level="warnig")
    with pytest.raises(BadExpression):
        Holds("ALT >")


def test_several_keys_are_judged_together(watch: Watch) -> None:
    for key in ("EGT11", "EGT12", "ALT", "OILP1"):
        watch.show(1000.0, key, 700.0)
    everything = Each(("*",), lambda key: [HasFlags(key)], but=("HEAD", "BTN1", "WPNAME", "IAS"))
    assert str(everything) == "* is good (except HEAD, BTN1, WPNAME, IAS)"
    assert judged(watch, everything).words == "all 4 keys were so at 12.5 s"
    watch.show(1013.0, "EGT12", 700.0, OLD)
    expected = judged(watch, Each(("EGT*", "ALT"), lambda key: [HasFlags(key)]), 1013.0)
    assert (expected.outcome, expected.words) == ("failed", "EGT12 was old at 13 s")


# -- when --------------------------------------------------------------------------------------------------------------


def test_something_is_so_within_a_time(watch: Watch) -> None:
    expected = watch.expect(Is("OILP1", 12, 1), within=2.0)
    watch.show(1000.0, "OILP1", 55.0)
    watch.pass_to(1000.0)
    assert expected.outcome == "pending"
    watch.show(1001.25, "OILP1", 12.5)
    watch.pass_to(1001.25)
    assert (expected.outcome, expected.words, expected.took) == (
        "met",
        "OILP1 was 12.5 psi at 1.25 s, after 1.25 s",
        1.25,
    )


def test_the_last_moment_is_in_time_and_the_next_is_not(watch: Watch) -> None:
    for late, outcome in ((0.0, "met"), (0.01, "failed")):
        expected = watch.expect(Is("BTN1", True), within=2.0)
        now = 1000.0 + 10 * late * 100
        watch.show(now, "BTN1", False)
        watch.pass_to(now)
        watch.show(now + 2.0 + late, "BTN1", True)
        watch.pass_to(now + 2.0 + late)
        assert expected.outcome == outcome, expected.words


def test_a_time_passes_without_a_change(watch: Watch) -> None:
    watch.show(1000.0, "OILP1", 55.0)
    expected = watch.expect(HasFlags("OILP1", ("old",)), within=2.0)
    watch.pass_to(1001.0)
    watch.pass_to(1002.99)
    assert expected.outcome == "pending"
    watch.pass_to(1003.0)
    assert (expected.outcome, expected.words) == ("failed", "OILP1 was good at 3 s")
    assert not watch.pending


def test_something_stays_so(watch: Watch) -> None:
    watch.show(1000.0, "ALT", 5000.0)
    kept = watch.expect(HasFlags("ALT"), lasting=10.0)
    for step in range(11):
        assert kept.outcome == "pending"
        watch.pass_to(1000.0 + step)
    assert (kept.outcome, kept.words) == ("met", "ALT was good at 0 s")


def test_the_shortest_lapse_is_seen_even_if_it_is_over_in_the_same_moment(watch: Watch) -> None:
    watch.show(1000.0, "ALT", 5000.0)
    kept = watch.expect(HasFlags("ALT"), lasting=10.0)
    watch.pass_to(1000.0)
    watch.show(1003.5, "ALT", 5000.0, OLD)
    watch.show(1003.5, "ALT", 5000.0)
    watch.pass_to(1003.5)
    assert (kept.outcome, kept.words) == ("failed", "ALT was old at 3.5 s, after it had been so for 3.5 s")


def test_something_that_settles_may_sway_within_its_time(watch: Watch) -> None:
    expected = watch.expect(Is("OILP1", 12, 1), within=2.0, lasting=3.0)
    for at, value in ((0.0, 55), (1.0, 12), (1.2, 14), (1.9, 12)):
        watch.show(1000.0 + at, "OILP1", value)
        watch.pass_to(1000.0 + at)
    watch.pass_to(1004.85)
    assert watch.pending
    watch.pass_to(1004.95)
    assert expected.outcome == "met"
    assert expected.took == pytest.approx(1.9)


def test_no_other_key_changes(watch: Watch) -> None:
    for key in FACTS:
        watch.show(1000.0, key, 1.0)
    expected = watch.expect(Unchanged(but=("EGT*",)), lasting=10.0)
    alone = watch.expect(Unchanged(("OILP1",)), lasting=10.0)
    watch.pass_to(1000.0)
    watch.show(1001.0, "EGT11", 2.0)
    watch.show(1002.0, "OILP1", 1.0)
    watch.pass_to(1002.0)
    assert expected.outcome == "pending"
    watch.show(1003.0, "ALT", 1.0, OLD)
    watch.pass_to(1003.0)
    assert (expected.outcome, expected.words) == (
        "failed",
        "ALT became old (1 ft) at 3 s, after it had been so for 3 s",
    )
    watch.pass_to(1010.0)
    assert alone.outcome == "met"


def test_what_is_not_decided_when_the_run_ends_has_failed(watch: Watch) -> None:
    watch.show(1000.0, "ALT", 5000.0)
    late = watch.expect(HasFlags("ALT", ("old",)), within=60.0)
    kept = watch.expect(HasFlags("ALT"), lasting=60.0)
    watch.pass_to(1000.0)
    never = watch.expect(Is("OILP1", 3), within=5.0)
    watch.end(1050.0)
    assert [each.outcome for each in (late, kept, never)] == ["failed"] * 3
    assert late.words == "ALT was good, when the run ended at 50 s"
    assert kept.words == "ALT was good, but the run ended 10 s too early"
    assert never.words == "OILP1 had no value, when the run ended at 50 s"


def test_everything_fails_when_the_gateway_has_gone(watch: Watch) -> None:
    watch.show(1000.0, "ALT", 1.0)
    begun = watch.expect(HasFlags("ALT", ("old",)), within=60.0)
    watch.pass_to(1000.0)
    new = watch.expect(HasFlags("ALT"))
    watch.fail(1004.0, "the gateway has gone")
    assert {(each.outcome, each.words) for each in (begun, new)} == {("failed", "the gateway has gone")}
    assert not watch.pending


def test_the_title_says_what_is_expected_and_when() -> None:
    assert Expectation(Is("OILP1", 12.0, 0.5), 2.0, 10.0).title == "OILP1 is 12 ± 0.5 within 2 s for 10 s"
    assert Expectation(Is("OILP1", min=1, max=5)).title == "OILP1 is at least 1 and is at most 5"
    assert Expectation(HasFlags("OILP1", ("old", "not bad"))).title == "OILP1 is old and not bad"
    assert Expectation(AlertIs("oil", "raised", "warning")).title == "alert oil is raised as warning"
    assert Expectation(Unchanged(but=("ALT",))).title == "* does not change, except ALT"
