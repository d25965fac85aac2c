"""`ChildPoller`: a program that the driver runs as its child, and whose output it reads.

The child is started without a shell, and again with growing delays when it ends. What it writes to its standard error
is read, too, so that it cannot fill a pipe; the last of it says why the child ended.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from msgspec import Meta

from fixgw.clock import HoldUp
from fixgw.drivers.links.recorded import RecordedHoldUp, RecordedLine
from fixgw.errors import DeviceError
from fixgw.kit import raw
from fixgw.plugin import Device, Feeds, Finding, Options, Poller, TypeVar

if TYPE_CHECKING:
    from fixgw.kit.raw import Feed

CHUNK_BYTES = 4096
MAX_ERROR_TEXT, MAX_ERROR_CHUNKS = 300, 8
TERMINATE_S = 1.0  # how long a child may take to end before it is killed
FLUSH_S = 1.0  # the most time that discarding old output may take, after this process was held up


class ChildOptions(Options, frozen=True, kw_only=True):
    program: Annotated[str, Meta(min_length=1, description="Name or path of the program to run")]


OptionsT = TypeVar("OptionsT", bound=ChildOptions, default=ChildOptions)


class ChildPoller(Poller[OptionsT]):
    """Runs a program, and reads its standard output on the plugin's thread. Override `arguments` and `received`."""

    replays: ClassVar[bool] = True
    reopen_delay: ClassVar[float] = 1.0
    reopen_delay_max: ClassVar[float] = 30.0
    #: A child that ends within this many seconds has not started.
    settle_s: float = 0.5
    #: How to install the program, for people.
    PACKAGE: ClassVar[str] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.hold_up = HoldUp()
        self._child: subprocess.Popen[bytes] | None = None
        self._recorded: RecordedLine | None = None
        self._raw = raw.Point()
        self._feed: Feed | None = None
        self._error_text = ""  # the last that the child wrote to its standard error
        self._waiting = select.poll()
        self.counts["bytes"] = 0

    # -- to override ---------------------------------------------------------------------------------------------------

    def arguments(self) -> Sequence[str]:
        """The arguments of the program."""
        return ()

    def received(self, data: bytes, fresh: bool) -> None:
        """Process what the child has written: at least one byte, at most `CHUNK_BYTES`.

        If it is not `fresh`, it piled up while this process was held up, and must not be published.
        """
        raise NotImplementedError

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def heard_as(cls, name: str, options: OptionsT) -> Iterable[str]:
        return (name,)

    @classmethod
    def preflight(cls, options: OptionsT) -> Iterable[Device | Feeds | Finding]:
        if shutil.which(options.program) is None:
            fix = f"sudo apt install {cls.PACKAGE}" if cls.PACKAGE else ""
            yield Finding("problem", f"{options.program} is not installed", fix)

    def run(self) -> None:
        self._raw = raw.point(self.db)
        self._feed = self._raw.feed(self.name)
        super().run()

    def open(self) -> None:
        if self._feed is not None:
            self.hold_up = RecordedHoldUp(self._feed)
            self._recorded = RecordedLine(self._feed)
        else:
            self._start()
        self.hold_up.reset()
        self._raw.opened("serial", self.name, self._facts)

    def _start(self) -> None:
        # Only the service manager ends the child of a gateway that is killed. `setpriv --pdeathsig` would do it, too,
        # but calls capset, which the service may not.
        program = self.options.program
        self._error_text, self._error_rest = "", b""
        try:
            self._child = child = subprocess.Popen(
                [program, *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the gateway, which then ends its child
            )
        except FileNotFoundError:
            hint = f": sudo apt install {self.PACKAGE}" if self.PACKAGE else ""
            raise DeviceError(f"{program} is not installed{hint}") from None
        except OSError as error:
            raise DeviceError(f"{program}: {error.strerror or error}") from error
        assert child.stdout is not None
        assert child.stderr is not None
        self._waiting = select.poll()
        for stream in (child.stdout, child.stderr):
            os.set_blocking(stream.fileno(), False)
            self._waiting.register(stream.fileno(), select.POLLIN)
        output = select.poll()
        output.register(child.stdout.fileno(), select.POLLIN)
        if any(not event & select.POLLIN for _, event in output.poll(self.settle_s * 1000)):
            raise self._ended(child)  # without a word

    def poll(self, timeout: float) -> None:
        data = self._read(timeout)
        fresh = not self.hold_up.noticed(self.poll_timeout)
        deadline = self.hold_up.clock() + FLUSH_S
        while data:
            if self._raw.taps:
                self._raw.pass_on(self.name, self.clock(), "in" if fresh else "discarded", data)
            self.count("bytes" if fresh else "old bytes discarded", len(data))
            self.received(data, fresh)
            over = fresh or self.stopping.is_set() or self.hold_up.clock() > deadline
            data = b"" if over else self._read(0.0)
        if not fresh:
            self.hold_up.reset()

    def close(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        _signal(child, signal.SIGTERM)
        try:
            child.wait(TERMINATE_S)
        except subprocess.TimeoutExpired:
            self.count("killed")
            _signal(child, signal.SIGKILL)
            child.wait()
        for stream in (child.stdout, child.stderr):
            if stream is not None:
                stream.close()

    def note_loss(self, reason: str) -> None:
        self._raw.lost("serial", self.name, self.clock(), reason)

    def get_status(self) -> Mapping[str, Any]:
        child = self._child
        status = {"program": self.options.program, "process": None if child is None else child.pid}
        return {**status, **super().get_status(), "last words": self._error_text}

    # -- the child -----------------------------------------------------------------------------------------------------

    def _facts(self) -> list[raw.Heard]:
        return [raw.Heard(self.name, self.clock(), "in", raw.Event("serial", "opened"))]

    def _read(self, timeout: float) -> bytes:
        """What the child has written, waiting at most `timeout` seconds. Raises `DeviceError` when it has ended."""
        if self._recorded is not None:
            return self._recorded.read(CHUNK_BYTES)
        child = self._child
        if child is None:
            return b""
        assert child.stdout is not None
        self._waiting.poll(timeout * 1000)
        self._read_errors(child)
        try:
            data = os.read(child.stdout.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return b""
        if not data:  # it has closed its output
            raise self._ended(child)
        return data

    def _read_errors(self, child: subprocess.Popen[bytes]) -> None:
        """Read what the child complains about, and keep the last line that is not part of a list."""
        assert child.stderr is not None
        for _ in range(MAX_ERROR_CHUNKS):
            try:
                data = os.read(child.stderr.fileno(), CHUNK_BYTES)
            except BlockingIOError:
                return
            *lines, self._error_rest = (self._error_rest + data).split(b"\n")
            self._error_rest = self._error_rest[:CHUNK_BYTES]
            for line in lines:
                self.log.debug("%s", line[:MAX_ERROR_TEXT])
                if line[:1].isalnum():
                    self._error_text = line[:MAX_ERROR_TEXT].decode("utf-8", "replace").rstrip()
            if not data:  # nothing more will come
                with suppress(KeyError):
                    self._waiting.unregister(child.stderr.fileno())
                return

    def _ended(self, child: subprocess.Popen[bytes]) -> DeviceError:
        """Why there is no more output."""
        with suppress(subprocess.TimeoutExpired):
            child.wait(self.poll_timeout)
        self._read_errors(child)
        how = "has closed its output" if child.returncode is None else f"ended with code {child.returncode}"
        return DeviceError(f"{self.options.program} {how}" + (f": {self._error_text}" if self._error_text else ""))


def _signal(child: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the child and to what it has started itself, if it is a script."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
