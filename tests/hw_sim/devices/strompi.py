"""A virtual StromPi 3 on a virtual serial port: answers ``status-rpi``, and warns when its supply fails or returns.

Set `supply`, `voltage` (V), `level` (0 to 4), `charging`, `battery` at any time; `silent` makes it hang. Other
commands, its clock and its alarms are not modelled.
"""

from __future__ import annotations

from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.pty import VirtualPort
from fixgw.hw_sim.serial import SerialInstrument


class StromPi(SerialInstrument):
    """The board: an instrument of the `World`, which calls `tick`; or call `answer` by hand."""

    NAME = "strompi"
    WHAT = "Joy-IT StromPi 3 uninterruptible power supply: sends only on request"
    BAUD = 38400
    WARNINGS = True

    def __init__(self, port: VirtualPort) -> None:
        super().__init__(port)
        self.port = port
        self.supply = True
        self.battery = True
        self.voltage = 3.31
        self.level = 4
        self.charging = False
        self.silent = False
        self.requests = 0
        self._heard = b""
        self._supplied = True

    def report(self) -> bytes:
        """The 38 lines of one report."""
        lines = [
            "153012", "251121", "5", "3",  # time, date, weekday, mode: USB, then battery
            "0", "1", "12", "0", "1", "1", "1", "0", "0", "0",  # alarms
            "1", "30", "1", "0", "0", "0", "0",  # shutdown, its seconds, warnings, modes
            "1", str(self.level if self.battery else 0), str(int(self.charging)),
            "0", "30", "0", "0", "0", "30", "1",
            "0", str(round(self.voltage * 1000) if self.battery else 12), "5060" if self.supply else "35", "5080",
            "1" if self.supply else "3", "2", "173",
        ]  # fmt: skip
        return "".join(line + "\n" for line in lines).encode()

    def tick(self, aircraft: Aircraft, now: float) -> None:
        self.transmit(self._answers(0.0), now)

    def answer(self, timeout: float = 0.0) -> None:
        """Receive requests for up to `timeout` seconds and answer at once, regardless of the line's speed."""
        for answer in self._answers(timeout):
            self.port.write(answer)

    def _answers(self, timeout: float) -> list[bytes]:
        self._heard = (self._heard + self.port.read(timeout))[-100:]
        if self.silent or not self.power:
            self._heard = b""
            return []
        answers = []
        if self.supply != self._supplied:
            self._supplied = self.supply
            if self.WARNINGS:
                answers.append(b"xxx--StromPiPowerBack--xxx\n" if self.supply else b"xxx--StromPiPowerfail--xxx\n")
        *commands, self._heard = self._heard.split(b"\r")
        for command in commands:
            if command == b"status-rpi":
                self.requests += 1
                self.rounds += 1
                answers.append(self.report())
        return answers
