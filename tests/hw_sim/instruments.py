"""All virtual instruments with a serial line, by name: what `fixgw sim serial NAME` runs."""

from __future__ import annotations

from fixgw.hw_sim.dynon_d10 import D10
from fixgw.hw_sim.eis import Eis, Eis2004
from fixgw.hw_sim.g3x import G3x, Gnx
from fixgw.hw_sim.lines import Arduino
from fixgw.hw_sim.mgl_serial import Tp3
from fixgw.hw_sim.nmea0183 import Gps, Navigator
from fixgw.hw_sim.serial import SerialInstrument
from fixgw.hw_sim.shadin import Shadin
from fixgw.hw_sim.skyview import SkyView
from fixgw.hw_sim.strompi import StromPi

INSTRUMENTS: dict[str, type[SerialInstrument]] = {
    Arduino.NAME: Arduino,
    D10.NAME: D10,
    Eis.NAME: Eis,
    Eis2004.NAME: Eis2004,
    G3x.NAME: G3x,
    Gnx.NAME: Gnx,
    Gps.NAME: Gps,
    Navigator.NAME: Navigator,
    Shadin.NAME: Shadin,
    SkyView.NAME: SkyView,
    StromPi.NAME: StromPi,
    Tp3.NAME: Tp3,
}
