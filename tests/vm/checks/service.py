"""The gateway as a service: notification, reload, stop, the journal, and a clock that jumps."""

from __future__ import annotations

import time

from ..bench import CONFIGURATION, Bench, check

SETUP = """
modprobe -a vcan gpio-sim
ip link add vcan0 type vcan; ip link set vcan0 up
ip link add vcan1 type vcan; ip link set vcan1 up
mountpoint -q /sys/kernel/config || mount -t configfs config /sys/kernel/config
chip=/sys/kernel/config/gpio-sim/pi
mkdir -p $chip/bank
echo pinctrl-bcm2711 > $chip/bank/label
echo 58 > $chip/bank/num_lines
echo 1 > $chip/live
"""


@check("with CAN buses, a GPS and pins in its configuration it is active again", always=True)
def configured(bench: Bench) -> str:
    m = bench.machine
    m.write("/usr/local/sbin/fixgw-vm-devices", f"#!/bin/sh -e{SETUP}")
    m.write(
        "/etc/systemd/system/fixgw-vm-devices.service",
        "[Unit]\nBefore=fixgw.service\n[Service]\nType=oneshot\nRemainAfterExit=yes\n"
        "ExecStart=/bin/sh -e /usr/local/sbin/fixgw-vm-devices\n[Install]\nWantedBy=multi-user.target",
    )
    # rpi-lgpio asks the device tree which board this is; there is none.
    m.write(
        "/etc/systemd/system/fixgw.service.d/vm.conf",
        "[Service]\nEnvironment=RPI_LGPIO_REVISION=c03114 RPI_LGPIO_CHIP=0",
    )
    m.run("systemctl daemon-reload; systemctl enable --now fixgw-vm-devices.service")
    bench.configure(CONFIGURATION)
    m.run("fixgw check /etc/fixgw/default.yaml")
    began = time.monotonic()
    bench.restart()
    seconds = time.monotonic() - began
    states = {name: c["state"] for name, c in bench.status()["connections"].items()}
    assert set(states.values()) == {"running"}, states
    return f"ready {seconds:.1f} s after the command"


@check("a reload restarts what has changed, and nothing else")
def reload(bench: Bench) -> None:
    before, pid = bench.status(), bench.show("MainPID")
    bench.configure(CONFIGURATION.replace("baud: 9600", "baud: 4800"))
    bench.machine.run("systemctl reload fixgw.service", 60.0)
    bench.when(
        lambda: bench.status()["configuration"]["reloads"] > before["configuration"]["reloads"], "a reload is counted"
    )
    after = bench.status()
    assert bench.show("MainPID", "ActiveState") == {**pid, "ActiveState": "active"}
    passed = after["uptime"] - before["uptime"]
    for name, connection in after["connections"].items():
        if name == "gps":
            assert connection["for"] < passed, "the GPS connection was not restarted"
        else:
            assert connection["for"] >= before["connections"][name]["for"], f"{name} was restarted"
    bench.configure(CONFIGURATION)
    bench.machine.run("systemctl reload fixgw.service", 60.0)


@check("a configuration with problems is refused by a reload, and the old one stays in use")
def bad_reload(bench: Bench) -> str:
    pid = bench.show("MainPID")
    bench.configure(CONFIGURATION.replace("baud: 9600", "baud: fast"))
    bench.machine.run("systemctl reload fixgw.service", 60.0, check=False)
    bench.when(lambda: bool(bench.status()["configuration"]["problems"]), "the problem is in the status")
    problem = str(bench.status()["configuration"]["problems"][0])
    assert bench.show("MainPID", "ActiveState") == {**pid, "ActiveState": "active"}
    bench.configure(CONFIGURATION)
    bench.machine.run("systemctl reload fixgw.service", 60.0)
    bench.when(lambda: not bench.status()["configuration"]["problems"], "the problem is gone")
    return problem


@check("the journal has the connection as a field")
def journal(bench: Bench) -> str:
    return bench.machine.run(
        "journalctl --no-pager --lines=1 --output=cat -u fixgw.service FIXGW_CONNECTION=netfix | grep ."
    )


@check("a wall clock that jumps nine years, and back, changes no age and restarts nothing")
def clock(bench: Bench) -> None:
    with bench.nodes("vcan0"):
        bench.good("PITCH", 90.0)
        before, pid = bench.status(), bench.show("MainPID", "NRestarts")
        for step in ("+9 years", "-9 years"):
            bench.machine.run(f'date --set "$(date --date "{step}")"')
            time.sleep(3.0)
            assert bench.read("PITCH").endswith(";00000"), f"after {step}: {bench.read('PITCH')}"
        after = bench.status()
        assert bench.show("MainPID", "NRestarts") == pid
        assert 5.0 < after["uptime"] - before["uptime"] < 300.0
        for name, connection in after["connections"].items():
            assert connection["restarts"] == before["connections"][name]["restarts"], name


@check("it stops cleanly, within its time, and starts again")
def stop(bench: Bench) -> str:
    began = time.monotonic()
    bench.machine.run("systemctl stop fixgw.service")
    seconds = time.monotonic() - began
    state = bench.show("Result", "ExecMainStatus", "ActiveState")
    assert state == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}
    bench.restart()
    return f"stopped in {seconds:.1f} s"
