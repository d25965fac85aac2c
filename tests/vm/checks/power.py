"""Power: a full disk, the plug pulled in mid-flight, and the times from power-on. Last of all, the removal."""

from __future__ import annotations

import time

from ..bench import RECORDING, Bench, check, number

#: Saves a number repeatedly like drivers do, and reports to the host which ones have reached the disk.
SAVES = """
import itertools
from pathlib import Path
from fixgw import state
with open("/dev/ttyS2", "w") as port:
    for number in itertools.count(1):
        state.save(Path("/var/lib/fixgw/vm.json"), b"%d" % number * 200)
        print(number, file=port, flush=True)
"""

LOADS = """
from pathlib import Path
from fixgw import state
data = state.load(Path("/var/lib/fixgw/vm.json"))
number = data[: len(data) // 200]
assert data == number * 200, data
print(int(number))
"""

DIGESTS = "sha256sum /etc/fixgw/*.yaml /etc/fixgw/*.ini"

#: The recorded instruments; like real ones they are switched on together with the computer.
PLAYER = f"""
[Unit]
After=sys-subsystem-net-devices-can1.device
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/canplayer -I {RECORDING} -l i can1=can0
Restart=always
RestartSec=0.2
[Install]
WantedBy=sysinit.target
"""


@check("a full disk: values keep flowing, and NetFIX serves")
def full_disk(bench: Bench) -> None:
    m = bench.machine
    with bench.nodes("vcan0"):
        bench.good("PITCH", 90.0)
        m.run("fallocate -l $(($(df --output=avail -B1 / | tail -1) - 4096)) /full; dd if=/dev/zero of=/full2; true")
        try:
            assert int(m.run("df --output=avail -B1 / | tail -1")) < 65536
            before = bench.connection("canfix")["status"]["received"]
            time.sleep(3.0)
            bench.good("PITCH")
            assert bench.connection("canfix")["status"]["received"] > before
        finally:
            m.run("rm -f /full /full2")


@check("the plug is pulled in mid-flight, and again while it starts: configuration and state are intact, and it works")
def power_loss(bench: Bench) -> str:
    m = bench.machine
    if m.run(f"test -e {RECORDING} || echo none"):
        with bench.nodes("can1"):
            bench.good("PITCH", 90.0)
            bench.record("can0")
    m.write("/etc/systemd/system/fixgw-vm-player.service", PLAYER)
    m.run("systemctl daemon-reload; systemctl enable --now fixgw-vm-player.service")
    configuration = m.run(DIGESTS)
    m.write("/var/lib/fixgw-vm/loads.py", LOADS)
    m.write("/run/fixgw-vm/saves.py", SAVES)
    m.run("sync; stty -F /dev/ttyS2 raw -echo")
    m.run("systemd-run --quiet --unit=saves /opt/fixgw/bin/python /run/fixgw-vm/saves.py")
    bench.good("PITCH", 60.0)
    with m.serial[1].dup() as port:
        saved = b""
        port.settimeout(60.0)
        while saved.count(b"\n") < 50:
            saved += port.recv(4096)
        m.power_off()  # at an arbitrary moment
        while more := port.recv(4096):
            saved += more
    told = int(saved.split(b"\n")[-2])

    m.boot()
    m.until("systemctl is-active fixgw.service", "activating|active", 120.0)
    m.power_off()
    bench.measured["cold start"] = times = cold_start(bench)
    assert m.run(DIGESTS) == configuration
    found = int(m.run("/opt/fixgw/bin/python /var/lib/fixgw-vm/loads.py"))
    assert found >= told, f"the host was told that {told} had been saved, and {found} is there"
    m.run("fixgw check /etc/fixgw/default.yaml")
    assert "Traceback" not in bench.journal("-b")
    assert bench.show("NRestarts") == {"NRestarts": "0"}
    assert not m.run("systemctl --failed --no-legend")
    return f"{told} saves were reported, {found} found; {times}"


@check("it is removed, and the configuration is kept")
def removal(bench: Bench) -> None:
    m = bench.machine
    m.run("fixgw-install remove", 120.0)
    m.run("test -e /etc/fixgw/default.yaml; test ! -e /opt/fixgw; test ! -e /usr/local/bin/fixgw")
    assert bench.show("LoadState", "ActiveState") == {"LoadState": "not-found", "ActiveState": "inactive"}


def cold_start(bench: Bench) -> str:
    """Power on; the times until the service is active and until the attitude is good, by the host's clock."""
    m = bench.machine
    m.boot()
    bench.good("PITCH", 180.0)
    attitude = m.uptime
    m.until("systemctl is-active fixgw.service", "^active$")
    # The kernel's clock begins later than the machine: the firmware and the kernel's own unpacking come before.
    before_kernel = m.uptime - float(m.run("cut -d' ' -f1 /proc/uptime"))
    active = number(r"=(\d+)", m.run("systemctl show fixgw.service -p ActiveEnterTimestampMonotonic")) / 1e6
    exec_start = number(r"=(\d+)", m.run("systemctl show fixgw.service -p ExecMainStartTimestampMonotonic")) / 1e6
    return (
        f"service started {before_kernel + exec_start:.1f} s, active {before_kernel + active:.1f} s, "
        f"attitude good {attitude:.1f} s after power-on"
    )
