"""A virtual aircraft: one flight that never ends, and its engine.

A four-seater with a 160 hp engine flies a rectangle of four waypoints near Oshkosh: it climbs along the first leg,
cruises along the second, descends along the third, flies low along the fourth, and begins again, every half hour. It
starts in the air with a warm engine, so that every value is good at once.

What it models: the standard atmosphere with a temperature offset and a sea-level pressure of the day; wind; coordinated
turns; lift, drag, and the power needed for the manoeuvre; a fixed-pitch propeller; manifold pressure, fuel flow and
the temperatures, which follow with a lag; fuel that runs out; light turbulence.

What it does not model: take-off, landing, stall, sideslip, compressibility (a third of a knot at these speeds), engine
failure. When both tanks are nearly empty they are filled again, without a landing.

Not thread-safe: one thread steps and reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, NamedTuple

Value = float | int | bool | str

# -- units -------------------------------------------------------------------------------------------------------------

FT = 0.3048  # m
KNOT = 1852.0 / 3600.0  # m/s
NMI = 1852.0  # m
FPM = FT / 60.0  # m/s
INHG = 3386.389  # Pa
HP = 745.7  # W
GALLON_OF_AVGAS = 6.0  # lb
EARTH = 6_371_000.0  # m, mean radius
G = 9.80665  # m/s²

# -- International Standard Atmosphere, ICAO Doc 7488: troposphere -----------------------------------------------------

P0 = 101_325.0  # Pa
T0 = 288.15  # K
LAPSE = 0.0065  # K/m
GAS = 287.05287  # J/(kg K)
EXPONENT = G / (GAS * LAPSE)  # 5.25588
RHO0 = P0 / (GAS * T0)  # 1.225 kg/m³


def pressure_at(height: float) -> float:
    """Pressure in Pa at a pressure altitude in m."""
    return P0 * math.pow(1.0 - LAPSE * height / T0, EXPONENT)


def pressure_height(pressure: float) -> float:
    """Pressure altitude in m of a pressure in Pa."""
    return T0 / LAPSE * (1.0 - math.pow(pressure / P0, 1.0 / EXPONENT))


def density_height(density: float) -> float:
    """Height in m at which the standard atmosphere has a density in kg/m³."""
    return T0 / LAPSE * (1.0 - math.pow(density / RHO0, 1.0 / (EXPONENT - 1.0)))


def indicated_altitude(pressure_altitude: float, altimeter_setting: float) -> float:
    """Indicated altitude in ft, from the pressure altitude in ft and the altimeter setting in inHg.

    The setting shifts the scale by the setting's own pressure altitude.
    """
    return pressure_altitude - pressure_height(altimeter_setting * INHG) / FT


def track_and_distance(lat1: float, lon1: float, lat2: float, lon2: float) -> tuple[float, float]:
    """Initial true course in degrees and great-circle distance in m between two positions in degrees (haversine)."""
    a, b, d = math.radians(lat1), math.radians(lat2), math.radians(lon2 - lon1)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(d / 2) ** 2
    course = math.atan2(math.sin(d) * math.cos(b), math.cos(a) * math.sin(b) - math.sin(a) * math.cos(b) * math.cos(d))
    return math.degrees(course) % 360.0, 2 * EARTH * math.asin(math.sqrt(min(1.0, h)))


def signed(angle: float) -> float:
    """Normalise an angle in degrees to -180 <= angle < 180."""
    return (angle + 180.0) % 360.0 - 180.0


def numbers(values: Mapping[str, Value]) -> dict[str, float]:
    """The numbers among `values`, as floats; 1 is true."""
    return {key: float(value) for key, value in values.items() if isinstance(value, (int, float))}


class Leg(NamedTuple):
    """Fly to a waypoint (degrees) at an altitude (ft, with the correct altimeter setting), and level at a speed
    (knots)."""

    name: str
    lat: float
    lon: float
    altitude: float
    ias: float


ROUTE = (
    Leg("ALFA", 43.90, -88.72, 5500.0, 104.0),
    Leg("BRAVO", 44.08, -88.72, 5500.0, 104.0),
    Leg("DELTA", 44.08, -88.45, 2500.0, 100.0),
    Leg("ECHO", 43.90, -88.45, 2500.0, 95.0),
)


class Aircraft:
    """The flight, one step at a time: `step` advances it, `values` gives everything, by key, in the keys' units.

    `start` is the date and time (UTC) at which the flight begins; `seed` and `turbulence` (0 = smooth, 1 = light)
    determine its bumps: the same arguments give the same flight.
    """

    # The day: sea-level pressure, temperature, wind (the true direction that it comes from), magnetic variation (east
    # positive), elevation of the ground, and the geoid above the ellipsoid.
    qnh = 30.05  # inHg
    isa_deviation = 6.0  # K
    wind_from = 250.0  # deg
    wind_speed = 14.0  # knots
    variation = -3.5  # deg
    ground = 810.0  # ft
    geoid = -113.0  # ft

    # The aeroplane.
    MASS = 1040.0  # kg
    WING = 16.2  # m²
    DRAG0 = 0.032
    DRAG2 = 0.054  # induced drag: 1 / (pi e aspect ratio)
    LIFT_SLOPE = 5.0  # per rad
    LIFT_ZERO = -0.06  # rad: the angle of attack at zero lift
    BANK_MAX = 25.0  # deg
    CLIMB_IAS = 78.0  # knots
    CLIMB_MAX = 750.0  # ft/min, at sea level; zero at CEILING
    CEILING = 14_000.0  # ft
    DESCENT_MAX = 500.0  # ft/min
    TANK = 20.0  # gal, in each of two tanks
    RESERVE = 4.0  # gal, in total

    # The engine and its propeller.
    POWER = 160.0 * HP  # W, at RATED_RPM and RATED_MAP
    RATED_RPM = 2700.0
    RATED_MAP = 28.6  # inHg: full throttle at sea level
    FRICTION_MAP = 6.0  # inHg: just keeps it turning
    IDLE_POWER = 0.06  # of POWER
    PROPELLER = 1.88  # m, diameter
    POWER_COEFFICIENT = (0.0652, 0.0216)  # static, and the loss per unit of advance ratio
    SPREAD = (0.0, -9.0, 6.0, -4.0)  # K: differences between the cylinders
    HOURS_BEFORE = 1234.5

    #: The share of the oil pressure that is lost, 0 to 1.
    oil_leak = 0.0
    #: Keys that are held at a value, whatever the flight does; the last of a key counts.
    holds: tuple[tuple[str, Value], ...] = ()

    def __init__(self, start: datetime | None = None, seed: int = 0, turbulence: float = 1.0) -> None:
        self.turbulence = turbulence
        self._random = Random(seed)
        self._began = self.time = start or datetime(2025, 7, 21, 15, 0, tzinfo=UTC)
        self._gusts = dict.fromkeys(("bank", "climb", "speed"), 0.0)
        self._lagging: dict[str, float] = {}
        self._shown: Mapping[str, Value] = {}
        self._numbers: Mapping[str, float] = {}
        self._counted: Mapping[str, Value] = {}  # those among which these numbers are
        self._shown_in: tuple[Any, ...] = ()

        self.lat, self.lon = 43.985, -88.557
        self.leg = ROUTE[0]
        self._leg_from = (self.lat, self.lon)
        self._leg_ends: tuple[float, ...] = ()  # for which `_leg_way` holds: the course of the leg, and its length
        self._leg_way = (0.0, 0.0)
        course, _ = track_and_distance(self.lat, self.lon, self.leg.lat, self.leg.lon)
        self.heading = (course + self._drift(course, self.CLIMB_IAS)) % 360.0  # true
        self.roll = self.roll_rate = self.turn_rate = 0.0  # deg, deg/s
        self.height = self._qnh_height + 3000.0 * FT  # m, pressure altitude
        self.climb = self.climb_limit  # ft/min, indicated
        self.climb_change = 0.0  # m/s²
        self.ias = self.CLIMB_IAS
        self.acceleration = 0.0  # m/s²
        self.fuel = [self.TANK, self.TANK]
        self._run_engine(0.0)

    # -- the air -------------------------------------------------------------------------------------------------------

    @property
    def _qnh_height(self) -> float:
        return pressure_height(self.qnh * INHG)

    @property
    def altitude(self) -> float:
        """ft, as indicated with the correct altimeter setting."""
        return (self.height - self._qnh_height) / FT

    @property
    def true_altitude(self) -> float:
        """ft above mean sea level: layers of air warmer than standard are thicker (hypsometric equation)."""
        sea, here = (T0 - LAPSE * h for h in (self._qnh_height, self.height))
        return self.altitude + self.isa_deviation / LAPSE * math.log(sea / here) / FT

    @property
    def temperature(self) -> float:
        """K."""
        return T0 - LAPSE * self.height + self.isa_deviation

    @property
    def pressure(self) -> float:
        """Pa, static."""
        return pressure_at(self.height)

    @property
    def density(self) -> float:
        """kg/m³."""
        return self.pressure / (GAS * self.temperature)

    @property
    def tas(self) -> float:
        """knots: the dynamic pressure is that of the indicated airspeed in standard sea-level air."""
        return self.ias * math.sqrt(RHO0 / self.density)

    # -- motion --------------------------------------------------------------------------------------------------------

    @property
    def climb_limit(self) -> float:
        """ft/min."""
        return self.CLIMB_MAX * (1.0 - self.altitude / self.CEILING)

    @property
    def ascent(self) -> float:
        """m/s, geometric: differs from the indicated climb if the air is not standard."""
        return self.climb * FPM * self.temperature / (self.temperature - self.isa_deviation)

    @property
    def ground_vector(self) -> tuple[float, float]:
        """knots north and east: the motion through the air plus the wind."""
        heading, wind = math.radians(self.heading), math.radians(self.wind_from)
        flat = math.sqrt(self.tas**2 - (self.ascent / KNOT) ** 2)
        return (
            flat * math.cos(heading) - self.wind_speed * math.cos(wind),
            flat * math.sin(heading) - self.wind_speed * math.sin(wind),
        )

    @property
    def load_factor(self) -> float:
        """g, along the aircraft's upward axis."""
        flight_path = math.asin(self.ascent / (self.tas * KNOT))
        return (math.cos(flight_path) + self.climb_change / G) / math.cos(math.radians(self.roll))

    @property
    def lift_coefficient(self) -> float:
        return self.load_factor * self.MASS * G / (self.dynamic_pressure * self.WING)

    @property
    def dynamic_pressure(self) -> float:
        """Pa."""
        return 0.5 * RHO0 * (self.ias * KNOT) ** 2

    @property
    def angle_of_attack(self) -> float:
        """deg."""
        return math.degrees(self.lift_coefficient / self.LIFT_SLOPE + self.LIFT_ZERO)

    @property
    def pitch(self) -> float:
        """deg: the flight path angle plus the angle of attack."""
        flight_path = math.degrees(math.asin(self.ascent / (self.tas * KNOT)))
        return flight_path + self.angle_of_attack * math.cos(math.radians(self.roll))

    def _drift(self, track: float, tas: float) -> float:
        """The wind correction angle in degrees that keeps `track` (true)."""
        return math.degrees(math.asin(self.wind_speed * math.sin(math.radians(self.wind_from - track)) / tas))

    def _navigate(self) -> tuple[float, float, float, float]:
        """(course of the leg, degrees true; cross-track error in nmi, right positive; course and nmi to its end)."""
        ends = *self._leg_from, self.leg.lat, self.leg.lon
        if ends != self._leg_ends:
            self._leg_ends, self._leg_way = ends, track_and_distance(*self._leg_from, self.leg.lat, self.leg.lon)
        course, length = self._leg_way
        bearing, flown = track_and_distance(*self._leg_from, self.lat, self.lon)
        off = math.radians(bearing - course)
        to_go, distance = track_and_distance(self.lat, self.lon, self.leg.lat, self.leg.lon)
        if distance < 1000.0 or flown * math.cos(off) > length:
            self._leg_from = (self.leg.lat, self.leg.lon)
            self.leg = ROUTE[(ROUTE.index(self.leg) + 1) % len(ROUTE)]
            return self._navigate()
        return course, flown * math.sin(off) / NMI, to_go, distance / NMI

    # -- time ----------------------------------------------------------------------------------------------------------

    def step(self, dt: float) -> None:
        """Fly on for `dt` seconds, in several steps if that is long."""
        while dt > 0.0:
            self._step(min(dt, 0.1))
            dt -= 0.1

    def _step(self, dt: float) -> None:
        self.time += timedelta(seconds=dt)
        for name, sigma, tau in (("bank", 2.0, 2.5), ("climb", 60.0, 4.0), ("speed", 1.5, 5.0)):
            gust = self._gusts[name]  # an Ornstein-Uhlenbeck process
            gust += -gust * dt / tau + sigma * self.turbulence * math.sqrt(2.0 * dt / tau) * self._random.gauss()
            self._gusts[name] = gust

        # Steer along the leg, or back to it.
        course, off, _, _ = self._navigate()
        track = course - _limit(40.0 * off, 40.0)
        error = signed(track + self._drift(track, self.tas) - self.heading)
        bank = _limit(1.2 * error, self.BANK_MAX) + self._gusts["bank"]
        self.roll_rate = _limit((bank - self.roll) / 1.2, 10.0)
        self.roll += self.roll_rate * dt
        self.turn_rate = math.degrees(G * math.tan(math.radians(self.roll)) / (self.tas * KNOT))  # coordinated
        self.heading = (self.heading + self.turn_rate * dt) % 360.0

        # Altitude and airspeed.
        wanted = 6.0 * (self.leg.altitude - self.altitude)
        wanted = max(-self.DESCENT_MAX, min(wanted, self.climb_limit)) + self._gusts["climb"]
        climb = self.climb + (wanted - self.climb) * _fraction(dt, 2.5)
        self.height += (self.climb + climb) / 2.0 * FPM * dt
        self.climb_change, self.climb = (climb - self.climb) * FPM / dt, climb
        ias = self.CLIMB_IAS if self.leg.altitude - self.altitude > 150.0 else self.leg.ias
        wanted = _limit((ias + self._gusts["speed"] - self.ias) * KNOT / 6.0, 0.5)
        self.acceleration += (wanted - self.acceleration) * _fraction(dt, 1.0)
        self.ias += self.acceleration / KNOT * dt

        north, east = self.ground_vector
        metres = KNOT * dt / EARTH
        self.lat += math.degrees(north * metres)
        self.lon += math.degrees(east * metres / math.cos(math.radians(self.lat)))
        self._run_engine(dt)

    # -- the engine ----------------------------------------------------------------------------------------------------

    def _follow(self, what: str, target: float, tau: float, dt: float) -> float:
        """A value that follows `target` with the time constant `tau`, and equals it at the start."""
        value = self._lagging.get(what, target)
        value += (target - value) * _fraction(dt, tau)
        self._lagging[what] = value
        return value

    def _run_engine(self, dt: float) -> None:
        speed = self.tas * KNOT
        drag = self.dynamic_pressure * self.WING * (self.DRAG0 + self.DRAG2 * self.lift_coefficient**2)
        thrust_power = drag * speed + self.MASS * (G * self.ascent + speed * self.acceleration)
        available = self.POWER * (1.132 * self.density / RHO0 - 0.132)  # Gagg and Ferrar
        efficiency = min(0.80, 0.60 + 0.003 * speed)
        wanted = max(self.IDLE_POWER * self.POWER, min(thrust_power / efficiency, available))
        power = self._follow("power", wanted, 1.0, dt)

        self.rpm = self._follow("rpm", self._propeller_rpm(power, speed), 0.4, dt)
        ambient = self.pressure / INHG
        useful = self.RATED_MAP - self.FRICTION_MAP
        self.map = min(self.FRICTION_MAP + useful * power / self.POWER * self.RATED_RPM / self.rpm, ambient)
        self.throttle = (self.map - self.FRICTION_MAP) / (ambient - self.FRICTION_MAP)
        self.mixture = self._follow("mixture", 1.0 if self.climb > 200.0 or self.altitude < 3000.0 else 0.8, 5.0, dt)

        # The rest follows from engine speed and manifold pressure.
        load = self.rpm / self.RATED_RPM * (self.map - self.FRICTION_MAP) / useful  # of POWER
        pounds = load * self.POWER / HP * (0.45 + 0.09 * (self.mixture - 0.8) / 0.2)
        self.fuel_flow = self._follow("flow", pounds / GALLON_OF_AVGAS, 0.5, dt)
        self.fuel = [tank - self.fuel_flow * dt / 3600.0 / 2.0 for tank in self.fuel]
        if sum(self.fuel) < self.RESERVE:
            self.fuel = [self.TANK, self.TANK]

        outside = self.temperature - 273.15
        lean = 1.0 - self.mixture
        self.egt = [
            self._follow(f"egt{i}", 640.0 + 120.0 * load + 200.0 * lean + 2.0 * spread, 4.0, dt)
            for i, spread in enumerate(self.SPREAD)
        ]
        cooling = 0.25 * (self.ias - 90.0)
        self.cht = [
            self._follow(f"cht{i}", 110.0 + 95.0 * load + 0.6 * outside - cooling + spread, 90.0, dt)
            for i, spread in enumerate(self.SPREAD)
        ]
        self.oil_temperature = self._follow("oilt", 55.0 + 35.0 * load + 0.5 * outside - 0.5 * cooling, 180.0, dt)
        pressure = 80.0 * math.sqrt(self.rpm / 2500.0) - 0.35 * (self.oil_temperature - 85.0)
        pressure *= 1.0 - self.oil_leak
        self.oil_pressure = self._follow("oilp", pressure, 1.0, dt)
        self._run_systems(load, dt)

    def _run_systems(self, load: float, dt: float) -> None:
        """What follows from the engine's `load`, as a part of its power."""
        outside = self.temperature - 273.15
        self.fuel_pressure = 5.5 - 0.08 * self.fuel_flow
        self.coolant = self._follow("h2ot", 65.0 + 20.0 * load + 0.3 * outside, 120.0, dt)
        self.cabin = self._follow("cabin", 20.0 + 0.2 * outside, 600.0, dt)
        self.current = 18.0 + 2.0 * math.sin(self.flight_time / 7.0)
        self.voltage = self._follow("volt", 14.4 - 0.015 * self.current, 0.5, dt)

    def _propeller_rpm(self, power: float, speed: float) -> float:
        """The speed at which a fixed-pitch propeller absorbs `power` (W) at an airspeed of `speed` (m/s)."""
        standing, lost = self.POWER_COEFFICIENT
        wanted = power / (self.density * self.PROPELLER**5)
        n = 40.0  # revolutions a second
        advance = lost * speed / self.PROPELLER
        for _ in range(8):  # Newton's method
            excess = standing * n**3 - advance * n**2 - wanted
            slope = 3.0 * standing * n**2 - 2.0 * advance * n
            n -= excess / slope
        return 60.0 * n

    # -- what instruments see ------------------------------------------------------------------------------------------

    @property
    def flight_time(self) -> float:
        """Seconds."""
        return (self.time - self._began).total_seconds()

    def values(self) -> Mapping[str, Value]:
        """Everything, by key, as perfect instruments would show it; replaced whole, do not change it. Costs little if
        nothing has changed meanwhile."""
        state = self._state()
        if state != self._shown_in:
            self._shown, self._shown_in = self.measure(), state
        return self._shown

    def numbers(self) -> Mapping[str, float]:
        """The numbers among the `values`, as floats; 1 is true. As they are, do not change them."""
        values = self.values()
        if values is not self._counted:
            self._numbers, self._counted = numbers(values), values
        return self._numbers

    def _state(self) -> tuple[Any, ...]:
        return (
            *(self.time, self.lat, self.lon, self.height, self.climb, self.ias, self.heading, self.roll, self.qnh),
            *(*self.fuel, self.oil_leak, self.oil_pressure, self.voltage, self.rpm, self.leg, self.holds),
        )

    def measure(self) -> dict[str, Value]:
        """The values, computed anew."""
        north, east = self.ground_vector
        track = math.degrees(math.atan2(east, north)) % 360.0
        course, off, bearing, _ = self._navigate()
        receiving = self.flight_time % 20.0 < 4.0
        hours = self.flight_time / 3600.0
        values: dict[str, Value] = {
            "LAT": self.lat,
            "LONG": self.lon,
            "IAS": self.ias,
            "CAS": self.ias,
            "TAS": self.tas,
            "GS": math.hypot(north, east),
            "ALT": self.altitude,
            "PALT": self.height / FT,
            "TALT": self.true_altitude,
            "DALT": density_height(self.density) / FT,
            "AGL": self.true_altitude - self.ground,
            "AIRPRESS": self.pressure,
            "DIFFAIRPRESS": self.dynamic_pressure,
            "VS": self.climb,
            "HEAD": (self.heading - self.variation) % 360.0,
            "TRACK": track,
            "TRACKM": (track - self.variation) % 360.0,
            "COURSE": (course - self.variation) % 360.0,
            "XTRACK": off,
            "CDI": _limit(-off, 1.0),
            "GSI": _limit((self.leg.altitude - self.altitude) / 500.0, 1.0),
            "PITCH": self.pitch,
            "ROLL": self.roll,
            "YAW": 0.0,
            "ROT": self.turn_rate,
            "AOA": self.angle_of_attack,
            "ANORM": self.load_factor,
            "ALAT": 0.0,
            "ALONG": self.acceleration / G + math.sin(math.radians(self.pitch)),
            "WPLAT": self.leg.lat,
            "WPLON": self.leg.lon,
            "WPNAME": self.leg.name,
            "WPHEAD": f"{(bearing - self.variation) % 360.0:03.0f}",
            "GPS_SATS_VISIBLE": 8,
            "GPS_SATS_TRACKED": 7,
            "GPS_FIX_TYPE": 3,
            "GPS_ACCURACY_SPEED": 0.4,
            "GPS_ACCURACY_HORIZ": 9.0,
            "GPS_ACCURACY_VERTICAL": 15.0,
            "GPS_ELLIPSOID_ALT": self.true_altitude + self.geoid,
            "TIMEZ": self.time.strftime("%H:%M:%S"),
            "TIMEZH": self.time.hour,
            "TIMEZM": self.time.minute,
            "TIMEZS": self.time.second,
            "FTIME": hours,
            "HOBBS1": self.HOURS_BEFORE + hours,
            "OAT": self.temperature - 273.15,
            "RAT": self.temperature - 273.15 + 12.0,
            "CAT": self.cabin,
            "TACH1": round(self.rpm),
            "PROP1": round(self.rpm),
            "MAP1": self.map,
            "THR1": self.throttle,
            "MIX1": self.mixture,
            "FUELF1": self.fuel_flow,
            "FUELP1": self.fuel_pressure,
            "OILP1": self.oil_pressure,
            "OILT1": self.oil_temperature,
            "H2OT1": self.coolant,
            "FUELQ1": self.fuel[0],
            "FUELQ2": self.fuel[1],
            "FUELQT": sum(self.fuel),
            "VOLT": self.voltage,
            "CURRNT": self.current,
            "CTLPTCH": _limit(0.06 * (self.angle_of_attack - 2.0), 1.0),
            "CTLROLL": _limit(self.roll_rate / 40.0, 1.0),
            "CTLYAW": _limit(self.roll_rate / 80.0, 1.0),
            "COMACTFREQ1": 126.6,
            "COMSTDFREQ1": 121.5,
            "COMACTRX1": receiving,
            "COMSTDRX1": False,
            "COMACTTX1": False,
            "COMACTRXLEVEL1": 8.0 if receiving else 0.0,
            "COMSTDRXLEVEL1": 0.0,
            "COMSQUELCH1": 3.0,
            "COMRXVOL1": 7.0,
            "COMINTVOL1": 5.0,
            "COMAUDVOL1": 4.0,
            "COMTXPWR1": 6.0,
            "COMVSWR1": 1.3,
        }
        values.update((f"EGT1{i}", egt) for i, egt in enumerate(self.egt, 1))
        values.update((f"CHT1{i}", cht) for i, cht in enumerate(self.cht, 1))
        values["EGTAVG1"] = sum(self.egt) / len(self.egt)
        values["EGTMAX1"] = max(self.egt)
        values["EGTSPAN1"] = max(self.egt) - min(self.egt)
        values["CHTMAX1"] = max(self.cht)
        values.update(dict.fromkeys(("CTLFLAP", "CTLCOLL", "CTLATP", "CTLLBRK", "CTLRBRK"), 0.0))
        values.update(dict.fromkeys(("IASW", "ORISYSW", "GYROW", "ACCELW", "MAGW", "OATW"), 0))
        values.update(self.holds)
        return values


def misfit(value: object, like: Value) -> str:
    """Why the aircraft cannot have `value` for a key whose values are like `like`, or an empty text."""
    kind = type(like)
    if kind in (bool, str):
        return "" if type(value) is kind else f"is {'a text' if kind is str else 'true or false'}, not {value!r}"
    if isinstance(value, int | float) and type(value) is not bool and (kind is float or float(value).is_integer()):
        return ""
    return f"is a {'whole number' if kind is int else 'number'}, not {value!r}"


class Seen:
    """The aircraft as one instrument sees it, which holds some keys at other values."""

    def __init__(self, aircraft: Aircraft, holds: tuple[tuple[str, Value], ...]) -> None:
        self._aircraft = aircraft
        self._holds = holds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._aircraft, name)

    def values(self) -> Mapping[str, Value]:
        return {**self._aircraft.values(), **dict(self._holds)}

    def numbers(self) -> Mapping[str, float]:
        return numbers(self.values())


def _limit(value: float, bound: float) -> float:
    return max(-bound, min(value, bound))


def _fraction(dt: float, tau: float) -> float:
    """The share of the distance to its target that a first-order lag covers in `dt`."""
    return 1.0 - math.exp(-dt / tau)
