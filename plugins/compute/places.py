"""What depends on place and date and takes time to compute: magnetic variation and the sun, on the plugin's thread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from fixgw.database import BAD
from fixgw.errors import MissingLibrary
from fixgw.kit.airdata import Undefined
from fixgw.kit.navigation import bearing_distance
from fixgw.kit.units import FEET_PER_METRE
from fixgw.plugins.compute.direction import HERE
from fixgw.plugins.compute.entry import Function, Input, Output, Setup
from fixgw.plugins.compute.evaluation import Moment, Outcome, Process, Result
from fixgw.plugins.compute.sun import sun

#: A clock that shows an earlier date has not been set.
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
RENEW_S = 60.0
RENEW_NMI = 5.0
STALE_S = 600.0  # a result that could not be renewed for longer is not used
STALE_NMI = 50.0
NO_DATE = "the date is not known: the clock has not been set"
MODEL = "wmm/WMM_2025.COF"
EXPIRED = "the magnetic model has expired"


def known_date(now: datetime) -> datetime | None:
    """`now`; None if the computer's clock has not been set."""
    return now if now >= EARLIEST else None


class Found(NamedTuple):
    """A result, where it was computed and when, by the database's clock, and the mark of simulated inputs."""

    result: Result | Outcome
    lat: float
    lon: float
    time: float
    mark: str


class Slow(Process):
    """Computes on the plugin's thread, about once a minute or every few miles, and shows the last result meanwhile."""

    interval = 0.5

    def __init__(self, setup: Setup, compute: Callable[[datetime, float, float, float], Result | Outcome]) -> None:
        super().__init__(setup, self._latest)
        self._compute = compute
        #: Returns the date and time; a test may replace it.
        self.today: Callable[[], datetime | None] = lambda: known_date(setup.plugin.utc())
        self._found: Found | None = None
        self._wanted: tuple[str, float, float, float] | None = None  # the mark, and the arguments
        self._why_not = "it has not been computed yet"

    def _latest(self, moment: Moment, lat: float, lon: float, altitude: float = 0.0) -> Result | Outcome:
        found = self._found
        age, moved = STALE_S + 1.0, 0.0
        if found is not None and found.mark == self.mark:
            age = moment.now - found.time
            moved = bearing_distance(found.lat, found.lon, lat, lon)[1]
        if age > RENEW_S or moved > RENEW_NMI:
            self._wanted = self.mark, lat, lon, altitude
        if found is None or age > STALE_S or moved > STALE_NMI:
            raise Undefined(self._why_not)
        return found.result

    def tick(self, now: float) -> None:
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            return
        mark, *place = wanted
        today = self.today()
        if today is None:
            self._found, self._why_not = None, NO_DATE
        else:
            try:
                self._found = Found(self._compute(today, *place), place[0], place[1], now, mark)
                self.trouble = ""
            except MissingLibrary as error:
                self.trouble = self._why_not = str(error)
                return
        self.renew()


class Variation:
    """The World Magnetic Model. The library and its coefficients are loaded when first needed."""

    def __init__(self) -> None:
        self._model: Any = None

    def __call__(self, today: datetime, lat: float, lon: float, feet: float) -> Result | Outcome:
        if self._model is None:
            try:
                from pygeomag import GeoMag  # type: ignore[import-untyped, unused-ignore]
            except ImportError:
                raise MissingLibrary("pygeomag", "magnetic") from None
            self._model = GeoMag(coefficients_file=MODEL)
        first = date(today.year, 1, 1)
        days = (date(today.year + 1, 1, 1) - first).days
        year = today.year + (today.date() - first).days / days
        found, expired = variation(self._model, year, feet / FEET_PER_METRE / 1000.0, lat, lon)
        if expired:
            return Outcome(found.d, BAD, EXPIRED)
        if found.in_blackout_zone or found.in_caution_zone:
            return Outcome(found.d, BAD, "the field is too weak for a compass here")
        return float(found.d)


def variation(model: Any, year: float, alt_km: float, lat: float, lon: float) -> tuple[Any, bool]:
    """What the model says, and whether it has expired."""
    try:
        return model.calculate(glat=lat, glon=lon, alt=alt_km, time=year), False
    except ValueError:
        return model.calculate(glat=lat, glon=lon, alt=alt_km, time=year, allow_date_outside_lifespan=True), True


def _sun(today: datetime, lat: float, lon: float, altitude: float) -> Result:
    """The sun on the day that it is at this longitude."""
    return tuple(sun(lat, lon, (today + timedelta(minutes=4.0 * lon)).date()))


FUNCTIONS = (
    Function(
        name="variation",
        inputs=(*HERE, Input("altitude", "ft", optional=True)),
        outputs=(Output("variation, east positive", "deg"),),
        formula="World Magnetic Model 2025, of this date; bad after 2029, and near the magnetic poles",
        origin="NOAA, by pygeomag",
        build=lambda setup: Slow(setup, Variation()),
    ),
    Function(
        name="sun",
        inputs=HERE,
        outputs=(
            Output("sunrise", "min"),
            Output("sunset", "min", optional=True),
            Output("civil dawn", "min", optional=True),
            Output("civil dusk", "min", optional=True),
        ),
        formula="minutes after 00:00 UTC at which the sun's centre is at −0.833° or, for twilight, at −6°, on the day "
        "at this longitude; nothing where that does not happen",
        origin="NOAA's solar calculator",
        build=lambda setup: Slow(setup, _sun),
    ),
)
