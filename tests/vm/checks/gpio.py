"""GPIO: a chip of the kernel's gpio-sim, through rpi-lgpio's RPi.GPIO and the gateway's driver."""

from __future__ import annotations

from ..bench import Bench, check

#: The directory to set and read the levels of the simulated lines.
LINES = "/sys/devices/platform/gpio-sim.*/gpiochip*/sim_gpio{}"


def press(bench: Bench, pin: int, high: bool) -> None:
    bench.machine.run(f"echo pull-{'up' if high else 'down'} > $(echo {LINES.format(pin)}/pull)")


def level(bench: Bench, pin: int) -> str:
    return bench.machine.run(f"cat {LINES.format(pin)}/value")


@check("buttons pressed through sysfs arrive, of either polarity")
def buttons(bench: Bench) -> str:
    for pin, key, pressed in ((17, "BTN1", False), (27, "BTN2", True)):
        press(bench, pin, not pressed)
        bench.machine.netfix(f"@s{key}", f"@r{key}", until=f"{key};False")
        for _ in range(3):
            press(bench, pin, pressed)
            bench.when(lambda k=key: bench.read(k).startswith("True"), f"{key} is pressed")  # type: ignore[misc]
            press(bench, pin, not pressed)
            bench.when(lambda k=key: bench.read(k).startswith("False"), f"{key} is released")  # type: ignore[misc]
    status = bench.connection("gpio")
    assert status["health"] == "ok", status
    return bench.machine.run("/opt/fixgw/bin/python -c 'import lgpio; print(\"lgpio\", lgpio.__file__)'")


@check("outputs follow their keys, of either polarity, and are off when the gateway stops")
def outputs(bench: Bench) -> None:
    for pin, key, on in ((22, "BTN3", "1"), (23, "BTN4", "0")):
        off = "0" if on == "1" else "1"
        assert level(bench, pin) == off
        bench.machine.netfix(f"@w{key};True", until=f"@w{key}")
        bench.when(lambda p=pin, o=on: level(bench, p) == o, f"pin {pin} is on")  # type: ignore[misc]
    bench.machine.run("systemctl stop fixgw.service")
    assert level(bench, 22) == "0"
    bench.restart()
    bench.when(lambda: level(bench, 23) == "1", "pin 23 is off after a restart")
