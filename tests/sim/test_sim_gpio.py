"""The virtual bank of pins: the interface of RPi.GPIO on one side, people and sensors on the other."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator

import pytest

from fixgw.hw_sim import gpio as GPIO
from fixgw.hw_sim.gpio import Bank


@pytest.fixture
def bank() -> Iterator[Bank]:
    GPIO.bank().reset()
    GPIO.setmode(GPIO.BCM)
    yield GPIO.bank()
    GPIO.bank().reset()


def test_it_has_the_commonly_used_functions_of_the_real_library() -> None:
    names = """setmode getmode setwarnings setup input output add_event_detect add_event_callback event_detected
        remove_event_detect wait_for_edge gpio_function cleanup PWM BCM BOARD IN OUT HIGH LOW PUD_OFF PUD_UP PUD_DOWN
        RISING FALLING BOTH UNKNOWN SERIAL SPI I2C HARD_PWM RPI_INFO RPI_REVISION VERSION"""
    for name in names.split():
        assert hasattr(GPIO, name), name


def test_an_input_follows_its_resistor_and_its_contact(bank: Bank) -> None:
    GPIO.setup(17, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    assert GPIO.input(17) == GPIO.HIGH
    bank.drive(17, False)
    assert GPIO.input(17) == GPIO.LOW
    bank.release(17)
    assert GPIO.input(17) == GPIO.HIGH
    GPIO.setup(18, GPIO.IN, pull_up_down=GPIO.PUD_DOWN)
    assert GPIO.input(18) == GPIO.LOW
    bank.press(18)
    assert GPIO.input(18) == GPIO.HIGH, "to the opposite level"


def test_outputs_are_seen_from_outside_with_their_history(bank: Bank) -> None:
    GPIO.setup([23, 24], GPIO.OUT, initial=GPIO.LOW)
    GPIO.output(23, True)
    GPIO.output([23, 24], [False, True])
    assert not bank.level(23)
    assert bank.level(24)
    assert [(pin, level) for _, pin, level in bank.history] == [(23, True), (23, False), (24, True)]
    assert GPIO.input(24) == 1
    assert GPIO.gpio_function(24) == GPIO.OUT
    bank.drive(24, False)
    assert bank.level(24), "an output is not driven by its load"


def test_pins_can_be_numbered_by_their_place_on_the_header() -> None:
    bank = Bank()
    with pytest.raises(RuntimeError):
        bank.setup(11, GPIO.IN)
    bank.setmode(GPIO.BOARD)
    assert bank.getmode() == GPIO.BOARD
    bank.setup(11, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    assert bank.level(17)
    with pytest.raises(ValueError):
        bank.setup(1, GPIO.IN)  # 3.3 V
    with pytest.raises(ValueError):
        bank.setmode(GPIO.BCM)


def test_callbacks_run_in_order_on_a_separate_thread(bank: Bank) -> None:
    seen: list[tuple[int, str]] = []
    for pin in (5, 6):
        GPIO.setup(pin, GPIO.IN, pull_up_down=GPIO.PUD_UP)
        GPIO.add_event_detect(pin, GPIO.BOTH, callback=lambda c: seen.append((c, threading.current_thread().name)))
    for pin in (5, 6, 6, 5):
        bank.drive(pin, not bank.level(pin))
    bank.flush()
    assert [pin for pin, _ in seen] == [5, 6, 6, 5]
    assert {name for _, name in seen} == {"virtual pins"}


@pytest.mark.parametrize(("edge", "expected"), [(GPIO.RISING, 2), (GPIO.FALLING, 3), (GPIO.BOTH, 5)])
def test_only_the_requested_edges_are_reported(bank: Bank, edge: int, expected: int) -> None:
    seen: list[int] = []
    GPIO.setup(5, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    GPIO.add_event_detect(5, edge)
    GPIO.add_event_callback(5, seen.append)
    for level in (False, True, False, True, False, False):
        bank.drive(5, level)
    bank.flush()
    assert seen == [5] * expected
    assert GPIO.event_detected(5)
    assert not GPIO.event_detected(5)
    GPIO.remove_event_detect(5)
    bank.drive(5, True)
    bank.flush()
    assert len(seen) == expected


def test_a_pressed_button_bounces_and_bouncetime_suppresses_it(bank: Bank) -> None:
    plain: list[int] = []
    calm: list[int] = []
    for pin, seen, bouncetime in ((5, plain, None), (6, calm, 10_000)):
        GPIO.setup(pin, GPIO.IN, pull_up_down=GPIO.PUD_UP)
        GPIO.add_event_detect(pin, GPIO.FALLING, callback=seen.append, bouncetime=bouncetime)
        bank.press(pin, bounce=4)
    bank.flush()
    assert len(plain) == 5
    assert len(calm) == 1


def test_waiting_for_an_edge_ends_with_the_edge_or_the_timeout(bank: Bank) -> None:
    GPIO.setup(5, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    assert GPIO.wait_for_edge(5, GPIO.FALLING, timeout=20) is None
    done = threading.Event()
    found: list[int | None] = []

    def wait() -> None:
        found.append(GPIO.wait_for_edge(5, GPIO.FALLING, timeout=20_000))
        done.set()

    threading.Thread(target=wait, daemon=True).start()
    deadline = time.monotonic() + 10
    while not bank.watched(5):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    bank.press(5)
    assert done.wait(10)
    assert found == [5]
    assert not bank.watched(5)


def test_a_knob_makes_four_edges_a_detent_and_the_first_contact_leads(bank: Bank) -> None:
    seen: list[int] = []
    for pin in (5, 6):
        GPIO.setup(pin, GPIO.IN, pull_up_down=GPIO.PUD_UP)
        GPIO.add_event_detect(pin, GPIO.BOTH, callback=seen.append)
    bank.turn(5, 6, 2)
    assert seen == [5, 6, 5, 6] * 2
    seen.clear()
    bank.turn(5, 6, -1, rate=1000)
    bank.flush()
    assert seen == [6, 5, 6, 5]


def test_a_number_of_pulses_can_be_generated(bank: Bank) -> None:
    seen: list[int] = []
    GPIO.setup(4, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    GPIO.add_event_detect(4, GPIO.FALLING, callback=seen.append)
    with bank.pulses(4, 2000, count=100) as pulses:
        pulses.wait()
    bank.flush()
    assert pulses.sent == len(seen) == 100
    with bank.pulses(4, 1000) as pulses:
        assert pulses.hz == 1000
    assert bank.level(4)


def test_the_duty_of_a_dimmed_lamp_can_be_read(bank: Bank) -> None:
    GPIO.setup(12, GPIO.OUT)
    lamp = GPIO.PWM(12, 100)
    assert bank.duty(12) is None
    lamp.start(25)
    assert bank.duty(12) == 25
    lamp.ChangeDutyCycle(80.5)
    lamp.ChangeFrequency(50)
    assert bank.duty(12) == 80.5
    for wrong in (-1, 101):
        with pytest.raises(ValueError):
            lamp.ChangeDutyCycle(wrong)
    with pytest.raises(RuntimeError):
        GPIO.PWM(12, 100)
    lamp.stop()
    assert bank.duty(12) is None
    GPIO.PWM(12, 100)


def test_wrong_use_raises_the_same_error_as_the_real_library(bank: Bank) -> None:
    GPIO.setup(23, GPIO.OUT)
    GPIO.setup(5, GPIO.IN)
    GPIO.add_event_detect(5, GPIO.BOTH)
    runtime: list[Callable[[], object]] = [
        lambda: GPIO.input(9),
        lambda: GPIO.output(9, 1),
        lambda: GPIO.output(5, 1),
        lambda: GPIO.output([23], [1, 0]),
        lambda: GPIO.add_event_detect(23, GPIO.BOTH),
        lambda: GPIO.add_event_detect(5, GPIO.BOTH),
        lambda: GPIO.add_event_callback(23, print),
        lambda: GPIO.PWM(5, 100),
    ]
    value: list[Callable[[], object]] = [
        lambda: GPIO.setup(99, GPIO.IN),
        lambda: GPIO.setup(5, 7),
        lambda: GPIO.setup(5, GPIO.IN, initial=1),
        lambda: GPIO.setup(5, GPIO.IN, pull_up_down=3),
        lambda: GPIO.setup(23, GPIO.OUT, pull_up_down=GPIO.PUD_UP),
        lambda: GPIO.setmode(99),
        lambda: GPIO.add_event_detect(5, 99),
        lambda: GPIO.add_event_detect(5, GPIO.BOTH, bouncetime=0),
        lambda: GPIO.wait_for_edge(5, GPIO.BOTH, timeout=0),
        lambda: GPIO.PWM(23, 0),
    ]
    for call in runtime:
        with pytest.raises(RuntimeError):
            call()
    for call in value:
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        GPIO.add_event_callback(5, "not a function")


def test_warnings_can_be_switched_off(bank: Bank) -> None:
    bank.occupy(7)
    with pytest.warns(RuntimeWarning, match="in use"):
        GPIO.setup(7, GPIO.IN)
    GPIO.cleanup()
    with pytest.warns(RuntimeWarning, match="nothing to clean up"):
        GPIO.cleanup()
    GPIO.setmode(GPIO.BCM)
    GPIO.setwarnings(False)
    bank.occupy(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GPIO.setup(7, GPIO.IN)


def test_cleanup_releases_one_channel_or_all(bank: Bank) -> None:
    GPIO.setup([5, 6], GPIO.IN, pull_up_down=GPIO.PUD_UP)
    GPIO.cleanup(5)
    assert bank.direction(5) is None
    assert bank.direction(6) == GPIO.IN
    GPIO.cleanup()
    assert bank.direction(6) is None
    assert GPIO.getmode() is None


def test_a_lost_chip_raises_until_it_is_back_and_reopened(bank: Bank) -> None:
    GPIO.setup(5, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    GPIO.setup(23, GPIO.OUT, initial=1)
    bank.unplug()
    with pytest.raises(RuntimeError):
        GPIO.input(5)
    with pytest.raises(RuntimeError):
        GPIO.output(23, 0)
    bank.plug()
    with pytest.raises(RuntimeError):
        GPIO.input(5)
    GPIO.cleanup()
    GPIO.setmode(GPIO.BCM)
    GPIO.setup(5, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    assert GPIO.input(5) == 1


def test_without_a_chip_the_mode_cannot_be_set() -> None:
    bank = Bank()
    bank.unplug()
    bank.cleanup()
    with pytest.raises(RuntimeError):
        bank.setmode(GPIO.BCM)


def test_a_callback_that_raises_is_reported_and_the_next_one_is_called(bank: Bank) -> None:
    seen: list[int] = []

    def fail(channel: int) -> None:
        if not seen:
            seen.append(0)
            raise ZeroDivisionError
        seen.append(channel)

    GPIO.setup(5, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    GPIO.add_event_detect(5, GPIO.BOTH, callback=fail)
    bank.press(5)
    bank.release(5)
    bank.flush()
    assert seen == [0, 5]
    assert "ZeroDivisionError" in bank.callback_errors[0]


def test_quirks_of_the_real_libraries_can_be_switched_on(bank: Bank) -> None:
    seen: list[int] = []
    GPIO.setup(5, GPIO.IN, pull_up_down=GPIO.PUD_UP)
    bank.edge_detection = False
    with pytest.raises(RuntimeError):
        GPIO.add_event_detect(5, GPIO.BOTH)
    bank.edge_detection = bank.misses_first_edge = True
    GPIO.add_event_detect(5, GPIO.BOTH, callback=seen.append)
    bank.press(5)
    bank.release(5)
    bank.flush()
    assert len(seen) == 1
