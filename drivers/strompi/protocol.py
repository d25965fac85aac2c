"""Joy-IT StromPi 3: its status report, 38 numbers on a line each, and its unsolicited messages. No I/O.

Source: the vendor's status script for firmware 1.73 (github.com/joy-it/strompi3, MIT), for the lines of the report,
voltages in millivolts, and the texts of the warnings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from fixgw.kit.update import FAIL, Update, begin_counting

REQUEST = b"\rstatus-rpi\r"
LINES = 38
# Lines of the report, counted from 0.
WEEKDAY, MODE, LEVEL, CHARGING, WIDE, BATTERY, USB, OUTPUT, STATUS, FIRMWARE = 2, 3, 22, 23, 31, 32, 33, 34, 35, 37
LEVELS = {1: 10, 2: 25, 3: 50, 4: 100}  # %
ON_BATTERY = 3
NO_BATTERY = 500  # mV
MAX_MV = 70_000
MAX_LINE = 200  # characters
OF_BATTERY = ("BAT_VOLTAGE", "BAT_REMAINING", "BAT_CHARGING")


class Decoder:
    """Decodes reports and warnings.

    Counts reports ``received`` and ``used``, or refused as ``incomplete`` or ``absurd``, and other lines: ``warnings``
    and ``other lines``.
    """

    REFUSALS: ClassVar[Sequence[str]] = ("incomplete", "absurd")

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self.counts = begin_counting(counts, "received", "used", *self.REFUSALS, "warnings", "other lines")
        self.refused = ""
        #: The last report: whether the computer runs on battery, the charge in % (0: unknown), and the firmware.
        self.lost: bool | None = None
        self.remaining = 0
        self.firmware = ""
        self.trouble = ""
        self._rest = b""
        self._numbers: list[int] = []

    def start_report(self) -> None:
        """A report has been requested: discard what came before it."""
        if self._numbers:
            self._refuse("incomplete", self._numbers)
        self._numbers = []

    def feed(self, data: bytes) -> list[Update]:
        """Return the updates of complete lines; `data` may be cut anywhere. Never raises."""
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = self._rest[: MAX_LINE + 1]  # an overlong line stays overlong
        updates: list[Update] = []
        for line in lines:
            text = line.strip(b" \0\t")
            if len(line) > MAX_LINE:
                self.counts["other lines"] += 1
            elif not text:
                continue
            elif text.isdigit() and len(text) < 10:
                self._numbers.append(int(text))
                if len(self._numbers) == LINES:
                    updates += self._report(self._numbers)
                    self._numbers = []
            elif b"PowerBack" in text or b"Powerfail" in text or b"ShutdownRaspberryPi" in text:
                self.counts["warnings"] += 1
                self.lost = b"PowerBack" not in text
                updates.append(Update("POWER_FAIL", self.lost))
            else:
                self.counts["other lines"] += 1
        return updates

    def _refuse(self, why: str, numbers: list[int]) -> None:
        self.counts["received"] += 1
        self.counts[why] += 1
        self.refused = f"{why}: {' '.join(map(str, numbers))}"

    def _report(self, numbers: list[int]) -> list[Update]:
        level, charging, status, battery = (numbers[i] for i in (LEVEL, CHARGING, STATUS, BATTERY))
        voltages = [numbers[i] for i in (WIDE, BATTERY, USB, OUTPUT)]
        sound = (
            1 <= numbers[WEEKDAY] <= 7
            and 1 <= numbers[MODE] <= 6
            and level <= 4
            and charging <= 1
            and 1 <= status <= ON_BATTERY
            and max(voltages) <= MAX_MV
        )
        if not sound:
            self._refuse("absurd", numbers)
            return []
        self.counts["received"] += 1
        self.counts["used"] += 1
        self.lost = status == ON_BATTERY
        self.firmware = str(numbers[FIRMWARE])
        self.remaining = LEVELS.get(level, 0)
        updates = [Update("POWER_FAIL", self.lost)]
        if battery < NO_BATTERY:
            self.trouble = "no battery"
            return updates + [Update(key, None, FAIL, "no battery") for key in OF_BATTERY]
        self.trouble = ""
        updates += [Update("BAT_VOLTAGE", battery / 1000.0), Update("BAT_CHARGING", bool(charging))]
        if level in LEVELS:
            return [*updates, Update("BAT_REMAINING", LEVELS[level])]
        return [*updates, Update("BAT_REMAINING", None, FAIL, "the board does not know the charge")]
