"""Compares the sources of a key: says when they differ, who lies, and can publish the middle of them.

connections:
  compare: {module: fixgw.plugins.compare, keys: {IAS: {}, ALT: {limit: 200}, HEAD: {limit: 6, wrap: 360}}}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from fixgw import plugin
from fixgw.database import Database, Item, Reading
from fixgw.errors import BadValue, UnknownKey, did_you_mean
from fixgw.kit.sources import START, derived_source, unmarked
from fixgw.plugin import Worker
from fixgw.plugins.compare.comparison import USUAL_LIMITS, Comparison, Said, State

LOOK_S = 0.2
PUBLISH_S = 0.05  # if a comparison publishes a value
NOTICE_S = 1.0  # the values in a notice change at most this often
MISCOMPARE = "MISCOMPARE"
NO_COMPARE_S = 2.0  # a lone source is announced after this


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to compare one key."""

    limit: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Difference above which two values miscompare, in the key's units; IAS, ALT, HEAD, PITCH and "
            "ROLL have one"
        ),
    ] = None
    wrap: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="The full circle, 360 for directions; by default that of the key's definition"),
    ] = None
    on_delay: Annotated[float, Meta(ge=0, le=3600, description="Seconds that a difference must last")] = 2.0
    between: Annotated[
        tuple[str, ...], Meta(description="The sources to compare; by default those that the database ranks, or all")
    ] = ()
    publish: Annotated[
        Literal["best", "middle", "mean"],
        Meta(
            description="Publish the best source as before, the middle of the good values, or the mean of those that "
            "agree with it"
        ),
    ] = "best"
    flag: Annotated[
        Literal["bad"] | None, Meta(description="`bad`: flag the key while two sources differ, and nobody knows why")
    ] = None


class Options(plugin.Options, frozen=True):
    """Options of the `compare` plugin."""

    keys: Annotated[dict[str, Entry | None], Meta(min_length=1, description="The keys to compare, and how")]


class Compared:
    """One key under comparison. `name` is the connection's, `source` that of its writes."""

    def __init__(self, item: Item, entry: Entry, name: str, source: str) -> None:
        self.item = item
        self.entry = entry
        self.source = source
        wrap = entry.wrap or item.definition.wrap
        limit = entry.limit if entry.limit is not None else USUAL_LIMITS[item.key]
        self.comparison = Comparison(limit, wrap, entry.on_delay, entry.publish)
        self.state: State = "no compare"
        self.words = "no compare: nothing has been heard yet"
        self.alone_since: float | None = None
        self.published = ""  # the source under which the last value was published
        self.noticed_at = float("-inf")
        self.noticed = ""

    def look(self, now: float) -> None:
        """Compare what the sources say now, and let the item know."""
        readings = self._choose(self.item.readings())
        said = [Said(r.source, float(r.value), r.stamp) for r in readings if self.item.trusts(r)]
        verdict = self.comparison.look(now, said)
        self.state, self.words = verdict.state, verdict.words
        self._doubt(said)
        if verdict.value is not None:
            self._publish(verdict.value, said)
        elif self.published and verdict.state == "no compare":
            self.withdraw(verdict.words)
        elif self.published and self.comparison.disagree:
            self.withdraw(self.comparison.text or "the sources disagree")
        self.alone_since = None if len(said) != 1 else now if self.alone_since is None else self.alone_since

    def _choose(self, readings: Iterable[Reading]) -> list[Reading]:
        """The readings to compare, in the order of the ranking: the best of each entry."""
        item = self.item
        own = [
            r for r in readings if r.source not in START and r.source and unmarked(r.source) != unmarked(self.source)
        ]
        names = self.entry.between or [name for name in item.sources if unmarked(name) != unmarked(self.source)]
        self.comparison.total = len(names)
        if not names:
            return sorted(own, key=lambda r: r.source)
        chosen = []
        for name in names:
            of_it = [r for r in own if r.source == name or r.source.startswith(name + "/")]
            if of_it:
                chosen.append(max(of_it, key=lambda r: (item.trusts(r), r.stamp)))
        return chosen

    def _doubt(self, said: Iterable[Said]) -> None:
        """Doubt the sources that lie; if nobody knows which, and the options say so, all of them."""
        wanted = dict.fromkeys(self.comparison.lies, f"it differs from the others: {self.comparison.text}")
        if self.comparison.differ and self.entry.flag == "bad":
            reason = f"{self.item.key} {MISCOMPARE}"
            wanted |= {s.source: reason for s in said if s.source not in wanted}
            wanted |= {name: text for name, text in self.item.doubts.items() if text == reason}
        known = self.item.doubts  # the values in a reason need not follow each reading
        self.item.doubt({name: known.get(name, reason) for name, reason in wanted.items()})

    def _publish(self, value: float, said: Iterable[Said]) -> None:
        """Write the value under our own source, which ranks first."""
        item = self.item
        source = derived_source([s.source for s in said], self.source)
        if item.ranked and item.rank(source) is None:
            item.rank_sources([source, *item.sources])
        item.write(round(value) if item.type == "int" else value, source, flags=0)
        self.published = source

    def withdraw(self, why: str) -> None:
        """Publish no longer: the item falls back to the best source."""
        if self.published:
            self.item.fail(why, self.published)
            self.published = ""

    def forget(self) -> None:
        """The plugin stops: leave the item to its sources."""
        self.withdraw("it is no longer compared")
        self.item.doubt({})


class Plugin(Worker[Options]):
    """Looks at the sources of each key five times a second; twenty times, if it publishes a value."""

    replays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.clock = self.db.clock
        self.compared: dict[str, Compared] = {}

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        for key, entry in options.keys.items():
            entry = entry or Entry()
            if key not in db:
                yield f"keys.{key}", str(UnknownKey(key, db))
                continue
            item = db.item(key)
            if item.type not in ("float", "int"):
                yield f"keys.{key}", f"{key} is not a number"
            elif entry.limit is None and key not in USUAL_LIMITS:
                yield f"keys.{key}", f"give `limit`, the difference that {key} may have; only {_usual()} have one"
            if len(entry.between) == 1:
                yield f"keys.{key}.between", "name at least two sources"
            if len(set(entry.between)) < len(entry.between):
                yield f"keys.{key}.between", "a source is named twice"

    @classmethod
    def claims(cls, options: Options) -> Iterable[tuple[str, str]]:
        return [(f"{key}, to compare its sources,", f"keys.{key}") for key in options.keys]

    @classmethod
    def advise(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        for key, entry in options.keys.items():
            entry, item = entry or Entry(), db.item(key)
            if not item.sources:
                text = "its sources are not ranked, so a source that lies keeps being published: rank `sources`"
                yield f"keys.{key}", f"{text} for {key} in the database"
            for number, name in enumerate(entry.between):
                if item.sources and item.rank(name) is None:
                    text = f"{name} is not among the sources that the database ranks{did_you_mean(name, item.sources)}"
                    yield f"keys.{key}.between.{number}", text
            if entry.publish != "best" and not item.tolerance:
                yield f"keys.{key}.publish", f"{key} never becomes old, so that a value stays if this plugin hangs"

    def run(self) -> None:
        for key, entry in self.options.keys.items():
            self.compared[key] = Compared(self.db.item(key), entry or Entry(), self.name, self.source)
        super().run()

    def work(self) -> None:
        while not self.stopping.is_set():
            self.turn()
            self.show_life()
            self.stopping.wait(self.interval)

    @property
    def interval(self) -> float:
        """Seconds between two looks."""
        return PUBLISH_S if any(c.entry.publish != "best" for c in self.compared.values()) else LOOK_S

    def turn(self) -> float:
        self.step()
        return self.clock() + self.interval

    def step(self) -> None:
        """Look at every key once."""
        now = self.clock()
        for key, compared in self.compared.items():
            before = compared.state
            try:
                compared.look(now)
            except BadValue as error:
                self.count("not published")
                self.complain("%s", error, about=key)
            if compared.state != before:
                self.log.info("%s: %s", key, compared.words)
                self.counts["miscompares"] = self.counts.get("miscompares", 0) + (compared.state == "miscompare")
            self._notify(key, compared, now)
        self.count("looks")

    def _notify(self, key: str, compared: Compared, now: float) -> None:
        """Put up a notice for the crew, or take it down."""
        lone = compared.alone_since is not None and now - compared.alone_since >= NO_COMPARE_S
        if compared.state == "miscompare":
            title = f"{key} {MISCOMPARE}"
        elif compared.state == "no compare" and lone:
            title = f"{key} NO COMP"
        else:
            title = ""
        if title and now - compared.noticed_at < NOTICE_S and compared.noticed == title:
            return
        if compared.noticed and compared.noticed != title:
            self.notices.clear(self.name, compared.noticed)
        compared.noticed, compared.noticed_at = title, now
        if title.endswith(MISCOMPARE):
            liars = " and ".join(f"{name} lies" for name in sorted(compared.comparison.lies))
            text = f"{title} {compared.comparison.text}"
            self.notices.put(self.name, title, "caution", f"{text}: {liars}" if liars else text)
        elif title:
            self.notices.put(self.name, title, "advisory", f"{title}: {compared.words.partition(': ')[2]}")

    def finish(self) -> None:
        for compared in self.compared.values():
            compared.forget()
        self.notices.clear(self.name)

    def health(self) -> str:
        return self._trouble or "; ".join(
            f"{key}: {c.words}" for key, c in self.compared.items() if c.state == "miscompare"
        )

    def get_status(self) -> Mapping[str, Any]:
        return {**{key: c.words for key, c in self.compared.items()}, **self.counts}


def _usual() -> str:
    *names, last = USUAL_LIMITS
    return f"{', '.join(names)} and {last}"
