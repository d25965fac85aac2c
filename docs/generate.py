"""Writes the generated parts of the documentation: option tables, the life of a connection, the evidence of drivers.

python docs/generate.py            rewrite the files
python docs/generate.py --check    only report outdated files; exit code 1 if there are any
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fixgw import configuration, loader
from fixgw.alerts import states
from fixgw.errors import counted
from fixgw.gateway import TRANSITIONS
from fixgw.hw_sim.aircraft import Aircraft
from fixgw.hw_sim.can.devices import DEVICES, look
from fixgw.hw_sim.can.segment import Segment, SimFrame
from fixgw.hw_sim.datagrams import whole
from fixgw.hw_sim.devices import can_instruments, instruments, network_instruments
from fixgw.kit import phases

DOCS = Path(__file__).parent


def table(rows: list[configuration.Row]) -> str:
    lines = ["| option | value | default | |", "|---|---|---|---|"]
    for row in rows:
        cells = (f"`{row.name}`", row.type, f"`{row.default}`", row.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def options(module: str) -> str:
    declared = loader.load_plugin(module).Options
    assert declared is not None, f"{module} declares no options"
    return table(configuration.option_rows(declared))


def functions(module: str) -> str:
    """What the options of a plugin may name."""
    lines = ["| function | inputs | output | formula | options | from |", "|---|---|---|---|---|---|"]
    for function in loader.load_plugin(module).functions():
        names = ", ".join(f"`{name}`" for name in function.name.split(", "))
        cells = (names, function.inputs, function.outputs, function.formula, function.options, function.origin)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def struct(name: str) -> str:
    """Options that several modules have in common: ``package.module.Class``."""
    module, _, declared = name.rpartition(".")
    return table(configuration.option_rows(getattr(importlib.import_module(module), declared)))


def transitions() -> str:
    lines = ["| from | to | when |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {a.value} | {b.value} | {why} |" for (a, b), why in TRANSITIONS.items())])


def alert_states() -> str:
    """The states of an alert: how each presents itself, and what changes it."""
    lines = ["| state | shown | annunciates its key | left when |", "|---|---|---|---|"]
    for state in states.State:
        face = states.FACES[state]
        shown = "no" if not face.shown else "yes, with attention" if face.attention else "yes"
        flagged = "no" if not face.flagged else "yes, while its condition lasts" if not face.shown else "yes"
        left = [
            f"{event.value}: {after.value}" for (before, event), after in states.TRANSITIONS.items() if before is state
        ]
        lines.append(f"| {state.value} | {shown} | {flagged} | {'<br>'.join(left)} |")
    return "\n".join(lines)


def flight_phases() -> str:
    lines = ["| from | to | when | for |", "|---|---|---|---|"]
    for change in phases.TRANSITIONS:
        lasting = f"{change.seconds:g} s" if change.seconds else ""
        lines.append(f"| {change.before} | {change.after} | {change.words} | {lasting} |")
    return "\n".join(lines)


def modules() -> str:
    lines = ["| module | |", "|---|---|"]
    lines += [f"| `{info.module}` | {info.summary} |" for info in loader.available() if not info.distribution]
    return "\n".join(lines)


def virtual_instruments() -> str:
    """The instruments that `fixgw sim serial` runs."""
    return described("instrument", {name: kind.WHAT for name, kind in instruments().items()})


def virtual_programs() -> str:
    """The programs that `fixgw sim network` runs."""
    return described("program", {name: kind.WHAT for name, kind in network_instruments().items()})


SAMPLE_FRAMES = 6
SAMPLE_WIDTH = 116
#: What a gateway asks those that send only on request.
ASKED = {"gpsd": b'?WATCH={"enable":true,"json":true};\n', "strompi": b"status-rpi\r"}


class _Sampled:
    """The line of an instrument: hears all that it sends, and asks once."""

    path = "sample"

    def __init__(self, asked: bytes) -> None:
        self.frames: list[bytes] = []
        self._asked = asked

    def write(self, data: bytes) -> None:
        self.frames.append(data)

    def read(self, timeout: float = 0.0) -> bytes:
        asked, self._asked = self._asked, b""
        return asked

    def close(self) -> None:
        """Nothing is open."""


@cache
def _flown() -> Aircraft:
    aircraft = Aircraft(datetime(2025, 7, 21, 15, tzinfo=UTC), turbulence=0.0)
    aircraft.step(600.0)
    return aircraft


def _sampled_aircraft() -> Aircraft:
    """Ten minutes into a flight in calm air."""
    return deepcopy(_flown())


def _fly(aircraft: Aircraft, device: Any, seconds: float) -> None:
    for tick in range(round(seconds / 0.025)):
        aircraft.step(0.025)
        device.tick(aircraft, tick * 0.025)


_KIND = re.compile(rb'[=!@].|MSG,\d|\{"class":"\w+|[^\d,=;:]*')


def _kind_of(frame: bytes) -> bytes:
    """What a frame has in common with others of its kind."""
    if frame[:1] == b"\x7e":  # GDL 90
        return frame[:2]
    if frame[:1] == b"\xfd":  # MAVLink
        return frame[7:10]
    kind = _KIND.match(frame)
    return kind[0] if kind and frame.isascii() else frame[:3]


def _shown(frame: bytes) -> str:
    """A frame as text with escapes, or in hexadecimal."""
    if all(byte < 127 for byte in frame):
        text = frame.decode("ascii").encode("unicode_escape").decode()
    else:
        text = frame.hex(" ").upper()
    return text if len(text) <= SAMPLE_WIDTH else text[:SAMPLE_WIDTH].rstrip() + " ..."


def virtual_device(name: str) -> str:
    """How to start a virtual instrument on a serial line, what it sends how often, and one message of each kind."""
    kind = instruments()[name]
    line = _Sampled(ASKED.get(name, b""))
    device = whole(kind)(line)
    _fly(_sampled_aircraft(), device, 10.0)
    size = sum(map(len, line.frames)) / 10.0
    asked = f", on request: `{_shown(ASKED[name])}`" if name in ASKED else ""
    rows = [f"`fixgw sim serial {name} --pty ./{name}`", f"{kind.BAUD} baud, 8N1; {size:.0f} bytes a second{asked}"]
    if kind.UDP_PORT:
        rows.append(f"`fixgw sim network {name} --to 192.168.4.20:{kind.UDP_PORT}`: each message is a datagram")
    kinds = {_kind_of(frame): frame for frame in reversed(line.frames)}
    shown = [_shown(kinds[each]) for each in dict.fromkeys(map(_kind_of, line.frames))]
    more = [f"... and {counted(len(shown) - SAMPLE_FRAMES, 'more kind')}"] if len(shown) > SAMPLE_FRAMES else []
    return "\n".join([*(f"- {row}" for row in rows), "", "```text", *shown[:SAMPLE_FRAMES], *more, "```"])


def virtual_bus(name: str) -> str:
    """What a virtual instrument on a CAN bus sends, as candump shows it."""
    frames: list[SimFrame] = []
    with Segment() as segment:
        kind = can_instruments()[name]
        device = kind(segment)
        aircraft = _sampled_aircraft()
        frames = device.frames(aircraft, 0.0)
    rows = [
        f"`fixgw sim can --interface socketcan --channel vcan0 --instrument {name}`",
        f"{kind.BITRATE // 1000} kbit/s; each frame {kind.RATE:g} times a second",
    ]
    return "\n".join([*(f"- {row}" for row in rows), "", "```text", *map(_dumped, frames), "```"])


def _dumped(frame: SimFrame) -> str:
    return f"{frame.arbitration_id:03X}  [{len(frame.data)}]  {frame.data.hex(' ').upper()}"


def virtual_nodes() -> str:
    """What the CAN-FIX nodes send: the first message of each of some parameters."""
    lines = []
    view = look(_sampled_aircraft())
    for name, kind in DEVICES.items():
        node = kind()
        sent = [frame for tenth in range(20) for frame in node.due(tenth / 10.0, view)]
        values = {frame.arbitration_id: frame for frame in sent if 0x100 <= frame.arbitration_id < 0x600}
        lines += [f"{_dumped(values[each]):36} {name}" for each in sorted(values)[:2]]
    return "\n".join(["```text", *lines, "```"])


def described(what: str, words: dict[str, str]) -> str:
    return "\n".join([f"| {what} | |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in words.items())])


DECISION = re.compile(r"# (\d+)\. (.+)\n\nDate: (\d{4}-\d\d-\d\d)  \nStatus: (.+)\n")


def decisions() -> str:
    """The records of docs/decisions, newest first. Raises ValueError for one with another beginning."""
    lines = ["| | decision | date | status |", "|---|---|---|---|"]
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md"), reverse=True):
        head = DECISION.match(path.read_text(encoding="utf-8"))
        if head is None or int(head[1]) != int(path.name[:4]):
            raise ValueError(f"{path}: a record begins with its number, title, date and status")
        lines.append(f"| {head[1]} | [{head[2]}]({path.name}) | {head[3]} | {head[4]} |")
    return "\n".join(lines)


EVIDENCE = ("document", "frames in the tests", "real hardware")


def evidence_of(page: Path) -> dict[str, str]:
    """The rows of the section "Evidence" of a driver's page, which must be those of `EVIDENCE`. Raises ValueError."""
    _, _, section = page.read_text(encoding="utf-8").partition("\n## Evidence\n")
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (.+) \|$", section.partition("\n## ")[0], re.MULTILINE))
    if tuple(rows) != EVIDENCE:
        raise ValueError(f"{page}: the section Evidence needs a table with the rows {', '.join(EVIDENCE)}")
    return rows


def evidence() -> str:
    """The evidence for each driver, for docs/drivers/index.md."""
    lines = [f"| device | driver | {' | '.join(EVIDENCE)} |", "|---" * (len(EVIDENCE) + 2) + "|"]
    for info in loader.available():
        if info.module.startswith(loader.DRIVERS):
            page = DOCS / "drivers" / f"{info.name}.md"
            title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            cells = (f"[{title}]({page.name})", f"`{info.name}`", *evidence_of(page).values())
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


GENERATED: dict[str, Callable[[str], str]] = {
    "options": options,
    "functions": functions,
    "struct": struct,
    "main": lambda _: table(configuration.option_rows(configuration.Main)),
    "common": lambda _: table(configuration.option_rows(configuration.Common)),
    "transitions": lambda _: transitions(),
    "states": lambda _: alert_states(),
    "phases": lambda _: flight_phases(),
    "modules": lambda _: modules(),
    "virtual": virtual_device,
    "virtualbus": virtual_bus,
    "virtualnodes": lambda _: virtual_nodes(),
    "instruments": lambda _: virtual_instruments(),
    "programs": lambda _: virtual_programs(),
    "evidence": lambda _: evidence(),
    "decisions": lambda _: decisions(),
}
NAMES = "|".join(sorted(GENERATED, key=len, reverse=True))
MARKER = re.compile(rf"(<!-- ({NAMES})(?::(\S+))? -->\n).*?(<!-- /\2 -->)", re.DOTALL)


def renewed(text: str) -> str:
    """`text` with everything between its markers generated again."""
    return MARKER.sub(lambda m: f"{m[1]}{GENERATED[m[2]](m[3] or '')}\n{m[4]}", text)


def main() -> int:
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        new = renewed(text)
        if new != text:
            stale.append(path)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(DOCS.parent)}: {'out of date' if '--check' in sys.argv else 'rewritten'}")  # noqa: T201
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
