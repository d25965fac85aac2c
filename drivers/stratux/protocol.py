"""What an ADS-B receiver with GPS and attitude (Stratux, iLevil) says in GDL 90, as updates. See `drivers/gdl90.py`.

The position counts only while heartbeats come and say that the GPS is valid. Attitude in Stratux's format is preferred
to ForeFlight's, which comes less often. Nothing here takes ground speed for airspeed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal

from fixgw.drivers.gdl90 import (
    NACP_METRES,
    AttitudeForeFlight,
    AttitudeLE,
    Framer,
    GeometricAltitude,
    Heartbeat,
    Identity,
    Message,
    Rejected,
    Report,
    StratuxHeartbeat,
    Unknown,
    decode,
    unframe,
)
from fixgw.kit.place import Places
from fixgw.kit.units import FEET_PER_METRE
from fixgw.kit.update import BAD, FAIL, NEVER, Update, begin_counting

ATTITUDE = frozenset({"ROLL", "PITCH", "HEAD", "ALAT", "ANORM", "ROT", "VS", "PALT", "IAS", "TAS"})
POSITION = ("LAT", "LONG", "GS", "TRACK", "GPS_ACCURACY_HORIZ")
HEIGHT = ("GPS_ELLIPSOID_ALT", "TALT")
_OF_FIX = (*POSITION, *HEIGHT, "GPS_ACCURACY_VERTICAL")
KEYS = ATTITUDE | {*POSITION, *HEIGHT, "GPS_FIX_TYPE", "GPS_ACCURACY_VERTICAL", "ALT"}

#: Without a heartbeat for this long there is no position. Senders owe one every second.
HEARTBEAT_PATIENCE_S = 3.0
#: A position of which no report has come for this long is none, whatever the heartbeats say.
POSITION_PATIENCE_S = 3.0
#: Attitude in ForeFlight's format is ignored for this long after attitude in Stratux's. An unknown one is none.
PREFERENCE_S = 1.0
#: A device gets this long to say what its geometric altitude is. Its identity is due every second.
IDENTITY_PATIENCE_S = 2.5
#: A time of day that stays the same for this long is that of a device that hangs.
STUCK_AFTER_S = 5.0

NO_HEARTBEAT = "no heartbeat"
NO_FIX = "the receiver has no GPS position"
NOT_KNOWN = "the receiver does not know it"
STUCK = "the receiver's clock has stopped"
NOT_A_TRACK = "the receiver has a heading in its place"
ESTIMATED = "the receiver estimates its position (extrapolation)"

#: How a sender means the airspeed in Stratux's attitude report.
Airspeed = Literal["knots", "tenths", "ignored"]
_KNOTS = {"knots": 1.0, "tenths": 0.1}

Traffic = Callable[[Report, bytes], object]


class Decoder:
    """Decodes what one receiver sends. Holds at most one unfinished frame. `clock` returns monotonic seconds.

    Each report of another aircraft goes to `traffic`, with the message that it came in; `owned` is called with the
    address that the receiver uses for this aircraft.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("bad checksum", "wrong length", "forbidden values")

    def __init__(
        self,
        clock: Callable[[], float],
        counts: dict[str, int] | None = None,
        *,
        airspeed: Airspeed = "knots",
        traffic: Traffic = lambda report, message: None,
        owned: Callable[[int], object] = lambda address: None,
    ) -> None:
        self.counts = begin_counting(counts, "received", "used", "ignored", *self.REFUSALS, "absurd values", "traffic")
        self.refused = ""
        #: What the receiver calls itself; empty before it has.
        self.name = ""
        self._clock = clock
        self._airspeed = airspeed
        self._traffic = traffic
        self._owned = owned
        self._framer = Framer()
        self._places = Places(clock)
        self._heartbeat_at = self._height_at = NEVER
        self._levelled_at = self._other_levelled_at = NEVER  # when the attitude was last known, by format
        self._began_at: float | None = None  # when the first frame came
        self._height: str | None = None  # the key of the geometric altitude, once it is known
        self._stratux_gps = True
        self._time: int | None = None  # of the last heartbeat
        self._time_since: float  # from the first one on
        self._lost = ""  # why there is no position, as far as heartbeats tell
        self._placed: bool | None = None  # None: nothing said yet
        self._placed_at: float  # from the first position on, and so is the next
        self._estimated: bool

    @property
    def trouble(self) -> str:
        if self._began_at is None:
            return ""
        return self._lost or (NO_FIX if not self._placed else ESTIMATED if self._estimated else "")

    def feed(self, data: bytes) -> list[Update]:
        """The updates of the frames that `data` completes, in order."""
        return [update for stuffed in self._framer.feed(data) for update in self._frame(stuffed)]

    def interrupt(self) -> None:
        """A datagram ends, or bytes were lost: forget an unfinished frame."""
        self._framer.interrupt()

    def tick(self) -> list[Update]:
        """What is due because heartbeats or positions have stopped."""
        if self._began_at is None or self._lost == NO_HEARTBEAT:
            return []
        now, since = self._clock(), self._began_at if self._heartbeat_at == NEVER else self._heartbeat_at
        if now - since > HEARTBEAT_PATIENCE_S:
            return self._lose(NO_HEARTBEAT)
        if self._placed and not self._lost and now - self._placed_at > POSITION_PATIENCE_S:
            self._placed = False
            return [Update(key, None, FAIL, NO_FIX) for key in (*_OF_FIX, "GPS_FIX_TYPE")]
        return []

    def _frame(self, stuffed: bytes) -> Iterator[Update]:
        self.counts["received"] += 1
        message = unframe(stuffed)
        if message is None:
            self._refuse("bad checksum", stuffed)
            return
        said = decode(message)
        if said is None:
            self._refuse("wrong length", message)
        elif isinstance(said, Rejected):
            self._refuse("forbidden values", message)
        elif isinstance(said, Unknown):
            self.counts["ignored"] += 1
        else:
            self.counts["used"] += 1
            if self._began_at is None:
                self._began_at = self._clock()
            yield from self._updates(said, message)

    def _refuse(self, reason: str, data: bytes) -> None:
        self.counts[reason] += 1
        self.refused = f"{reason}: {data[:40].hex()}"

    def _updates(self, said: Message, message: bytes) -> Iterator[Update]:
        match said:
            case Report(own=True):
                self._owned(said.address)
                yield from self._position(said)
            case Report():
                self.counts["traffic"] += 1
                if self._lost != STUCK:
                    self._traffic(said, message)
            case Heartbeat():
                yield from self._beat(said)
            case StratuxHeartbeat():
                self._stratux_gps = said.gps_valid
                if not said.gps_valid:
                    yield from self._lose(NO_FIX)
            case GeometricAltitude():
                yield from self._geometric_altitude(said)
            case AttitudeLE():
                yield from self._attitude(said)
            case AttitudeForeFlight():
                yield from self._foreflight(said)
            case Identity():
                self.name = said.long_name or said.name
                yield from self._measure_height_in(HEIGHT[said.geometric_altitude_is_msl])

    # -- position ------------------------------------------------------------------------------------------------------

    def _beat(self, said: Heartbeat) -> Iterator[Update]:
        now = self._heartbeat_at = self._clock()
        if said.seconds != self._time or not said.utc_ok:
            self._time, self._time_since = said.seconds, now
            if self._lost == STUCK:
                self._lost = ""
        if not said.gps_valid:
            yield from self._lose(NO_FIX)
            yield Update("GPS_FIX_TYPE", 1)
        elif now - self._time_since > STUCK_AFTER_S:
            if self._lost != STUCK:
                yield from (Update(key, None, FAIL, STUCK) for key in sorted(KEYS))
            self._lost = STUCK
        elif self._stratux_gps:
            self._lost = ""

    def _lose(self, why: str) -> list[Update]:
        """Fail the position, once per reason."""
        if self._lost in (why, STUCK):
            return []
        self._lost, self._placed = why, False
        return [Update(key, None, FAIL, why) for key in (*_OF_FIX, "GPS_FIX_TYPE")]

    def _position(self, said: Report) -> Iterator[Update]:
        if self._lost or self._heartbeat_at == NEVER:
            return
        lat, lon = said.lat, said.lon
        if lat is None or lon is None:
            self._placed = False
            yield from (Update(key, None, FAIL, NO_FIX) for key in _OF_FIX)
            yield Update("GPS_FIX_TYPE", 1)
            return
        if doubt := self._places.judge(lat, lon) if abs(lat) <= 90.0 else f"latitude {lat:.1f} is impossible":
            self._placed = False
            self.counts["absurd values"] += 1
            yield from (Update(key, None, FAIL, doubt) for key in (*_OF_FIX, "GPS_FIX_TYPE"))
            return
        self._placed, self._placed_at, self._estimated = True, self._clock(), said.extrapolated
        track = said.track_deg if said.track_kind in ("true_track", None) else None
        metres = NACP_METRES.get(said.nacp)
        updates = (
            Update("LAT", lat),
            Update("LONG", lon),
            _known("GS", None if said.ground_speed_kt == 4094 else said.ground_speed_kt),
            _known("TRACK", track, NOT_KNOWN if said.track_kind is None else NOT_A_TRACK),
            _known("GPS_ACCURACY_HORIZ", None if metres is None else metres * FEET_PER_METRE),
            Update("GPS_FIX_TYPE", 3 if self._placed_at - self._height_at < HEARTBEAT_PATIENCE_S else 2),
        )
        for update in updates:
            if said.extrapolated and not update.flags:
                update = update._replace(flags=BAD, reason=ESTIMATED)
            yield update

    def _measure_height_in(self, key: str) -> Iterator[Update]:
        if self._height not in (None, key):
            yield Update(self._height or "", None, FAIL, f"the receiver's altitude is {key} now")
        self._height = key

    def _geometric_altitude(self, said: GeometricAltitude) -> Iterator[Update]:
        now = self._clock()
        if self._lost or self._heartbeat_at == NEVER or self._placed is False:
            return
        if self._height is None:
            if self._began_at is None or now - self._began_at < IDENTITY_PATIENCE_S:
                return
            self._height = HEIGHT[0]  # what the specification says it is
        self._height_at = now
        yield Update(self._height, float(said.altitude_ft))
        vfom = None if said.vfom_saturated else said.vfom_m
        yield _known("GPS_ACCURACY_VERTICAL", None if vfom is None else vfom * FEET_PER_METRE)

    # -- attitude ------------------------------------------------------------------------------------------------------

    def _attitude(self, said: AttitudeLE) -> Iterator[Update]:
        if self._lost == STUCK:
            return
        now, known = self._clock(), said.roll_deg is not None and said.pitch_deg is not None
        if known:
            self._levelled_at = now
        if known or now - self._other_levelled_at > PREFERENCE_S:
            yield self._angle("ROLL", said.roll_deg, 180.0)
            yield self._angle("PITCH", said.pitch_deg, 90.0)
            yield _known("HEAD", said.heading_deg)
        slip = said.slip_deg
        yield _known("ALAT", None if slip is None else -math.sin(math.radians(slip)) + 0.0)  # never -0.0
        yield _known("ANORM", said.g)
        yield _known("ROT", said.yaw_rate_dps)
        yield _known("VS", said.vertical_speed_fpm)
        yield _known("PALT", said.pressure_altitude_ft)
        if said.ias_raw is not None and self._airspeed != "ignored":
            yield Update("IAS", said.ias_raw * _KNOTS[self._airspeed])

    def _foreflight(self, said: AttitudeForeFlight) -> Iterator[Update]:
        if self._lost == STUCK:
            return
        now = self._clock()
        if said.roll_deg is not None and said.pitch_deg is not None:
            self._other_levelled_at = now
        if now - self._levelled_at > PREFERENCE_S:
            yield _known("ROLL", said.roll_deg)
            yield self._angle("PITCH", said.pitch_deg, 90.0)
            yield _known("HEAD", said.heading_deg if said.heading_magnetic else None)
        for key, knots in ("IAS", said.ias_kt), ("TAS", said.tas_kt):
            if knots is not None:
                yield Update(key, float(knots))

    def _angle(self, key: str, degrees: float | None, most: float) -> Update:
        if degrees is not None and abs(degrees) > most:
            self.counts["absurd values"] += 1
            return Update(key, None, FAIL, f"the receiver sends {degrees:g} degrees, which is impossible")
        return _known(key, degrees)


def _known(key: str, value: float | None, otherwise: str = NOT_KNOWN) -> Update:
    return Update(key, None, FAIL, otherwise) if value is None else Update(key, float(value))
