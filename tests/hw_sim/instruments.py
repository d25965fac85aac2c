"""All virtual instruments with a serial line, by name: what `fixgw sim serial NAME` runs."""

from __future__ import annotations

from fixgw.hw_sim.eis import Eis, Eis2004
from fixgw.hw_sim.nmea0183 import Gps, Navigator
from fixgw.hw_sim.serial import SerialInstrument

INSTRUMENTS: dict[str, type[SerialInstrument]] = {
    Eis.NAME: Eis,
    Eis2004.NAME: Eis2004,
    Gps.NAME: Gps,
    Navigator.NAME: Navigator,
}
