"""What drivers for chips on an I2C or SPI bus have in common: open the bus, poll at a rate, notice a chip that is gone.

A driver derives from `I2cPoller` or `SpiPoller` and overrides `begin` and `sample`. The bus is reached through smbus2
or spidev, or through any module with the same interface that the option ``library`` names: a virtual bus, for instance.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module, util
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from fixgw.database import FAIL
from fixgw.drivers.links.instrument import KEYS_OPTION, Keys
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.kit import raw
from fixgw.kit.publish import Publisher, check_keys
from fixgw.kit.update import Update
from fixgw.plugin import Device, Feeds, Finding, Options, Poller, TypeVar

if TYPE_CHECKING:
    from fixgw.database import Database

RETRY_S = 0.02  # after a failed read
SLOW_S = 0.3  # for a failed read, after which the bus is taken for stuck: each more would last as long
NONSENSE_LIMIT_S = 1.0  # of readings that are all refused

#: The option of drivers that write keys of their own choice.
KeysOption = Annotated[Keys, KEYS_OPTION]
Rate = Annotated[float, Meta(gt=0.0, le=200.0, description="Readings a second")]


class ChipOptions(Options, frozen=True, kw_only=True):
    rate: Rate = 10.0


ChipOptionsT = TypeVar("ChipOptionsT", bound=ChipOptions, default=ChipOptions)


class ChipPoller(Poller[ChipOptionsT]):
    """A plugin that polls a chip on a thread of its own. Override `connect`, `begin` and `sample`.

    ``polls`` counts the readings that were tried: they are ``used``, ``read errors``, or what `sample` calls them.
    """

    reopen_delay_max: ClassVar[float] = 2.0
    #: Failed readings in a row, `RETRY_S` apart, after which the chip is taken for gone.
    strikes: ClassVar[int] = 3
    #: Seconds of the very same raw reading after which a sensor that is never quite still is taken for stuck; 0: never.
    stuck_after: ClassVar[float] = 0.0
    #: The keys that the driver may write.
    KEYS: ClassVar[frozenset[str]] = frozenset()
    #: The module that reaches the real bus, and the name of the extra that brings it and of the group that may use it.
    LIBRARY: ClassVar[str] = ""
    GROUP: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.publisher = Publisher(self, self.counts, self.complain, getattr(self.options, "keys", None))
        self.counts.update({"polls": 0, "used": 0, "read errors": 0})
        #: What is open; the polling thread's.
        self.bus: Any = None
        self._raw = raw.Point()
        self._failures = 0
        self._due = 0.0
        self._nonsense = ""
        self._sound = 0.0
        self._last_raw = b""
        self._last_change = 0.0

    # -- to override ---------------------------------------------------------------------------------------------------

    def connect(self) -> Any:
        """Open the bus; what comes back has a ``close()``. Raises OSError."""
        raise NotImplementedError

    def begin(self) -> None:
        """Make sure that the right chip is there, and set it up. Raises OSError."""

    def sample(self) -> str:
        """Read once and publish; empty when all is well, otherwise the counter of what was refused. Raises OSError."""
        raise NotImplementedError

    @property
    def place(self) -> str:
        """Where the chip is, for people and for `claims`."""
        raise NotImplementedError

    @property
    def library(self) -> str:
        """The name of the module that reaches the bus."""
        raise NotImplementedError

    # -- what is there for the driver ----------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Let the chip do its work; a stop ends it."""
        self.stopping.wait(seconds)

    def feeds(self) -> Iterable[str]:
        """What it writes as it is configured, by the protocol's names."""
        return self.KEYS

    def fail_all(self, reason: str) -> None:
        """Fail what it writes, also what has only had its initial value so far."""
        self.publisher.publish([Update(key, None, FAIL, reason) for key in self.feeds()])

    def watch(self, raw: bytes) -> None:
        """Raises `DeviceError` while the sensor repeats itself, also after it has been opened again."""
        now = self.clock()
        if raw != self._last_raw:
            self._last_raw, self._last_change = raw, now
        elif self.stuck_after and now - self._last_change > self.stuck_after:
            raise DeviceError(f"{self.place} is stuck: it repeats the same reading")

    def record(self, direction: raw.Direction, register: int, data: bytes) -> None:
        """Tell the gateway's recorders what was read or written."""
        if self._raw.taps:
            self._raw.pass_on(self.name, self.clock(), direction, (register, data))

    def module(self) -> Any:
        """The module that reaches the bus, imported when it is first needed. Raises `MissingLibrary`."""
        name = self.library
        try:
            return import_module(name)
        except ImportError:
            raise MissingLibrary(name, self.GROUP if name == self.LIBRARY else "") from None

    # -- the contract --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.module()
        self._raw = raw.point(self.db)
        super().run()

    @classmethod
    def check(cls, options: ChipOptionsT, db: Database) -> Iterable[tuple[str, str]]:
        yield from check_keys(getattr(options, "keys", {}), cls.KEYS, db)

    def lost(self, reason: str) -> None:
        self.fail_all(reason)

    def health(self) -> str:
        return super().health() or self._nonsense

    def get_status(self) -> Mapping[str, Any]:
        return {"device": self.place, **super().get_status()}

    def open(self) -> None:
        try:
            self.bus = self.connect()
            self.begin()
        except DeviceError:
            raise
        except OSError as error:
            raise DeviceError(f"{self.place}: {self._in_words(error)}") from error
        self._failures = self.strikes - 1  # no patience with a chip that has not answered once
        self._due = self._sound = self.clock()

    def poll(self, timeout: float) -> None:
        wait = self._due - self.clock()
        if wait > 0.0:
            self.stopping.wait(min(wait, timeout))
        now = self.clock()
        if now < self._due or self.stopping.is_set():
            return
        self._due = max(self._due + 1.0 / self.options.rate, now)
        self.count("polls")
        try:
            outcome = self.sample()
        except OSError as error:
            self.count("read errors")
            self._failures += 1
            if isinstance(error, DeviceError):
                raise
            if self._failures >= self.strikes or self.clock() - now > SLOW_S:
                raise DeviceError(f"{self.place}: {self._in_words(error)}") from error
            self._due = min(self._due, now + RETRY_S)
            return
        self._failures = 0
        self._judge(outcome, now)
        self.count(outcome or "used")

    def _judge(self, outcome: str, now: float) -> None:
        """What has long been nonsense fails its keys, for not all of them age."""
        if not outcome:
            self._sound, self._nonsense = now, ""
        elif not self._nonsense and now - self._sound > NONSENSE_LIMIT_S:
            self._nonsense = outcome
            self.fail_all(outcome)

    def close(self) -> None:
        bus, self.bus = self.bus, None
        if bus is not None:
            with suppress(Exception):  # a vanished adapter may fail in many ways, and is gone anyway
                bus.close()
        if self.stopping.is_set():  # not all keys age
            self.lost("stopped")

    def _in_words(self, error: OSError) -> str:
        if error.errno in (errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.ETIMEDOUT):
            return "no answer"
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return "no such bus (is it switched on? see raspi-config, Interface Options)"
        if error.errno == errno.EACCES:
            return f"permission denied (is the user in the group {self.GROUP!r}?)"
        return str(error) or type(error).__name__


# -- I2C ---------------------------------------------------------------------------------------------------------------

Address = Annotated[int, Meta(ge=0x08, le=0x77, description="Address on the bus, such as 0x28")]


class I2cOptions(ChipOptions, frozen=True, kw_only=True):
    bus: Annotated[int, Meta(ge=0, description="Number of the I2C bus: 1 is `/dev/i2c-1`")] = 1
    address: Address
    library: Annotated[
        str, Meta(min_length=1, description="Python module that reaches the bus, with the interface of smbus2")
    ] = "smbus2"


I2cOptionsT = TypeVar("I2cOptionsT", bound=I2cOptions, default=I2cOptions)


class I2cPoller(ChipPoller[I2cOptionsT]):
    """A plugin that polls one chip on an I2C bus."""

    LIBRARY: ClassVar[str] = "smbus2"
    GROUP: ClassVar[str] = "i2c"

    @property
    def place(self) -> str:
        return f"i2c-{self.options.bus} 0x{self.options.address:02x}"

    @property
    def library(self) -> str:
        return self.options.library

    def connect(self) -> Any:
        return self.module().SMBus(self.options.bus)

    def read(self, register: int, length: int) -> bytes:
        """`length` bytes from `register` on, in blocks of at most 32. Raises OSError."""
        data = b""
        while len(data) < length:
            block = min(length - len(data), 32)
            got = bytes(self.bus.read_i2c_block_data(self.options.address, register + len(data), block))
            if len(got) != block:
                raise OSError(errno.EIO, "short answer")
            data += got
        self.record("in", register, data)
        return data

    def write(self, register: int, *data: int) -> None:
        """Write bytes from `register` on. Raises OSError."""
        self.bus.write_i2c_block_data(self.options.address, register, list(data))
        self.record("out", register, bytes(data))

    @classmethod
    def claims(cls, options: I2cOptionsT) -> Iterable[tuple[str, str]]:
        yield f"i2c-{options.bus} 0x{options.address:02x}", "address"

    @classmethod
    def preflight(cls, options: I2cOptionsT) -> Iterable[Device | Feeds | Finding]:
        yield from needs(options.library, cls.LIBRARY, cls.GROUP)
        if options.library == cls.LIBRARY:
            yield Device(f"/dev/i2c-{options.bus}", "i2c", "sudo raspi-config nonint do_i2c 0")


# -- SPI ---------------------------------------------------------------------------------------------------------------


class SpiOptions(ChipOptions, frozen=True, kw_only=True):
    bus: Annotated[int, Meta(ge=0, description="Number of the SPI bus")] = 0
    device: Annotated[int, Meta(ge=0, description="Chip select: 0 on bus 0 is `/dev/spidev0.0`")] = 0
    speed: Annotated[int, Meta(ge=1000, le=32_000_000, description="Clock of the bus in hertz")] = 1_000_000
    library: Annotated[
        str, Meta(min_length=1, description="Python module that reaches the bus, with the interface of spidev")
    ] = "spidev"


SpiOptionsT = TypeVar("SpiOptionsT", bound=SpiOptions, default=SpiOptions)


class SpiPoller(ChipPoller[SpiOptionsT]):
    """A plugin that polls one chip on an SPI bus, mode 0."""

    LIBRARY: ClassVar[str] = "spidev"
    GROUP: ClassVar[str] = "spi"

    @property
    def place(self) -> str:
        return f"spi-{self.options.bus}.{self.options.device}"

    @property
    def library(self) -> str:
        return self.options.library

    def connect(self) -> Any:
        spi = self.module().SpiDev()
        spi.open(self.options.bus, self.options.device)
        spi.max_speed_hz = self.options.speed
        spi.mode = 0
        return spi

    def transfer(self, data: Sequence[int]) -> bytes:
        """What the chip says while it hears `data`. Raises OSError."""
        got = bytes(self.bus.xfer2(list(data)))
        if len(got) != len(data):
            raise OSError(errno.EIO, "short answer")
        self.record("in", data[0], got)
        return got

    @classmethod
    def claims(cls, options: SpiOptionsT) -> Iterable[tuple[str, str]]:
        yield f"spi-{options.bus}.{options.device}", "device"

    @classmethod
    def preflight(cls, options: SpiOptionsT) -> Iterable[Device | Feeds | Finding]:
        yield from needs(options.library, cls.LIBRARY, cls.GROUP)
        if options.library == cls.LIBRARY:
            yield Device(f"/dev/spidev{options.bus}.{options.device}", "spi", "sudo raspi-config nonint do_spi 0")


def needs(module: str, usual: str, extra: str) -> Iterable[Finding]:
    """What `fixgw doctor` should say about a library that is not there; imports nothing."""
    try:
        found = util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        error = MissingLibrary(module, extra if module == usual else "")
        yield Finding("problem", f"{module} is not installed", str(error).partition(": ")[2])
