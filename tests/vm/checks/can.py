"""CAN: SocketCAN with vcan, and two emulated SJA1000 controllers on one bus."""

from __future__ import annotations

import re
import time

from ..bench import Bench, check


@check("virtual instruments on vcan0 are read: attitude and air data are good")
def vcan(bench: Bench) -> str:
    with bench.nodes("vcan0"):
        pitch = bench.good("PITCH", 90.0)
        speed = float(bench.good("IAS"))
        assert 40.0 < speed < 200.0
        bench.when(lambda: bench.connection("canfix")["status"]["received per second"] > 50, "frames are counted")
        seen = bench.connection("canfix")["status"]
        assert {"49", "50"} <= set(seen["nodes"]), seen["nodes"].keys()
        assert seen["misfits"] == 0
        assert "canfix/49" in bench.machine.netfix("@xexplain PITCH", until="^@xexplain")
    bench.flagged("PITCH", ".1[01]{3}")  # the instruments are gone: the value is old
    return f"PITCH {pitch}, IAS {speed}; {seen['received per second']} frames/s"


@check("the kernel's filters let through what is mapped, and no more")
def filters(bench: Bench) -> str:
    before = bench.connection("canfix")["status"]
    # Extended identifiers, which CAN-FIX does not use, and base ones of unmapped parameters.
    bench.machine.run("cangen vcan0 -e -g 1 -n 300; cangen vcan0 -I 7F0 -L 8 -g 1 -n 300")
    time.sleep(1.0)
    after = bench.connection("canfix")["status"]
    came = after["received"] - before["received"]
    assert came < 30, f"{came} of 600 frames came through the filters"
    # A mapped frame: attitude, from node 0x31, -5.00 degrees.
    bench.machine.run("cansend vcan0 180#3100000CFEFFFF")
    bench.when(lambda: bench.connection("canfix")["status"]["used"] > after["used"], "a mapped frame passes")
    filters = len(bench.machine.run("cat /proc/net/can/rcvlist_*").splitlines())
    return f"{came} of 600 passed; {filters} lines of filters in /proc/net/can"


@check("the bridge carries what its route names from vcan0 to vcan1")
def bridge(bench: Bench) -> None:
    heard = bench.machine.run(
        "candump -L -T 2000 vcan1 & sleep 1\n"
        "for id in 180 181 183 184 18000000 183; do cansend vcan0 $id#3100000102; done; wait"
    )
    identifiers = re.findall(r"vcan1 (\w+)#", heard)
    assert identifiers == ["180", "183", "183"], heard


@check("error frames: error-passive, bus-off and the return from it are reported")
def error_frames(bench: Bench) -> str:
    def seen() -> dict[str, object]:
        status: dict[str, object] = bench.connection("canfix")["status"]
        return status

    # linux/can/error.h: class in the identifier, controller status in byte 1, error counters in bytes 6 and 7.
    bench.machine.run("cansend vcan0 20000204#0020000000008000")  # counters, controller: transmit error-passive
    bench.when(lambda: seen()["controller"] == "passive", "the controller is seen as error-passive")
    passive = bench.connection("canfix")
    assert passive["health"] != "ok", passive
    assert seen()["error counters"] == "sending 128, receiving 0"
    bench.machine.run("cansend vcan0 20000040#0000000000000000")  # bus-off
    bench.when(lambda: seen()["controller"] == "bus off", "the controller is seen as bus-off")
    count = seen()["error frames"]
    bench.machine.run("cansend vcan0 20000104#0040000000000000")  # restarted, and error-active again
    bench.when(lambda: bench.connection("canfix")["health"] == "ok", "the controller has recovered")
    return f"{count} error frames; {passive['health']}"


@check("vcan0 goes down and comes up again: noticed, retried, and the attitude is back")
def down_up(bench: Bench) -> str:
    with bench.nodes("vcan0"):
        bench.good("PITCH", 90.0)
        pid = bench.show("MainPID", "NRestarts")
        bench.machine.run("ip link set vcan0 down")
        try:
            bench.when(lambda: bench.connection("canfix")["health"] != "ok", "the outage is in the status")
            reason = bench.connection("canfix")["health"]
            bench.flagged("PITCH", ".(1..|..1).")  # old or failed
            assert bench.connection("wire")["health"] == "ok", "the other bus was affected"
        finally:
            bench.machine.run("ip link set vcan0 up")
        began = time.monotonic()
        bench.good("PITCH", 90.0)
        seconds = time.monotonic() - began
        assert bench.show("MainPID", "NRestarts") == pid
    return f"{reason}; good again after {seconds:.0f} s"


@check("an interface that vanishes and comes back under its name is used again")
def replugged(bench: Bench) -> None:
    bench.machine.run("ip link delete vcan1")
    bench.when(lambda: bench.connection("bridge")["health"] != "ok", "the bridge notices the loss of vcan1")
    bench.machine.run("ip link add vcan1 type vcan; ip link set vcan1 up")
    bench.when(lambda: bench.connection("bridge")["health"] == "ok", "the bridge uses vcan1 again", 60.0)


@check("systemd-networkd has set up the controllers' bit rate from the installed file")
def bit_rate(bench: Bench) -> str:
    said = ""
    for name in ("can0", "can1"):
        said = bench.machine.until(f"ip -details link show {name}", r"state UP[\s\S]*bitrate 250000")
        assert "restart-ms 100" in said, said
        assert "sja1000" in said.lower() or "kvaser" in said.lower(), said
    status = bench.connection("wire")["status"]
    assert status["bit rate"] == 250000, status
    return " ".join(re.findall(r"bitrate \d+|sample-point [\d.]+|restart-ms \d+", said))


@check("two emulated controllers: instruments on can1 are read from can0")
def controllers(bench: Bench) -> str:
    with bench.nodes("can1"):
        bench.when(lambda: bench.connection("wire")["status"]["received"] > 0, "frames arrive", 90.0)
        bench.good("PITCH", 60.0)
        assert '"wire/49"' in bench.machine.netfix("@xexplain PITCH", until="^@xexplain")
        bench.record("can0")  # for the start of the machine, later
        rate = bench.connection("wire")["status"]["received per second"]
    return f"{rate} frames/s"
