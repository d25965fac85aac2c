"""One HTML file with the charts of a flight, which needs no network: `page`.

Plotly draws them; its script is in the file. All texts from the recording are in one block of JSON, in which no
character can end a script or begin a tag; the page shows them as text only.
"""

from __future__ import annotations

import json
import math
import sys
from array import array
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Any, NamedTuple

from fixgw.errors import MissingLibrary
from fixgw.recording import Recording, RecordingError
from fixgw.recording.exports.common import GAP, place, plain
from fixgw.recording.report import active_alerts
from fixgw.recording.sampling import Progress, Samples, Span, sample

__all__ = ["page"]

UNDATED_S = 946_684_800.0  # a midnight, where flights without a date begin: plotly takes small numbers for years
POINTS = 7200  # of a series: two hours at one a second
MOST_ALERTS = 1000
SIGNS = {"degC": "°C", "degF": "°F", "deg": "°", "knots": "kt"}
NAN = math.nan
COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#b9770e", "#7d3c98", "#117a65", "#5d6d7e", "#d35400")


class Line(NamedTuple):
    """A kind of series: the names by key, one for each engine, tank or cylinder, and how to show the values.

    If only one of the keys was recorded, its name has no number.
    """

    names: dict[str, str]
    digits: int
    side: str = "left"


class Panel(NamedTuple):
    title: str
    lines: tuple[Line, ...]
    height: int = 130  # pixels


def _one(key: str, name: str, digits: int, side: str = "left") -> Line:
    return Line({key: name}, digits, side)


def _numbered(stem: str, name: str, digits: int, side: str = "left") -> Line:
    """A series for each engine or tank."""
    return Line({f"{stem}{n}": f"{name} {n}" for n in range(1, 10)}, digits, side)


def _cylinders(stem: str) -> Line:
    """A series for each cylinder, the first engine's without its number."""
    names = {f"{stem}1{n}": f"{stem} {n}" for n in range(1, 10)}
    return Line(names | {f"{stem}{e}{n}": f"{stem} {e}.{n}" for e in range(2, 5) for n in range(1, 10)}, 0)


PANELS = (
    Panel("Altitude", (_one("ALT", "ALT", 0), _one("TALT", "GPS", 0), _one("VS", "VS", 0, "right")), 150),
    Panel("Speed", (_one("IAS", "IAS", 0), _one("TAS", "TAS", 0), _one("GS", "GS", 0))),
    Panel("Exhaust gas temperatures", (_cylinders("EGT"),), 170),
    Panel("Cylinder head temperatures", (_cylinders("CHT"),), 150),
    Panel(
        "Engine",
        (
            _numbered("TACH", "RPM", 0),
            _numbered("MAP", "MAP", 1, "right"),
            _numbered("FUELF", "fuel flow", 1, "right"),
        ),
        150,
    ),
    Panel("Oil", (_numbered("OILT", "oil temperature", 0), _numbered("OILP", "oil pressure", 0, "right"))),
    Panel("Electrics", (_one("VOLT", "voltage", 1), _one("CURRNT", "current", 1, "right"))),
    Panel("Fuel", (_numbered("FUELQ", "tank", 1), _numbered("FUELP", "fuel pressure", 1, "right"))),
    Panel("Air", (_one("OAT", "OAT", 1), _one("ANORM", "load", 2, "right"))),
)
KEYS = frozenset(key for panel in PANELS for line in panel.lines for key in line.names) | {"LAT", "LONG"}


def page(
    recording: Recording, span: Span, rate: float | None = None, progress: Progress | None = None
) -> Iterator[str]:
    """The page with the charts of `span`, piece by piece.

    `rate` is the number of points a second; by default one, or fewer for a long flight. Raises `RecordingError` if
    there is nothing to draw, and `MissingLibrary` without plotly.
    """
    try:
        from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
    except ImportError:
        raise MissingLibrary("plotly", "plot") from None
    rate = rate or 1.0 / max(1, math.ceil((span.until - span.since) / POINTS))
    if not recording.about.dated and not span.shift:
        span = span._replace(shift=UNDATED_S - recording.about.start)
    samples = Samples(sample(recording, span, rate, KEYS, progress=progress), rate)
    try:
        content = json.dumps(_content(recording, span, samples), allow_nan=False)
    finally:
        samples.close()
    for character in "<>&":  # no tag begins or ends in the block
        content = content.replace(character, f"\\u{ord(character):04x}")
    template = resources.files("fixgw.recording").joinpath("plot.html").read_text("utf-8")
    before, _, rest = template.partition("{{DATA}}")
    between, _, after = rest.partition("{{PLOTLY}}")
    yield from (before, content, between, get_plotlyjs(), after)


def _content(recording: Recording, span: Span, samples: Samples) -> dict[str, Any]:
    about = recording.about
    keys = set(samples.keys)
    found = [(panel, _series(panel, keys, about.units)) for panel in PANELS]
    panels = [(panel, series) for panel, series in found if series]
    drawn = [s["key"] for _, series in panels for s in series]
    if not drawn:
        raise RecordingError(f"{about.name}: there is nothing to draw between these times")
    times = array("d")
    columns = {key: array("f") for key in drawn}
    lat, lon = array("d"), array("d")
    before = samples.first
    for row in samples:
        if row.time - before > GAP * samples.interval:  # nothing was recorded
            times.append((before + samples.interval) * 1000.0)
            for column in (*columns.values(), lat, lon):
                column.append(NAN)
        before = row.time
        times.append(row.time * 1000.0)
        for key, column in columns.items():
            value = row.number(key)
            column.append(NAN if value is None or abs(value) > 3e38 else value)
        where = place(row, None)
        lat.append(where.lat if where else NAN)
        lon.append(where.lon if where else NAN)
    has_track = any(degrees == degrees for degrees in lat)
    return {
        "title": plain(about.ident) or about.name,
        "when": _when(recording, span),
        "simulated": about.simulated,
        "dated": not _is_undated(recording, span),
        "notes": recording.about.notes(),
        "x": _packed(times),
        "panels": [
            {
                "title": panel.title,
                "height": panel.height,
                "series": [{**s, "y": _packed(columns[s["key"]])} for s in series],
            }
            for panel, series in panels
        ],
        "track": {"lat": _packed(lat), "lon": _packed(lon)} if has_track else None,
        "alerts": _alerts(recording, span),
    }


def _series(panel: Panel, keys: set[str], units: Mapping[str, str]) -> list[dict[str, Any]]:
    """The series of a panel, with colours."""
    found: list[dict[str, Any]] = []
    for line in panel.lines:
        names = {key: name for key, name in line.names.items() if key in keys}
        for key, name in names.items():
            unit = units.get(key, "")
            found.append(
                {
                    "key": key,
                    "name": name if len(names) > 1 or len(line.names) == 1 else name.rpartition(" ")[0],
                    "unit": SIGNS.get(unit, plain(unit)),
                    "digits": line.digits,
                    "side": line.side,
                    "color": COLOURS[len(found) % len(COLOURS)],
                    "dash": "solid" if len(found) < len(COLOURS) else "dash",
                }
            )
    return found


def _alerts(recording: Recording, span: Span) -> list[dict[str, Any]]:
    found = []
    for alert in active_alerts(recording, span):
        until = span.until if alert.until is None else min(alert.until, span.until)
        found.append(
            {
                "text": plain(alert.what),
                "level": alert.level,
                "from": (alert.since + span.shift) * 1000.0,
                "until": (until + span.shift) * 1000.0,
                "open": alert.until is None,
            }
        )
        if len(found) == MOST_ALERTS:
            break
    return sorted(found, key=lambda a: a["from"])


def _when(recording: Recording, span: Span) -> str:
    about = recording.about
    minutes = f"{(span.until - span.since) / 60.0:.1f} minutes"
    if _is_undated(recording, span):
        return f"{about.name}, {minutes}, without a date"
    try:
        first, last = (datetime.fromtimestamp(t + span.shift, UTC) for t in (span.since, span.until))
    except (ValueError, OverflowError, OSError):
        raise RecordingError(f"{about.name}: its times are beyond all dates") from None
    return f"{about.name}, {first:%Y-%m-%d %H:%M:%S} to {last:%H:%M:%S} UTC, {minutes}"


def _is_undated(recording: Recording, span: Span) -> bool:
    return not recording.about.dated and span.shift == UNDATED_S - recording.about.start


def _packed(numbers: array[float]) -> str:
    """The numbers as base64, little endian as in every browser."""
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()
