"""The incumbent's modules and options, and what stands for them here.

`MODULES` is the one table: a connection that names a module of the incumbent, or whose options do not fit ours, is
looked up in it. What has another name or form here is translated, each time with advice that says so; what has no
counterpart and does no harm is left out, with advice; what cannot be left out is refused, with the reason and what to
do. `ABSENT` are the modules without a counterpart: a connection with one is not loaded, which is advice too.

Nothing here imports a driver. Facts about the incumbent's options: its documented configuration files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fixgw.configuration.reader import Positions, described
from fixgw.database import Definition
from fixgw.errors import Advice, Problem

__all__ = ["ABSENT", "LATER", "MODULES", "Case", "Module", "absent", "known", "translate"]

PREFIX = "fixgw.plugins."


class Case:
    """One connection being translated: its options, and what there is to say about them."""

    def __init__(self, options: Mapping[Any, Any], at: Positions) -> None:
        self.options = dict(options)
        self.at = at
        self.advice: list[Advice] = []
        self.problems: list[Problem] = []

    def note(self, option: str, text: str) -> None:
        """Say something about `option`; empty: about the connection."""
        self.advice.append(self._where(option).advice(f"{option}: {text}" if option else text))

    def refuse(self, option: str, text: str) -> None:
        """`option` can neither be translated nor left out."""
        self.problems.append(self._where(option).problem(f"{option}: {text}" if option else text))

    def drop(self, option: str, why: str) -> Any:
        """Take `option` out, if it is there, and say why; returns its value."""
        if option not in self.options:
            return None
        self.note(option, why)
        return self.options.pop(option)

    def move(self, option: str, to: str, value: Any = None, why: str = "") -> None:
        """Give `option`, if it is there, the name `to`, and the `value` if that is another."""
        if option not in self.options:
            return
        old = self.options.pop(option)
        value = old if value is None else value
        self.options[to] = value
        text = f"read as `{to}`" if value is old else f"read as `{to}: {written(value)}`"
        self.note(option, f"{text}{why and '; '}{why}")
        self.at = self.at.renamed({option: to})

    def _where(self, option: str) -> Positions:
        return self.at.keys.get(option, self.at)


class Module(NamedTuple):
    """A module of the incumbent: ours for it, how its options are translated, and what else there is to know."""

    ours: str
    translate: Callable[[Case], None] | None = None
    note: str = ""


def written(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(written, value)) + "]"
    if value is None:
        return "null"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


# -- options -----------------------------------------------------------------------------------------------------------


def _netfix(case: Case) -> None:
    case.drop("buffer_size", "has no effect: how much is read at a time does not matter here")
    case.drop("timeout", "has no effect: no read waits here; `stall_timeout` is for clients that read nothing")
    clients, outputs = case.options.get("clients"), case.options.get("outputs")
    if isinstance(clients, list):
        del case.options["clients"]
        texts = [key for key in outputs or () if isinstance(key, str)] if isinstance(outputs, (list, tuple)) else []
        peers = [{**peer, "send": texts} for peer in clients if isinstance(peer, dict) and "host" in peer]
        if len(peers) < len(clients):
            case.refuse("clients", "expected a list of {host, port}, or the number of clients that may connect")
        others = [output for output in outputs or () if isinstance(output, dict)] if isinstance(outputs, list) else []
        case.options["outputs"] = [*others, *peers]
        case.at = case.at.renamed({"outputs": "", "clients": "outputs"})
        if case.options["outputs"] and case.options.get("type", "server") == "server":
            case.drop("outputs", "a server writes to no other gateway: that takes `type: both`")
        elif peers and not texts:
            case.options["outputs"] = others
            case.note("outputs", "the gateways under `clients` are left out: there are no keys to write to them")
        elif peers:
            case.note("outputs", f"other gateways to write to are read as `outputs: {written(peers)}`")
    elif isinstance(outputs, list) and outputs and all(isinstance(key, str) for key in outputs):
        case.drop("outputs", "keys without `clients: [{host, port}]` go nowhere, and are left out")
    if case.advice and "host" not in case.options and case.options.get("type") != "client":
        case.note("", "`host` is not given: that is 127.0.0.1 here, and every interface with the incumbent")


def _canfix(case: Case) -> None:
    case.move("revision", "firmware")


def _mgl_serial(case: Case) -> None:
    case.drop("engine_no", "has no effect: `keys` name the engine, as in OILP2")
    keys = dict(found) if isinstance(found := case.options.get("keys"), Mapping) else {}
    for option in list(case.options):
        match = re.fullmatch(r"(?:input|channel|ch|in)_?([1-4])", str(option))
        if match and isinstance(case.options[option], str):
            name = f"input{match[1]}"
            keys[name] = case.drop(option, f"read as `keys: {{{name}: {case.options[option]}}}`")
    if keys:
        case.options["keys"] = keys
    else:
        case.refuse("", "say what the inputs measure, in their order: `keys: {input1: OILP1, input2: OILT1}`")


def _eis(case: Case) -> None:
    model = case.options.get("model")
    cylinders = {"2004": 2, "4000": 4, "6000": 6}.get(str(model))
    if cylinders is not None and "cylinders" not in case.options:
        case.move("model", "cylinders", cylinders, "the length of what it sends tells the model itself")
    else:
        case.drop("model", "has no effect: the length of what it sends tells the model")


RDAC_CHANNELS = {
    **{f"TC{n}": f"thermocouple_{n}" for n in range(1, 13)},
    **{f"AUX{n}": f"aux_{n}" for n in (1, 2)},
    **{f"RPM{n}": f"rpm_{n}" for n in (1, 2)},
    **{f"{name}{n}": f"fuel_flow_{n}" for n in (1, 2) for name in ("FLOW", "FUELFLOW", "FF")},
    **{f"{name}{n}": f"fuel_level_{n}" for n in (1, 2) for name in ("LEVEL", "FUELLEVEL", "FUELL", "FL")},
    **dict.fromkeys(("OILT", "OILTEMP"), "oil_temperature"),
    **dict.fromkeys(("OILP", "OILPRESS"), "oil_pressure"),
    **dict.fromkeys(("FUELP", "FUELPRESS"), "fuel_pressure"),
    **dict.fromkeys(("COOL", "COOLANT"), "coolant"),
    **dict.fromkeys(("RDACT", "RDACTEMP", "ITEMP"), "temperature"),
    **dict.fromkeys(("RDACV", "RDACVOLT", "VOLTS", "VOLT"), "voltage"),
    **dict.fromkeys(("CURRENT", "CURR", "AMPS"), "current"),
    "MAP": "map",
}


def _rdac(case: Case) -> None:
    for option in ("device", "node"):
        case.drop(option, "has no effect: an RDAC is told by its own number, `rdac`")
    case.drop("mapfile", "is not read: what it says belongs under `channels`")
    given = case.options.get("rdac")
    if not isinstance(given, Mapping):
        return
    del case.options["rdac"]
    number = given.get("default_id", 1)
    case.options["rdac"] = number - 31 if isinstance(number, int) and 32 <= number <= 47 else number
    get, send = given.get("get"), given.get("send")
    if get and send:
        case.refuse("rdac", "one connection listens (get) or sends (send): write a second one, with `role: send`")
    if send and not get:
        case.options["role"] = "send"
    channels: dict[str, Any] = {}
    for name, entry in _rows(send if send and not get else get):
        channel = _rdac_channel(name, entry)
        if channel is None:
            words = "name the channel and its key, as in `thermocouple_1: {key: EGT11}` under `channels`"
            case.refuse("rdac", f"{name}: {described(entry)} is not understood: {words}")
        else:
            channels[channel[0]] = channel[1]
    if channels:
        case.options["channels"] = channels
    case.note("rdac", f"read as `rdac: {case.options['rdac']}` and `channels: {written(channels)}`")


def _rows(value: Any) -> list[tuple[str, Any]]:
    """The entries of a mapping, or of a list of mappings."""
    if isinstance(value, Mapping):
        return [(str(name), entry) for name, entry in value.items()]
    rows: list[tuple[str, Any]] = []
    for entry in value if isinstance(value, Sequence) and not isinstance(value, str) else ():
        single = isinstance(entry, Mapping) and len(entry) == 1
        rows += _rows(entry) if single else [("", entry)]
    return rows


def _rdac_channel(name: str, entry: Any) -> tuple[str, dict[str, Any]] | None:
    """Our name of a channel, and what is connected to it."""
    members = entry if isinstance(entry, Mapping) else {"": entry}
    texts = [*([name] if name else []), *(v for v in members.values() if isinstance(v, str))]
    first = next((text for text in texts if text.upper().replace("_", "") in RDAC_CHANNELS), None)
    keys = [text for text in texts if text is not first]
    if first is None or len(keys) != 1:
        return None
    channel: dict[str, Any] = {"key": keys[0]}
    for pairs in members.values():
        if isinstance(pairs, list) and pairs:
            if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
                return None
            channel["curve"] = {"points": sorted([reading, value] for value, reading in pairs)}
    return RDAC_CHANNELS[first.upper().replace("_", "")], channel


def _gnx375(case: Case) -> None:
    if "cdi_full_scale_nm" in case.options:
        case.move("cdi_full_scale_nm", "full_scale")
    elif "full_scale" not in case.options:
        case.options["full_scale"] = 5.0
        case.note(
            "", "`full_scale` is 5 nautical miles, as the incumbent has it where `cdi_full_scale_nm` is not given"
        )


def _bmp(case: Case) -> None:
    case.move("tkey", "temperature")
    pressure = case.options.get("pkey")
    if isinstance(pressure, str):
        keys = {"AIRPRESS": pressure, **dict.fromkeys(("PALT", "ALT", "VS"))}
        case.move("pkey", "keys", keys, "without `null` it writes altitude and vertical speed too")


def _mcp3008(case: Case) -> None:
    channels = []
    for number in range(1, 9):
        key = case.options.pop(f"vkey{number}", None)
        if key is not None:
            channels.append({"key": key, "input": number - 1, "curve": {"linear": {"factor": 1.0}}})
    if channels:
        case.options["channels"] = channels
        case.note(
            "", f"the inputs are read as volts, `channels: {written(channels)}`; another unit needs another curve"
        )
    case.drop("hardw", "has no effect: the converter is always on a hardware bus")
    select = case.options.get("cs")
    for option, name, pins in (
        ("clk", "SCLK", [11]),
        ("miso", "MISO", [9]),
        ("mosi", "MOSI", [10]),
        ("cs", "CE0", [8, 7]),
    ):
        pin = case.options.pop(option, None)
        if pin is not None and pin not in pins:
            case.refuse(option, f"GPIO{pin} cannot be had: wire the converter to SPI0, here {name}, GPIO{pins[0]}")
        elif pin is not None:
            case.note(option, f"GPIO{pin} is on the hardware bus SPI0")
    if select == 7:
        case.options["device"] = 1


def _button(case: Case) -> None:
    case.drop("rdelay", "has no effect: contacts are debounced for 0.02 s; see `debounce` and `repeat`")
    if {"btnkey", "btnpin"} <= case.options.keys():
        button = {"pin": case.options.pop("btnpin"), "key": case.options["btnkey"]}
        case.move("btnkey", "buttons", [button], "a contact to ground is meant; `active: high` for one to 3.3 V")
    elif {"btnkey", "btnpin"} & case.options.keys():
        case.refuse("", "`btnkey` and `btnpin` say which key and which pin")


def _encoder(case: Case) -> None:
    options = case.options
    if not {"pina", "pinb", "rkey"} <= options.keys():
        case.refuse("", "`pina`, `pinb` and `rkey` say which pins and which key")
        return
    knob: dict[str, Any] = {"a": options.pop("pina"), "b": options.pop("pinb"), "key": options["rkey"]}
    if "incr" in options:
        knob["step"] = options.pop("incr")
    steps = options.get("stcount")
    if steps in (1, 2, 4):
        knob["steps"] = options.pop("stcount")
    else:
        case.drop("stcount", "is 1, 2 or 4 here, contact changes from one detent to the next; 4 is taken")
    pressed = options.get("btn")
    for option in ("btn", "btnstcounter", "btnincr", "btnkey", "btnpin"):
        words = "a press has no effect: turning another key while pressed has no counterpart, give it another knob"
        if option in options:
            (case.drop(option, words) if pressed and option == "btn" else options.pop(option))
    case.move("rkey", "encoders", [knob])


def _shutdown_after(case: Case) -> None:
    minutes = case.options.get("shutdown_after")
    if isinstance(minutes, (int, float)) and not isinstance(minutes, bool) and minutes > 0:
        case.move("shutdown_after", "shutdown", {"after": minutes * 60}, "minutes became seconds")
    else:
        case.drop("shutdown_after", "means never, which is the default here")


def _x728(case: Case) -> None:
    _shutdown_after(case)
    if "shutdown" in case.options and "off_pin" not in case.options:
        case.note("", "the computer shuts down in order, and the pulse that cuts the power is not sent: `off_pin: 26`")


# -- the table ---------------------------------------------------------------------------------------------------------

MODULES: Mapping[str, Module] = {
    "netfix": Module("fixgw.plugins.netfix", _netfix),
    "canfix": Module("fixgw.drivers.canfix", _canfix),
    "dynon": Module("fixgw.drivers.dynon_d10", None, "SkyView displays have a driver of their own, `skyview`"),
    "garmin_gnx375": Module(
        "fixgw.drivers.nmea0183",
        _gnx375,
        "a port set to Aviation Output sends no NMEA: set it to NMEA, or to the text that `g3x` reads",
    ),
    "grand_rapids_eis": Module("fixgw.drivers.eis", _eis),
    "mgl": Module("fixgw.drivers.mgl_rdac", _rdac),
    "mgl_serial": Module("fixgw.drivers.mgl_serial", _mgl_serial),
    "rpi_bmp085": Module("fixgw.drivers.i2c_bmp", _bmp),
    "rpi_bno055": Module(
        "fixgw.drivers.i2c_bno055", None, "look at the axes: `forward` and `up` say how the chip is mounted"
    ),
    "rpi_button": Module("fixgw.drivers.gpio", _button),
    "rpi_mcp3008": Module("fixgw.drivers.spi_mcp3008", _mcp3008),
    "rpi_rotary_encoder": Module("fixgw.drivers.gpio", _encoder),
    "strom_pi": Module("fixgw.drivers.strompi", _shutdown_after),
    "X728": Module("fixgw.drivers.ups_x728", _x728),
}

LATER = "not available yet"
#: Modules without a counterpart, and what to do instead.
ABSENT: Mapping[str, str] = {
    "annunciate": f"{LATER}: no item is annunciated by its limits; displays colour them by the limits themselves",
    "command": "left out: `fixgw console` talks to a running gateway",
    "compute": f"{LATER}: averages, spans, sums and altitudes that it computes are not written",
    "data_playback": f"{LATER}: recordings are not played back",
    "data_recorder": f"{LATER}: nothing is recorded",
    "db_persister": f"{LATER}: nothing is recorded",
    "dimmer": f"{LATER}: the brightness of the screen does not follow DIM; `gpio` has `dimmers` for lamps",
    "fgfs": LATER,
    "gpsd": f"{LATER}: `nmea0183` reads the receiver itself, or `port: tcp://HOST:PORT`",
    "gui": "left out: `fixgw watch` and `fixgw status` show the gateway in a terminal",
    "ifly": f"{LATER}: `nmea0183` with `port: udp://0.0.0.0:2000` reads what it sends",
    "mavlink": LATER,
    "quorum": f"{LATER}: this gateway believes that it is alone, and leads",
    "rais": "left out: it needs openEFIS, which is loaded by its own plugin: give its directory as `plugin path`",
    "rpi_virtualwire": "left out: an Arduino that receives and sends lines of text is read by `lines`",
    "rtl_433": f"{LATER}: tyre pressures are not read",
    "stratux": LATER,
    "system": f"{LATER}: the computer's clock is not written to TIMEZ and TIMEL; GPS receivers write TIMEZ",
    "test": "left out: `fixgw sim` and `fixgw demo` make values for tests",
    "xplane": LATER,
}


def _short(module: str) -> str:
    return module.removeprefix(PREFIX)


def absent(module: str) -> str:
    """Why there is no such module here; empty if it is not one of the incumbent's."""
    return ABSENT.get(_short(module), "") if module.startswith(PREFIX) else ""


def known(module: str) -> Module | None:
    """What stands for a module of the incumbent."""
    return MODULES.get(_short(module)) if module.startswith(PREFIX) else None


def translate(module: str, ours: str, options: Mapping[Any, Any], at: Positions) -> Case:
    """The options of a connection as `ours` takes them. `module` is the name in the configuration."""
    case = Case(options, at)
    entry = known(module) or next((m for m in MODULES.values() if m.ours == module), None)
    if entry is None:
        return case
    if module not in (ours, PREFIX + ours.rpartition(".")[2]):
        note = f"; {entry.note}" if entry.note else ""
        case.advice.append(at.at(["module"]).advice(f"module {module}: {ours} stands for it{note}"))
    if entry.translate is not None:
        entry.translate(case)
    return case


def settings(definitions: Sequence[Definition], packaged: Iterable[Definition]) -> set[str]:
    """The keys that the packaged definition has as settings, if `definitions` say of none that it is one."""
    if any(d.setting for d in definitions):
        return set()
    ours = {d.key: d.type for d in packaged if d.setting}
    return {d.key for d in definitions if ours.get(d.key) == d.type and not d.tolerance}
