"""The gateway: loads, starts, supervises, restarts and stops the configured connections.

No plugin can hold up the others or the supervision: see `fixgw.runner`. Unless stated otherwise, everything here runs
on the thread that calls `Gateway.run_forever`.
"""

from __future__ import annotations

import logging
import os
import queue
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from types import FrameType
from typing import Any

from fixgw import __version__, loader, logqueue, status, world
from fixgw.clock import now
from fixgw.configuration import Configuration, Connection
from fixgw.database import FLAG_NAMES, INITIAL, Clock
from fixgw.database.hung import Hung
from fixgw.errors import ConfigurationError, PluginFail, counted, did_you_mean
from fixgw.kit.complaints import Complaints
from fixgw.kit.sources import unmarked
from fixgw.runner import ANSWER_TIMEOUT_S, TRANSITIONS, Question, Runner, State, concerns, owner_of, threads_of
from fixgw.service import EXIT_FAILURE, EXIT_HUNG, EXIT_OK, Notifier
from fixgw.settings import Settings, path_for
from fixgw.world import Way, World

log = logging.getLogger(__name__)

TICK_S = 0.2  # check every connection this often while one is starting, failing or stopping
QUIET_TICK_S = 1.0  # and while all are well; whoever dies pokes the supervision
ASK_ALL_S = 0.1  # for all plugins' health, asked one after the other
STOP_TOTAL_S = 12.0  # to stop all plugins; the unit's TimeoutStopSec is longer
STOP_GRACE_S = 2.0  # shared by the plugins that are left when this time is up
#: The parts of a configuration that only a restart of the gateway can change.
AT_START = {"definitions": "the database definition", "initial": "an initial value", "logging": "logging"}


class Gateway:
    """Runs one configuration.

    `run_forever` starts everything, supervises it until asked to stop, stops everything, and returns the exit code.
    `reload`, if given, is called on SIGHUP to load the configuration again; it raises `ConfigurationError` if there are
    problems, and then nothing changes. `notice` is the beginning of the status: that this is safe mode, and why.
    `problems` are those of the configuration that safe mode replaces. Any thread may call `request_stop` and
    `request_reload`.
    """

    def __init__(
        self,
        configuration: Configuration,
        reload: Callable[[], Configuration] | None = None,
        clock: Clock = now,
        notifier: Notifier | None = None,
        notice: str = "",
        problems: Iterable[str] = (),
    ) -> None:
        self.notice = notice
        self.configuration = self._at_start = configuration
        self.database = configuration.make_database(clock)
        self.world = World(
            self.database,
            quit=lambda who: self.request_stop(why=f"requested by {who}"),
            status=self.get_status,
            restart=self.request_restart,
            reload=self.request_reload,
            thread_died=self._thread_died,
            poke=self._poke,
            configuration=lambda: self.configuration,
        )
        self.database.on_hung = self._subscriber_hangs
        self.settings = Settings(self.database, path_for(configuration.file), clock)
        self.runners: dict[str, Runner] = {}
        self.problems = list(problems)  # of the last configuration that was rejected
        self.reloads = 0
        self.exit_code = EXIT_OK
        self._reload = reload
        self._clock = clock
        self._notifier = notifier or Notifier()
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._reload_wanted = False
        self._changing = False  # starting, or changing to another configuration; never both at once
        self._started = False
        self._stop_requested = False
        self._elects = False  # a connection elects the leader
        self._since = clock()
        self._watchdog_due = self._second_due = float("-inf")
        self._complain = Complaints(log, clock)
        self._health: Question[dict[str, str]] = Question("health", self._ask_all, {})
        self._cpu = (clock(), time.process_time())

    # -- from any thread -----------------------------------------------------------------------------------------------

    def request_stop(self, exit_code: int = EXIT_OK, why: str = "") -> None:
        """Make `run_forever` stop everything and return. Returns at once. Signal handlers may call this."""

        def stop() -> None:
            if not self._stop_requested:
                log.info("stopping%s", f": {why}" if why else "")
            self._stop_requested = True
            self.exit_code = max(self.exit_code, exit_code)

        self._events.put(stop)

    def request_reload(self) -> str:
        """Request a reload of the configuration. Returns at once, with the reason why not, or an empty text. Signal
        handlers may call this."""
        if self._reload is None:
            return "this gateway does not run from files"

        def reload() -> None:
            self._reload_wanted = True

        self._events.put(reload)
        return ""

    def request_restart(self, name: str) -> str:
        """Request a restart of the connection `name` with its current code on disk. Returns at
        once, with the reason why not, or an empty text. Any thread."""
        if name not in self.runners:
            return f"there is no connection {name!r}{did_you_mean(name, self.runners)}"
        if self._stop_requested or self._changing:
            return "the gateway is busy starting, stopping or reading its configuration: try again"
        self._events.put(lambda: self._restart(name))
        return ""

    def _poke(self) -> None:
        self._events.put(None)

    # -- life ----------------------------------------------------------------------------------------------------------

    def run_forever(self, handle_signals: bool = True) -> int:
        """Start, supervise and stop. Returns the exit code. With `handle_signals`, call this on the main thread."""
        previous: dict[int, Any] = {}
        if handle_signals:
            handlers = {
                signal.SIGTERM: lambda: self.request_stop(why="SIGTERM"),
                signal.SIGINT: lambda: self.request_stop(why="SIGINT"),
                # If there is nothing to reload, stop when the terminal closes.
                signal.SIGHUP: self.request_reload if self._reload else lambda: self.request_stop(why="SIGHUP"),
            }

            def handle(number: int, _frame: FrameType | None) -> None:
                handlers[signal.Signals(number)]()

            previous = {number: signal.signal(number, handle) for number in handlers}
        try:
            try:
                self.start()
                self._notifier.ready(self.summary())
                self.supervise(lambda: False)
            finally:
                self.stop()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.exit_code

    def start(self) -> None:
        """Start every connection in the configuration's order, each within a time limit. A second call does nothing."""
        if self._started:
            return
        self._started = True
        world.begin(self.world)
        self.database.start()
        self._prepare_election(self.configuration)
        for key, value in (("GATEWAY_VERSION", __version__), ("ZZLOADER", "Loaded")):
            if key in self.database:
                self.database.write(key, value, INITIAL)
        self.settings.open()
        self._changing = True
        for connection in self.configuration.connections:
            if not self._stop_requested:
                self._launch(connection)
        self._changing = False
        log.info("%s", self.summary())

    def _prepare_election(self, configuration: Configuration) -> None:
        """If a connection elects the leader, this gateway does not lead until it says so; otherwise it leads.

        In safe mode it does not lead: another gateway may.
        """
        quorum = self.world.quorum
        quorum.enabled = any(c.plugin.elects for c in configuration.connections)
        # Also if none elects: a connection is not restarted when one that elects is added.
        carriers = [c.name for c in configuration.connections if c.carries_votes]
        quorum.ways = {name: quorum.ways.get(name) or Way() for name in carriers}
        if not quorum.enabled or not self._elects:
            quorum.leader = not (quorum.enabled or self.notice)
            self._show_leader()
        self._elects = quorum.enabled

    def _show_leader(self) -> None:
        if "LEADER" in self.database:
            self.database.write("LEADER", self.world.quorum.leader, INITIAL)

    def _launch(self, connection: Connection, fresh_code: bool = False) -> Connection:
        """Start one connection, and wait until it has started or failed. Returns it, with the code that it runs."""
        runner = self.runners[connection.name] = Runner(connection, self.world, self._clock, self._poke)
        runner.start(fresh_code)
        self.supervise(lambda: runner.settled)
        return runner.connection

    def supervise(self, done: Callable[[], bool], every: float | None = None) -> None:
        """Supervise until `done()`, or until asked to stop. `done` is called at least every `every` seconds."""
        while not done() and not self._stop_requested:
            self._step(self._pace() if every is None else every)

    def _pace(self) -> float:
        """Seconds until the next check of all connections."""
        if self._elects or not all(r.at_rest for r in self.runners.values()):
            return TICK_S
        return min(QUIET_TICK_S, self._notifier.watchdog_interval or QUIET_TICK_S)

    def _step(self, timeout: float) -> None:
        """Handle one event, waiting at most `timeout` seconds for it, then check every connection."""
        try:
            event = self._events.get(timeout=timeout)
        except queue.Empty:
            event = None
        if event is not None:
            event()
        if self._reload_wanted and not self._changing:
            self._begin_reload()
        if self.world.quorum.lapsed:  # what elects is held up, and another gateway may lead by now
            self.world.quorum.leader = False
            self._show_leader()
        now = self._clock()
        for runner in list(self.runners.values()):
            before = runner.state
            try:
                runner.tick()
            except Exception:  # a defect in the gateway; it must not harm the other connections or flood the log
                if self._complain.due():
                    log.exception("supervision of %s", runner.name)
            if runner.state is State.FAILED and before is not State.FAILED and runner.connection.on_failure == "stop":
                self.request_stop(EXIT_FAILURE, f"{runner.name} failed")
        if not self.database.ageing_runs:
            self._complain("the ageing thread has died; restarting it", about="ageing")
            self.database.start()
        if self._notifier.wanted and now >= self._second_due:
            self._second_due = now + 1.0
            self._notifier.status(self.summary())
        self._feed_watchdog(now)

    def _feed_watchdog(self, now: float) -> None:
        """Tell the service manager that everything is alive, if it is."""
        alive = self.database.alive and not any(r.signs_of_life(now) for r in self.runners.values())
        if alive and self._notifier.watchdog_interval and now >= self._watchdog_due:
            self._watchdog_due = now + self._notifier.watchdog_interval
            self._notifier.watchdog()

    def stop(self) -> int:
        """Stop every connection in reverse order, all within `STOP_TOTAL_S`. Returns the exit code."""
        if not self._started:
            return self.exit_code
        self._started = False
        self._notifier.stopping()
        self._stop_runners(list(self.runners.values()))
        self.settings.close()
        self.world.history.stop()
        self.database.stop()
        world.end(self.world)
        self._notifier.close()
        return self.exit_code

    def _stop_runners(self, runners: list[Runner]) -> None:
        deadline = self._clock() + STOP_TOTAL_S
        for runner in reversed(runners):
            remaining = max(STOP_GRACE_S / len(runners), deadline - self._clock())
            runner.stop(min(runner.connection.stop_timeout, remaining))
            if runner.hung:
                self.exit_code = EXIT_HUNG
            self._feed_watchdog(self._clock())  # other connections may still be running

    def _thread_died(self, args: threading.ExceptHookArgs) -> bool:
        """Fail the plugin that the dead thread belongs to. Called on a thread that ends with an exception."""
        plugins = [(r, p) for r in list(self.runners.values()) if (p := r.plugin) is not None]
        whose = [(r, p) for r, p in plugins if any(t is args.thread for t in threads_of(p))]
        # If no plugin holds a reference to the thread, the frames in its traceback tell whose it was.
        for frame, _ in traceback.walk_tb(args.exc_traceback):
            whose = whose or [(r, p) for r, p in plugins if concerns(frame, p)]
        for runner, plugin in whose[:1]:
            runner.crashed(plugin, f"{args.exc_type.__name__}: {args.exc_value}")
        self._poke()
        return bool(whose)

    def _subscriber_hangs(self, hung: Hung) -> None:
        """Fail the plugin whose subscriber it is. Called on the ageing thread."""
        plugins = [(r, p) for r in list(self.runners.values()) if (p := r.plugin) is not None]
        owner = owner_of(hung.frames, hung.callback, [p for _, p in plugins])
        for runner, plugin in plugins:
            if plugin is owner:
                runner.gave_up(plugin, hung.item.key, getattr(hung.callback, "__qualname__", "a subscriber"))
                self._poke()

    # -- restarting one ------------------------------------------------------------------------------------------------

    def _restart(self, name: str) -> None:
        old = self.runners.get(name)
        if old is None or self._changing:
            return
        log.info("%s is started again", name)
        self._changing = True
        self._stop_runners([old])
        if old.hung:
            self.problems.append(f"{name} could not be stopped, so it cannot be restarted: {'; '.join(old.hung)}")
            self._changing = False
            return
        connection = self._launch(old.connection, fresh_code=True)
        self.configuration = replace(
            self.configuration,
            connections=tuple(connection if c.name == name else c for c in self.configuration.connections),
        )
        self._changing = False

    # -- reloading -----------------------------------------------------------------------------------------------------

    def _begin_reload(self) -> None:
        """Read the configuration on a separate thread, while supervision continues."""
        self._reload_wanted = False
        if self._reload is None:
            return
        self._changing = True
        self._notifier.reloading()
        threading.Thread(target=self._read_again, args=(self._reload,), name="reload", daemon=True).start()

    def _read_again(self, reload: Callable[[], Configuration]) -> None:
        try:
            configuration = reload()
        except ConfigurationError as error:
            problems = [str(p) for p in error.problems]
            self._events.put(lambda: self._refuse(problems))
        except Exception as error:
            problems = [f"{type(error).__name__}: {error}"]
            self._events.put(lambda: self._refuse(problems))
        else:
            self._events.put(lambda: self.adopt(configuration))

    def _refuse(self, problems: list[str]) -> None:
        self._changing = False
        self.problems = problems
        log.error("the new configuration has %s; keeping the old one", counted(len(problems), "problem"))
        for problem in problems:
            log.error("%s", problem)
        self._notifier.ready(self.summary())

    def adopt(self, configuration: Configuration) -> None:
        """Change to `configuration`: stop, start and restart only the connections that it changes."""
        self._changing = True
        self.problems = []
        self.reloads += 1
        old = {r.name: r for r in self.runners.values()}
        new = {c.name: c for c in configuration.connections}
        gone = [r for name, r in old.items() if name not in new or new[name] != r.connection]
        for field, what in AT_START.items():
            if getattr(configuration, field) != getattr(self._at_start, field):
                self.problems.append(f"{what} changed: restart the gateway to apply it")
                log.warning("%s", self.problems[-1])
        self._stop_runners(gone)
        for runner in gone:
            if not runner.hung:
                del self.runners[runner.name]
                self.database.feeders.pop(runner.name, None)
        if self.exit_code == EXIT_HUNG:
            self.request_stop(EXIT_HUNG, "a plugin could not be stopped")
            return
        self._prepare_election(configuration)
        started = [c for c in configuration.connections if c.name not in self.runners]
        for connection in started:
            fresh = connection.name in old and loader.code_has_changed(connection.plugin)
            if fresh:
                log.info("the code of %s has changed on disk: read again", connection.name)
            new[connection.name] = self._launch(connection, fresh)
        configuration = replace(configuration, connections=tuple(new.values()))
        self.runners = {name: self.runners[name] for name in new if name in self.runners}
        self.configuration = configuration
        for connection in configuration.connections:
            if connection not in started and loader.code_has_changed(connection.plugin):
                name = connection.name
                log.warning(
                    "the code of %s has changed on disk, but the old code still runs: `fixgw restart %s`", name, name
                )
        for what, names in (("stopped", [r.name for r in gone]), ("started", [c.name for c in started])):
            log.info("configuration reloaded: %s %s", what, ", ".join(names) or "none")
        self._changing = False
        self._notifier.ready(self.summary())

    # -- status, from any thread ---------------------------------------------------------------------------------------

    def troubles(self) -> dict[str, str]:
        """What is wrong, by connection. Waits no longer for all plugins together than for one."""
        if self._health.ask(ASK_ALL_S) and self._health.fresh:
            return self._health.answer
        # One of them hangs. Asked on threads of their own, the others answer.
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        found = {r.name: r.health(max(0.0, deadline - time.monotonic())) for r in list(self.runners.values())}
        return {name: text for name, text in found.items() if text}

    def _ask_all(self) -> dict[str, str]:
        return {r.name: text for r in list(self.runners.values()) if (text := r.health_now())}

    @property
    def _ageing_hangs(self) -> bool:
        return self._started and not self.database.alive

    def summary(self, troubles: dict[str, str] | None = None) -> str:
        """The gateway's health in one line."""
        if troubles is None:
            troubles = self.troubles()
        total = len(self.runners)
        text = f"{total - len(troubles)} of {total} connections well"  # other people's scripts look for these words
        if troubles:
            text += "; " + "; ".join(f"{name}: {trouble}" for name, trouble in troubles.items())
        if self.problems:
            text += f"; configuration: {counted(len(self.problems), 'problem')}"
        if self._ageing_hangs:
            text += "; database: ageing has stopped, so stale values may look good"
        if self.settings.trouble:
            text += f"; settings: {self.settings.trouble}"
        if log_trouble := logqueue.trouble():
            text += f"; {log_trouble}"
        if overridden := self.database.overridden():
            text += f"; {counted(len(overridden), 'override')}: {', '.join(overridden)}"
        return f"{self.notice}; {text}" if self.notice else text

    def get_status(self) -> dict[str, Any]:
        """The status tree: health first, then every connection in the configuration's order."""
        troubles = self.troubles()
        runners = list(self.runners.values())
        running = [r for r in runners if r.state is State.RUNNING]
        overridden = self.database.overridden()
        inner = self._ageing_hangs or self.settings.trouble or logqueue.trouble() or overridden
        well = not (troubles or self.problems or self.notice or inner)
        health = "ok" if well else "degraded" if running else "failed"
        return {
            "version": __version__,
            "health": health,
            "summary": self.summary(troubles),
            "uptime": round(self._clock() - self._since, 1),
            "configuration": {
                "file": str(self.configuration.file),
                "reloads": self.reloads,
                "problems": list(self.problems),
            },
            "process": self._process(),
            "log": {"trouble": logqueue.trouble(), "dropped": logqueue.dropped()},
            "database": self.database.statistics(),
            "settings": self.settings.status(),
            "overrides": {
                key: {
                    "value": reading.value,
                    "flags": [FLAG_NAMES[bit] for bit in FLAG_NAMES if bit & reading.flags],
                    "by": unmarked(reading.source),
                    "seconds left": round(left),
                }
                for key, (reading, left) in overridden.items()
            },
            "connections": self._reports(runners, troubles),
        }

    def _reports(self, runners: list[Runner], troubles: dict[str, str]) -> dict[str, Any]:
        reports = {r.name: r.report(troubles.get(r.name, "")) for r in runners}
        for name, tree in status.share({r.name: r.plugin_status() for r in runners}).items():
            reports[name]["status"] = tree
        return reports

    def _process(self) -> dict[str, Any]:
        now, cpu = self._clock(), time.process_time()
        (then, before), self._cpu = self._cpu, (now, cpu)
        return {
            "pid": os.getpid(),
            "cpu percent": round(100 * (cpu - before) / max(now - then, 1e-3), 1),
            "memory MiB": round(_resident() / 2**20, 1),
            "threads": threading.active_count(),
        }


def _resident() -> int:
    """The resident memory of this process, in bytes."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


__all__ = ["TRANSITIONS", "Gateway", "PluginFail", "Runner", "State"]
