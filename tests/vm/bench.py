"""Common to all checks: the machine with a gateway in it, and the list of checks.

A check is a function of a `Bench` that returns its measurement as text, or None. It fails by raising
AssertionError (`machine.Failed` is one), and raises `Skip` if it is not possible. The checks run in the order of their
definition, on one machine, and leave it unchanged.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .machine import Failed, Machine

GOOD = r"^{};[^;]+;00000$"  # an update, or an answer, without any flag

#: The configuration in the machine. The host is at the other end of ttyS1; can1 belongs to the virtual devices.
CONFIGURATION = """
plugin path: /etc/fixgw/plugins
connections:
  netfix:
    module: fixgw.plugins.netfix
  canfix:
    module: fixgw.drivers.canfix
    channel: vcan0
  wire:
    module: fixgw.drivers.canfix
    channel: can0
    bitrate: 250000
    node: 183
  bridge:
    module: fixgw.drivers.can_bridge
    buses:
      here: {channel: vcan0}
      there: {channel: vcan1}
    routes:
      - {from: here, to: there, ids: [0x180, "0x183-0x184"], except: [0x184]}
  gps:
    module: fixgw.drivers.nmea0183
    port: /dev/ttyS1
    baud: 9600
  gpio:
    module: fixgw.drivers.gpio
    buttons:
      - {pin: 17, key: BTN1}
      - {pin: 27, key: BTN2, active: high}
    outputs:
      - {pin: 22, when: BTN3}
      - {pin: 23, when: BTN4, active: low}
"""

#: The recording of the instruments on can1, as candump writes it.
RECORDING = "/var/lib/fixgw-vm/bus.log"

#: As many instruments as an emulated processor can handle.
SCENARIO = """
description: Air data and attitude
bit_rate: 250
nodes:
  ahrs:
  air:
"""


class Skip(Exception):
    """This cannot be checked here; with the reason."""


@dataclass
class Bench:
    """The machine, and the wheel to install in it."""

    machine: Machine
    wheel: str  #: name of the gateway's wheel, in /root/wheels
    ready: bool = False  #: whether the gateway is installed
    measured: dict[str, str] = field(default_factory=dict)

    def status(self, timeout: float = 30.0) -> dict[str, Any]:
        """The gateway's own status tree."""
        answer = self.machine.netfix("@xstatus", until="^@xstatus;", timeout=timeout)
        tree: dict[str, Any] = json.loads(answer.partition(";")[2])
        return tree

    def connection(self, name: str) -> dict[str, Any]:
        tree: dict[str, Any] = self.status()["connections"][name]
        return tree

    def when(self, question: Callable[[], bool], what: str, timeout: float = 30.0) -> None:
        """Wait until the condition holds. Raises Failed."""
        deadline = time.monotonic() + timeout
        while not question():
            if time.monotonic() > deadline:
                raise Failed(f"not within {timeout:g} s: {what}; {self.status()['summary']}")
            time.sleep(0.3)

    def read(self, key: str) -> str:
        """The answer to a NetFIX read, without the command: ``12.5;00000``."""
        return self.machine.netfix(f"@r{key}", until=f"^@r{key}").partition(";")[2]

    def good(self, key: str, timeout: float = 60.0) -> str:
        """Wait for a value that has no flag; returns it."""
        return self.machine.netfix(f"@s{key}", until=GOOD.format(key), timeout=timeout).split(";")[1]

    def flagged(self, key: str, flags: str, timeout: float = 30.0) -> None:
        """Wait until the flags, annunciate to secfail as 0 and 1, match."""
        self.when(lambda: bool(re.search(f";{flags}$", self.read(key))), f"{key} has the flags {flags}", timeout)

    def show(self, *properties: str, unit: str = "fixgw.service") -> dict[str, str]:
        """Properties of a unit."""
        text = self.machine.run(f"systemctl show {unit} --property={','.join(properties)}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def journal(self, since: str = "", unit: str = "fixgw.service") -> str:
        """The log of a unit since a cursor from `mark`."""
        return self.machine.run(f"journalctl --no-pager --output=cat --unit={unit} {since}")

    def mark(self) -> str:
        """The end of the journal, for `journal`."""
        cursor = self.machine.run("journalctl --no-pager --lines=0 --show-cursor | sed -n 's/^-- cursor: //p'")
        return f"--after-cursor='{cursor}'"

    def restart(self, timeout: float = 90.0) -> None:
        """Restart the gateway, as after a change of the configuration; returns when it is ready."""
        self.machine.run("systemctl reset-failed fixgw.service; systemctl restart fixgw.service", timeout)

    def configure(self, text: str) -> None:
        self.machine.write("/etc/fixgw/default.yaml", text)

    @contextmanager
    def nodes(self, channel: str) -> Iterator[None]:
        """Virtual instruments on a CAN interface."""
        m = self.machine
        m.write("/run/fixgw-vm/scenario.yaml", SCENARIO)
        m.run(
            "systemd-run --quiet --unit=nodes.service --collect --property=Restart=always --property=RestartSec=1 "
            f"/opt/fixgw/bin/fixgw sim can --interface socketcan --channel {channel} "
            "--scenario /run/fixgw-vm/scenario.yaml"
        )
        try:
            yield
        finally:
            m.run("systemctl stop nodes.service")

    def record(self, channel: str) -> None:
        """Record six seconds of a CAN interface to `RECORDING`."""
        self.machine.run(
            f"mkdir -p $(dirname {RECORDING}); timeout 6 candump -L {channel} > {RECORDING}.new; "
            f"test $(wc -l < {RECORDING}.new) -gt 200 && mv {RECORDING}.new {RECORDING} && sync"
        )

    @contextmanager
    def plugin(self, name: str, code: str, options: str = "") -> Iterator[None]:
        """A user's own plugin, in the configuration while the context lasts."""
        self.machine.write(f"/etc/fixgw/plugins/{name}.py", code)
        self.configure(f"{CONFIGURATION}  {name}:\n    module: {name}\n{options}")
        try:
            yield
        finally:
            self.configure(CONFIGURATION)


@dataclass(frozen=True)
class Check:
    title: str
    function: Callable[[Bench], str | None]
    needs_gateway: bool
    always: bool


CHECKS: list[Check] = []


def check(
    title: str, *, needs_gateway: bool = True, always: bool = False
) -> Callable[[Callable[[Bench], str | None]], None]:
    """Add the function to the list. `always`: run it whichever checks are selected, because others depend on it."""

    def register(function: Callable[[Bench], str | None]) -> None:
        CHECKS.append(Check(title, function, needs_gateway, always))

    return register


def number(pattern: str, text: str) -> float:
    """The first group of `pattern` in `text`. Raises Failed."""
    match = re.search(pattern, text)
    if match is None:
        raise Failed(f"no {pattern} in\n{text}")
    return float(match[1])
