"""Translates the incumbent's modules and options into ours.

`MODULES` is the only table. We look up a connection in it if it names a module of the incumbent, or if its options do
not fit ours. An option with another name or form here is translated; a harmless one without a counterpart is left out;
both give advice. An option that cannot be left out is refused, with the reason and a remedy. `ABSENT` lists the modules
without a counterpart: their connections are not loaded, which gives advice too.

Nothing here imports a driver. Facts about the incumbent's options: its documented configuration files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fixgw.configuration.reader import Positions, described
from fixgw.database import Definition
from fixgw.errors import Advice, Problem

__all__ = ["ABSENT", "MODULES", "Case", "Module", "absent", "known", "translate"]

PREFIX = "fixgw.plugins."


class Case:
    """One connection being translated: its options, and the advice and problems found so far."""

    def __init__(self, options: Mapping[Any, Any], at: Positions) -> None:
        self.options = dict(options)
        self.at = at
        self.advice: list[Advice] = []
        self.problems: list[Problem] = []

    def note(self, option: str, text: str) -> None:
        """Give advice about `option`, or about the connection if `option` is empty."""
        self.advice.append(self._where(option).advice(f"{option}: {text}" if option else text))

    def refuse(self, option: str, text: str) -> None:
        """Report that `option` can be neither translated nor left out."""
        self.problems.append(self._where(option).problem(f"{option}: {text}" if option else text))

    def drop(self, option: str, why: str) -> Any:
        """Remove `option`, if present, and say why. Return its value."""
        if option not in self.options:
            return None
        self.note(option, why)
        return self.options.pop(option)

    def move(self, option: str, to: str, value: Any = None, why: str = "") -> None:
        """Rename `option`, if present, to `to`; `value` replaces its value."""
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
    """Our counterpart of one of the incumbent's modules, the translation of its options, and a note for the user."""

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
    case.drop("buffer_size", "has no effect: the size of a read does not matter here")
    case.drop("timeout", "has no effect: reads do not wait here; `stall_timeout` disconnects clients that do not read")
    clients, outputs = case.options.get("clients"), case.options.get("outputs")
    clients = [clients] if isinstance(clients, dict) else clients
    outputs = [outputs] if isinstance(outputs, str) else outputs
    if isinstance(clients, list):
        del case.options["clients"]
        texts = [key for key in outputs or () if isinstance(key, str)] if isinstance(outputs, (list, tuple)) else []
        known = [{k: v for k, v in peer.items() if k in ("host", "port")} for peer in clients if isinstance(peer, dict)]
        peers = [{**peer, "send": texts} for peer in known if "host" in peer]
        if len(peers) < len(clients):
            case.refuse("clients", "expected a list of {host, port}, or the number of clients that may connect")
        others = [output for output in outputs or () if isinstance(output, dict)] if isinstance(outputs, list) else []
        case.options["outputs"] = [*others, *peers]
        case.at = case.at.renamed({"outputs": "", "clients": "outputs"})
        if case.options["outputs"] and case.options.get("type", "server") == "server":
            case.drop("outputs", "a server does not write to other gateways; set `type: both` for that")
        elif peers and not texts:
            case.options["outputs"] = others
            case.note(
                "outputs", "the gateways under `clients` are left out, because `outputs` lists no keys to write to them"
            )
        elif peers:
            case.note("outputs", f"the gateways to write to are read as `outputs: {written(peers)}`")
    elif isinstance(outputs, list) and outputs and all(isinstance(key, str) for key in outputs):
        case.drop("outputs", "left out: keys without `clients: [{host, port}]` go nowhere")
    if case.advice and "host" not in case.options and case.options.get("type") != "client":
        case.note("", "`host` is not given: it defaults to 127.0.0.1 here, to every interface in the incumbent")


def _canfix(case: Case) -> None:
    case.move("revision", "firmware")


def _mgl_serial(case: Case) -> None:
    case.drop("engine_no", "has no effect: the engine is part of each key in `keys`, as in OILP2")
    keys = dict(found) if isinstance(found := case.options.get("keys"), Mapping) else {}
    for option in list(case.options):
        match = re.fullmatch(r"(?:input|channel|ch|in)_?([1-4])", str(option))
        if match and isinstance(case.options[option], str):
            name = f"input{match[1]}"
            keys[name] = case.drop(option, f"read as `keys: {{{name}: {case.options[option]}}}`")
    if keys:
        case.options["keys"] = keys
    elif case.advice or case.options.keys() <= {"port", "baud"}:  # otherwise an option of ours is wrong
        case.refuse("", "state what each input measures: `keys: {input1: OILP1, input2: OILT1}`")


def _eis(case: Case) -> None:
    model = case.options.get("model")
    named = re.search(r"2004|4000|6000", str(model))  # "EIS 4000", too
    cylinders = {"2004": 2, "4000": 4, "6000": 6}[named[0]] if named else None
    if cylinders is not None and "cylinders" not in case.options:
        case.move("model", "cylinders", cylinders, "the driver recognises the model by the length of its record")
    else:
        case.drop("model", "has no effect: the driver recognises the model by the length of its record")


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
        case.drop(option, "has no effect: an RDAC is recognised by its own number, `rdac`")
    case.drop("mapfile", "is not read: put its contents under `channels`")
    given = case.options.get("rdac")
    if not isinstance(given, Mapping):
        return
    del case.options["rdac"]
    number = given.get("default_id", 1)
    case.options["rdac"] = number - 31 if isinstance(number, int) and 32 <= number <= 47 else number
    get, send = given.get("get"), given.get("send")
    if get and send:
        case.refuse("rdac", "a connection either listens (get) or sends (send): add a second one with `role: send`")
    if send and not get:
        case.options["role"] = "send"
    channels: dict[str, Any] = {}
    for name, entry in _rows(send if send and not get else get):
        channel = _rdac_channel(name, entry)
        if channel is None:
            remedy = "name the channel and its key, as in `thermocouple_1: {key: EGT11}` under `channels`"
            what = f"{name}: {described(entry)}" if name else described(entry)
            case.refuse("rdac", f"{what} is not understood: {remedy}")
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
    """Our name of a channel, and the sensor connected to it."""
    members = entry if isinstance(entry, Mapping) else {"": entry}
    texts = [*([name] if name else []), *(v for v in members.values() if isinstance(v, str))]
    first = next((text for text in texts if text.upper().replace("_", "") in RDAC_CHANNELS), None)
    keys = [text for text in texts if text is not first]
    if first is None or len(keys) != 1:
        return None
    channel: dict[str, Any] = {"key": keys.pop()}
    for pairs in members.values():
        if isinstance(pairs, list) and pairs:
            if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
                return None
            channel["curve"] = {"points": sorted([reading, value] for value, reading in pairs)}
    return RDAC_CHANNELS[first.upper().replace("_", "")], channel


def _bmp(case: Case) -> None:
    case.move("tkey", "temperature")
    pressure = case.options.get("pkey")
    if isinstance(pressure, str):
        keys = {"AIRPRESS": pressure, **dict.fromkeys(("PALT", "ALT", "VS"))}
        case.move("pkey", "keys", keys, "without the `null` entries it would write altitude and vertical speed too")


def _mcp3008(case: Case) -> None:
    channels = []
    for number in range(1, 9):
        key = case.options.pop(f"vkey{number}", None)
        if key is not None:
            channels.append({"key": key, "input": number - 1, "curve": {"linear": {"factor": 1.0}}})
    if channels:
        case.options["channels"] = channels
        case.note(
            "", f"the inputs are read in volts, `channels: {written(channels)}`; for another unit change the curve"
        )
    case.drop("hardw", "has no effect: the converter must be on a hardware bus")
    select = case.options.get("cs")
    for option, name, pins in (
        ("clk", "SCLK", [11]),
        ("miso", "MISO", [9]),
        ("mosi", "MOSI", [10]),
        ("cs", "CE0", [8, 7]),
    ):
        pin = case.options.pop(option, None)
        if pin is not None and pin not in pins:
            case.refuse(option, f"GPIO{pin} is not supported: wire the converter to SPI0, here {name}, GPIO{pins[0]}")
        elif pin is not None:
            case.note(option, f"has no effect: GPIO{pin} belongs to the hardware bus SPI0")
    if select == 7:
        case.options["device"] = 1


def _button(case: Case) -> None:
    case.drop("rdelay", "has no effect: contacts are debounced for 0.02 s; see `debounce` and `repeat`")
    if {"btnkey", "btnpin"} <= case.options.keys():
        button = {"pin": case.options.pop("btnpin"), "key": case.options["btnkey"]}
        case.move(
            "btnkey",
            "buttons",
            [button],
            "the contact is assumed to go to ground; set `active: high` if it goes to 3.3 V",
        )
    elif {"btnkey", "btnpin"} & case.options.keys():
        case.refuse("", "both `btnkey` and `btnpin` are required")


def _encoder(case: Case) -> None:
    options = case.options
    if not {"pina", "pinb", "rkey"} <= options.keys():
        case.refuse("", "`pina`, `pinb` and `rkey` are required")
        return
    knob: dict[str, Any] = {"a": options.pop("pina"), "b": options.pop("pinb"), "key": options["rkey"]}
    if "incr" in options:
        knob["step"] = options.pop("incr")
    steps = options.get("stcount")
    if steps in (1, 2, 4):
        knob["steps"] = options.pop("stcount")
    else:
        case.drop("stcount", "must be 1, 2 or 4 here (contact changes per detent); 4 is assumed")
    pressed = options.get("btn")
    for option in ("btn", "btnstcounter", "btnincr", "btnkey", "btnpin"):
        words = "pressing has no effect: a knob cannot change another key while pressed; use a second knob"
        if option in options:
            (case.drop(option, words) if pressed and option == "btn" else options.pop(option))
    case.move("rkey", "encoders", [knob])


def _shutdown_after(case: Case) -> None:
    given = case.options.get("shutdown_after")
    try:
        minutes = 0.0 if given is None or isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        case.refuse("shutdown_after", f"expected minutes, got {described(given)}")
        return
    if minutes > 0:
        seconds = minutes * 60
        after = int(seconds) if seconds.is_integer() and not isinstance(given, float) else seconds
        case.move("shutdown_after", "shutdown", {"after": after}, "minutes converted to seconds")
    else:
        case.drop("shutdown_after", "means never, the default here")


def _x728(case: Case) -> None:
    _shutdown_after(case)
    if "shutdown" in case.options and "off_pin" not in case.options:
        case.note("", "the computer shuts down in order, but no pulse cuts the power unless you set `off_pin: 26`")


_MAVLINK_GROUPS = ("airspeed", "groundspeed", "gps", "ahrs", "accel", "pressure")


def _mavlink(case: Case) -> None:
    for name in ("pascal_offset", "min_airspeed"):
        if name in case.options:
            groups = case.options.get("options", dict.fromkeys(_MAVLINK_GROUPS, True))
            if isinstance(groups, Mapping):
                case.options["options"] = {name: case.drop(name, f"read as `options: {{{name}}}`"), **groups}


def _data_playback(case: Case) -> None:
    case.drop("frequency", "has no effect: the recording says how far apart its lines are")
    case.options.setdefault("loop", True)


# -- the table ---------------------------------------------------------------------------------------------------------

MODULES: Mapping[str, Module] = {
    "netfix": Module("fixgw.plugins.netfix", _netfix),
    "canfix": Module("fixgw.drivers.canfix", _canfix),
    "data_playback": Module("fixgw.plugins.replay", _data_playback, "it plays for ever"),
    "dynon": Module("fixgw.drivers.dynon_d10", None, "SkyView displays have their own driver, `skyview`"),
    "grand_rapids_eis": Module("fixgw.drivers.eis", _eis),
    "mavlink": Module(
        "fixgw.drivers.mavlink",
        _mavlink,
        "it only asks for messages unless `write: [trims, modes, waypoint]` permits more, and it never arms",
    ),
    "mgl": Module("fixgw.drivers.mgl_rdac", _rdac),
    "mgl_serial": Module("fixgw.drivers.mgl_serial", _mgl_serial),
    "rpi_bmp085": Module("fixgw.drivers.i2c_bmp", _bmp),
    "rpi_bno055": Module(
        "fixgw.drivers.i2c_bno055", None, "check the axes: `forward` and `up` describe how the chip is mounted"
    ),
    "rpi_button": Module("fixgw.drivers.gpio", _button),
    "rpi_mcp3008": Module("fixgw.drivers.spi_mcp3008", _mcp3008),
    "rpi_rotary_encoder": Module("fixgw.drivers.gpio", _encoder),
    "strom_pi": Module("fixgw.drivers.strompi", _shutdown_after),
    "X728": Module("fixgw.drivers.ups_x728", _x728),
}

#: Modules without a counterpart: the consequence, or the alternative.
ABSENT: Mapping[str, str] = {
    "db_persister": "left out: fixgw.plugins.recorder replaces it, and takes patterns of keys: `keys: [EGT*, TACH1]`",
    "gui": "left out: `fixgw watch` and `fixgw status` show the gateway in a terminal",
    "rais": "left out: it needs openEFIS, but not the one that is public. To run the plugin that you have, put "
    "it beside the main file, or name its directory as `plugin path`: the gateway runs whatever code is there",
    "rpi_virtualwire": "left out: it needs the pigpio daemon, which a Raspberry Pi 5 and Debian 13 do not have. Let an "
    "Arduino receive the radio, and `lines` read it: docs/drivers/lines.md",
}


def _short(module: str) -> str:
    return module.removeprefix(PREFIX)


def absent(module: str) -> str:
    """Say why this module of the incumbent has no counterpart; empty if it has one, or is not the incumbent's."""
    return ABSENT.get(_short(module), "") if module.startswith(PREFIX) else ""


def known(module: str) -> Module | None:
    """Our counterpart of a module of the incumbent, if it has one."""
    return MODULES.get(_short(module)) if module.startswith(PREFIX) else None


def translate(module: str, ours: str, options: Mapping[Any, Any], at: Positions) -> Case:
    """Translate the options of a connection for our module `ours`. `module` is the name in the configuration.

    If that is not one of the incumbent's names, wrong options are not translated.
    """
    case = Case(options, at)
    entry = known(module)
    if entry is None:
        return case
    if module not in (ours, PREFIX + ours.rpartition(".")[2]):
        note = f"; {entry.note}" if entry.note else ""
        case.advice.append(at.at(["module"]).advice(f"module {module}: {ours} replaces it{note}"))
    if entry.translate is not None:
        entry.translate(case)
    return case


def settings(definitions: Sequence[Definition], packaged: Iterable[Definition]) -> dict[str, bool]:
    """The keys that are settings in the packaged definition, and whether each is kept across a restart; none if
    `definitions` declare any setting themselves."""
    if any(d.setting for d in definitions):
        return {}
    ours = {d.key: d for d in packaged if d.setting}
    same = (d.key for d in definitions if d.key in ours and ours[d.key].type == d.type and not d.tolerance)
    return {key: ours[key].keep for key in same}
