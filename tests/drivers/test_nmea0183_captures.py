"""The decoder against recordings of real receivers, with gpsd's reading of them as reference.

We decode each capture sentence by sentence, and compare the result with every report (TPV) of gpsd at that point: the
position to 1e-6 degrees; speed, track, altitudes and time of day to the resolution of the report. Where gpsd says
that there is no fix, the position must be flagged.

We do not compare the magnetic track: gpsd computes it from a model of the earth's field, and with the wrong sign of the
variation (92.308 with 11.5985 E is 80.7095 magnetic, not 103.9065). Nor do we compare dates, which have no key.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from fixgw.database import FAIL
from fixgw.drivers.nmea import Decoder, Framer, Sentence
from fixgw.kit.update import Update

pytestmark = pytest.mark.slow

CAPTURES = Path(__file__).parents[1] / "captures" / "nmea0183"
LOGS = sorted(path.name for path in CAPTURES.glob("*.log"))

KNOT = 1852 / 3600  # m/s
FOOT = 0.3048  # m

#: Deliberate differences from gpsd: capture -> (field, number of reports) -> reason. The numbers must match exactly.
DIFFERENCES: dict[str, dict[tuple[str, int], str]] = {
    "GPSmap-76S.log": {
        ("position failed: the receiver is in simulator mode", 2): "GGA has quality 8, RMC and GLL say void and "
        "simulator; gpsd reports the position all the same, we never let a simulated one pass for real",
        ("altMSL not there", 2): "as above: nothing else of a simulated fix is written",
        ("altHAE not there", 2): "as above",
    },
    "garmin25lp.log": {
        (
            "good without a fix",
            1,
        ): "one GGA with quality 1 counts 0 satellites, which gpsd takes for no fix; RMC before "
        "it says valid and GSA after it lists three satellites, so that we believe the quality",
    },
    "garmin48.log": {
        (
            "altMSL",
            7,
        ): "gpsd lets PGRMZ (48 ft, rounded, and barometric in receivers with a sensor) replace GGA's 14.7 m; "
        "we keep to GGA",
        ("altHAE", 7): "as above",
    },
    "iTrek.log": {
        (
            "altHAE not there",
            32,
        ): "the receiver gives no geoid separation; gpsd takes it from a model, we make nothing up",
    },
}


class Receiver:
    """The state of the keys after the sentences so far, as in a database."""

    def __init__(self) -> None:
        self.framer = Framer()
        self.decoder = Decoder(clock=lambda: 0.0)
        self.now: dict[str, Update] = {}

    def feed(self, data: bytes) -> list[Sentence]:
        sentences = self.framer.feed(data)
        for sentence in sentences:
            for update in self.decoder.decode(sentence):
                if update.value is None and update.key in self.now:
                    update = update._replace(value=self.now[update.key].value)
                self.now[update.key] = update
        return sentences

    def value(self, key: str) -> float | None:
        """The value, if there is one and it has not failed."""
        update = self.now.get(key)
        return update.value if update and isinstance(update.value, float) and not update.flags & FAIL else None


def reference(log: str) -> list[str]:
    return (CAPTURES / f"{log}.chk").read_bytes().decode("latin-1").splitlines()


def differences(log: str) -> Counter[str]:
    """The fields that differ from gpsd's reports, and how often."""
    receiver = Receiver()
    found: Counter[str] = Counter()
    for line in reference(log):
        if line.startswith("$"):
            receiver.feed(line.encode("latin-1") + b"\r\n")
            continue
        report = json.loads(line)
        if report["class"] != "TPV":
            continue
        place = receiver.now.get("LAT")
        if report["mode"] == 1:
            if place is not None and not place.flags:
                found["good without a fix"] += 1
            continue
        if "lat" not in report:
            continue
        assert place is not None, line
        if place.flags:
            found[f"position failed: {place.reason}"] += 1
        for key, degrees in (("LAT", report["lat"]), ("LONG", report["lon"])):
            if receiver.now[key].value != pytest.approx(degrees, abs=1e-6, rel=0):
                found[key] += 1
        # Reports are rounded to 1e-3 m/s, 1e-4 degrees and 1e-4 m.
        for name, key, unit, resolution in (
            ("speed", "GS", KNOT, 1e-3),
            ("track", "TRACK", 1.0, 1e-4),
            ("altMSL", "TALT", FOOT, 1e-4),
            ("altHAE", "GPS_ELLIPSOID_ALT", FOOT, 1e-4),
        ):
            if name in report:
                value = receiver.value(key)
                if value is None:
                    found[f"{name} not there"] += 1
                elif abs(value * unit - report[name]) > 0.51 * resolution:
                    found[name] += 1
        if "time" in report and receiver.now["TIMEZ"].value != report["time"][11:19]:
            found["time"] += 1
    return found


def test_there_are_enough_captures() -> None:
    assert len(LOGS) >= 15
    assert set(DIFFERENCES) <= set(LOGS)


@pytest.mark.parametrize("log", LOGS)
def test_we_read_what_gpsd_reports_apart_from_named_differences(log: str) -> None:
    assert differences(log) == Counter(dict(DIFFERENCES.get(log, {}).keys()))


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_the_raw_stream_holds_the_sentences_that_gpsd_found(log: str, size: int) -> None:
    raw = (CAPTURES / log).read_bytes()
    receiver = Receiver()
    ours = [
        f"{sentence.talker}{sentence.kind},{','.join(sentence.fields)}"
        for start in range(0, len(raw), size)
        for sentence in receiver.feed(raw[start : start + size])
    ]
    assert ours == [line[1:].partition("*")[0] for line in reference(log) if line.startswith("$")]


def test_the_captures_hold_positions_to_compare() -> None:
    positions = sum('"lat"' in line for log in LOGS for line in reference(log))
    assert positions > 300


@pytest.mark.parametrize("log", LOGS)
def test_every_sentence_of_a_capture_is_accounted_for(log: str) -> None:
    counts: dict[str, int] = {}
    framer, decoder = Framer(counts), Decoder(lambda: 0.0, counts)
    for sentence in framer.feed((CAPTURES / log).read_bytes()):
        decoder.decode(sentence)
    refused = sum(counts[reason] for reason in Framer.REFUSALS)
    assert counts["received"] == counts["used"] + counts["ignored"] + refused
    assert counts["used"] > 0
    assert counts["absurd values"] == 0
