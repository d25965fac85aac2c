"""The gateway in numbers, as text for Prometheus: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fixgw.database import BAD, FAIL, FLAG_NAMES, NEVER, OLD, Database

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_COUNTERS = 100  # of one connection
HEALTH = ("ok", "degraded", "failed")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def text(database: Database, tree: Mapping[str, Any]) -> str:
    """The values of the database, and what the status tree says of the gateway and its connections.

    A value that is old, bad or failed is left out: what is graphed must be right. Its flags say so.
    """
    return "".join(f"{line}\n" for line in (*_values(database), *_gateway(tree), *_connections(tree)))


def _values(database: Database) -> Iterator[str]:
    now = database.clock()
    items = [(item, item.reading) for item in database.items() if item.type != "str"]
    yield from _head("fixgw_value", "gauge", "The value of a key, while it is neither old, bad nor failed.")
    for item, reading in items:
        if not reading.flags & (OLD | BAD | FAIL):
            yield _line("fixgw_value", float(reading.value), key=item.key, units=item.units, source=reading.source)
    yield from _head("fixgw_flag", "gauge", "1 for each flag of a key that is set.")
    for item, reading in items:
        for bit, name in FLAG_NAMES.items():
            if bit & reading.flags and reading.stamp != NEVER:
                yield _line("fixgw_flag", 1, key=item.key, flag=name)
    yield from _head("fixgw_age_seconds", "gauge", "How long ago the value was written.")
    for item, reading in items:
        if reading.stamp != NEVER:
            yield _line("fixgw_age_seconds", round(now - reading.stamp, 3), key=item.key)
    for name, help in (("writes", "Writes of a key."), ("conflicts", "Writes while another source was fresh.")):
        yield from _head(f"fixgw_{name}_total", "counter", help)
        for item, _ in items:
            if count := getattr(item, name):
                yield _line(f"fixgw_{name}_total", count, key=item.key)


def _gateway(tree: Mapping[str, Any]) -> Iterator[str]:
    yield from _head("fixgw_health", "gauge", "0: ok, 1: degraded, 2: failed.")
    health = tree.get("health")
    yield _line("fixgw_health", HEALTH.index(health) if health in HEALTH else 2, version=str(tree.get("version", "")))
    process = tree.get("process", {})
    for name, value, help in (
        ("uptime_seconds", tree.get("uptime"), "Since the gateway has started."),
        ("cpu_percent", process.get("cpu percent"), "Of one core, since the status was last asked for."),
        ("memory_mebibytes", process.get("memory MiB"), "Resident memory of the process."),
        ("threads", process.get("threads"), "Threads of the process."),
        ("overrides", len(tree.get("overrides", ())), "Keys that are overridden."),
    ):
        if isinstance(value, int | float):
            yield from _head(f"fixgw_{name}", "gauge", help)
            yield _line(f"fixgw_{name}", value)


def _connections(tree: Mapping[str, Any]) -> Iterator[str]:
    connections = tree.get("connections", {})
    yield from _head("fixgw_connection_up", "gauge", "Whether a connection runs and is well.")
    for name, report in connections.items():
        up = bool(report.get("running")) and report.get("health") == "ok"
        yield _line("fixgw_connection_up", int(up), connection=name, module=report.get("module", ""))
    yield from _head("fixgw_restarts_total", "counter", "Restarts of a connection.")
    for name, report in connections.items():
        yield _line("fixgw_restarts_total", report.get("restarts", 0), connection=name)
    yield from _head("fixgw_status", "untyped", "The numbers in the status of a connection.")
    for name, report in connections.items():
        found = list(_numbers(report.get("status", {}), ""))[:MOST_COUNTERS]
        for what, value in found:
            yield _line("fixgw_status", value, connection=name, what=what)


def _numbers(tree: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _numbers(value, f"{path}.{name}" if path else str(name))
    elif _is_number(tree):
        yield path, tree


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _head(name: str, kind: str, help: str) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, value: float, **labels: str) -> str:
    shown = ",".join(f'{label}="{_clean(text)}"' for label, text in labels.items())
    return f"{name}{{{shown}}} {float(value)!r}" if shown else f"{name} {float(value)!r}"


def _clean(text: Any) -> str:
    """`text` as the value of a label: a device may put anything into it."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f]", " ", str(text)).translate(_ESCAPES)
