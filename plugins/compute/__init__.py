"""Computes values from others: averages, air data, wind, engine and fuel, by a list of functions.

Each function is evaluated when one of its inputs changes, on the thread that wrote it, in the order of the list. The
plugin's own thread only does what takes time: it notices who leads, and keeps totals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from fixgw import plugin
from fixgw.database import NEVER, Database, Derivation
from fixgw.plugins.compute import check, table
from fixgw.plugins.compute.entry import Entry, Setup
from fixgw.plugins.compute.evaluation import Computation
from fixgw.plugins.compute.totals import Kept

LOOK_S = 0.1


class Options(plugin.Options, frozen=True, kw_only=True):
    functions: Annotated[list[Entry], Meta(description="What to compute, in this order")]


class Plugin(plugin.Worker[Options]):
    initial_trouble: ClassVar[str] = ""
    replays: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.computations: list[Computation] = []
        self._due: list[float] = []
        #: The outputs that are not computed, and the keys that the database lacks for them.
        self._left_out: dict[str, str] = {}
        self._kept: Kept | None = None

    @classmethod
    def check(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        return check.problems(options.functions, db)

    @classmethod
    def advise(cls, options: Options, db: Database) -> Iterable[tuple[str, str]]:
        return check.advice(options.functions, db)

    @classmethod
    def claims(cls, options: Options) -> Iterable[tuple[str, str]]:
        """Two connections must not compute one key either."""
        places = {key: n for n, entry in enumerate(options.functions) for key in check.outputs_of(entry)}
        return [(f"the output {key}", f"functions.{n}.output") for key, n in places.items()]

    @classmethod
    def functions(cls) -> Iterable[plugin.Function]:
        return table.for_people()

    def run(self) -> None:
        try:
            for entry in self.options.functions:
                self._add(entry)
            for computation in self.computations:
                computation.start()
            super().run()
        except BaseException:
            self.stop()
            raise

    def _add(self, entry: Entry) -> None:
        function = table.find(entry.function)
        for _, problem in check.entry_problems(entry, self.db):
            raise plugin.PluginFail(f"{entry.function}: {problem}")
        assert function is not None
        items, constants, outputs, lacking = check.resolve(entry, function, self.db)
        if lacking:
            self._left_out |= {key: f"the database has no {', '.join(lacking)}" for key in check.outputs_of(entry)}
            self.log.warning("%s is left out: the database has no %s", function.name, ", ".join(lacking))
            return
        computation = function.build(Setup(self, function, entry, items, constants, outputs))
        self.computations.append(computation)
        self._due.append(NEVER)
        derivation = Derivation(self.source, function.name, function.formula, tuple(check.keys_of(entry)))
        for item in outputs:
            self.db.derivations[item.key] = (*self.db.derivations.get(item.key, ()), derivation)

    @property
    def kept(self) -> Kept:
        """The totals that survive a restart."""
        if self._kept is None:
            self._kept = Kept(self.name, self.clock)
        return self._kept

    def work(self) -> None:
        while not self.stopping.wait(LOOK_S):
            self.look()
            self.show_life()

    def turn(self) -> float:
        self.look()
        return self.clock() + LOOK_S

    def look(self) -> None:
        """Do what is due by the database's clock."""
        now = self.db.clock()
        for number, computation in enumerate(self.computations):
            computation.look_for_lead()
            if computation.interval and now >= self._due[number]:
                self._due[number] = now + computation.interval
                computation.tick(now)

    def stop(self) -> None:
        try:
            super().stop()
        finally:
            for computation in reversed(self.computations):
                computation.stop()
            for item in {item for computation in self.computations for item in computation.outputs}:
                others = tuple(d for d in self.db.derivations.get(item.key, ()) if d.by != self.source)
                self.db.derivations[item.key] = others
            self.computations.clear()
            if self._kept is not None:
                self._kept.close()

    def health(self) -> str:
        troubles = [c.trouble for c in list(self.computations)]
        if self._kept is not None:
            troubles.append(self._kept.trouble)
        return super().health() or "; ".join(dict.fromkeys(filter(None, troubles)))

    def get_status(self) -> Mapping[str, Any]:
        doubtful: dict[str, Any] = dict(self._left_out)
        facts: dict[str, Any] = {}
        for computation in list(self.computations):
            facts |= computation.facts()
            for item, why_not in zip(computation.outputs, computation.why_not, strict=True):
                reading = item.reading
                missing = [each.key for each in computation.items if each.reading.stamp == NEVER]
                if reading.stamp == NEVER and missing:
                    doubtful[item.key] = f"waits for {', '.join(missing)}"
                elif reading.old and why_not:
                    doubtful[item.key] = why_not
                elif reasons := reading.reasons:
                    doubtful[item.key] = "; ".join(dict.fromkeys(reason for _, reason in reasons))
        return {
            "functions": len(self.computations),
            "leads": self.quorum.leader,
            **self.counts,
            **facts,
            "not good": doubtful,
        }
