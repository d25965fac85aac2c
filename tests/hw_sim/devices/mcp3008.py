"""The MCP3008 analog-to-digital converter on SPI."""

from __future__ import annotations

from collections.abc import Callable

from fixgw.hw_sim.aircraft import Aircraft


class Mcp3008:
    """Eight inputs in volts (`volts`), measured against `reference`. It works bit by bit, like the real one."""

    def __init__(self, reference: float = 3.3) -> None:
        self.reference = reference
        self.volts = [0.0] * 8
        #: Called with every tick of the world, to set the first of the `volts` from the aircraft.
        self.senders: list[Callable[[Aircraft], float]] = []

    def tick(self, aircraft: Aircraft, now: float) -> None:
        for i, sender in enumerate(self.senders):
            self.volts[i] = sender(aircraft)

    def close(self) -> None:
        """Does nothing: the chip stays on its bus."""

    def transfer(self, data: bytes) -> bytes:
        heard = "".join(f"{byte:08b}" for byte in data)
        start = heard.find("1")
        command = heard[start + 1 : start + 5]
        if start < 0 or len(command) < 4:
            return b"\xff" * len(data)
        number = int(command[1:], 2)
        volts = self.volts[number] - (0.0 if command[0] == "1" else self.volts[number ^ 1])
        counts = max(0, min(int(volts / self.reference * 1024.0), 1023))
        # One clock to sample, a null bit, the result; the line is not driven before that.
        said = ("1" * (start + 6) + "0" + f"{counts:010b}" + "0" * len(heard))[: len(heard)]
        return int(said, 2).to_bytes(len(data), "big")
