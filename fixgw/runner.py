"""The life of one connection: a small state machine (`TRANSITIONS`), and the calls that may block.

Calls that may block - importing a plugin's code, its constructor, `run` and `stop` - run on separate threads (`Task`),
and the supervision watches them. `health` and `get_status`, which are called repeatedly, must not block. Each of these
calls has its own thread too, and if it does not return, the last answer is used (`Question`).
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Generic, TypeVar

from fixgw import loader, status
from fixgw.backoff import Backoff
from fixgw.configuration import Connection
from fixgw.database import Clock
from fixgw.errors import BadModule, BadPlugin, MissingLibrary, PluginFail, counted
from fixgw.frames import frames_of_threads
from fixgw.kit.options import convert
from fixgw.plugin import CONFIGPATH, Feeds, PluginBase, Worker
from fixgw.world import World

SLOW_S = 1.0  # report a call that takes longer
SILENT_S = 10.0  # a plugin that gives signs of life counts as hung after this long without one
SURE_S = 2.0  # and is still silent so much later: after a hold-up of the process, nobody has given a sign for a while
ANSWER_TIMEOUT_S = 0.5  # for one plugin's get_status or health
MOST_THREADS = 256  # a plugin's collection with more members holds values, not threads
THREADS_GRACE_S = 1.0  # a plugin's threads must end this soon after stop() has returned
#: Errors that need no traceback: a device or a library is missing, or the author of the plugin has to change it.
EXPECTED = (OSError, MissingLibrary, BadModule, BadPlugin)

T = TypeVar("T")


class State(enum.Enum):
    """The states of a connection."""

    LOADED = "loaded"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    WAITING = "waiting"
    STOPPING = "stopping"
    STOPPED = "stopped"


#: All changes of state, and what causes them. The diagram in the documentation is drawn from this table.
TRANSITIONS: dict[tuple[State, State], str] = {
    (State.LOADED, State.STARTING): "its turn in the configuration's order",
    (State.STARTING, State.RUNNING): "run() returned",
    (State.STARTING, State.FAILED): "run() raised, or did not return in time",
    (State.FAILED, State.RUNNING): "run() returned after all",
    (State.RUNNING, State.FAILED): "its thread died, or it stopped running",
    (State.FAILED, State.WAITING): "on_failure: restart, and stop() has cleaned up",
    (State.WAITING, State.STARTING): "the delay is over",
    (State.LOADED, State.STOPPING): "stop",
    (State.STARTING, State.STOPPING): "stop",
    (State.RUNNING, State.STOPPING): "stop, its options changed, or it called done()",
    (State.FAILED, State.STOPPING): "stop",
    (State.WAITING, State.STOPPING): "stop",
    (State.STOPPING, State.STOPPED): "stop() returned, or took too long",
}


class _Call(threading.Thread):
    """A thread of the gateway that calls a plugin. It does not belong to the plugin."""


class Question(Generic[T]):
    """A call to a plugin that is repeated, but never waits long. `answer` is the last result."""

    def __init__(self, name: str, ask: Callable[[], T], answer: T) -> None:
        self.answer = answer
        self._name = name
        self._ask = ask
        self._thread: threading.Thread | None = None

    def ask(self, patience: float = ANSWER_TIMEOUT_S) -> bool:
        """Call the plugin, and wait at most `patience` seconds. Returns False if it takes longer; `answer` is then old.

        Does not wait again for an earlier call that has not returned in time. Any thread may call this.
        """
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._since = time.monotonic()
            thread = self._thread = _Call(target=self._work, name=self._name, daemon=True)
            thread.start()
        thread.join(max(0.0, min(patience, self._since + ANSWER_TIMEOUT_S - time.monotonic())))
        return not thread.is_alive() or time.monotonic() - self._since < ANSWER_TIMEOUT_S

    @property
    def fresh(self) -> bool:
        """Whether no call is under way: `answer` is that of the last one."""
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        self.answer = self._ask()


class Task:
    """A call that may block, on a separate thread."""

    def __init__(
        self, name: str, kind: str, function: Callable[[], None], clock: Clock, done: Callable[[], None]
    ) -> None:
        self.kind = kind
        self.error: BaseException | None = None
        self.since = clock()
        self._function = function
        self._done = done
        self.thread = _Call(target=self._run, name=f"{name}: {kind}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:  # SystemExit in a plugin's run() is a failure like any other
            self.error = error
        self._done()

    @property
    def finished(self) -> bool:
        return not self.thread.is_alive()


class Runner:
    """The life of one connection. Worker threads call `poke` when there is something to check."""

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
        self._silent_at: float | None = None  # since when the plugin counts as hung; infinity: that is dealt with
        self._clock = clock
        self._poke = poke
        self._task: Task | None = None
        self._called: str  # what the present start calls
        self._due: float  # when it is started again
        self._backoff = Backoff(connection.restart_delay, connection.restart_delay_max)
        self._health = Question(f"{self.name}: health", lambda: _health(self.plugin), "")
        self._status: Question[tuple[dict[str, Any], float]] = Question(
            f"{self.name}: status", self._collect_status, ({}, 0.0)
        )
        self._during: weakref.WeakSet[threading.Thread] = weakref.WeakSet()  # threads that were started during run()
        self.log = logging.getLogger(f"fixgw.plugins.{self.name}")

    def _enter(self, state: State, reason: str = "") -> None:
        if (self.state, state) not in TRANSITIONS:
            raise RuntimeError(f"{self.name}: {self.state.value} to {state.value} is not an allowed transition")
        self.state = state
        self.reason = reason
        self.since = self._clock()

    def _begin(self, kind: str, function: Callable[[], None]) -> Task:
        self._warned = False
        self._task = Task(self.name, kind, function, self._clock, self._poke)
        return self._task

    # -- starting ------------------------------------------------------------------------------------------------------

    def start(self, fresh_code: bool = False) -> None:
        """Begin to start. `tick` notices when that is done. With `fresh_code`, first reloads the plugin's code."""
        self._enter(State.STARTING)
        self._called = "stop()"
        self._begin("run", partial(self._start, fresh_code))

    def _start(self, fresh_code: bool) -> None:
        self._clean_up()  # after an earlier attempt to stop
        self._called = "its constructor"
        if fresh_code:
            self.connection = dataclasses.replace(self.connection, plugin=loader.reload_plugin(self.connection.plugin))
        connection = self.connection
        self.world.database.feeders[self.name] = fed_keys(connection)
        before = threading.enumerate()
        with self.world.hosting():
            plugin = loader.make_plugin(connection.plugin, self.name, dict(connection.options), connection.meta)
        plugin.source = connection.source
        self.plugin = plugin
        _alive[:] = [ref for ref in _alive if ref() is not None] + [weakref.ref(plugin)]
        self._called = "run()"
        try:
            plugin.start()
        finally:
            self._during = weakref.WeakSet(t for t in threading.enumerate() if t not in before)

    def _shut_down(self) -> None:
        plugin = self.plugin
        if plugin is not None:
            try:
                plugin.shutdown()
                left = self._threads_left(plugin)
                if left:
                    names = ", ".join(sorted(t.name for t in left)[:5])
                    raise PluginFail(f"stop() has returned, but {counted(len(left), 'thread')} still running: {names}")
            finally:
                self._release()
            self.plugin = None
            _alive[:] = [ref for ref in _alive if ref() not in (None, plugin)]

    def _release(self) -> None:
        """Make old what the plugin wrote and would never age, release the annunciate flags that it holds, and withdraw
        its notices and commands."""
        plugin = self.plugin
        if plugin is None or plugin.done_with is None:  # otherwise it has said its last word
            self._disown("has failed" if self.state is State.FAILED else "has stopped")
        self.world.database.release(self.name, self.connection.source)
        self.world.notices.clear(self.name)
        self.world.withdraw(self.name)

    def _disown(self, why: str) -> None:
        self.world.database.disown(self.connection.source, f"{self.name} {why}")

    def _threads_left(self, plugin: PluginBase) -> list[threading.Thread]:
        """The threads of `plugin` that are still running `THREADS_GRACE_S` after its stop."""
        deadline = time.monotonic() + THREADS_GRACE_S
        while left := threads_at_work(plugin, self._during):
            if time.monotonic() > deadline:
                return left
            left.pop().join(0.05)
        return []

    def _clean_up(self) -> None:
        """Stop a plugin that has failed.

        Its stop() may raise because run() did not get far enough, or because a device is gone. That is no reason to
        keep the plugin if none of its threads is still running.
        """
        try:
            self._shut_down()
        except Exception as error:
            plugin = self.plugin
            if plugin is None or isinstance(error, PluginFail) or any(t.is_alive() for t in threads_of(plugin)):
                raise
            self.log.warning("stop() of %s raised %r after the plugin had failed", self.name, error)
            self.plugin = None

    # -- supervision ---------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Check the connection, and change its state if necessary."""
        now = self._clock()
        task = self._task
        if self.state is State.STARTING and task is not None:
            if task.finished:
                self._task = None
                if task.error is None:
                    self._enter(State.RUNNING)
                else:
                    self._fail(_describe(task.error, self._called), task.error)
            elif now - task.since > self.connection.start_timeout:
                self._fail(f"{self._called} has not returned within {self.connection.start_timeout:g} s")
            elif now - task.since > SLOW_S and not self._warned:
                self._warned = True
                self.reason = f"{self._called} is slow"
                self.log.warning("%s: %s has not returned after %g s", self.name, self._called, SLOW_S)
        elif self.state is State.RUNNING:
            plugin = self.plugin
            if plugin is not None and plugin.done_with is not None:
                self._enter(State.STOPPING, f"done: {plugin.done_with}")
                self._begin("stop", self._clean_up)
                self.log.info("%s is done: %s", self.name, plugin.done_with)
            elif reason := self._find_death():
                self._fail(reason)
            else:
                self._look_for_life(now)
                if now - self.since > self.connection.restart_delay_max:
                    self._backoff.reset()
        elif self.state is State.STOPPING and task is not None:
            if task.finished or now - task.since > self.connection.stop_timeout:
                self._end_stop(task)
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
                self._begin("stop", self._clean_up)
                return
            reason = self.reason
            if task.error is not None:
                reason += f"; {_describe(task.error, 'stop()')}"
            delay = self._backoff.next()
            self._due = now + delay
            self._enter(State.WAITING, reason)
            self.log.info("restarting %s in %g s", self.name, delay)

    def _look_for_life(self, now: float) -> None:
        """Make old what a plugin that hangs wrote and would never age."""
        if not self.signs_of_life(now):
            self._silent_at = None
        elif self._silent_at is None:
            self._silent_at = now
        elif now - self._silent_at > SURE_S:
            self._silent_at = float("inf")
            _Call(target=self._disown, args=("hangs",), name=f"{self.name}: disown", daemon=True).start()

    def _fail(self, reason: str, error: BaseException | None = None) -> None:
        self._enter(State.FAILED, reason)
        expected = error is None or isinstance(error, EXPECTED)
        self.log.error("%s failed: %s", self.name, reason, exc_info=None if expected else error)
        # This notifies subscribers, which may hang.
        _Call(target=self._release, name=f"{self.name}: release", daemon=True).start()

    def crashed(self, plugin: PluginBase, error: str) -> None:
        """Note that a thread of `plugin` has ended with an exception. Any thread may call this."""
        self._crash = plugin, f"its thread died: {error}"

    def gave_up(self, plugin: PluginBase, key: str, what: str) -> None:
        """Note that a subscriber of `plugin` hangs on a change of the item `key`. Any thread may call this."""
        self._crash = plugin, f"it hangs: {what} does not return after a change of {key}"

    def _find_death(self) -> str:
        """Why a running plugin is dead; empty if it is alive."""
        plugin = self.plugin
        assert plugin is not None
        victim, error = self._crash
        if victim is plugin:
            return error
        threads = list(threads_of(plugin))
        if not plugin.running:  # a dying thread may clear this before its exception is reported
            return (self._health.answer if self._health.ask() else "") or "it stopped running"
        if threads and not any(t.is_alive() for t in threads):
            started = [t for t in threads if t.ident is not None]
            return "its thread ended" if started else ""
        return ""

    @property
    def at_rest(self) -> bool:
        """Whether its state changes only if something happens that pokes the supervision."""
        return self.state in (State.RUNNING, State.STOPPED)

    @property
    def settled(self) -> bool:
        """Whether the connection has either started or failed."""
        return self.state is not State.STARTING

    def signs_of_life(self, now: float) -> str:
        """Why this connection counts as hung; empty if it does not."""
        last = getattr(self.plugin, "alive", None)
        if self.state is State.RUNNING and last is not None and now - last > SILENT_S:
            return f"no sign of life for {now - last:.0f} s"
        return ""

    # -- stopping ------------------------------------------------------------------------------------------------------

    def stop(self, timeout: float) -> None:
        """Stop within `timeout` seconds. Afterwards, `hung` says what did not stop."""
        if self.state is State.STOPPING and self._task is not None:  # the plugin has called done()
            self._task.thread.join(timeout)
            self._end_stop(self._task)
        if self.state in (State.STOPPED, State.STOPPING):
            return
        earlier = self._task
        shut_down = self._clean_up if self.state in (State.FAILED, State.WAITING) else self._shut_down
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
                self.hung.append(_describe(task.error, "stop()"))
            if earlier is not None and not earlier.finished:
                self.hung.append(f"{self._called} has not returned")
        self._note_end()

    def _end_stop(self, task: Task) -> None:
        """Note how the stop of a plugin that had called done() ended."""
        if not task.finished:
            self.hung.append("stop() has not returned")
        elif task.error is not None:
            self.hung.append(_describe(task.error, "stop()"))
        self._note_end(self.reason)

    def _note_end(self, *reasons: str) -> None:
        for hung in self.hung:
            self.log.error("%s: %s", self.name, hung)
        self._enter(State.STOPPED, "; ".join([*reasons, *self.hung]))

    # -- status --------------------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether the plugin has called `done` and has been stopped."""
        return self.state is State.STOPPED and self.reason.startswith("done: ") and not self.hung

    def health(self, patience: float = ANSWER_TIMEOUT_S) -> str:
        """What is wrong; empty if nothing is. Waits at most `patience` seconds. Any thread may call this."""
        known = self._known_health()
        if known is not None:
            return known
        if self._health.ask(patience):
            return self._health.answer
        return "health() has not returned" + (f"; before that: {last}" if (last := self._health.answer) else "")

    def health_now(self) -> str:
        """What is wrong. Waits for the plugin's answer, however long that takes."""
        known = self._known_health()
        if known is not None:
            return known
        answer = self._health.answer = _health(self.plugin)
        return answer

    def _known_health(self) -> str | None:
        """What is wrong, as far as that is known without asking the plugin; None if it has to be asked."""
        if self.done:
            return ""
        if self.state is not State.RUNNING:
            return f"{self.state.value}: {self.reason}" if self.reason else str(self.state.value)
        plugin = self.plugin
        if silence := self.signs_of_life(self._clock()):
            return silence
        return _health(plugin) if plugin is None or type(plugin).health in _NEVER_BLOCK else None

    def report(self, health: str | None = None) -> dict[str, Any]:
        """This connection's part of the status tree, without the plugin's own `status`.

        Any thread may call this. It returns soon whatever the plugin does.
        """
        now = self._clock()
        plugin = self.plugin
        if health is None:
            health = self.health()
        return {
            "module": self.connection.module,
            "state": self.state.value,
            "for": round(now - self.since, 3),
            "running": plugin is not None and bool(plugin.running),
            "health": health or "ok",
            "reason": self.reason,
            "restarts": self.restarts,
            "next start in": round(max(0.0, self._due - now), 1) if self.state is State.WAITING else None,
            "status": {},
        }

    def plugin_status(self) -> tuple[dict[str, Any], float]:
        """The plugin's own status, and its share of a budget. Any thread may call this. Returns soon."""
        new = self._status.ask()
        answer, used = self._status.answer
        return (answer if new else {"unavailable": "get_status() has not returned", **answer}), used

    def _collect_status(self) -> tuple[dict[str, Any], float]:
        plugin = self.plugin
        budget = status.Budget()
        try:
            answer = status.plain(plugin.get_status(), budget) if plugin is not None else {}
            return (answer if isinstance(answer, dict) else {"status": answer}), budget.used
        except BaseException as error:
            return {"unavailable": _describe(error, "get_status()")}, 0.0


def fed_keys(connection: Connection) -> frozenset[str]:
    """The keys that the connection may write, as far as its plugin tells; for people, so an error only says less."""
    plugin = connection.plugin
    try:
        options: Any = {k: v for k, v in connection.options.items() if k != CONFIGPATH}
        if plugin.Options is not None:
            options = convert(options, plugin.Options)
        keys = list(plugin.writes(options))
        if not keys:
            keys = [key for need in plugin.preflight(options) if isinstance(need, Feeds) for key in need.keys]
        return frozenset(keys)
    except Exception as error:
        log = logging.getLogger(f"fixgw.plugins.{connection.name}")
        log.info("which keys it writes is not known: %s", _describe(error, "writes()"))
        return frozenset()


def _describe(error: BaseException, what: str) -> str:
    """Describe what `what` raised, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, EXPECTED):
        return text or type(error).__name__
    name = type(error).__name__
    return f"{what} raised {name}: {text}" if text else f"{what} raised {name}"


def _health(plugin: PluginBase | None) -> str:
    try:
        words = plugin.health() if plugin is not None else ""
        return str(status.plain(words)) if words else ""
    except BaseException as error:
        return f"health() raised {error!r}"


#: The core's own methods, which never block.
_NEVER_BLOCK = (PluginBase.health, Worker.health)

_alive: list[weakref.ref[PluginBase]] = []  # the plugins of all gateways that have not been stopped


def threads_at_work(plugin: PluginBase, born: weakref.WeakSet[threading.Thread]) -> list[threading.Thread]:
    """The threads that run `plugin`'s code or work for it.

    These are the threads that it holds in its attributes, those that have it among their local variables, those in its
    own modules if no other plugin shares them, and those of `born` (started during its run) that nothing else claims.
    Leaves out timers, which are meant to end, and the gateway's own calls.
    """
    kept = list(threads_of(plugin))
    home = type(plugin).__module__
    others = [other for ref in list(_alive) if (other := ref()) is not None and other is not plugin]
    alone = not any(type(other).__module__ == home for other in others)
    frames = frames_of_threads()
    spared = (threading.main_thread(), threading.current_thread())
    return [
        thread
        for thread in threading.enumerate()
        if thread not in spared
        and not isinstance(thread, (_Call, threading.Timer))
        and (thread in kept or _works_for(plugin, frames.get(thread.ident or 0), home, alone, thread in born))
    ]


def _works_for(plugin: PluginBase, frame: FrameType | None, home: str, alone: bool, born: bool) -> bool:
    strangers = frame is not None
    while frame is not None:
        for value in list(frame.f_locals.values()):
            if value is plugin:
                return True
            if isinstance(value, PluginBase):
                return False
        module = str(frame.f_globals.get("__name__", ""))
        if alone and f"{module}.".startswith(f"{home}."):
            return True
        # A library, or something that connections share, may keep threads for later users.
        if module.startswith("fixgw.") or "-packages" in frame.f_code.co_filename:
            strangers = False
        frame = frame.f_back
    return born and strangers


def owner_of(frames: list[FrameType], callback: Any, plugins: list[PluginBase]) -> PluginBase | None:
    """Find the plugin whose `callback` is running in `frames`, which are innermost first."""
    for frame in reversed(frames):
        for plugin in plugins:
            if concerns(frame, plugin):
                return plugin
    kept = [getattr(callback, "__self__", None), *_closed_over(callback)]
    modules = {frame.f_globals.get("__name__") for frame in frames} | {getattr(callback, "__module__", None)}
    for plugin in plugins:
        if any(value is plugin or any(v is plugin for v in _attributes(value)) for value in kept):
            return plugin
    of_module = [plugin for plugin in plugins if type(plugin).__module__ in modules]
    return of_module.pop() if len(of_module) == 1 else None


def _closed_over(callback: Any) -> Iterator[Any]:
    for cell in getattr(callback, "__closure__", None) or ():
        with suppress(ValueError):  # it is still empty
            yield cell.cell_contents


def threads_of(plugin: PluginBase) -> Iterator[threading.Thread]:
    """The threads that a plugin holds in its attributes, also in lists and mappings and in objects of its own module.

    Leaves out timers, which are meant to end, and anything in a collection of more than `MOST_THREADS`.
    """
    home = type(plugin).__module__
    for value in _attributes(plugin):
        threads = _attributes(value) if f"{type(value).__module__}.".startswith(f"{home}.") else ()
        for thread in (value, *threads):
            if isinstance(thread, threading.Thread) and not isinstance(thread, threading.Timer):
                yield thread


def _attributes(thing: Any) -> Iterator[Any]:
    for value in list(getattr(thing, "__dict__", {}).values()):
        if not isinstance(value, (dict, list, tuple, set)):
            yield value
        elif len(value) <= MOST_THREADS:  # a recorder's million values cost nothing
            yield from list(value.values() if isinstance(value, dict) else value)


def concerns(frame: FrameType, plugin: PluginBase) -> bool:
    """Whether `frame` has `plugin`, or something that holds a reference to it, among its local variables."""
    values = list(frame.f_locals.values())
    return any(v is plugin for v in values) or any(v is plugin for value in values for v in _attributes(value))
