"""What the tests of the page share: a gateway whose values the test sets, and what a browser has to say."""

from __future__ import annotations

import shutil
import threading
from typing import Any

from fixgw.database import Definition

from .conftest import HERE, Gateway

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
WEBKIT = shutil.which("WebKitWebDriver")
NO_CHROMIUM = "there is no chromium-headless-shell: apt-get install chromium-headless-shell"
HOSTILE = "</script><img src=x onerror=alert(1)>&amp;<b>"
PHONE = {"width": 390, "height": 844}
NARROW = {"width": 320, "height": 640}
DESK = {"width": 1280, "height": 800}

_LIMITS = ("Min", "Max", "lowAlarm", "lowWarn", "highWarn", "highAlarm")


def _number(key: str, units: str, high: float, description: str, **more: Any) -> Definition:
    facts: dict[str, Any] = {"min": 0, "max": high, "tolerance": 0, "decimals": 0, "aux": _LIMITS, **more}
    return Definition(key=key, units=units, description=description, **facts)


DEFINITIONS = [
    _number("IAS", "knots", 400, "Indicated airspeed", decimals=1, tolerance=300),
    _number("ALT", "ft", 60000, "Altitude"),
    _number("OILP1", "psi", 200, "Oil pressure, engine 1"),
    _number("OILT1", "degC", 150, "Oil temperature, engine 1"),
    _number("FUELF1", "gal/hr", 30, "Fuel flow, engine 1", decimals=1),
    *(_number(f"TACH{e}", "rpm", 3000, f"Crankshaft speed, engine {e}", type="int") for e in (1, 2)),
    *(_number(f"EGT1{c}", "degC", 1000, f"Exhaust gas temperature, engine 1, cylinder {c}") for c in (1, 2, 3, 4)),
    *(_number(f"CHT1{c}", "degC", 300, f"Cylinder head temperature, cylinder {c}") for c in range(1, 7)),
    _number("EGTSPAN1", "degC", 1000, "Exhaust gas temperature, hottest minus coolest, engine 1"),
    Definition(key="WPNAME", type="str", description="Name of the waypoint"),
    Definition(key="BARO", min=0, max=35, initial=29.92, setting=True, units="inHg", description="Altimeter setting"),
    *(_number(f"X{n}", "", 1000, f"Number {n}", decimals=2) for n in range(400)),
]
OIL = {"Min": 0.0, "Max": 115.0, "lowAlarm": 25.0, "lowWarn": 55.0, "highWarn": 95.0, "highAlarm": 100.0}
CONNECTION = {
    "module": "fixgw.drivers.eis",
    "state": "running",
    "for": 3.0,
    "running": True,
    "health": "ok",
    "reason": "",
    "restarts": 0,
    "next start in": None,
    "status": {},
}


class Served(Gateway):
    """A gateway of the test's own, with all permissions for this computer unless `options` say otherwise."""

    def __init__(self, **options: Any) -> None:
        #: While it is cleared, no status comes.
        self.held = threading.Event()
        self.held.set()
        super().__init__(DEFINITIONS, **{"rate": 20, "write": HERE, "admin": HERE, "bench": True, **options})
        for name, limit in OIL.items():
            self.db.item("OILP1").write_aux(name, limit)
        self.connections: dict[str, Any] = {"eis": {**CONNECTION}}
        self.status = {
            "version": "1.2.3",
            "health": "ok",
            "summary": "1 of 1 connections well",
            "uptime": 3661.0,
            "configuration": {"file": "default.yaml", "reloads": 0, "problems": []},
            "process": {"pid": 1, "cpu percent": 3.5, "memory MiB": 41.0, "threads": 9},
            "log": {"trouble": "", "dropped": {}},
            "database": self.db.statistics(),
            "settings": {"kept": 0, "trouble": ""},
            "overrides": {},
            "connections": self.connections,
        }

    @property
    def status(self) -> dict[str, Any]:
        self.held.wait(30.0)
        return self._tree

    @status.setter
    def status(self, tree: dict[str, Any]) -> None:
        self._tree = tree

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def put(self, key: str, value: Any, flags: int = 0, source: str = "eis") -> None:
        self.db.write(key, value, source, flags=flags)
