"""A second virtual aircraft, flown by JSBSim: a Cessna 172 with the flight model of FlightGear.

The simple one (`fixgw.hw_sim.aircraft`) computes how an aircraft should move; here forces and moments move it, and a
simple autopilot flies the same route: bank for the track, elevator for the climb, throttle for the airspeed. The
same steps give the same flight. The air is standard and calm.

JSBSim models neither coolant, cabin and electrical system nor differences between the cylinders: these are those of the
simple one. It exists for x86-64 (PyPI: JSBSim).
"""

from __future__ import annotations

import importlib
import math
import os
from datetime import datetime, timedelta
from typing import Any

from fixgw.hw_sim.aircraft import FPM, FT, INHG, KNOT, P0, Aircraft, Value, pressure_height, signed

MODEL = "c172x"
DT_S = 1.0 / 60.0  # of the flight model
AVGAS_LB = 6.02  # a gallon, in the model
PSF = 47.88025898  # Pa
START_IAS = 90.0  # knots, level

ENGINE = "propulsion/engine/"


def _limit(value: float, bound: float) -> float:
    return max(-bound, min(value, bound))


def _celsius(fahrenheit: float) -> float:
    return (fahrenheit - 32.0) / 1.8


class JsbsimAircraft(Aircraft):
    """The flight, with the interface of `Aircraft`. `turbulence` and `seed` have no effect."""

    qnh = P0 / INHG
    isa_deviation = 0.0
    wind_speed = 0.0

    def __init__(self, start: datetime | None = None, seed: int = 0, turbulence: float = 0.0) -> None:
        self._fdm: Any = None
        super().__init__(start, seed, 0.0)
        self._fdm = fdm = self._make()
        self._lag = 0.0
        self._climb_trim = 0.0
        self._level_pitch: float = fdm["attitude/theta-deg"]
        self._cruise_throttle: float = fdm["fcs/throttle-cmd-norm[0]"]
        self._lagging.clear()
        self._look(0.0)

    def _make(self) -> Any:
        """The model, trimmed for level flight where the simple aircraft begins."""
        os.environ.setdefault("JSBSIM_DEBUG", "0")  # otherwise it prints a page
        fdm = importlib.import_module("jsbsim").FGFDMExec(None)
        fdm.load_model(MODEL)
        fdm.set_output_filename(0, os.devnull)  # the model writes a file into the current directory
        fdm.disable_output()
        fdm.set_dt(DT_S)
        for name, value in {
            "lat-geod-deg": self.lat,
            "long-gc-deg": self.lon,
            "terrain-elevation-ft": self.ground,
            "h-sl-ft": self.ground + 3000.0,
            "vc-kts": START_IAS,
            "psi-true-deg": self.heading,
        }.items():
            fdm[f"ic/{name}"] = value
        fdm.run_ic()
        fdm["propulsion/set-running"] = -1
        fdm["fcs/mixture-cmd-norm"] = 0.9
        fdm.do_trim(1)
        return fdm

    # -- what it measures ----------------------------------------------------------------------------------------------

    @property
    def true_altitude(self) -> float:
        return float(self._fdm["position/h-sl-ft"]) if self._fdm else super().true_altitude

    @property
    def temperature(self) -> float:
        return float(self._fdm["atmosphere/T-R"]) / 1.8 if self._fdm else super().temperature

    @property
    def tas(self) -> float:
        return float(self._fdm["velocities/vt-fps"]) * FT / KNOT if self._fdm else super().tas

    @property
    def ascent(self) -> float:
        return self.climb * FPM

    @property
    def ground_vector(self) -> tuple[float, float]:
        if not self._fdm:
            return super().ground_vector
        north, east = (float(self._fdm[f"velocities/v-{way}-fps"]) * FT / KNOT for way in ("north", "east"))
        return north, east

    @property
    def load_factor(self) -> float:
        return float(self._fdm["accelerations/Nz"]) if self._fdm else super().load_factor

    @property
    def angle_of_attack(self) -> float:
        return float(self._fdm["aero/alpha-deg"]) if self._fdm else super().angle_of_attack

    @property
    def pitch(self) -> float:
        return float(self._fdm["attitude/theta-deg"]) if self._fdm else super().pitch

    def measure(self) -> dict[str, Value]:
        controls: dict[str, Value] = {
            "ALAT": float(self._fdm["accelerations/Ny"]),
            "CTLPTCH": -float(self._fdm["fcs/elevator-cmd-norm"]),
            "CTLROLL": float(self._fdm["fcs/aileron-cmd-norm"]),
        }
        return {**super().measure(), **controls, **dict(self.holds)}

    # -- time ----------------------------------------------------------------------------------------------------------

    def step(self, dt: float) -> None:
        """Fly on for `dt` seconds."""
        fdm = self._fdm
        for n, gallons in enumerate(self.fuel):  # somebody may have set it
            fdm[f"propulsion/tank[{n}]/contents-lbs"] = gallons * AVGAS_LB
        began = fdm.get_sim_time()
        self._lag += dt
        while self._lag >= DT_S:
            self._lag -= DT_S
            self._steer()
            fdm.run()
        flown = fdm.get_sim_time() - began
        self.time += timedelta(seconds=dt)
        self._look(flown)

    def _steer(self) -> None:
        fdm = self._fdm
        self.lat, self.lon = fdm["position/lat-geod-deg"], fdm["position/long-gc-deg"]
        course, off, _, _ = self._navigate()
        north, east = self.ground_vector
        track = course - _limit(40.0 * off, 40.0)
        bank = _limit(1.2 * signed(track - math.degrees(math.atan2(east, north))), self.BANK_MAX)
        roll, roll_rate = fdm["attitude/phi-deg"], math.degrees(fdm["velocities/p-rad_sec"])
        fdm["fcs/aileron-cmd-norm"] = _limit(0.025 * (bank - roll) - 0.012 * roll_rate, 1.0)
        fdm["fcs/rudder-cmd-norm"] = _limit(0.06 * fdm["aero/beta-deg"], 0.5)

        below = self.leg.altitude - fdm["position/h-sl-ft"]
        wanted = _limit(6.0 * below, self.DESCENT_MAX)
        missing = wanted - fdm["velocities/h-dot-fps"] * 60.0
        self._climb_trim = _limit(self._climb_trim + 0.0006 * missing * DT_S, 8.0)
        pitch = self._level_pitch + _limit(0.006 * missing, 6.0) + self._climb_trim + 0.06 * abs(roll)
        pitch_rate = math.degrees(fdm["velocities/q-rad_sec"])
        fdm["fcs/elevator-cmd-norm"] = _limit(0.06 * (fdm["attitude/theta-deg"] - pitch) + 0.04 * pitch_rate, 1.0)

        slow = (self.CLIMB_IAS if below > 150.0 else self.leg.ias) - fdm["velocities/vc-kts"]
        self._cruise_throttle = max(0.0, min(self._cruise_throttle + 0.004 * slow * DT_S, 1.0))
        fdm["fcs/throttle-cmd-norm[0]"] = max(0.05, min(self._cruise_throttle + 0.03 * slow, 1.0))

    def _look(self, dt: float) -> None:
        """Take over where the model has flown to."""
        fdm = self._fdm
        self.lat, self.lon = fdm["position/lat-geod-deg"], fdm["position/long-gc-deg"]
        self.height = pressure_height(fdm["atmosphere/P-psf"] * PSF)
        self.heading, self.roll = fdm["attitude/psi-deg"] % 360.0, fdm["attitude/phi-deg"]
        self.roll_rate = math.degrees(fdm["velocities/p-rad_sec"])
        self.turn_rate = math.degrees(fdm["velocities/psidot-rad_sec"])
        self.climb = fdm["velocities/h-dot-fps"] * 60.0
        self.ias = fdm["velocities/vc-kts"]
        self.acceleration = fdm["accelerations/udot-ft_sec2"] * FT
        self.fuel = [fdm[f"propulsion/tank[{n}]/contents-lbs"] / AVGAS_LB for n in range(2)]
        if sum(self.fuel) < self.RESERVE:
            self.fuel = [self.TANK, self.TANK]
        self._run_engine(dt)

    def _run_engine(self, dt: float) -> None:
        if not self._fdm:  # the model is not there yet
            super()._run_engine(dt)
            return
        fdm = self._fdm
        self.throttle, self.mixture = fdm["fcs/throttle-pos-norm[0]"], fdm["fcs/mixture-pos-norm"]
        self.rpm, self.map = fdm[ENGINE + "engine-rpm"], fdm[ENGINE + "map-inhg"]
        self.fuel_flow = fdm[ENGINE + "fuel-flow-rate-gph"]
        self.egt = [_celsius(fdm[ENGINE + "egt-degF"]) + 2.0 * spread for spread in self.SPREAD]
        self.cht = [_celsius(fdm[ENGINE + "cht-degF"]) + spread for spread in self.SPREAD]
        self.oil_temperature = _celsius(fdm[ENGINE + "oil-temperature-degF"])
        self.oil_pressure = fdm[ENGINE + "oil-pressure-psi"] * (1.0 - self.oil_leak)
        self._run_systems(self.rpm / self.RATED_RPM * self.map / self.RATED_MAP, dt)
