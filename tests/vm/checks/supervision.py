"""Watchdog, crash loops and safe mode."""

from __future__ import annotations

import re
import time

from ..bench import CONFIGURATION, Bench, check

HANGS = '''
"""Hangs when BTN5 is pressed."""
import time

from fixgw.plugin import Poller


class Plugin(Poller):
    def poll(self, timeout):
        self.stopping.wait(timeout)
        if self.db_read("BTN5")[0]:
            time.sleep(3600)
'''

DIES = '''
"""Takes the whole process along."""
import os
import signal

from fixgw.plugin import PluginBase


class Plugin(PluginBase):
    def run(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def stop(self):
        pass
'''


@check("a worker that hangs: no more pings, and systemd restarts the gateway")
def watchdog(bench: Bench) -> str:
    with bench.plugin("hangs", HANGS):
        bench.restart()
        before, mark = bench.show("MainPID", "NRestarts"), bench.mark()
        bench.machine.netfix("@wBTN5;True", until="@wBTN5")
        began = time.monotonic()
        bench.machine.until("systemctl show fixgw.service -P NRestarts", f"^{int(before['NRestarts']) + 1}$", 90.0)
        seconds = time.monotonic() - began
        bench.machine.until("systemctl is-active fixgw.service", "^active$", 60.0)
        assert bench.show("MainPID") != {"MainPID": before["MainPID"]}
        said = bench.journal(mark)
        assert re.search("[Ww]atchdog timeout", said), said
        assert "hangs.py" in said, f"the journal does not show where it hung:\n{said}"
    bench.restart()
    return f"restarted {seconds:.0f} s after the hang"


@check("killed with SIGKILL, it is back at once")
def killed(bench: Bench) -> str:
    bench.machine.run("systemctl reset-failed fixgw.service; systemctl kill --signal=KILL fixgw.service")
    began = time.monotonic()
    bench.machine.until("systemctl show fixgw.service -P NRestarts", "^1$")
    bench.machine.until("systemctl is-active fixgw.service", "^active$")
    bench.read("IAS")
    safe = bench.show("ActiveState", "Result", "ExecMainStartTimestampMonotonic", unit="fixgw-safe.service")
    assert safe["ActiveState"] == "inactive", f"fixgw-safe.service: {safe}"
    return f"serving again after {time.monotonic() - began:.1f} s"


@check("a crash loop ends in safe mode, which serves NetFIX and says why")
def crash_loop(bench: Bench) -> str:
    with bench.plugin("dies", DIES):
        bench.machine.run("systemctl reset-failed fixgw.service; systemctl restart --no-block fixgw.service")
        began = time.monotonic()
        bench.machine.until("systemctl is-active fixgw-safe.service", "^active$", 180.0)
        seconds = time.monotonic() - began
        said = bench.status()
        assert "safe mode" in said["summary"], said["summary"]
        assert [n for n, c in said["connections"].items() if c["state"] == "running"] == ["netfix"]
        shown = bench.show("StatusText", unit="fixgw-safe.service")["StatusText"]
        assert "safe mode" in shown, shown
    leave_safe_mode(bench)
    return f"after {seconds:.0f} s; {shown}"


@check("a configuration with problems ends in safe mode at once")
def bad_configuration(bench: Bench) -> str:
    bench.configure(CONFIGURATION.replace("fixgw.drivers.nmea0183", "fixgw.drivers.nothing"))
    try:
        bench.machine.run("systemctl restart --no-block fixgw.service")
        bench.machine.until("systemctl is-active fixgw-safe.service", "^active$", 60.0)
        summary = str(bench.status()["summary"])
        assert re.search("safe mode.*the configuration has problems", summary), summary
    finally:
        bench.configure(CONFIGURATION)
    leave_safe_mode(bench)
    return summary


def leave_safe_mode(bench: Bench) -> None:
    """The steps in the documentation."""
    bench.machine.run("systemctl restart fixgw.service", 90.0)
    assert bench.show("ActiveState", unit="fixgw-safe.service")["ActiveState"] == "inactive"
    assert "safe mode" not in bench.status()["summary"]
