"""A virtual tablet with iFly EFB, which follows a flight plan: it sends RMB and APB once a second, and nothing else."""

from __future__ import annotations

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.devices.nmea0183 import guidance, sentence
from fixgw.hw_sim.serial import Line, SerialInstrument


class Ifly(SerialInstrument):
    """The app; it has no route while `guiding` is False. The real one sends UDP datagrams."""

    NAME = "ifly"
    WHAT = "iFly EFB: guidance to the waypoint as NMEA 0183"
    BAUD = 115200  # a network is faster
    UDP_PORT = 2000

    def __init__(self, line: Line, baud: int | None = None) -> None:
        super().__init__(line, baud)
        self.guiding = True

    def frames(self, aircraft: Aircraft, now: float) -> list[bytes]:
        bodies = guidance(aircraft.values(), "GP", self.guiding)
        return [sentence(body) for body in bodies if body[2:5] in ("RMB", "APB")]
