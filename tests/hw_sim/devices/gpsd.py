"""A virtual gpsd with one receiver, made from gpsd_json(5): answers requests, and reports what it is asked to watch.

`power` off is a receiver that has vanished: like the real one, gpsd then says nothing, but answers ``?POLL;``. Other
clients, PPS, raw data and AIS are not modelled.
"""

from __future__ import annotations

import json
from typing import Any, Protocol, cast

from fixgw.hw_sim.aircraft import FT, KNOT, Aircraft
from fixgw.hw_sim.serial import Line, SerialInstrument

DEVICE = "/dev/ttyUSB0"
HALF_CIRCLE = 180.0


class TwoWay(Protocol):
    """A line on which the client's requests arrive."""

    def read(self, timeout: float = 0.0, /) -> bytes: ...


class Gpsd(SerialInstrument):
    """The daemon, on a line that stands in for its TCP port. Set `mode` (1 to 3), `hung` and `status` at any time."""

    NAME = "gpsd"
    WHAT = "gpsd with one GPS receiver: reports only on request"
    BAUD = 2_000_000  # a local connection
    RATE = 1.0

    def __init__(self, line: Line, baud: int | None = None) -> None:
        super().__init__(line, baud)
        self.mode = 3
        self.status = 1
        self.hung = False  # it repeats itself
        self.watched = False
        self.requests: list[str] = []
        self._last: list[dict[str, Any]] = []

    def reports(self, aircraft: Aircraft) -> list[dict[str, Any]]:
        """One epoch: TPV, and SKY."""
        if self.hung and self._last:
            return self._last
        v = aircraft.numbers()
        clock = aircraft.time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{aircraft.time.microsecond // 1000:03}Z"
        tpv: dict[str, Any] = {"class": "TPV", "device": DEVICE, "mode": self.mode, "time": clock, "ept": 0.005}
        if self.status != 1:
            tpv["status"] = self.status
        if self.mode >= 2:
            variation = (v["TRACK"] - v["TRACKM"] + HALF_CIRCLE) % 360.0 - HALF_CIRCLE
            tpv |= {"lat": round(v["LAT"], 9), "lon": round(v["LONG"], 9)}
            tpv |= {"track": round(v["TRACK"], 4), "magtrack": round(v["TRACKM"], 4), "magvar": round(variation, 1)}
            tpv |= {"speed": round(v["GS"] * KNOT, 3), "eps": round(v["GPS_ACCURACY_SPEED"] * KNOT, 3)}
            tpv |= {"eph": round(v["GPS_ACCURACY_HORIZ"] * FT, 3)}
        if self.mode >= 3:
            above, ellipsoid = round(v["TALT"] * FT, 4), round(v["GPS_ELLIPSOID_ALT"] * FT, 4)
            tpv |= {"altHAE": ellipsoid, "altMSL": above, "alt": above, "geoidSep": round(ellipsoid - above, 4)}
            tpv |= {"climb": round(v["VS"] * FT / 60.0, 3), "epv": round(v["GPS_ACCURACY_VERTICAL"] * FT, 3)}
        visible, used = int(v["GPS_SATS_VISIBLE"]), int(v["GPS_SATS_TRACKED"]) if self.mode >= 2 else 0
        satellites = [
            {"PRN": n, "el": 15.0 + 7 * n % 70, "az": 40.0 * n % 360, "ss": 30.0 + n % 17, "used": n <= used}
            for n in range(1, visible + 1)
        ]
        sky = {"class": "SKY", "device": DEVICE, "hdop": 0.9, "nSat": visible, "uSat": used, "satellites": satellites}
        self._last = [tpv, sky]
        return self._last

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        return [_line(report) for report in self.reports(aircraft)] if self.watched else []

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.transmit(self.answers(cast(TwoWay, self.line).read()), now)
        super().tick(aircraft, now)

    def answers(self, packet: bytes) -> list[bytes]:
        """The answers to the requests of one packet. The real one refuses several on several lines."""
        requests = packet.decode("ascii", "replace").split()
        self.requests += requests
        if len(requests) > 1:
            return [_error(" ".join(requests))]
        return [answer for request in requests for answer in self._answer(request)]

    def _answer(self, request: str) -> list[bytes]:
        command, _, argument = request.partition("=")
        if command == "?POLL;":
            active = int(self.power)
            return [_line({"class": "POLL", "active": active, "tpv": self._last[:1] if active else [], "sky": []})]
        if command != "?WATCH" or not argument.endswith(";"):
            return [_error(request)]
        try:
            asked = json.loads(argument[:-1])
        except ValueError:
            return [_error(request)]
        if asked.get("device", DEVICE) != DEVICE:
            return [_line({"class": "ERROR", "message": f"No such device as {asked['device']}"})]
        self.watched = bool(asked.get("enable"))
        devices = [{"class": "DEVICE", "path": DEVICE, "driver": "NMEA0183", "bps": 9600}] if self.power else []
        return [
            _line({"class": "VERSION", "release": "3.22", "rev": "3.22", "proto_major": 3, "proto_minor": 14}),
            _line({"class": "DEVICES", "devices": devices}),
            _line({"class": "WATCH", "enable": self.watched, "json": True}),
        ]


def _line(report: dict[str, Any]) -> bytes:
    return json.dumps(report, separators=(",", ":")).encode() + b"\r\n"


def _error(request: str) -> bytes:
    return _line({"class": "ERROR", "message": f"Unrecognized request '{request}'"})
