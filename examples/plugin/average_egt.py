"""The average of four EGTs."""

from fixgw.plugin import Poller

PROBES = ("EGT11", "EGT12", "EGT13", "EGT14")


class Plugin(Poller):
    """Follows the probes on a thread of its own, and writes EGTAVG1 whenever one of them changes."""

    def open(self) -> None:
        self.changes = self.db.mailbox(PROBES)

    def poll(self, timeout: float) -> None:
        if not self.changes.wait(timeout):
            return
        readings = {key: self.db.read(key) for key in PROBES}
        if doubtful := [key for key, reading in readings.items() if not reading.good]:
            self.db.item("EGTAVG1").fail(f"not good: {', '.join(doubtful)}", self.source)
        else:
            average = sum(float(reading.value) for reading in readings.values()) / len(PROBES)
            self.db.write("EGTAVG1", average, self.source, flags=0)

    def close(self) -> None:
        self.changes.close()
