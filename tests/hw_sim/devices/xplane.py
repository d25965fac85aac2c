"""A virtual X-Plane, made from "Exchanging Data with X-Plane": answers RREF and RPOS, sends rows and its beacon, and
takes DATA, DREF and DSEL.

Datarefs that it does not know are answered with 0, as the real one does. Rows are sent to `output`, the address of the
Data Output page. Set `loading` or `paused` at any time. Not modelled: the physics of what is set.
"""

from __future__ import annotations

import math
import socket
import struct
from contextlib import suppress
from typing import Any

from fixgw.hw_sim.aircraft import FT, KNOT, Aircraft
from fixgw.hw_sim.network import NetworkInstrument

NO_VALUE = -999.0
AVGAS_LB = 6.02  # a gallon
POUND_KG = 0.45359237
BEACON = ("239.255.1.1", 49707)

INDICATORS = "sim/cockpit2/gauges/indicators/"
POSITION = "sim/flightmodel/position/"
ENGINE = "sim/cockpit2/engine/indicators/"


def datarefs(aircraft: Aircraft) -> dict[str, float]:
    v = aircraft.numbers()
    return {
        INDICATORS + "airspeed_kts_pilot": v["IAS"],
        INDICATORS + "altitude_ft_pilot": v["ALT"],
        INDICATORS + "vvi_fpm_pilot": v["VS"],
        POSITION + "true_phi": v["ROLL"],
        POSITION + "true_theta": v["PITCH"],
        POSITION + "mag_psi": v["HEAD"],
        POSITION + "latitude": v["LAT"],
        POSITION + "longitude": v["LONG"],
        POSITION + "groundspeed": v["GS"] * KNOT,
        POSITION + "true_airspeed": v["TAS"] * KNOT,
        POSITION + "hpath": v["TRACK"],
        ENGINE + "engine_speed_rpm[0]": v["TACH1"],
        ENGINE + "MPR_in_hg[0]": v["MAP1"],
        ENGINE + "oil_pressure_psi[0]": v["OILP1"],
        ENGINE + "oil_temperature_deg_C[0]": v["OILT1"],
        ENGINE + "EGT_deg_C[0]": v["EGT11"],
        ENGINE + "CHT_deg_C[0]": v["CHT11"],
        ENGINE + "fuel_flow_kg_sec[0]": v["FUELF1"] * AVGAS_LB * POUND_KG / 3600.0,
        "sim/cockpit2/gauges/actuators/barometer_setting_in_hg_pilot": aircraft.qnh,
        "sim/weather/temperature_ambient_c": v["OAT"],
    }


def rows(aircraft: Aircraft) -> dict[int, list[float]]:
    v = aircraft.numbers()
    true = (v["HEAD"] + aircraft.variation) % 360.0
    return {
        3: [v["IAS"], v["CAS"], v["TAS"], v["GS"], NO_VALUE, v["IAS"] * 1.15078, v["TAS"] * 1.15078, v["GS"] * 1.15078],
        4: [0.16, NO_VALUE, v["VS"], NO_VALUE, v["ANORM"], 0.0, v["ALAT"]],
        17: [v["PITCH"], v["ROLL"], true, v["HEAD"]],
        20: [v["LAT"], v["LONG"], v["TALT"], v["AGL"], 0.0, v["ALT"], 43.0, -89.0],
        37: [v["TACH1"]],
        43: [v["MAP1"]],
        45: [v["FUELF1"] * AVGAS_LB],
        47: [v["EGT11"] * 1.8 + 32.0],
        49: [v["OILP1"]],
        54: [v["VOLT"]],
    }


class Xplane(NetworkInstrument):
    """The simulator."""

    NAME = "xplane"
    WHAT = "X-Plane: answers requests, sends rows of the Data Output page and its beacon"
    PORT = 49000
    RATE_HZ = 20.0  # of the rows

    def __init__(self, host: str = "127.0.0.1", port: int | None = None) -> None:
        #: What is asked for: (address, index) -> (dataref, rate); address -> rate.
        self.asked: dict[tuple[Any, int], tuple[str, int]] = {}
        self.positions: dict[Any, int] = {}
        #: The Data Output page: the rows that are switched on.
        self.page: set[int] = set()
        #: What was set: rows by number, datarefs by name.
        self.rows_set: dict[int, list[float]] = {}
        self.datarefs_set: dict[str, float] = {}
        self.refused = 0
        self.loading = False
        self.beacon = False
        self.hung = False
        self._due: dict[Any, float] = {}
        self._last: tuple[dict[str, float], dict[int, list[float]], bytes] | None = None
        super().__init__(host, port)

    def send_to(self, address: Any) -> None:
        super().send_to(address)
        self.page = {*rows(Aircraft())}

    def restart(self) -> None:
        self.asked, self.positions = {}, {}

    def tick(self, aircraft: Aircraft, now: float) -> None:
        for datagram, sender in self.receive():
            self.take(datagram, sender)
        if (opened := self.socket) is None:
            return
        if self._last is None or not self.hung:
            self._last = datarefs(aircraft), rows(aircraft), position(aircraft)
        known, page, place = self._last
        if self.loading:
            known, page, place = {}, {n: [0.0] * 8 for n in page}, place[:5] + bytes(len(place) - 5)
        answers: dict[Any, bytes] = {}
        for (address, index), (dataref, rate) in self.asked.items():
            if self._is_due((address, index), rate, now):
                answers[address] = answers.get(address, b"") + struct.pack("<if", index, known.get(dataref, 0.0))
        for address, pairs in answers.items():
            for start in range(0, len(pairs), 183 * 8):
                self.send(b"RREF," + pairs[start : start + 183 * 8], address)
        for address, rate in self.positions.items():
            if self._is_due(address, rate, now):
                self.send(place, address)
        if self.page and self.output is not None and self._is_due("page", self.RATE_HZ, now):
            chosen = [(n, page[n]) for n in sorted(self.page & {*page})]
            parts = [struct.pack("<i8f", n, *(row + [NO_VALUE] * (8 - len(row)))) for n, row in chosen]
            self.send(b"DATA*" + b"".join(parts), self.output)
        if self.beacon and self._is_due("beacon", 1.0, now):
            head = struct.pack("<BBiiIH", 1, 2, 1, 124006, 1, self.port)
            with suppress(OSError):  # no network
                opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self.host))
                opened.sendto(b"BECN\0" + head + b"bench\0" + b"\x68\xbf", BEACON)

    def _is_due(self, what: Any, rate: float, now: float) -> bool:
        due = self._due.get(what, now)
        if now < due - 1e-6:
            return False
        self._due[what] = max(due + 1.0 / rate, now)
        return True

    def take(self, datagram: bytes, sender: Any) -> None:
        """Do what a datagram asks for."""
        kind, body = datagram[:5], datagram[5:]
        if kind == b"RREF\0" and len(body) == 408:
            rate, index = struct.unpack_from("<ii", body)
            name = body[8:].partition(b"\0")[0].decode()
            self.asked.pop((sender, index), None)
            if rate > 0:
                self.asked[sender, index] = name, rate
        elif kind == b"RPOS\0" and body.rstrip(b"\0").isdigit():
            rate = int(body.rstrip(b"\0"))
            self.positions.pop(sender, None)
            if rate > 0:
                self.positions[sender] = rate
        elif kind == b"DSEL\0" and body and len(body) % 4 == 0:
            self.page |= {n for (n,) in struct.iter_unpack("<i", body)}
        elif kind == b"DATA\0" and body and len(body) % 36 == 0:
            for n, *values in struct.iter_unpack("<i8f", body):
                before = self.rows_set.get(n, [NO_VALUE] * 8)
                self.rows_set[n] = [old if new == NO_VALUE else new for old, new in zip(before, values, strict=True)]
        elif kind == b"DREF\0" and len(body) == 504:
            name = body[4:].partition(b"\0")[0].decode()
            (self.datarefs_set[name],) = struct.unpack_from("<f", body)
        else:
            self.refused += 1


def position(aircraft: Aircraft) -> bytes:
    """An RPOS message."""
    v = aircraft.numbers()
    true = (v["HEAD"] + aircraft.variation) % 360.0
    track, speed = math.radians(v["TRACK"]), v["GS"] * KNOT
    place = struct.pack("<ddd", v["LONG"], v["LAT"], v["TALT"] * FT)
    angles = struct.pack("<4f", v["AGL"] * FT, v["PITCH"], true, v["ROLL"])
    motion = (speed * math.sin(track), v["VS"] * FT / 60.0, -speed * math.cos(track), 0.0, 0.0, 0.0)
    return b"RPOS4" + place + angles + struct.pack("<6f", *motion)
