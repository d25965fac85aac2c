"""The base of drivers for chips on an I2C or SPI bus. It opens the bus, polls the chip and notices a chip that is gone.

A driver derives from `I2cPoller` or `SpiPoller` and overrides `begin` and `sample`. It reaches the bus through smbus2
or spidev, or through any module with the same interface that the option ``library`` names, such as a virtual bus.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module, util
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta, field

from fixgw.database import FAIL
from fixgw.drivers.links.instrument import KEYS_OPTION, ChangesWithin, Keys
from fixgw.drivers.links.recorded import require
from fixgw.errors import DeviceError, MissingLibrary
from fixgw.kit import raw
from fixgw.kit.anonymous import PRIVATE
from fixgw.kit.publish import Publisher, check_changes, check_keys
from fixgw.kit.update import Update
from fixgw.plugin import Device, Feeds, Finding, Options, Poller, TypeVar

if TYPE_CHECKING:
    from fixgw.database import Database
    from fixgw.kit.anonymous import Shift

RETRY_S = 0.02  # the pause after a failed read
SLOW_S = 0.3  # a read that takes this long to fail means that the bus is stuck; do not try again
AGREE_TRIES = 4  # attempts to read the same answer twice in a row
NONSENSE_LIMIT_S = 1.0  # fail the keys when all readings have been refused for this long

#: The option of drivers that let the user choose other keys.
KeysOption = Annotated[Keys, KEYS_OPTION]
Rate = Annotated[float, Meta(gt=0.0, le=200.0, description="Readings per second")]


class ChipOptions(Options, frozen=True, kw_only=True):
    rate: Rate = 10.0
    changes_within: ChangesWithin = field(default_factory=dict)


ChipOptionsT = TypeVar("ChipOptionsT", bound=ChipOptions, default=ChipOptions)


class ChipPoller(Poller[ChipOptionsT]):
    """A plugin that polls a chip on its own thread. Override `connect`, `begin` and `sample`.

    ``polls`` counts the attempts to read. Each of them is also counted as ``used``, as a ``read error``, or under the
    name that `sample` returns.
    """

    reopen_delay_max: ClassVar[float] = 2.0
    #: After this many failed reads in a row, `RETRY_S` apart, the chip counts as gone.
    max_failures: ClassVar[int] = 3
    #: A sensor that repeats exactly the same raw reading for this many seconds counts as stuck; 0: never. For sensors
    #: whose readings always vary a little.
    stuck_after_s: ClassVar[float] = 0.0
    #: The keys that the driver may write.
    KEYS: ClassVar[frozenset[str]] = frozenset()
    #: The module that reaches the real bus, and the group that may use the bus. Our extra that installs the module has
    #: the same name as the group.
    LIBRARY: ClassVar[str] = ""
    GROUP: ClassVar[str] = ""
    replays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        self.publisher = Publisher(
            self, self.counts, self.complain, getattr(options, "keys", None), options.changes_within
        )
        self.counts.update({"polls": 0, "used": 0, "read errors": 0})
        #: The open bus; only the polling thread uses it.
        self.bus: Any = None
        self._raw = raw.Point()
        self._feed: raw.Feed | None = None
        self._opening: list[raw.Heard] | None = None  # the transfers so far, while the chip is being set up
        self._set_up: list[raw.Heard] = []  # those of the last time
        self._failures = 0
        self._due = 0.0
        self._nonsense = ""
        self._valid_at = 0.0
        self._last_raw = b""
        self._last_change = 0.0

    # -- to override ---------------------------------------------------------------------------------------------------

    def connect(self) -> Any:
        """Open the bus. Returns an object with a ``close()``. Raises OSError."""
        raise NotImplementedError

    def begin(self) -> None:
        """Check that the right chip is there, and set it up. Raises OSError."""

    def sample(self) -> str:
        """Read once and publish. Returns an empty string, or the counter to use if it refused the reading.

        Raises OSError.
        """
        raise NotImplementedError

    @property
    def place(self) -> str:
        """The bus and address of the chip, for people and for `claims`."""
        raise NotImplementedError

    @property
    def library(self) -> str:
        """The name of the module that reaches the bus."""
        raise NotImplementedError

    # -- for drivers to call -------------------------------------------------------------------------------------------

    def pause(self, seconds: float) -> None:
        """Wait for the chip to do its work, or until the plugin is stopped."""
        self.stopping.wait(seconds)

    def feeds(self) -> Iterable[str]:
        """The protocol's names of the keys that the driver writes with its present options."""
        return self.KEYS

    def fail_all(self, reason: str) -> None:
        """Fail all keys that the driver writes, even those that still have their initial value."""
        self.publisher.publish([Update(key, None, FAIL, reason) for key in self.feeds()])

    def require_change(self, raw: bytes) -> None:
        """Raise `DeviceError` if the sensor has repeated itself for `stuck_after_s`, even across a reopening."""
        now = self.clock()
        if raw != self._last_raw:
            self._last_raw, self._last_change = raw, now
        elif self.stuck_after_s and now - self._last_change > self.stuck_after_s:
            raise DeviceError(f"{self.place} is stuck: it keeps repeating the same reading")

    def record(self, direction: raw.Direction, register: int, data: bytes) -> None:
        """Pass what was read or written to the gateway's recorders."""
        if self._raw.taps or self._opening is not None:
            self._pass_on(direction, (register, data))

    def _pass_on(self, direction: raw.Direction, data: Any) -> None:
        heard = raw.Heard(self.name, self.clock(), direction, data)
        if self._opening is not None:
            self._opening.append(heard)
        if self._raw.taps:
            self._raw.pass_on(*heard)

    def record_failure(self, direction: raw.Direction, register: int, error: OSError) -> None:
        """Pass a failed transfer to the gateway's recorders."""
        if self._raw.taps or self._opening is not None:
            self._pass_on(direction, raw.Failure(register, error.errno or 0, str(error)))

    @property
    def replayed(self) -> bool:
        """Whether `take` and `give` replace transfers with the chip."""
        return self._feed is not None

    def take(self, register: int, length: int) -> bytes:
        """In a replay: the recorded answer. Raises OSError as recorded, or if there is none in this poll."""
        data: bytes = self._next_transfer("in", register, length)
        return data

    def give(self, register: int, data: bytes) -> None:
        """In a replay: write. Raises OSError as recorded."""
        assert self._feed is not None
        self._next_transfer("out", register, len(data))
        self._feed.sent((register, data))

    def _next_transfer(self, direction: raw.Direction, register: int, length: int) -> Any:
        assert self._feed is not None
        entries = self._feed.entries
        for number, heard in enumerate(entries):
            data = heard.data
            if heard.direction != direction or data[0] != register:
                continue
            if isinstance(data, raw.Failure):
                del entries[number]
                raise OSError(data.errno, data.text)
            if len(data[1]) == length:
                del entries[number]
                return data[1]
        if direction == "out":
            return b""
        raise OSError(errno.EIO, "the recording has no such answer")

    def module(self) -> Any:
        """Import the module that reaches the bus. Raises `MissingLibrary`."""
        name = self.library
        try:
            return import_module(name)
        except ImportError:
            raise MissingLibrary(name, self.GROUP if name == self.LIBRARY else "") from None

    # -- the contract --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._raw = raw.point(self.db)
        self._feed = self._raw.feed(self.name)
        if self._feed is None:
            self.module()
        super().run()

    @classmethod
    def check(cls, options: ChipOptionsT, db: Database) -> Iterable[tuple[str, str]]:
        yield from check_keys(getattr(options, "keys", {}), cls.KEYS, db)
        yield from check_changes(options.changes_within, cls.writes(options))

    @classmethod
    def writes(cls, options: ChipOptionsT) -> Iterable[str]:
        keys: Keys = getattr(options, "keys", {})
        return [name for key in cls.KEYS if (name := keys.get(key, key)) is not None]

    @classmethod
    def heard_as(cls, name: str, options: ChipOptionsT) -> Iterable[str]:
        return (name,)

    @classmethod
    def anonymise(
        cls, options: ChipOptionsT, entries: list[raw.Heard], shift: Shift, alone: bool
    ) -> list[raw.Heard] | None:
        return None if PRIVATE & {*cls.KEYS, *cls.writes(options)} else entries

    def lost(self, reason: str) -> None:
        self.fail_all(reason)

    def health(self) -> str:
        return super().health() or self._nonsense or self.publisher.trouble

    def get_status(self) -> Mapping[str, Any]:
        return {"device": self.place, **super().get_status()}

    def note_loss(self, reason: str) -> None:
        self._raw.lost("chip", self.name, self.clock(), reason)

    def facts(self) -> list[raw.Heard]:
        """What a recorder that joins later must know of the chip: how it was set up."""
        return list(self._set_up)

    def open(self) -> None:
        if self._feed is not None:
            require(self._feed)
        self._opening = []
        try:
            self.bus = self.connect() if self._feed is None else None
            self.begin()
            self._set_up = [*self._opening, raw.Heard(self.name, self.clock(), "in", raw.Event("chip", "opened"))]
        except DeviceError:
            raise
        except OSError as error:
            raise DeviceError(f"{self.place}: {self._describe(error)}") from error
        finally:
            self._opening = None
        self._raw.opened("chip", self.name, self.facts)
        self._failures = self.max_failures  # a chip that has never answered gets no second attempt
        self._due = self._valid_at = self.clock()

    def poll(self, timeout: float) -> None:
        wait = self._due - self.clock()
        if wait > 0.0:
            self.stopping.wait(min(wait, timeout))
        now = self.clock()
        if self._feed is not None:
            require(self._feed)
            if not self._feed.entries:
                return
        elif now < self._due or self.stopping.is_set():
            return
        self._due = max(self._due + 1.0 / self.options.rate, now)
        self.count("polls")
        try:
            outcome = self.sample()
            self._end_poll()
        except OSError as error:
            self._end_poll()
            self.count("read errors")
            self._failures += 1
            if isinstance(error, DeviceError):
                raise
            if self._failures >= self.max_failures or self.clock() - now > SLOW_S:
                raise DeviceError(f"{self.place}: {self._describe(error)}") from error
            self._due = min(self._due, now + RETRY_S)
            return
        self._failures = 0
        self._fail_lasting_nonsense(outcome, now)
        self.count(outcome or "used")

    def _end_poll(self) -> None:
        if self._raw.taps:
            self._raw.pass_on(self.name, self.clock(), "in", raw.POLLED)
        if self._feed is not None:
            self._feed.entries.clear()

    def _fail_lasting_nonsense(self, outcome: str, now: float) -> None:
        """Fail the keys after NONSENSE_LIMIT_S of refused readings: some of them never age."""
        if not outcome:
            self._valid_at, self._nonsense = now, ""
        elif not self._nonsense and now - self._valid_at > NONSENSE_LIMIT_S:
            self._nonsense = outcome
            self.fail_all(outcome)

    def close(self) -> None:
        bus, self.bus = self.bus, None
        if bus is not None:
            with suppress(Exception):  # an adapter that is gone may fail in many ways
                bus.close()
        if self.stopping.is_set():  # some keys never age
            self.lost("stopped")

    def _describe(self, error: OSError) -> str:
        if error.errno in (errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.ETIMEDOUT):
            return "no answer"
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return "no such bus (is it enabled? see raspi-config, Interface Options)"
        if error.errno == errno.EACCES:
            return f"permission denied (is the user in the group {self.GROUP!r}?)"
        return str(error) or type(error).__name__


# -- I2C ---------------------------------------------------------------------------------------------------------------

Address = Annotated[int, Meta(ge=0x08, le=0x77, description="Address on the bus, such as 0x28")]


class I2cOptions(ChipOptions, frozen=True, kw_only=True):
    bus: Annotated[int, Meta(ge=0, description="Number of the I2C bus: 1 is `/dev/i2c-1`")] = 1
    address: Address
    library: Annotated[
        str, Meta(min_length=1, description="Python module for the bus, with the interface of smbus2")
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
        """Read `length` bytes starting at `register`, in blocks of at most 32. Raises OSError."""
        if self._feed is not None:
            return self.take(register, length)
        data = b""
        try:
            while len(data) < length:
                block = min(length - len(data), 32)
                got = bytes(self.bus.read_i2c_block_data(self.options.address, register + len(data), block))
                if len(got) != block:
                    raise OSError(errno.EIO, "short answer")
                data += got
        except OSError as error:
            self.record_failure("in", register, error)
            raise
        self.record("in", register, data)
        return data

    def read_surely(self, register: int, length: int) -> bytes:
        """Like `read`, for registers that rarely change: read until two answers in a row agree.

        The bus has no checksum, and a wrong bit looks like a measurement. Raises OSError also if no two answers agree.
        """
        before = self.read(register, length)
        for _ in range(AGREE_TRIES):
            if (answer := self.read(register, length)) == before:
                return answer
            before = answer
        raise OSError(errno.EIO, "its answers do not agree")

    def write(self, register: int, *data: int) -> None:
        """Write bytes starting at `register`. Raises OSError."""
        if self._feed is not None:
            self.give(register, bytes(data))
            return
        try:
            self.bus.write_i2c_block_data(self.options.address, register, list(data))
        except OSError as error:
            self.record_failure("out", register, error)
            raise
        self.record("out", register, bytes(data))

    @classmethod
    def claims(cls, options: I2cOptionsT) -> Iterable[tuple[str, str]]:
        yield f"i2c-{options.bus} 0x{options.address:02x}", "address"

    @classmethod
    def preflight(cls, options: I2cOptionsT) -> Iterable[Device | Feeds | Finding]:
        yield from preflight(options.library, cls.LIBRARY, cls.GROUP)
        if options.library == cls.LIBRARY:
            yield Device(f"/dev/i2c-{options.bus}", "i2c", "sudo raspi-config nonint do_i2c 0")


# -- SPI ---------------------------------------------------------------------------------------------------------------


class SpiOptions(ChipOptions, frozen=True, kw_only=True):
    bus: Annotated[int, Meta(ge=0, description="Number of the SPI bus")] = 0
    device: Annotated[int, Meta(ge=0, description="Chip select: 0 on bus 0 is `/dev/spidev0.0`")] = 0
    speed: Annotated[int, Meta(ge=1000, le=32_000_000, description="Clock frequency of the bus in hertz")] = 1_000_000
    library: Annotated[
        str, Meta(min_length=1, description="Python module for the bus, with the interface of spidev")
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
        """Send `data` and return what the chip sends at the same time. Raises OSError."""
        register = int.from_bytes(bytes(data[:2]), "big") % raw.REGISTERS
        if self._feed is not None:
            return self.take(register, len(data))
        try:
            got = bytes(self.bus.xfer2(list(data)))
            if len(got) != len(data):
                raise OSError(errno.EIO, "short answer")
        except OSError as error:
            self.record_failure("in", register, error)
            raise
        self.record("in", register, got)
        return got

    @classmethod
    def claims(cls, options: SpiOptionsT) -> Iterable[tuple[str, str]]:
        yield f"spi-{options.bus}.{options.device}", "device"

    @classmethod
    def preflight(cls, options: SpiOptionsT) -> Iterable[Device | Feeds | Finding]:
        yield from preflight(options.library, cls.LIBRARY, cls.GROUP)
        if options.library == cls.LIBRARY:
            yield Device(f"/dev/spidev{options.bus}.{options.device}", "spi", "sudo raspi-config nonint do_spi 0")


def preflight(module: str, default: str, extra: str) -> Iterable[Finding]:
    """Report a library that is not installed; `extra` installs the `default` one. Imports nothing."""
    try:
        found = util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        error = MissingLibrary(module, extra if module == default else "")
        yield Finding("problem", f"{module} is not installed", error.fix)
