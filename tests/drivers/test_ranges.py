"""What protocols accept: each number up to its limits, in the units of its key, and none beyond.

The limits are those of the vendors' documents, or of what can be true. A table has a row for each number: where it is
in a message, the lowest and the highest that is accepted, as sent, and what both mean in the units of the key.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial, reduce
from operator import xor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixgw.drivers import dynon, gdl90
from fixgw.drivers.dump1090 import protocol as dump1090
from fixgw.drivers.dynon_d10 import protocol as dynon_d10
from fixgw.drivers.eis import protocol as eis
from fixgw.drivers.g3x import protocol as g3x
from fixgw.drivers.gpsd import protocol as gpsd
from fixgw.drivers.i2c_bmp import protocol as i2c_bmp
from fixgw.drivers.links.can.frame import Frame
from fixgw.drivers.mavlink import protocol as mavlink
from fixgw.drivers.mavlink.frames import build
from fixgw.drivers.mavlink.messages import BY_NAME
from fixgw.drivers.megasquirt import protocol as megasquirt
from fixgw.drivers.mgl_rdac import protocol as mgl_rdac
from fixgw.drivers.mgl_serial import protocol as mgl_serial
from fixgw.drivers.shadin import protocol as shadin
from fixgw.drivers.skyview import protocol as skyview
from fixgw.drivers.stratux import protocol as stratux
from fixgw.drivers.strompi import protocol as strompi
from fixgw.drivers.xgps import protocol as xgps
from fixgw.hw_sim.bench.clock import Clock
from fixgw.kit.update import FAIL, Update

DATA = Path(__file__).parents[1] / "data"


class Numbers(NamedTuple):
    """The lowest and the highest number that is accepted, as sent, and what both mean."""

    lowest: float
    highest: float
    low: float
    high: float


def rows(table: str) -> Iterator[tuple[list[str], Numbers]]:
    """The words at the beginning of each row, and the four numbers at its end."""
    for line in filter(None, table.splitlines()):
        words = line.split()
        yield words[:-4], Numbers(*map(float, words[-4:]))


def value_of(updates: Iterable[Update], key: str) -> float | None:
    """The value of a key, which is given once; None if it has failed."""
    (update,) = (u for u in updates if u.key == key)
    assert (update.value is None) == (update.flags == FAIL) == bool(update.reason), update
    return None if update.value is None else float(update.value)


def check(value: Callable[[float], float | None], what: str, numbers: Numbers, step: float = 1.0) -> None:
    """`value` returns what a number means, None if it is refused, and raises OverflowError if it cannot be sent."""
    for number, meant in ((numbers.lowest, numbers.low), (numbers.highest, numbers.high)):
        assert value(number) == pytest.approx(meant, rel=1e-5, abs=1e-5), f"{what}: {number}"
    for number in (numbers.lowest - step, numbers.highest + step):
        with suppress(OverflowError):
            assert value(number) is None, f"{what}: {number}"


# -- lines of fixed width ----------------------------------------------------------------------------------------------


def fixed(number: float, width: int) -> bytes:
    for text in (f"{number:+0{width}.0f}", f"{number:0{width}.0f}"):
        if len(text) == width:
            return text.encode()
    raise OverflowError


def check_text(feed: Callable[[bytes], list[Update]], message: bytes, table: str) -> None:
    """`table` has the key, its first character (counted from 1) and its width."""

    def value(key: str, first: int, width: int, number: float) -> float | None:
        body = message[: first - 1] + fixed(number, width) + message[first - 1 + width : -2]
        return value_of(feed(body + b"%02X\r\n" % (sum(body) % 256)), key)

    for (key, first, width), numbers in rows(table):
        check(partial(value, key, int(first), int(width)), key, numbers)


D10 = (DATA / "dynon_d10" / "guide.txt").read_bytes().strip()
D10_ALWAYS = """
PITCH   9 4   -900   900   -90.0    90.0
ROLL   13 5  -1800  1800  -180.0   180.0
HEAD   18 3      0   360     0.0   360.0
IAS    21 4      0  5144     0.0   999.914
ALAT   34 3    -99    99     0.99   -0.99
ANORM  37 3    -99    99    -9.9     9.9
AOA    40 2      0    99     0.0    17.82
"""
D10_ALTERNATING = """
ALT    25 5   -914 10058 -2998.688 32998.688
ROT    30 4   -999   999   -99.9    99.9
"""
D10_OTHER = """
PALT   25 5   -914 10058 -2998.688 32998.688
VS     30 4   -999   999 -5994.0  5994.0
"""


def test_dynon_d10() -> None:
    def feed(data: bytes) -> list[Update]:
        return dynon_d10.Decoder(Clock(), stall_angle=18.0).feed(data)

    check_text(feed, D10, D10_ALWAYS + D10_OTHER)
    check_text(feed, D10[:46] + b"6" + D10[47:], D10_ALWAYS + D10_ALTERNATING)


SKYVIEW = (DATA / "skyview" / "guide.txt").read_bytes().split()
SKYVIEW_TABLES = (
    """
PITCH  12 4   -900   900   -90.0    90.0
ROLL   16 5  -1800  1800  -180.0   180.0
HEAD   21 3      0   360     0.0   360.0
IAS    24 4      0  9999     0.0   999.9
PALT   28 6  -3000 60000 -3000.0 60000.0
ROT    34 4   -999   999   -99.9    99.9
ALAT   38 3    -99    99     0.99   -0.99
ANORM  41 3    -99    99    -9.9     9.9
AOA    44 2      0    99     0.0    17.82
VS     46 4   -999   999 -9990.0  9990.0
OAT    50 3    -99    99   -99.0    99.0
TAS    53 4      0  9999     0.0   999.9
BARO   57 3      0   400    27.5    31.5
DALT   60 6 -10000 60000 -10000.0 60000.0
""",
    """
COURSE 28 3      0   360     0.0   360.0
CDI    35 3    -99    99    -0.99    0.99
GSI    38 3    -99    99    -0.99    0.99
""",
    """
OILP1  12 3      0   300     0.0   300.0
OILT1  15 4    -60   300   -60.0   300.0
MAP1   27 3      0   600     0.0    60.0
FUELP1 36 3      0   999     0.0    99.9
FUELQ1 39 3      0   999     0.0    99.9
FUELQ2 42 3      0   999     0.0    99.9
FUELQT 45 3      0   999     0.0    99.9
VOLT   48 3      0   600     0.0    60.0
CURRNT 54 4   -999   999   -99.9    99.9
HOBBS1 58 5      0 99999     0.0  9999.9
CHT16  68 4    -60   999   -60.0   999.0
EGT16  72 4    -60   999   -60.0   999.0
CHT11 108 4    -60   999   -60.0   999.0
EGT11 112 4    -60   999   -60.0   999.0
""",
)
#: With the other of two numbers blank.
SKYVIEW_SPEEDS = "TACH1 19 4 0 9999 0 9999", "TACH1 23 4 0 9999 0 9999"
SKYVIEW_FLOW = "FUELF1 30 3 0 999 0 99.9"


def test_skyview() -> None:
    def feed(data: bytes) -> list[Update]:
        return skyview.Decoder(Clock(), stall_angle=18.0).feed(data)

    for message, table in zip(SKYVIEW, SKYVIEW_TABLES, strict=True):
        check_text(feed, message, table)
    for table in (*SKYVIEW_SPEEDS, SKYVIEW_FLOW):
        check_text(feed, SKYVIEW[2][:18] + b"X" * 8 + SKYVIEW[2][26:], table)


G3X_TABLES = {
    "attitude": """
PITCH  12 4   -900   900   -90.0    90.0
ROLL   16 5  -1800  1800  -180.0   180.0
HEAD   21 3      0   360     0.0   360.0
IAS    24 4      0  9999     0.0   999.9
PALT   28 6  -2000 60000 -2000.0 60000.0
ROT    34 4   -999   999   -99.9    99.9
ALAT   38 3    -99    99     0.99   -0.99
ANORM  41 3    -99    99    -9.9     9.9
VS     46 4   -999   999 -9990.0  9990.0
OAT    50 3    -99    99   -99.0    99.0
BARO   53 3      0   400    27.5    31.5
""",
    "engine": """
OILP1  12 3      0   300     0.0   300.0
OILT1  15 4    -60   300   -60.0   300.0
TACH1  19 4      0  9999     0.0  9999.0
MAP1   27 3      0   999     0.0    99.9
FUELF1 30 3      0   999     0.0    99.9
FUELP1 36 3    -99   999    -9.9    99.9
FUELQ1 39 3      0   999     0.0    99.9
FUELQ2 42 3      0   999     0.0    99.9
FUELQT 45 3      0   999     0.0    99.9
VOLT   48 3      0   999     0.0    99.9
CURRNT 54 4   -999   999   -99.9    99.9
HOBBS1 58 5      0 99999     0.0  9999.9
CHT16  68 4    -60   600   -60.0   600.0
EGT16  72 4    -60  1200   -60.0  1200.0
CHT11 108 4    -60   600   -60.0   600.0
EGT11 112 4    -60  1200   -60.0  1200.0
H2OT1 148 5   -600  3000   -60.0   300.0
""",
    "air": """
TAS    12 4      0  9999     0.0   999.9
DALT   16 6 -10000 60000 -10000.0 60000.0
""",
}


def test_g3x() -> None:
    messages = {name: (DATA / "g3x" / f"{name}.txt").read_bytes().strip() for name in ("attitude", "engine")}
    messages["air"] = b"=21112345671187+06010" + b"_" * 19
    for name, table in G3X_TABLES.items():
        check_text(lambda data: g3x.Decoder(Clock()).feed(data), messages[name], table)


@pytest.mark.parametrize(
    ("key", "at", "accepted", "refused"),
    [
        ("LAT", 13, ("N9000000", "S9000000", "N8959999"), ("N9000001", "S9000001", "N8960000")),
        ("LONG", 21, ("E18000000", "W18000000", "E17959999"), ("E18000001", "W18000001", "E17960000")),
        ("TIMEZ", 7, ("000000", "235960"), ("240000", "006000", "000061")),
    ],
)
def test_the_gps_of_a_g3x(key: str, at: int, accepted: tuple[str, ...], refused: tuple[str, ...]) -> None:
    message = (DATA / "g3x" / "gps.txt").read_bytes()
    for text in (*accepted, *refused):
        data = message[:at] + text.encode() + message[at + len(text) :]
        (update,) = (u for u in g3x.Decoder(Clock()).feed(data) if u.key == key)
        assert (update.flags == FAIL) is (text in refused), text


# -- shadin ------------------------------------------------------------------------------------------------------------

SHADIN = """
IAS    A     0    999      0    999
TAS    B     0    999      0    999
PALT   D  -200   6000  -2000  60000
DALT   E -1000   6000 -10000  60000
OAT    F   -99     99    -99     99
OAT    G   -99     99    -99     99
ROT    J   -99     99    -99     99
VS     K  -999    999  -9990   9990
HEAD   L     0    360      0    360
FUELF2 M     0   3000      0    300
FUELF1 O     0   3000      0    300
FUELQT R     0   1000      0   1000
ALT    a  -200   6000  -2000  60000
BARO   b    25     33     25     33
"""


def test_shadin() -> None:
    def value(row: list[str], number: float) -> float | None:
        key, letter = row
        body = b"\x02" + f"G{letter}{number:+04.0f}\r\n".encode()
        frame = body + b"G*%03d\r\n\x03" % (sum(body) % 256)
        return value_of(shadin.Decoder(heading=True).feed(frame), key)

    for row, numbers in rows(SHADIN):
        check(partial(value, row), row[1], numbers)


# -- binary numbers ----------------------------------------------------------------------------------------------------


def packed(message: bytes, at: str | int, form: str, number: float) -> bytes:
    try:
        raw = struct.pack(form, round(number))
    except struct.error:
        raise OverflowError from None
    return message[: int(at)] + raw + message[int(at) + len(raw) :]


EIS_TABLES = {  # by offset in the payload
    "4000/6000": """
TACH1   0 >H    0 10000      0  10000
VOLT   34 >H    0   600    0.0   60.0
FUELF1 36 >H    0  3000    0.0  300.0
FUELQT 57 >H    0  5000    0.0  500.0
OILP1  44 >B    0   255      0    255
HOBBS1 55 >H    0 65535    0.0 6553.5
IAS    30 >H    0   500      0    500
ALT    32 >H    0 50000      0  50000
VS     40 >b -128   127 -12800  12700
BARO   64 >H 2500  3300   25.0   33.0
OAT    41 >b -128   127   -128    127
CHT11   2 >H    1   600      1    600
CHT16  12 >H    1   600      1    600
EGT11  14 >H    1  1200      1   1200
EGT16  24 >H    1  1200      1   1200
OILT1  42 >H    1   300      1    300
H2OT1  53 >H    1   300      1    300
PROP1  66 >H    0 10000      0  10000
""",
    "2004": """
TACH1   0 >H    0 10000      0  10000
VOLT   14 >H    0   600    0.0   60.0
FUELF1 16 >H    0  3000    0.0  300.0
FUELQT 32 >H    0  5000    0.0  500.0
OILP1  25 >B    0   255      0    255
HOBBS1 30 >H    0 65535    0.0 6553.5
IAS    10 >H    0   500      0    500
ALT    12 >H    0 50000      0  50000
VS     19 >b -128   127 -12800  12700
BARO   39 >H 2500  3300   25.0   33.0
OAT    20 >b -128   127   -128    127
CHT11   2 >H    1   600      1    600
CHT12   4 >H    1   600      1    600
EGT11   6 >H    1  1200      1   1200
EGT12   8 >H    1  1200      1   1200
OILT1  23 >H    1   300      1    300
H2OT1  21 >H    1   300      1    300
PROP1  41 >H    0 10000      0  10000
""",
}


def test_eis() -> None:
    def value(length: int, row: list[str], number: float) -> float | None:
        key, at, form = row
        payload = packed(bytes(length - len(eis.HEADER) - 1), at, form, number)
        frame = eis.HEADER + payload + bytes((~sum(payload) & 0xFF,))
        decoder = eis.Decoder(air_data=True, tach2="PROP1", temperature="C")
        return value_of(decoder.feed(frame + eis.HEADER), key)

    for model in eis.MODELS:
        for row, numbers in rows(EIS_TABLES[model.name]):
            check(partial(value, model.length, row), f"{model.name} {row}", numbers)


MEGASQUIRT = """
TACH1  0 6 >H      0 20000   0.0   20000.0
MAP1   2 2 >h     34  4063   1.00401 119.980
H2OT1  2 6 >h   -760  5720 -60.0     300.0
THR1   3 0 >h    -50  1050   0.0       1.0
VOLT   3 2 >h      0   600   0.0      60.0
FUELF1 52 4 >H     0 18927   0.0     300.0
EGT11  22 0 >h  -760 23720 -60.0    1300.0
EGT12  22 2 >h  -760 23720 -60.0    1300.0
EGT14  22 6 >h  -760 23720 -60.0    1300.0
EGT15  23 0 >h  -760 23720 -60.0    1300.0
EGT18  23 6 >h  -760 23720 -60.0    1300.0
"""


def test_megasquirt() -> None:
    def value(row: list[str], number: float) -> float | None:
        key, group, at, form = row
        frame = Frame(1520 + int(group), packed(bytes(8), at, form, number))
        return value_of(megasquirt.Decoder().feed([frame]), key)

    for row, numbers in rows(MEGASQUIRT):
        check(partial(value, row), row[0], numbers)


MGL_RDAC = """
thermocouple_1  2 0 <h   -60  1300    -60    1300
thermocouple_12 4 6 <h   -60  1300    -60    1300
temperature     7 0 <h   -60   150    -60     150
voltage         7 2 <h     0  3442    0.0    59.9905
rpm_1           8 0 <H     0 65000      0  200000
rpm_2           8 2 <H     0 65000      0  200000
oil_temperature 5 0 <H     0  4095      0    4095
oil_pressure    5 2 <H     0  4095      0    4095
aux_1           5 4 <H     0  4095      0    4095
aux_2           5 6 <H     0  4095      0    4095
fuel_pressure   6 0 <H     0  4095      0    4095
coolant         6 2 <H     0  4095      0    4095
fuel_level_1    6 4 <H     0  4095      0    4095
fuel_level_2    6 6 <H     0  4095      0    4095
map             8 4 <H     0 65535      0   65535
current         8 6 <H     0 65535      0   65535
fuel_flow_1     1 0 <H     0 65534      0   65534
fuel_flow_2     1 4 <H     0 65534      0   65534
"""


def test_mgl_rdac() -> None:
    def value(row: list[str], number: float) -> float | None:
        name, message, at, form = row
        decoder = mgl_rdac.Decoder(1, {name: mgl_rdac.Target("KEY")})
        decoder.feed([Frame(0x207, bytes(8))])  # the cold junction is at 0 degrees
        return value_of(decoder.feed([Frame(0x200 | int(message), packed(bytes(8), at, form, number))]), "KEY")

    for row, numbers in rows(MGL_RDAC):
        check(partial(value, row), row[0], numbers)


MGL_SERIAL = """
1  -150 10000   -15.0 1000.0
2   -60  1300   -60.0 1300.0
3 -10000 10000 -1000.0 1000.0
4     0 10000     0.0 10000.0
5     0  1000     0.0  100.0
"""


def test_mgl_serial() -> None:
    def value(kind: int, index: int, number: float) -> float | None:
        types = (kind << 4 * index).to_bytes(2)
        body = b"\x01\x08\x0a" + packed(types + bytes(8), 2 + 2 * index, ">h", number)
        name = f"input{index + 1}"
        frame = b"\x02" + body + bytes((reduce(xor, body, 0xA5), 3))
        return value_of(mgl_serial.Decoder(units={name: ""}).feed(frame), name)

    for (kind,), numbers in rows(MGL_SERIAL):
        for index in range(4):
            check(partial(value, int(kind), index), kind, numbers)


# -- numbers with names ------------------------------------------------------------------------------------------------

MAVLINK = """
ROLL     ATTITUDE roll            -3.143338 3.143338 -180.1  180.1
PITCH    ATTITUDE pitch           -1.572541 1.572541  -90.1   90.1
YAW      ATTITUDE yaw             -6.283185 6.283185 -360.0  360.0
ROT      ATTITUDE yawspeed       -17.45329 17.45329 -999.9999 999.9999
IAS      VFR_HUD airspeed          0.0    411.555    0.0     799.999
GS       VFR_HUD groundspeed       0.0    771.666    0.0    1499.999
VS       VFR_HUD climb          -152.39999 152.39999 -30000.0 30000.0
HEAD     GLOBAL_POSITION_INT hdg   0.0  36000.0      0.0     360.0
LAT      GLOBAL_POSITION_INT lat  -9e8    9e8      -90.0      90.0
LONG     GLOBAL_POSITION_INT lon -18e8   18e8     -180.0     180.0
TALT     GLOBAL_POSITION_INT alt  -609600 18288000 -2000.0 60000.0
ALONG    SCALED_IMU xacc        -30000.0  30000.0   -30.0     30.0
ALAT     SCALED_IMU yacc        -30000.0  30000.0   -30.0     30.0
ANORM    SCALED_IMU zacc        -30000.0  30000.0    30.0    -30.0
AIRPRESS SCALED_PRESSURE press_abs  50.0   1200.0  5000.0 120000.0
DIFFAIRPRESS SCALED_PRESSURE press_diff -100.0 500.0 -10000.0 50000.0
AOA      AOA_SSA AOA              -180.0    180.0  -180.0    180.0
AGL      RANGEFINDER distance        0.0  18287.99    0.0   59999.97
TACH1    EFI_STATUS rpm              0.0  20000.0     0.0  20000.0
TACH1    RPM rpm1                    0.0  20000.0     0.0  20000.0
"""


def test_mavlink() -> None:
    constant: dict[str, dict[str, Any]] = {
        "EFI_STATUS": {"health": 1},
        "GLOBAL_POSITION_INT": {"time_boot_ms": 5, "lat": 1, "lon": 1},
        **{name: {"time_boot_ms": 5} for name in ("ATTITUDE", "SCALED_IMU", "SCALED_PRESSURE")},
    }

    def frame(name: str, **fields: Any) -> bytes:
        message = BY_NAME[name]
        return build(message, message.encode({**constant.get(name, {}), **fields}), 1, 1, 0, 2)

    alive = frame("HEARTBEAT", type=1, autopilot=3, base_mode=81, system_status=4)

    def value(row: list[str], number: float) -> float | None:
        key, name, field = row
        sent = round(number) if name in ("GLOBAL_POSITION_INT", "SCALED_IMU") else number
        try:
            said = frame(name, **{field: sent})
        except ValueError:
            raise OverflowError from None
        return value_of(mavlink.Decoder(Clock()).feed(alive + said), key)

    for row, numbers in rows(MAVLINK):
        whole = row[1] in ("GLOBAL_POSITION_INT", "SCALED_IMU")
        check(partial(value, row), row[0], numbers, 1.0 if whole else numbers.highest * 4e-6)


GPSD = """
LAT                   TPV lat      -90.0     90.0      -90.0      90.0
LONG                  TPV lon     -180.0    180.0     -180.0     180.0
GS                    TPV speed      0.0   1000.0        0.0    1943.8445
TRACK                 TPV track      0.0    360.0        0.0     360.0
TRACKM                TPV magtrack   0.0    360.0        0.0     360.0
TALT                  TPV altMSL -100e3     100e3  -328083.99  328083.99
TALT                  TPV alt    -100e3     100e3  -328083.99  328083.99
GPS_ELLIPSOID_ALT     TPV altHAE -100e3     100e3  -328083.99  328083.99
VS                    TPV climb  -1000.0   1000.0  -196850.39  196850.39
GPS_ACCURACY_HORIZ    TPV eph        0.0    100e3        0.0   328083.99
GPS_ACCURACY_VERTICAL TPV epv        0.0    100e3        0.0   328083.99
GPS_ACCURACY_SPEED    TPV eps        0.0   1000.0        0.0    1943.8445
GPS_SATS_VISIBLE      SKY nSat       0      200          0       200
GPS_SATS_TRACKED      SKY uSat       0      200          0       200
HEAD                  ATT heading    0.0    360.0        0.0     360.0
PITCH                 ATT pitch    -90.0     90.0      -90.0      90.0
ROLL                  ATT roll    -180.0    180.0     -180.0     180.0
"""


def test_gpsd() -> None:
    def value(row: list[str], number: float) -> float | None:
        key, name, field = row
        client = gpsd.Client(Clock(), climb=True, attitude=True, heading="magnetic")
        place = {"mode": 3, "lat": 1.0, "lon": 1.0} if name == "TPV" else {}
        report = {"class": name, **place, field: int(number) if name == "SKY" else number}
        return value_of([u for u in client.feed(json.dumps(report).encode() + b"\n") if u.key == key], key)

    for row, numbers in rows(GPSD):
        check(partial(value, row), row[2], numbers, 1.0 if row[1] == "SKY" else 0.001)


@pytest.mark.parametrize(("time", "known"), [("00:00:00", True), ("23:59:60.5", True), ("24:00:00", False)])
def test_the_time_of_gpsd(time: str, known: bool) -> None:
    report = {"class": "TPV", "mode": 3, "lat": 1.0, "lon": 1.0, "time": f"2026-07-15T{time}Z"}
    updates = gpsd.Client(Clock()).feed(json.dumps(report).encode() + b"\n")
    assert ("TIMEZ" in {u.key for u in updates}) is known


XGPS = """
LONG  XGPS 0  -180.0    180.0    -180.0    180.0
LAT   XGPS 1   -90.0     90.0     -90.0     90.0
TALT  XGPS 2  -609.59  30479.99 -1999.97 99999.97
TRACK XGPS 3  -360.0    360.0       0.0      0.0
GS    XGPS 4     0.0   1028.88      0.0  1999.983
HEAD  XATT 0  -360.0    360.0       0.0      0.0
PITCH XATT 1   -90.0     90.0     -90.0     90.0
ROLL  XATT 2  -180.0    180.0    -180.0    180.0
"""


def test_xgps() -> None:
    def value(row: list[str], number: float) -> float | None:
        key, kind, field = row
        fields = ["1.0"] * (5 if kind == "XGPS" else 3)
        fields[int(field)] = repr(number)
        line = ",".join((f"{kind}a", *fields)).encode() + b"\n"
        return value_of(xgps.Decoder(Clock(), variation=0.0).feed(line), key)

    for row, numbers in rows(XGPS):
        check(partial(value, row), row[0], numbers, 0.1)


DUMP1090 = """
lat                   lat       -90.0     90.0    -90.0     90.0
lon                   lon      -180.0    180.0   -180.0    180.0
altitude_ft           alt_baro -2000.0 130000.0 -2000.0 130000.0
ground_speed_kt       gs          0.0   4000.0      0.0   4000.0
track_deg             track       0.0    360.0      0.0    360.0
vertical_speed_fpm    baro_rate -60000.0 60000.0 -60000.0 60000.0
"""


def test_dump1090() -> None:
    def said(**fields: float) -> list[dump1090.Said]:
        aircraft = {"hex": "abcdef", "lat": 1.0, "lon": 1.0, **fields}
        return dump1090.read_aircraft(json.dumps({"aircraft": [aircraft]}).encode()) or []

    def value(row: list[str], number: float) -> float | None:
        name, field = row
        found: float | None = getattr(said(**{field: number})[0].target, name)
        return found

    for row, numbers in rows(DUMP1090):
        check(partial(value, row), row[0], numbers, 0.5)
    assert [len(said(seen=age)) for age in (-0.1, 0.0, 60.0, 60.1)] == [0, 1, 1, 0]
    assert [said(seen_pos=age)[0].target.lat for age in (-0.1, 0.0, 60.0, 60.1)] == [None, 1.0, 1.0, None]


def test_stratux() -> None:
    def value(key: str, head: str, tail: int, tenths: float) -> float | None:
        other = struct.pack(">h", 0)
        number = packed(b"", 0, ">h", tenths)
        angles = number + other if key == "ROLL" else other + number
        said = gdl90.frame(bytes.fromhex(head) + angles + bytes(tail))
        updates = [u for u in stratux.Decoder(Clock()).feed(said) if u.key == key]
        return value_of(updates, key) if updates else None

    for head, tail in (("6501", 6), ("4c450101", 16)):
        for key, most in (("ROLL", 180.0), ("PITCH", 90.0)):
            check(partial(value, key, head, tail), key, Numbers(-10 * most, 10 * most, -most, most))


# -- times ---------------------------------------------------------------------------------------------------------


def test_how_long_a_silent_or_hung_device_is_believed() -> None:
    """In seconds. What is here is how old a value may be that a pilot takes for good."""
    assert {
        "dump1090": dump1090.MAX_AGE_S,
        "dynon": dynon.STUCK_AFTER_S,
        "g3x": g3x.STUCK_AFTER_S,
        "gpsd": (gpsd.SILENCE_S, gpsd.ASK_S, gpsd.LATE_S),
        "i2c_bmp": i2c_bmp.AirData.MAX_GAP_S,
        "mavlink": (mavlink.HEARTBEAT_LIMIT_S, mavlink.BETTER_LIMIT_S, mavlink.FROZEN_S, mavlink.STALE_TARGET_S),
        "mavlink in ms": (mavlink.REBOOT_MS, mavlink.JUMP_MS, mavlink.LATE_MS, mavlink.DRIFT_MS_PER_S),
        "mgl_rdac": mgl_rdac.COLD_JUNCTION_MAX_AGE_S,
        "stratux": (stratux.HEARTBEAT_PATIENCE_S, stratux.POSITION_PATIENCE_S, stratux.STUCK_AFTER_S),
        "stratux's attitude, height": (stratux.PREFERENCE_S, stratux.IDENTITY_PATIENCE_S),
        "xgps": xgps.POSITION_PATIENCE_S,
    } == {
        "dump1090": 60.0,
        "dynon": 5.0,
        "g3x": 4.0,
        "gpsd": (2.5, 2.0, 2.0),
        "i2c_bmp": 2.0,
        "mavlink": (5.0, 2.5, 2.0, 5),
        "mavlink in ms": (1000, 5000, 1000, 1.0),
        "mgl_rdac": 10.0,
        "stratux": (3.0, 3.0, 5.0),
        "stratux's attitude, height": (1.0, 2.5),
        "xgps": 3.0,
    }


# -- what is refused as a whole ----------------------------------------------------------------------------------------


def test_i2c_bmp() -> None:
    def used(celsius: float = 15.0, pascals: float = 101_325.0) -> bool:
        return i2c_bmp.AirData(Clock(), 1.0).updates(celsius, pascals, 29.92) is not None

    assert [used(pascals=p) for p in (24_999.9, 25_000.0, 115_000.0, 115_000.1)] == [False, True, True, False]
    assert [used(celsius=c) for c in (-45.1, -45.0, 90.0, 90.1)] == [False, True, True, False]


def test_strompi() -> None:
    sound = [0] * 38
    limits = {2: (1, 7), 3: (1, 6), 22: (0, 4), 23: (0, 1), 34: (0, 70_000), 31: (0, 70_000), 35: (1, 3)}
    limits |= {32: (0, 70_000), 33: (0, 70_000)}
    for line, (low, _) in limits.items():
        sound[line] = low

    def used(line: int, number: int) -> bool:
        report = [*sound[:line], number, *sound[line + 1 :]]
        decoder = strompi.Decoder()
        decoder.feed("".join(f"{n}\n" for n in report).encode())
        return decoder.counts["used"] == 1

    for line, (low, high) in limits.items():
        assert [used(line, n) for n in (low, high, high + 1)] == [True, True, False], line
        assert not low or not used(line, low - 1), line
