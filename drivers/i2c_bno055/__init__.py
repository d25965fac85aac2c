"""Bosch BNO055 attitude and heading sensor, on I2C or on a serial port."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta, field

from fixgw.drivers.i2c_bno055 import protocol
from fixgw.drivers.links.chips import Address, I2cOptions, I2cPoller, KeysOption, Rate
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.plugin import Device, Feeds, Finding

if TYPE_CHECKING:
    from fixgw.database import Database

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
MAX_BOOT_POLLS = 40  # every 0.03 s; the chip takes 0.65 s


class Options(I2cOptions, frozen=True, kw_only=True):
    """Options for a BNO055."""

    address: Address = 0x28
    port: Annotated[
        str,
        Meta(description="Serial port, for a chip wired for UART (PS1 high); `bus` and `address` are then ignored"),
    ] = ""
    rate: Rate = 50.0
    mode: Annotated[
        Literal["ndof", "imu"],
        Meta(description="`ndof` fuses all sensors and writes HEAD; `imu` leaves the magnetometer out and writes YAW"),
    ] = "ndof"
    forward: Annotated[Axis, Meta(description="The chip's axis that points forward, to the nose")] = "y"
    up: Annotated[Axis, Meta(description="The chip's axis that points up")] = "z"
    crystal: Annotated[bool, Meta(description="Use the crystal on the board; most boards have one")] = False
    keys: KeysOption = field(default_factory=dict)
    roll: Annotated[float, Meta(ge=-30.0, le=30.0, description="Degrees added to ROLL")] = 0.0
    pitch: Annotated[float, Meta(ge=-30.0, le=30.0, description="Degrees added to PITCH")] = 0.0
    heading: Annotated[float, Meta(ge=-180.0, le=180.0, description="Degrees added to HEAD or YAW")] = 0.0


class Plugin(I2cPoller[Options]):
    """One BNO055: attitude from the direction of gravity, heading from the sensor fusion, accelerations and rate of
    turn."""

    KEYS: ClassVar[frozenset[str]] = protocol.KEYS
    stuck_after_s: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        self.counts["absurd values"] = 0
        self.decoder = protocol.Decoder(options.mode, options.roll, options.pitch, options.heading)

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        yield from super().check(options, db)
        if (options.forward, options.up) not in protocol.MOUNTINGS:
            yield "up", f"{options.up} is the same axis as `forward`, or its opposite"

    @classmethod
    def claims(cls, options: Options) -> Iterable[tuple[str, str]]:
        if options.port:
            yield os.path.realpath(options.port), "port"
        else:
            yield from super().claims(options)

    @classmethod
    def preflight(cls, options: Options) -> Iterable[Device | Feeds | Finding]:
        if options.port:
            yield Device(options.port, "dialout")
        else:
            yield from super().preflight(options)
        names = ((key, options.keys.get(key, key)) for key in protocol.Decoder(options.mode).keys)
        yield Feeds(tuple(name for _, name in names if name))

    def feeds(self) -> Iterable[str]:
        return self.decoder.keys

    @property
    def place(self) -> str:
        return self.options.port or super().place

    def health(self) -> str:
        return super().health() or self.decoder.trouble

    def get_status(self) -> Mapping[str, Any]:
        names = ("system", "gyroscope", "accelerometer", "magnetometer")
        levels = dict(zip(names, self.decoder.calibration, strict=True))
        return {**super().get_status(), "calibration (0 to 3)": levels}

    def module(self) -> Any:
        return _pyserial() if self.options.port else super().module()

    # -- the chip ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        options = self.options
        self.decoder.begin()
        found = self.read(protocol.CHIP_ID, 1)[0]
        if found != protocol.ID and self.read(protocol.PAGE, 1)[0] == 1:  # another program left it there; it has no id
            self.write(protocol.PAGE, 0)
            found = self.read(protocol.CHIP_ID, 1)[0]
        if found != protocol.ID:
            raise DeviceError(f"{self.place} is not a BNO055: its id is 0x{found:02x}")
        self.write(protocol.PAGE, 0)
        self.write(protocol.MODE, protocol.CONFIG)
        self.pause(0.025)
        self.write(protocol.TRIGGER, protocol.RESET)
        self._await_boot()
        self._set(protocol.POWER, 0)
        self._set(protocol.UNITS, 0)  # m/s², degrees a second, degrees, Celsius
        self._set(protocol.REMAP, *protocol.MOUNTINGS[options.forward, options.up])
        self.write(protocol.TRIGGER, protocol.CRYSTAL if options.crystal else 0)
        self.pause(0.01)
        if wrong := protocol.self_test(self.read(protocol.SELF_TEST, 1)[0], options.mode):
            raise DeviceError(f"{self.place}: {wrong}")
        self.write(protocol.MODE, protocol.MODES[options.mode])
        self.pause(0.1)  # wait for the first result

    def _set(self, register: int, *data: int) -> None:
        """Write and read back: with a garbled axis the attitude would be wrong but look good."""
        self.write(register, *data)
        if not self.stopping.is_set() and self.read(register, len(data)) != bytes(data):
            raise DeviceError(f"{self.place} did not accept its configuration")

    def _await_boot(self) -> None:
        for _ in range(MAX_BOOT_POLLS):
            self.pause(0.03)
            with suppress(OSError):  # it does not answer while it boots
                if self.stopping.is_set() or self.read(protocol.CHIP_ID, 1)[0] == protocol.ID:
                    return
        raise DeviceError(f"{self.place} did not come back from its reset")

    def sample(self) -> str:
        data = self.read(protocol.DATA, protocol.DATA_LENGTH)
        fused = self.read(protocol.FUSED, protocol.FUSED_LENGTH)
        updates = self.decoder.decode(data, fused)
        if updates is None:
            self.complain("%s: absurd data: %s", self.place, (data + fused).hex())
            return "absurd values"
        if (fused[11] != protocol.RUNNING or fused[12]) and self._runs():
            return "absurd values"  # a wrong bit
        if fused[11] != protocol.RUNNING or fused[12]:  # it lost power or crashed: set it up again
            self.publisher.publish(updates)
            raise DeviceError(f"{self.place}: {self.decoder.trouble}")
        self.require_change(data + fused)
        self.publisher.publish(updates)
        return ""

    def _runs(self) -> bool:
        return self.read_surely(protocol.STATUS, 2) == bytes((protocol.RUNNING, 0))

    # -- the serial line -----------------------------------------------------------------------------------------------

    def connect(self) -> Any:
        if not self.options.port:
            return super().connect()
        serial = _pyserial()
        try:
            return serial.Serial(self.options.port, 115200, timeout=0.1, exclusive=True)
        except serial.SerialException as error:  # an OSError without a number
            raise DeviceError(f"{self.options.port}: {error}") from error

    def read(self, register: int, length: int) -> bytes:
        if not self.options.port or self.replayed:
            return super().read(register, length)
        try:
            data = self._ask(protocol.read_request(register, length), 2 + length)
            if len(data) != length:
                raise OSError(errno.EIO, "short answer")
        except OSError as error:
            self.record_failure("in", register, error)
            raise
        self.record("in", register, data)
        return data

    def write(self, register: int, *data: int) -> None:
        if not self.options.port or self.replayed:
            super().write(register, *data)
            return
        try:
            if register == protocol.TRIGGER and data[0] & protocol.RESET:
                with _translate_errors(self.options.port):
                    self.bus.write(protocol.write_request(register, data))  # no answer is expected
            else:
                self._ask(protocol.write_request(register, data), 2)
        except OSError as error:
            self.record_failure("out", register, error)
            raise
        self.record("out", register, bytes(data))

    def _ask(self, request: bytes, length: int) -> bytes:
        """Send `request`; return the data of the answer, at most `length` bytes with its header. Raises OSError."""
        answered = b""
        with _translate_errors(self.options.port):
            self.bus.reset_input_buffer()
            self.bus.write(request)
        while chunk := self._hear(2 if not answered else length - len(answered)):
            answered += chunk
            if (found := protocol.reply(answered)) is not None:
                data, status = found
                if status != 1:
                    raise OSError(errno.EIO, protocol.REPLIES.get(status, f"status {status}"))
                return data
            if len(answered) >= length:
                break
        raise OSError(errno.EIO, "no answer")

    def _hear(self, length: int) -> bytes:
        with _translate_errors(self.options.port):
            return bytes(self.bus.read(length))


@contextmanager
def _translate_errors(port: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # termios has errors of its own kind
        raise DeviceError(f"{port} was unplugged") from error


def _pyserial() -> Any:
    """Import the library when it is first needed."""
    try:
        import serial
    except ImportError:
        raise MissingLibrary("pyserial") from None
    return serial
