"""The real installer, from the wheel, as a user runs it."""

from __future__ import annotations

import time

from ..bench import Bench, check, number

BIT_RATE = 250_000


@check("the installer says what it would do, and does nothing", needs_gateway=False)
def dry_run(bench: Bench) -> str:
    said = bench.machine.run(f"{installer(bench)} --dry-run", 120.0)
    assert "would" in said
    bench.machine.run("test ! -e /opt/fixgw && test ! -e /etc/fixgw && ! id fixgw")
    return f"{len(said.splitlines())} lines"


@check("the wheel is installed, and the service is active", needs_gateway=False, always=True)
def install(bench: Bench) -> str:
    began = time.monotonic()
    said = bench.machine.run(installer(bench), 400.0)
    seconds = time.monotonic() - began
    state = bench.show("ActiveState", "NotifyAccess", "Type", "StatusText", "User", "UnitFileState")
    assert state["ActiveState"] == "active", said
    assert state["Type"].startswith("notify")
    assert state["StatusText"], "no STATUS has been notified"
    assert (state["User"], state["UnitFileState"]) == ("fixgw", "enabled")
    bench.ready = True
    bench.measured["installation"] = f"{seconds:.0f} s"
    return f"{seconds:.0f} s; status: {state['StatusText']}"


@check("a second installation changes nothing, and does not restart the gateway")
def again(bench: Bench) -> None:
    bench.machine.write("/etc/fixgw/initial.ini", "BARO = 30.10")
    before = bench.show("MainPID")
    bench.machine.run(installer(bench), 200.0)
    assert bench.show("MainPID") == before
    assert "30.10" in bench.machine.run("cat /etc/fixgw/initial.ini"), "the user's edits are gone"


@check("systemd-analyze verify finds no fault")
def verify(bench: Bench) -> None:
    units = "fixgw.service fixgw@one.service fixgw-safe.service fixgw-safe@one.service"
    said = bench.machine.run(f"systemd-analyze verify --man=no {units} 2>&1", 120.0)
    assert not said, said


@check("systemd-analyze security: exposure of 2.0 at most")
def security(bench: Bench) -> str:
    found = []
    for unit in ("fixgw.service", "fixgw-safe.service"):
        said = bench.machine.run(f"systemd-analyze security --no-pager {unit}", 120.0)
        exposure = number(r"exposure level for \S+: ([\d.]+)", said)
        assert exposure <= 2.0, said
        found.append(f"{unit} {exposure}")
    bench.measured["exposure"] = ", ".join(found)
    return ", ".join(found)


@check("fixgw doctor examines the installed gateway")
def doctor(bench: Bench) -> str:
    said = bench.machine.run("fixgw doctor", 90.0)
    return said.splitlines()[-1]


def installer(bench: Bench) -> str:
    wheel = f"/root/wheels/{bench.wheel}"
    return (
        f"PYTHONPATH={wheel} python3 -m fixgw.install --wheel {wheel} --offline --find-links /root/wheels "
        f"--extras rpi --can {BIT_RATE}"
    )
