"""The average of four EGTs."""

from fixgw.database import Reading
from fixgw.kit.sources import derived_source
from fixgw.plugin import Follower


class Plugin(Follower):
    """Writes EGTAVG1 whenever one of the probes changes, on its own thread."""

    FOLLOWS = ("EGT11", "EGT12", "EGT13", "EGT14")

    def changed(self, readings: dict[str, Reading]) -> None:
        probes = self.readings  # the newest reading of each probe; `readings` has only those that have just changed
        source = derived_source((reading.source for reading in probes.values()), self.source)
        if doubtful := [key for key, reading in probes.items() if not reading.good]:
            self.db.item("EGTAVG1").fail(f"not good: {', '.join(doubtful)}", source)
        else:
            average = sum(float(reading.value) for reading in probes.values()) / len(probes)
            self.db.write("EGTAVG1", average, source, flags=0)
