"""The cost of the database: a write with none, one and ten subscribers, and a read."""

from __future__ import annotations

from collections.abc import Callable
from timeit import repeat

from benchmarks import Rows
from fixgw import world
from fixgw.database import Database, Definition, Reading, write

KEYS = [f"KEY{n}" for n in range(600)]
LOOPS = 20_000
REPEATS = 15


def database(subscribers: int) -> Database:
    """600 items that age, as in an aircraft, each with `subscribers`."""
    db = Database(Definition(key=key, min=-1000.0, max=1000.0, tolerance=2000) for key in KEYS)

    def subscriber() -> Callable[[str, Reading], None]:
        return lambda key, reading: None

    for key in KEYS:
        for _ in range(subscribers):
            db.subscribe(key, subscriber())
    return db


def microseconds(statement: str, **names: object) -> float:
    """The time of one `statement`, in the best of several runs: disturbances only add to it."""
    return min(repeat(statement, globals=names, number=LOOPS, repeat=REPEATS)) / LOOPS * 1e6


def rows() -> Rows:
    for subscribers, words, budget in (
        (0, "no subscriber", 1.5),
        (1, "one subscriber", 2.0),
        (10, "ten subscribers", 4.0),
    ):
        db = database(subscribers)
        item = db.item("KEY42")
        item.write(1.0, "canfix/12")
        cost = microseconds("write(value, source)", write=item.write, value=103.5, source="canfix/12")
        yield f"database write, {words}", cost, "µs", budget, "lower"
    gateway = world.World(database(0))
    world.begin(gateway)
    cost = microseconds("write('KEY42', value)", write=write, value=103.5)
    world.end(gateway)
    yield "database.write(key, value), as plugins of other gateways call it", cost, "µs", 2.0, "lower"
    yield "database read", microseconds("read('KEY42')", read=db.read), "µs", 0.3, "lower"


if __name__ == "__main__":
    from benchmarks.__main__ import main

    raise SystemExit(main(["database"]))
