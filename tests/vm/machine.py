"""A virtual machine: boots the image under QEMU, runs commands in it, pulls its plug.

Real in it are systemd as init, SocketCAN with two emulated SJA1000 controllers on one bus (can0, can1) and vcan,
gpio-sim, two 16550 UARTs (ttyS1 and ttyS2, whose other ends are `Machine.serial`), journald, and an ext4 disk that
survives `power_off`. Its speed is not.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from .image import Image

BOOT_TIMEOUT = 240.0  # seconds; about 30 are usual without KVM
KERNEL_OPTIONS = "root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off nokaslr quiet loglevel=4 panic=-1"


class Failed(AssertionError):
    """A command in the machine failed."""


class Dead(Exception):
    """The machine does not answer."""


class Machine:
    """One machine and its disk, a copy of the image's. Not for use by several threads at once."""

    def __init__(self, image: Image, folder: Path, payload: Path, accelerator: str = "auto") -> None:
        """`folder` is for the disk and the logs; `payload` is a tar archive that appears as /dev/vdb;
        `accelerator` is kvm, tcg, or auto: KVM if it works."""
        self.folder = folder
        self.booted = 0.0  #: when the machine was last switched on, by time.monotonic()
        self.serial: list[socket.socket] = []  #: the host's ends of ttyS1 and ttyS2
        self._image = image
        self._payload = payload
        kvm = accelerator == "kvm" or (accelerator == "auto" and os.access("/dev/kvm", os.R_OK | os.W_OK))
        self.accelerator = "kvm" if kvm else "tcg"
        self._may_fall_back = accelerator == "auto"
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: socket.socket | None = None
        self._rest = b""
        self._number = 0
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", image.disk, folder / "disk"], check=True)

    def boot(self) -> float:
        """Switch on, and wait until commands can be run. Return the seconds that it took. Raises Dead."""
        self._start()
        try:
            self._await_hello(BOOT_TIMEOUT if self.accelerator == "tcg" else 60.0)
        except Dead:
            if self.accelerator != "kvm" or not self._may_fall_back:
                raise
            print("KVM is there, but does not work; going on without", flush=True)
            self.power_off()
            self.accelerator = "tcg"
            self._start()
            self._await_hello(BOOT_TIMEOUT)
        return time.monotonic() - self.booted

    def power_off(self) -> None:
        """Pull the plug, without any notice or synchronisation."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for end in (*self.serial, self._agent):
            if end is not None:
                end.close()
        self.serial, self._agent = [], None

    def run(self, script: str, timeout: float = 60.0, *, check: bool = True) -> str:
        """Run a shell script as root; return its output. Raises Failed if it fails (unless `check` is False), Dead."""
        answer = self._ask({"run": script, "timeout": timeout})
        output = str(answer["output"]).strip()
        if check and answer["status"]:
            raise Failed(f"{script.strip()}\nstatus {answer['status']}:\n{output}")
        return output

    def until(self, script: str, pattern: str, timeout: float = 60.0) -> str:
        """Repeat `script` until its output matches; returns the output. Raises Failed, Dead."""
        deadline = time.monotonic() + timeout
        while True:
            output = self.run(script, check=False)
            if re.search(pattern, output):
                return output
            if time.monotonic() > deadline:
                raise Failed(f"{script.strip()}\nnever gave {pattern}; at last:\n{output}")
            time.sleep(0.3)

    def netfix(self, *lines: str, until: str, port: int = 3490, timeout: float = 60.0) -> str:
        """Send `lines` to the gateway, and return its first line that matches. Raises Failed, Dead."""
        answer = self._ask({"tcp": port, "send": lines, "until": until, "timeout": timeout})
        if answer["status"]:
            raise Failed(f"NetFIX {' '.join(lines)}: never {until}; at last {answer['output']!r}")
        return str(answer["output"])

    def write(self, path: str, text: str) -> None:
        """Write a file in the machine."""
        self.run(f"mkdir -p $(dirname {path}); cat > {path} <<'END-OF-FILE'\n{text.rstrip()}\nEND-OF-FILE")

    @property
    def uptime(self) -> float:
        """Seconds since it was switched on, by the host's clock."""
        return time.monotonic() - self.booted

    def console(self) -> str:
        """The messages of the kernel since power-on."""
        return (self.folder / "console").read_text(errors="replace")

    # -- QEMU ----------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        pairs = [socket.socketpair() for _ in range(3)]
        mine, theirs = zip(*pairs, strict=True)
        self._agent, self.serial, self._rest = mine[0], list(mine[1:]), b""
        fds = [end.fileno() for end in theirs]
        with (self.folder / "qemu").open("wb") as log:
            self._process = subprocess.Popen(
                self._command(*fds), stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds
            )
        self.booted = time.monotonic()
        for end in theirs:
            end.close()

    def _command(self, agent: int, serial1: int, serial2: int) -> list[str]:
        cpu = ("-accel", "kvm", "-cpu", "host")
        if self.accelerator == "tcg":
            cpu = ("-accel", "tcg,thread=multi", "-cpu", "max")
        return [
            "qemu-system-x86_64",
            *("-machine", "pc", *cpu, "-smp", "2", "-m", "768"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd), "-append", KERNEL_OPTIONS),
            # What the guest has flushed is on the disk when QEMU is killed, as with a good SD card.
            *("-drive", f"file={self.folder / 'disk'},if=virtio,format=raw,cache=writeback"),
            *("-drive", f"file={self._payload},if=virtio,format=raw,readonly=on"),
            *("-serial", f"file:{self.folder / 'console'}"),
            *("-chardev", f"socket,id=serial1,fd={serial1}", "-device", "isa-serial,chardev=serial1"),
            *("-chardev", f"socket,id=serial2,fd={serial2}", "-device", "isa-serial,chardev=serial2"),
            *("-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,fd={agent}"),
            *("-device", "virtserialport,chardev=agent,name=fixgw.vm"),
            *("-object", "can-bus,id=bus"),
            *("-device", "kvaser_pci,canbus=bus", "-device", "kvaser_pci,canbus=bus"),
            *("-device", "virtio-rng-pci"),
        ]

    # -- the agent -----------------------------------------------------------------------------------------------------

    def _await_hello(self, timeout: float) -> None:
        self._receive("hello", None, timeout)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._agent is not None, "the machine is off"
        self._number += 1
        self._agent.sendall(json.dumps({"id": self._number, **request}).encode() + b"\n")
        return self._receive("id", self._number, request["timeout"] + 60.0)

    def _receive(self, key: str, value: int | None, timeout: float) -> dict[str, Any]:
        """The message whose `key` has that value, or any message; earlier ones are answers no longer awaited."""
        assert self._agent is not None
        assert self._process is not None
        deadline = time.monotonic() + timeout
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                message: dict[str, Any] = json.loads(line)
                if key in message and value in (None, message[key]):
                    return message
                continue
            ready, _, _ = select.select([self._agent], [], [], 0.5)
            data = self._agent.recv(65536) if ready else b""
            self._rest += data
            if (ready and not data) or self._process.poll() is not None:
                raise Dead(f"QEMU has ended:\n{self._tail()}")
            if b"KVM internal error" in (self.folder / "qemu").read_bytes():
                raise Dead("KVM internal error")
            if time.monotonic() > deadline:
                raise Dead(f"no answer within {timeout:g} s:\n{self._tail()}")

    def _tail(self) -> str:
        return (self.folder / "qemu").read_text(errors="replace")[-1000:] + self.console()[-2000:]
