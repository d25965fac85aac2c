"""CSV of all keys that were ever good, as they were recorded: a column of times, then one for each key.

Times are UTC in ISO 8601 (``utc``), or in a recording without a date seconds from its beginning (``seconds``). A last
column says ``yes`` in each line if the flight is simulated: tables are cut and pasted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fixgw.kit.update import Value
from fixgw.recording.exports.common import Flight, csv_line, utc
from fixgw.recording.sampling import Samples

NEEDS: Mapping[str, str] | None = None


def pieces(samples: Samples, flight: Flight) -> Iterator[str]:
    keys = samples.keys
    marked = ["yes"] if flight.simulated else []
    yield csv_line(["utc" if flight.dated else "seconds", *keys, *(["SIMULATED"] if marked else [])])
    for row in samples:
        time = utc(row.time) if flight.dated else f"{row.time:.3f}"
        yield csv_line([time, *(_text(row.values.get(key)) for key in keys), *marked])


def _text(value: Value | None) -> Value | None:
    return int(value) if isinstance(value, bool) else value
