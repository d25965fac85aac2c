"""Tells the crew what needs attention: conditions on keys become warnings, cautions and advisories.

It judges alerts (`fixgw.alerts`) and presents them: as the annunciate flag of their keys, as keys for lamps and
displays, and in the status, which `fixgw alerts` shows. It also presents the notices of other connections
(`fixgw.notices`), and follows the phase of flight.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from fixgw import state
from fixgw.alerts.engine import Alert, Always, Change, Level, Total
from fixgw.alerts.judge import Judge
from fixgw.alerts.states import State
from fixgw.database import FAIL, NEVER, OLD, Database, Item, Reading, Subscription
from fixgw.errors import BadValue
from fixgw.kit.phases import Inputs, Phases, Speeds
from fixgw.kit.sources import derived_source
from fixgw.notices import LEVELS, Notice
from fixgw.plugins.alerts import options
from fixgw.plugins.alerts.options import SHELVE_WARNING_S, Options, one_line

REPEAT_S = 1.0  # between writes of keys that have not changed, so that they do not become old
LOG_LENGTH = 100  # changes in the status
SAVE_S = 30.0  # between savings of totals while a limit is exceeded
MAX_TOTALS = 400  # that are saved
HELD_S = 5.0  # a button that is written True again within this time is still held
MAX_ENDED = 64  # notices that have been taken down, and are remembered
MAX_PRESSES = 16  # of buttons, that wait
PHASE_KEYS = {"ias": "IAS", "gs": "GS", "height": "AGL", "climb": "VS"}
ALTITUDES = ("PALT", "ALT")
#: The keys that it writes. None of them has to exist.
OUTPUTS = ("ALERTLEVEL", "ALERTMSG", "ALERTS", "MASTERW", "MASTERC", "ALERTTONE", "FLTPHASE")
MAX_SHELVE_S = 86400.0


class SavedTotal(msgspec.Struct):
    """The form in which a total is saved."""

    seconds: dict[str, float]
    times: int = 0
    worst: float | None = None


class Saved(msgspec.Struct):
    """What is saved."""

    totals: dict[str, SavedTotal]


class Plugin(Judge[Options]):
    def __post_init__(self) -> None:
        super().__post_init__()
        self._phases = Phases()
        self._inputs: dict[str, Item] = {}
        self._engine_item: Item | None = None
        self._outputs: dict[str, Item] = {}
        self._written: dict[str, Any] = {}
        self._written_as = ""
        self._source_of: dict[str, str] = {}
        self._touched = False
        self._repeat_at = 0.0
        self._presses: deque[tuple[str, float]] = deque(maxlen=MAX_PRESSES)
        self._pressed: dict[str, float] = {}  # button -> when it was last written True; -infinity if it is released
        self._buttons: list[Subscription] = []
        self._notice_alerts: dict[tuple[str, str], tuple[Alert, dict[str, Always]]] = {}
        self._notices_changed = True
        self._notices_end = False  # notices have been taken down whose alerts are not forgotten yet
        self._stop_notices: Callable[[], None] = lambda: None
        self._log: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)
        self._keeper: state.Keeper | None = None
        self._saved_totals: dict[str, Total] = {}
        self._save_at = 0.0
        #: The wall clock, for the record. A test may replace it.
        self.wall: Callable[[], datetime] = self.utc

    # -- the contract --------------------------------------------------------------------------------------------------

    @classmethod
    def check(cls, options_: Options, db: Database) -> Iterator[tuple[str, str]]:
        yield from options.problems(options_, db)

    @classmethod
    def advise(cls, options_: Options, db: Database) -> Iterator[tuple[str, str]]:
        yield from options.advice(options_, db)

    @classmethod
    def claims(cls, options_: Options) -> Iterable[tuple[str, str]]:
        return [("ALERTMSG", "alerts")]

    def build(self) -> None:
        given = self.options
        self.engine.hold_back = frozenset(given.hold_back)
        for alert in options.alerts(given, self.db):
            self.engine.add(alert)
        speeds = given.phases
        self._phases = Phases(Speeds(speeds.takeoff_speed, speeds.airborne_speed, speeds.landed_speed))
        engine = given.phases.engine
        self._engine_item = self._item(engine) if engine else None
        self._inputs = {name: item for name, key in PHASE_KEYS.items() if (item := self._item(key)) is not None}
        altitude = next((item for key in ALTITUDES if (item := self._item(key)) is not None), None)
        if altitude is not None:
            self._inputs["altitude"] = altitude
        self._outputs = {key: item for key in OUTPUTS if (item := self._item(key)) is not None}
        tone = self._outputs["ALERTTONE"].reading.value if "ALERTTONE" in self._outputs else 0
        self.engine.tone = tone if isinstance(tone, int) else 0  # a restart makes no sound

    def follows(self) -> Iterable[str]:
        inputs = [*self._inputs.values(), *((self._engine_item,) if self._engine_item is not None else ())]
        return dict.fromkeys([*self.engine.keys, *(item.key for item in inputs)])

    def follow(self) -> None:
        super().follow()
        self._load_totals()
        for key, press in (("ALERTACK", "acknowledge"), ("ALERTMUTE", "mute")):
            if key in self.db:
                self._pressed[key] = self.clock() if self.db.read(key).value else NEVER
                self._buttons.append(self.db.subscribe(key, partial(self._press, press), quick=True))
        self._stop_notices = self.notices.subscribe(self._notices_have_changed)
        self.offer("alerts", self.command)

    def stop(self) -> None:
        self._stop_notices()
        for subscription in self._buttons:
            subscription.close()
        try:
            super().stop()
        finally:
            if self._keeper is not None:
                self._save(self.clock(), at_once=True)
                self._keeper.close()

    def finish(self) -> None:
        for item in self._outputs.values():
            if not item.reading.flags & OLD:
                item.fail("the alert logic has stopped", self._source())

    def health(self) -> str:
        troubles = (super().health(), self._keeper.trouble if self._keeper is not None else "")
        return "; ".join(trouble for trouble in troubles if trouble)

    def get_status(self) -> Mapping[str, Any]:
        """Each alert with its state and level, by id; then the phase, the record and the totals."""
        with self.lock:
            now = self.clock()
            shown = {alert.id: alert for alert in self.engine.shown()}
            alerts = {alert.id: _report(alert, now) for alert in {**shown, **self.engine.alerts}.values()}
            totals = {
                id: {"beyond": {level: round(s, 1) for level, s in total.seconds.items()}, "times": total.times}
                | ({"worst": round(total.worst, 2)} if total.worst is not None else {})
                for id, total in self.engine.totals.items()
            }
            return {
                **alerts,
                "flight phase": self.engine.phase,
                "muted for": round(max(0.0, self.engine.muted_until - now), 1),
                "changes not recorded": self.engine.lost_changes,
                "beyond limits": totals,
                "alert log": list(self._log),
            }

    # -- judging -------------------------------------------------------------------------------------------------------

    def changed(self, readings: dict[str, Reading]) -> None:
        for key, reading in readings.items():
            self._source_of[key] = reading.source
        self.judge(readings)

    def step(self, timeout: float) -> bool:
        changed = super().step(timeout)
        if self._notices_changed or self._touched or self._presses:
            self.judge(())
        return changed

    def tick(self, now: float) -> None:
        self.judge(())

    def judge(self, keys: Iterable[str]) -> None:
        with self.lock:
            now = self.clock()
            self._touched = False
            phase = self._phases.step(now, self._flight())
            if self._began:
                self.engine.enter_phase(phase, now)
            else:
                self.engine.phase = phase
            while self._presses:
                what, at = self._presses.popleft()
                if what == "mute":
                    self.engine.mute(now)
                else:
                    self.engine.acknowledge_highest(now, at)
            if self._notices_changed or self._notices_end:
                self._notices_changed = False
                self._take_notices(now)
        super().judge(keys)

    def present(self) -> None:
        if (
            self.engine.quiet
            and not self._written.get("ALERTS")
            and self.engine.phase == self._written.get("FLTPHASE")
            and self._repeat_at - REPEAT_S <= self.clock() < self._repeat_at
        ):
            return
        super().present()
        with self.lock:
            now = self.clock()
            shown = self.engine.shown()
            waiting = {alert.severity for alert in shown if alert.needs_attention}
            values = {
                "ALERTLEVEL": max((alert.severity + 1 for alert in shown), default=0),
                "ALERTMSG": shown[0].words if shown else "",
                "ALERTS": len(shown),
                "MASTERW": LEVELS.index("warning") in waiting,
                "MASTERC": LEVELS.index("caution") in waiting,
                "ALERTTONE": self.engine.tone,
                "FLTPHASE": self.engine.phase,
            }
        everything = now >= self._repeat_at or now < self._repeat_at - REPEAT_S
        if everything:
            self._repeat_at = now + REPEAT_S
        source = self._source()
        if source != self._written_as:
            everything, self._written_as = True, source
        if not everything and values == self._written:
            return
        with self.db.batch:
            for key, item in self._outputs.items():
                if everything or values[key] != self._written.get(key):
                    self._write(item, values[key], source)
        self._written = values
        self._save(now)

    def _write(self, item: Item, value: Any, source: str) -> None:
        try:
            item.write(value, source, 0)
        except BadValue as error:  # the database defines it with another type
            self.complain("%s", error, about=item.key)

    def _source(self) -> str:
        return derived_source(self._source_of.values(), self.source)

    def _item(self, key: str) -> Item | None:
        return self.db.item(key) if key in self.db else None

    def _flight(self) -> Inputs:
        """What the phase of flight depends on."""
        inputs: dict[str, float | None] = {name: _good(item) for name, item in self._inputs.items()}
        engine = self._engine_item
        vs0 = self._inputs["ias"].aux.get("Vs0") if "ias" in self._inputs else None
        return Inputs(
            **inputs,
            rpm=None if engine is None else _good(engine),
            vs0=float(vs0) if isinstance(vs0, (int, float)) else None,
            has_engine=engine is not None,
        )

    # -- buttons and commands ------------------------------------------------------------------------------------------

    def _press(self, what: str, key: str, reading: Reading) -> None:
        """Note a press of a button. Called on the thread that writes it.

        A device may repeat True while the button is held, and a client may never write False.
        """
        pressed = bool(reading.value) and not reading.flags & (OLD | FAIL)
        now = self.clock()
        before, self._pressed[key] = self._pressed[key], now if pressed else NEVER
        if pressed and now - before > HELD_S:
            self._presses.append((what, now))
            self.wake()

    def command(self, words: str) -> str:
        """Carry out a command of a person: ``ack ID``, ``shelve ID SECONDS`` or ``mute``. Returns why not, or an empty
        text. Any thread."""
        verb, *rest = words.split() or [""]
        with self.lock:
            now = self.clock()
            if verb == "ack" and len(rest) == 1:
                answer = self.engine.acknowledge(rest[0], now)
            elif verb == "shelve" and len(rest) == 2:
                seconds = _seconds(rest[1])
                if seconds is None:
                    return f"{rest[1]!r} is not a time from 0 to {MAX_SHELVE_S:g} s"
                answer = self.engine.shelve(rest[0], seconds, now)
            elif verb == "mute" and not rest:
                self.engine.mute(now)
                answer = ""
            else:
                return "the commands are `ack ID`, `shelve ID SECONDS` and `mute`"
            self._touched = True
        self.wake()
        return answer

    # -- notices -------------------------------------------------------------------------------------------------------

    def _notices_have_changed(self) -> None:
        self._notices_changed = True
        self.wake()

    def _take_notices(self, now: float) -> None:
        """Make alerts of the notices. Those of notices that were taken down are kept until they are calm, because they
        may come and go. The caller holds the lock.
        """
        notices = {(notice.owner, notice.name): notice for notice in self.notices.all()}
        ended = [name for name in self._notice_alerts if name not in notices]
        self._notices_end = bool(ended)
        for name in ended:
            alert, conditions = self._notice_alerts[name]
            for condition in conditions.values():
                condition.met = False
            if alert.is_calm(now) or (not alert.shown and len(ended) > MAX_ENDED):
                self.engine.remove(alert)
                del self._notice_alerts[name]
        for name, notice in notices.items():
            if name not in self._notice_alerts:
                self._notice_alerts[name] = self._alert_for(notice)
            alert, conditions = self._notice_alerts[name]
            alert.text = one_line(notice.text) or alert.id
            for level, condition in conditions.items():
                condition.met = level == notice.level

    def _alert_for(self, notice: Notice) -> tuple[Alert, dict[str, Always]]:
        conditions: dict[str, Always] = {level: Always(met=False) for level in LEVELS}
        id = f"{notice.owner}.{'-'.join(re.sub(r'[;:]', ' ', notice.name).split())}"
        while id in self.engine.alerts:
            id += "~"
        alert = Alert(id, levels=[Level(level, [conditions[level]]) for level in LEVELS], shelve_s=SHELVE_WARNING_S)
        self.engine.add(alert)
        return alert, conditions

    # -- the record ----------------------------------------------------------------------------------------------------

    def recorded(self, changes: list[Change]) -> None:
        wall, now = self.wall(), self.clock()
        for change in changes:
            entry = _entry(change, wall - timedelta(seconds=now - change.at))
            self._log.append(entry)
            for listener in list(self._gateway.alert_listeners):
                listener(change.at, entry)
            about = {"FIXGW_ALERT": change.id}
            if change.news:
                self.complain("%s", _news(change), about=f"{change.id} {change.level}", extra=about)
            elif change.seconds is not None and self.complain.due(f"{change.id} ends"):
                self.log.info("%s", _story(change), extra=about)

    def _load_totals(self) -> None:
        self._keeper = state.Keeper(state.path(f"alerts-{self.name}"), self.log, clock=self.db.clock)
        data = self._keeper.load()
        if data is None:
            return
        try:
            saved = msgspec.json.decode(data, type=Saved)
        except (msgspec.DecodeError, ValueError) as error:
            self.log.warning("%s: starting without totals: %s", self._keeper.path, error)
            return
        for id, total in saved.totals.items():
            self.engine.totals[id] = Total(total.seconds, total.times, total.worst)
        self._saved_totals = dict(self.engine.totals)

    def _save(self, now: float, at_once: bool = False) -> None:
        """Save the totals if they have changed: at the end of an occurrence, and now and then while it lasts."""
        with self.lock:
            totals = dict(self.engine.totals)
            lasting = self.engine.busy
        if self._keeper is None or totals == self._saved_totals:
            return
        if at_once or not lasting or now >= self._save_at:
            self._save_at = now + SAVE_S
            self._saved_totals = totals
            kept = sorted(totals, key=lambda id: (id in self.engine.alerts, sum(totals[id].seconds.values())))
            self._keeper.keep(msgspec.json.encode(Saved({id: _rounded(totals[id]) for id in kept[-MAX_TOTALS:]})))


def _rounded(total: Total) -> SavedTotal:
    seconds = {level: round(spent, 2) for level, spent in total.seconds.items()}
    return SavedTotal(seconds, total.times, None if total.worst is None else round(total.worst, 4))


def _good(item: Item) -> float | None:
    reading = item.reading
    return float(reading.value) if reading.good and isinstance(reading.value, (int, float)) else None


def _seconds(word: str) -> float | None:
    try:
        seconds = float(word)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= MAX_SHELVE_S else None


def _report(alert: Alert, now: float) -> dict[str, Any]:
    """What the status says about an alert."""
    report: dict[str, Any] = {"state": alert.state.value, "level": alert.level, "text": alert.words}
    if alert.shown:
        report["for"] = round(now - alert.since, 1)
        if alert.intermittent:
            report["intermittent"] = True
        if alert.voice:
            report["voice"] = alert.voice
    if alert.state is State.SHELVED:
        report |= {"shelved for": round(alert.shelved_until - now, 1), "on": alert.raised}
    return report


def _entry(change: Change, time: datetime) -> dict[str, Any]:
    """A change for the record, without what does not apply."""
    return {
        "time": time.isoformat(timespec="milliseconds"),
        "id": change.id,
        "text": change.text,
        "level": change.level,
        "from": change.before.value,
        "to": change.after.value,
        "phase": change.phase,
    } | {
        name: round(value, 3) if isinstance(value, float) else value
        for name in ("value", "limit", "seconds", "worst")
        if (value := getattr(change, name)) is not None
    }


def _news(change: Change) -> str:
    """A new occurrence, in words: ``OIL PRESSURE LOW (warning): 11, limit 25``."""
    values = "" if change.value is None or change.limit is None else f": {change.value:g}, limit {change.limit:g}"
    return f"{change.text} ({change.level}){values}{', intermittent' if change.intermittent else ''}"


def _story(change: Change) -> str:
    """An occurrence that is over, in words: ``CHT 3 HIGH: beyond 224 for 312 s, 241 at worst``."""
    if change.limit is None or change.worst is None:
        return f"{change.text}: for {change.seconds:.0f} s"
    return f"{change.text}: beyond {change.limit:g} for {change.seconds:.0f} s, {change.worst:g} at worst"
