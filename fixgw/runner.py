"""The life of one connection: a small state machine (`TRANSITIONS`), and the calls that may block.

What may block - a plugin's constructor, `run`, `stop` - runs on a thread of its own (`Task`) and is watched from
outside.
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from fixgw import loader, status
from fixgw.backoff import Backoff
from fixgw.configuration import Connection
from fixgw.database import Clock
from fixgw.errors import MissingLibrary, PluginFail
from fixgw.plugin import PluginBase
from fixgw.world import World

SLOW = 1.0  # a call that takes longer is reported by name
SILENT = 10.0  # a plugin that gives signs of life, and none for so long, is taken for hung
STATUS_TIMEOUT = 0.5  # for one plugin's get_status
#: What a plugin may raise in good order: a device or a library is not there. Its words suffice.
EXPECTED = (OSError, MissingLibrary)


class State(enum.Enum):
    """Where a connection is in its life."""

    LOADED = "loaded"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    WAITING = "waiting"
    STOPPING = "stopping"
    STOPPED = "stopped"


#: Every change of state there is, and what brings it about. The documentation's diagram is drawn from this table.
TRANSITIONS: dict[tuple[State, State], str] = {
    (State.LOADED, State.STARTING): "its turn in the configuration's order",
    (State.STARTING, State.RUNNING): "run() returned",
    (State.STARTING, State.FAILED): "run() raised, or did not return in time",
    (State.FAILED, State.RUNNING): "run() returned after all",
    (State.RUNNING, State.FAILED): "its thread died, or it stopped running",
    (State.FAILED, State.WAITING): "on_failure: restart, and what was left has been stopped",
    (State.WAITING, State.STARTING): "the delay is over",
    (State.LOADED, State.STOPPING): "stop",
    (State.STARTING, State.STOPPING): "stop",
    (State.RUNNING, State.STOPPING): "stop, or its options changed",
    (State.FAILED, State.STOPPING): "stop",
    (State.WAITING, State.STOPPING): "stop",
    (State.STOPPING, State.STOPPED): "stop() returned, or took too long",
}


class Task:
    """One call that may block, on a thread of its own."""

    def __init__(
        self, name: str, kind: str, function: Callable[[], None], clock: Clock, done: Callable[[], None]
    ) -> None:
        self.kind = kind
        self.error: BaseException | None = None
        self.since = clock()
        self._function = function
        self._done = done
        self.thread = threading.Thread(target=self._run, name=f"{name}: {kind}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # SystemExit in somebody's run() is a failure like any other
            self.error = error
        self._done()

    @property
    def finished(self) -> bool:
        return not self.thread.is_alive()


class Runner:
    """The life of one connection. `poke` is called from worker threads when there is something to look at."""

    def __init__(self, connection: Connection, world: World, clock: Clock, poke: Callable[[], None]) -> None:
        self.connection = connection
        self.world = world
        self.name = connection.name
        self.state = State.LOADED
        self.reason = ""
        self.restarts = 0
        self.since = clock()
        self.plugin: PluginBase | None = None
        self.hung: list[str] = []
        self._crash: tuple[PluginBase | None, str] = (None, "")
        self._clock = clock
        self._poke = poke
        self._task: Task | None = None
        self._warned = False
        self._due = 0.0
        self._backoff = Backoff(connection.restart_delay, connection.restart_delay_max)
        self._status_thread: threading.Thread | None = None
        self._status: dict[str, Any] = {}
        self.log = logging.getLogger(f"fixgw.plugins.{self.name}")

    def _enter(self, state: State, reason: str = "") -> None:
        if (self.state, state) not in TRANSITIONS:
            raise RuntimeError(f"{self.name}: {self.state.value} to {state.value} is no transition")
        self.state = state
        self.reason = reason
        self.since = self._clock()

    def _begin(self, kind: str, function: Callable[[], None]) -> Task:
        self._warned = False
        self._task = Task(self.name, kind, function, self._clock, self._poke)
        return self._task

    # -- starting ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to start; `tick` sees the end of it."""
        self._enter(State.STARTING)
        self._begin("run", self._start)

    def _start(self) -> None:
        self._clear_away()  # what an earlier attempt to stop left
        connection = self.connection
        with self.world.hosting():
            plugin = loader.make_plugin(connection.plugin, self.name, dict(connection.options), connection.meta)
        plugin.source = connection.source
        self.plugin = plugin
        plugin.start()

    def _shut_down(self) -> None:
        plugin = self.plugin
        if plugin is not None:
            plugin.shutdown()
            self.plugin = None

    def _clear_away(self) -> None:
        """Stop a plugin that has failed. Its stop() may trip over what run() never made, or over a device that is
        gone; that is no reason to keep it when nothing of it runs any more."""
        try:
            self._shut_down()
        except Exception as error:
            plugin = self.plugin
            if plugin is None or isinstance(error, PluginFail) or any(t.is_alive() for t in threads_of(plugin)):
                raise
            self.log.warning("stop() of %s, which had failed, raised %r", self.name, error)
            self.plugin = None

    # -- supervision ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at the connection, and take it a step further."""
        now = self._clock()
        task = self._task
        if self.state is State.STARTING and task is not None:
            if task.finished:
                self._task = None
                if task.error is None:
                    self._enter(State.RUNNING)
                else:
                    self._fail(_words(task.error, "run()"), task.error)
            elif now - task.since > self.connection.start_timeout:
                self._fail(f"run() has not returned within {self.connection.start_timeout:g} s")
            elif now - task.since > SLOW and not self._warned:
                self._warned = True
                self.reason = "run() is taking its time"
                self.log.warning("run() of %s has not returned after %g s", self.name, SLOW)
        elif self.state is State.RUNNING:
            reason = self._death()
            if reason:
                self._fail(reason)
            elif self.restarts and now - self.since > self.connection.restart_delay_max:
                self._backoff.reset()
        elif self.state is State.FAILED:
            self._tick_failed(task, now)
        elif self.state is State.WAITING and now >= self._due:
            self.restarts += 1
            self.start()

    def _tick_failed(self, task: Task | None, now: float) -> None:
        if task is not None and not task.finished:
            return
        self._task = None
        if task is not None and task.kind == "run" and task.error is None:
            self.log.warning("run() of %s returned after all", self.name)
            self._enter(State.RUNNING)
        elif self.connection.on_failure == "restart":
            if task is None or task.kind == "run":
                self._begin("stop", self._clear_away)
                return
            reason = self.reason
            if task.error is not None:
                reason += f"; {_words(task.error, 'stop()')}"
            delay = self._backoff.next()
            self._due = now + delay
            self._enter(State.WAITING, reason)
            self.log.info("%s starts again in %g s", self.name, delay)

    def _fail(self, reason: str, error: BaseException | None = None) -> None:
        self._enter(State.FAILED, reason)
        expected = error is None or isinstance(error, EXPECTED)
        self.log.error("%s failed: %s", self.name, reason, exc_info=None if expected else error)

    def crashed(self, plugin: PluginBase, error: str) -> None:
        """A thread of `plugin` has ended with an exception. Any thread."""
        self._crash = plugin, error

    def _death(self) -> str:
        """Why a running plugin is dead; empty while it lives."""
        plugin = self.plugin
        assert plugin is not None
        victim, error = self._crash
        if victim is plugin:
            return f"its thread died: {error}"
        threads = list(threads_of(plugin))
        if not plugin.running:  # a dying thread may say so before its exception arrives here
            return _health(plugin) or "it stopped running"
        if threads and not any(t.is_alive() for t in threads):
            started = [t for t in threads if t.ident is not None]
            return "its thread ended" if started else ""
        return ""

    @property
    def settled(self) -> bool:
        """True when the start has been decided, one way or the other."""
        return self.state is not State.STARTING

    def signs_of_life(self, now: float) -> str:
        """Empty, or why this connection must be taken for hung."""
        last = getattr(self.plugin, "alive", None)
        if self.state is State.RUNNING and last is not None and now - last > SILENT:
            return f"no sign of life for {now - last:.0f} s"
        return ""

    # -- stopping ------------------------------------------------------------------------------------------------------

    def stop(self, timeout: float) -> None:
        """Stop within `timeout` seconds; what could not be stopped is in `hung` afterwards."""
        if self.state in (State.STOPPED, State.STOPPING):
            return
        earlier = self._task
        shut_down = self._clear_away if self.state in (State.FAILED, State.WAITING) else self._shut_down
        self._enter(State.STOPPING, self.reason)
        if earlier is not None:
            earlier.thread.join(min(timeout, 1.0))
        if earlier is not None and not earlier.finished and earlier.kind == "stop":
            self.hung.append("stop() has not returned")
        else:
            task = self._begin("stop", shut_down)
            task.thread.join(timeout)
            if not task.finished:
                self.hung.append(f"stop() has not returned within {timeout:g} s")
            elif task.error is not None:
                self.hung.append(_words(task.error, "stop()"))
            if earlier is not None and not earlier.finished:
                self.hung.append("run() has not returned")
        for reason in self.hung:
            self.log.error("%s: %s", self.name, reason)
        self._task = None
        self._enter(State.STOPPED, "; ".join(self.hung))

    # -- status --------------------------------------------------------------------------------------------------------

    def health(self) -> str:
        """Empty when all is well; otherwise what is not. Any thread."""
        if self.state is not State.RUNNING:
            return f"{self.state.value}: {self.reason}" if self.reason else str(self.state.value)
        return self.signs_of_life(self._clock()) or _health(self.plugin)

    def report(self) -> dict[str, Any]:
        """This connection's part of the status tree. Any thread; bounded in time whatever the plugin does."""
        now = self._clock()
        plugin = self.plugin
        health = self.health()
        return {
            "module": self.connection.module,
            "state": self.state.value,
            "for": round(now - self.since, 1),
            "running": plugin is not None and bool(plugin.running),
            "health": health or "ok",
            "reason": self.reason,
            "restarts": self.restarts,
            "next start in": round(max(0.0, self._due - now), 1) if self.state is State.WAITING else None,
            "status": self._plugin_status(),
        }

    def _plugin_status(self) -> dict[str, Any]:
        thread = self._status_thread
        if thread is None or not thread.is_alive():
            thread = self._status_thread = threading.Thread(target=self._ask, name=f"{self.name}: status", daemon=True)
            thread.start()
        thread.join(STATUS_TIMEOUT)
        if thread.is_alive():
            return {"unavailable": "get_status() has not returned", **self._status}
        return self._status

    def _ask(self) -> None:
        plugin = self.plugin
        try:
            answer = status.plain(plugin.get_status()) if plugin is not None else {}
            self._status = answer if isinstance(answer, dict) else {"status": answer}
        except BaseException as error:
            self._status = {"unavailable": _words(error, "get_status()")}


def _words(error: BaseException, what: str) -> str:
    """`error` as one sentence about `what`."""
    text = " ".join(str(error).split())
    if isinstance(error, EXPECTED):
        return text or type(error).__name__
    name = type(error).__name__
    return f"{what} raised {name}: {text}" if text else f"{what} raised {name}"


def _health(plugin: PluginBase | None) -> str:
    try:
        return str(plugin.health()) if plugin is not None else ""
    except BaseException as error:
        return f"health() raised {error!r}"


def threads_of(plugin: PluginBase) -> Iterator[threading.Thread]:
    """The threads that a plugin keeps: as attributes, alone or in lists and mappings, its own or those of objects of
    its own code; timers end by design."""
    home = type(plugin).__module__
    for value in _kept_by(plugin):
        threads = _kept_by(value) if f"{type(value).__module__}.".startswith(f"{home}.") else ()
        for thread in (value, *threads):
            if isinstance(thread, threading.Thread) and not isinstance(thread, threading.Timer):
                yield thread


def _kept_by(thing: Any) -> Iterator[Any]:
    for value in list(getattr(thing, "__dict__", {}).values()):
        if isinstance(value, dict):
            yield from list(value.values())
        elif isinstance(value, (list, tuple, set)):
            yield from list(value)
        else:
            yield value


def concerns(frame: FrameType, plugin: PluginBase) -> bool:
    """Whether `plugin`, or something that keeps it, is at work in `frame`."""
    values = list(frame.f_locals.values())
    return any(v is plugin for v in values) or any(v is plugin for value in values for v in _kept_by(value))
